"""The commands, as a person or a container runs them."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.extras import how_to_install

CONFIG = """
listen = { port = 0, drain_grace = "0s" }
admin = { port = 0 }
store = { url = "memory://" }
key_manager = { url = "http://127.0.0.1:1" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file to serve with, on free ports and without Redis."""
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG)
    return file


def run(*args: object, **environ: str) -> Result:
    """Run a command in this process, with no environment of ours but what is given."""
    ours = {name for name in os.environ if name.startswith(("GATEWAY_", "KEYMANAGER_"))}
    env: dict[str, str | None] = {**dict.fromkeys(ours), **environ}
    return CliRunner().invoke(main, [str(arg) for arg in args], env=env, prog_name="gateway")


@contextmanager
def running(*args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process of its own, and end it if the test didn't."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on loopback that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    "command", ["", "serve", "check-config", "settings", "healthcheck", "demo", "keymanager"]
)
def test_every_command_has_help(command: str) -> None:
    """With -h, too."""
    results = [run(*command.split(), flag) for flag in ("--help", "-h")]
    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].output.startswith("Usage: gateway ")
    assert results[0].output == results[1].output


def test_help_names_the_commands_and_exit_codes() -> None:
    """What a person looks for first."""
    words = ["serve", "check-config", "healthcheck", "demo", "keymanager", "Examples:", "78"]
    output = run("--help").output
    assert [word for word in words if word not in output] == []


def examples(*command: str) -> list[str]:
    """The examples in a command's help, each in one line, as somebody would paste it."""
    _, _, shown = run(*command, "--help").output.partition("Example")
    lines = [line.strip() for line in shown.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line.startswith("gateway ")]


@pytest.mark.parametrize(
    "command",
    ["", "settings", "keymanager", "loadtest run", "loadtest report", "loadtest merge"],
)
def test_the_examples_of_each_help_are_command_lines(command: str) -> None:
    """Each is taken as it stands: no flag that isn't there, no value that isn't allowed."""
    found = examples(*command.split())
    assert found or command == "loadtest merge"
    for example in found:
        args = shlex.split(example.partition(" > ")[0])[1:]
        parent: click.Command = main
        while isinstance(parent, click.Group):
            parent = parent.commands[args.pop(0)]
        parent.make_context("example", args)


def test_the_help_s_examples_work_when_pasted(tmp_path: Path) -> None:
    """From an empty folder, in order, as the package is installed; ports are made free ones."""
    demo, *rest, serve = examples()
    assert demo == "gateway demo --story"  # which tests/demo runs
    program = f'gateway() {{ "{sys.executable}" -m gateway "$@"; }}\nset -e\n'
    env = {name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")}
    script = program + "\n".join(rest)
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 'url = "http://127.0.0.1:9763"' in done.stdout
    args = [*shlex.split(serve)[1:], "--port", "0", "--admin-port", "0"]
    args[args.index("gateway.toml")] = str(tmp_path / "gateway.toml")
    with running(*args) as process:
        assert process.stderr is not None
        assert '"event": "listening"' in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0


def test_settings_prints_a_file_that_can_be_used(tmp_path: Path) -> None:
    """All that it lacks is what nobody else can know, and that is said."""
    file = tmp_path / "gateway.toml"
    file.write_text(run("settings").output)
    refused = run("check-config", "--config", file)
    taken = run("check-config", "--config", file, "--set", "key_manager.url=http://127.0.0.1:1")
    assert (refused.exit_code, refused.stderr.count("\n"), taken.exit_code) == (78, 1, 0)


def test_help_loads_no_libraries() -> None:
    """It is there at once, and without the optional parts."""
    code = (
        "import sys, gateway.cli; "
        "sys.exit(bool({'pydantic', 'aiohttp', 'redis', 'oauthlib'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version_is_told() -> None:
    """With the program's name."""
    result = run("--version")
    assert (result.exit_code, result.output) == (0, "gateway 0.1.0\n")


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["serve", "--port", "99999"],
        ["serve", "--log-level", "loud"],
        ["check-config", "--set", "cache.max_age"],
        ["healthcheck", "--timeout", "3"],
        ["healthcheck", "--ready", "--url", "http://127.0.0.1:1/"],
        ["demo", "--max-age", "0s"],
        ["demo", "--store", "redis+cluster://h"],
        ["keymanager"],
        ["keymanager", "--client", ":secret"],
        ["keymanager", "--client", "a:b", "--client", "a:c"],
        ["keymanager", "--client", "a:b", "--user", "alice"],
        ["keymanager", "--client", "a:b", "--users-file", "/nowhere"],
        ["keymanager", "--client", "a:b", "--admin", "root"],
        ["keymanager", "--client", "a:b", "--without-refresh", "c"],
        ["keymanager", "--client", "a:b", "--trusted-proxy", "gateway"],
        ["keymanager", "--client", "a:b", "--redirect-uri", "/callback"],
        ["keymanager", "--client", "a:b", "--access-token-expires-in", "100ms"],
    ],
)
def test_a_wrong_command_line_exits_2(args: list[str]) -> None:
    """With a word on what is right."""
    result = run(*args)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["keymanager", "--client", ":hunter2"],
        ["keymanager", "--client", "a:b", "--store", "redis://:hun/ter2@h"],
        ["keymanager", "--client", "a:hunter2\n"],
    ],
)
def test_a_wrong_command_line_does_not_repeat_a_secret(args: list[str]) -> None:
    """Standard error is likely to be kept."""
    result = run(*args)
    assert result.exit_code == 2
    assert "ter2" not in result.output


def test_check_config_warns_of_a_variable_with_one_underscore(config: Path) -> None:
    """The settings are printed all the same."""
    ignored = "is ignored: the variable of that setting is"
    result = run("check-config", "--config", config, GATEWAY_CACHE_MAX_AGE="5m")
    assert (result.exit_code, result.stderr) == (
        0,
        f"gateway: warning: GATEWAY_CACHE_MAX_AGE {ignored} GATEWAY_CACHE__MAX_AGE\n",
    )
    assert 'max_age = "15m"' in result.stdout


def test_check_config_prints_the_settings_in_effect(config: Path) -> None:
    """The file's, then the environment's, then the command line's."""
    result = run(
        "check-config", "--config", config,
        "--set", "cache.max_age=5m", "--set", "listen.port=5",
        "--set", "listen.host=127.0.0.2", "--host", "127.0.0.3",
        "--store", "redis://u:hunter2@h",
        GATEWAY_CACHE__MAX_AGE="1m", GATEWAY_CACHE__MAX_ENTRIES="7",
    )  # fmt: skip
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for line in (
        'host = "127.0.0.3"',
        "port = 5",
        'max_age = "5m"',
        "max_entries = 7",
        'url = "redis://u:***@h"',
        'url = "http://127.0.0.1:1"',
    ):
        assert line in lines


def test_each_flag_sets_its_setting(config: Path) -> None:
    """All of those that have a short form."""
    result = run(
        "check-config", "--host", "h1", "--port", 1, "--admin-host", "::1", "--admin-port", 2,
        "--store", "redis://h3", "--log-level", "debug", "--log-format", "console",
        GATEWAY_CONFIG=str(config),
    )  # fmt: skip
    for line in (
        '[listen]\nhost = "h1"\nport = 1\n',
        '[admin]\nhost = "::1"\nport = 2\n',
        '[store]\nurl = "redis://h3"\n',
        '[logging]\nlevel = "debug"\nformat = "console"\n',
    ):
        assert line in result.stdout


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_bad_settings_exit_78_with_a_line_for_each_fault(command: str, config: Path) -> None:
    """On standard error, and nothing on standard output."""
    result = run(command, "--config", config, "--set", "cache.max_age=soon", "--set", "x.y=1")
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr.splitlines() == [
        "gateway: x.y (command line): there is no such setting",
        (
            'gateway: cache.max_age = "soon" (command line): a duration such as "250ms", "15m" or '
            '"1h30m" is allowed'
        ),
    ]


def test_a_missing_settings_file_exits_78(tmp_path: Path) -> None:
    """With its name."""
    result = run("check-config", "--config", tmp_path / "missing.toml")
    assert result.exit_code == 78
    assert result.stderr == (
        f"gateway: {tmp_path / 'missing.toml'}: can't be read: no such file or directory\n"
    )


def test_serve_runs_until_sigterm(config: Path) -> None:
    """As a container runs it; the health check finds it, and the exit code is 0."""
    with running("serve", "--config", config) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert '"event": "listening"' in line
        admin_url = line.partition('"admin_url": "')[2].partition('"')[0]
        checked = run("healthcheck", "--url", f"{admin_url}/livez")
        process.send_signal(signal.SIGTERM)
        assert (process.wait(), checked.exit_code, checked.output) == (0, 0, "ok\n")


@pytest.mark.parametrize(
    "args", [["--port"], ["--port", "0", "--admin-port"]], ids=["port", "admin port"]
)
def test_serve_says_which_port_is_taken(config: Path, args: list[str]) -> None:
    """In one line, with exit code 1."""
    with taken_port() as port, running("serve", "--config", config, *args, port) as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == (
        f"gateway: can't listen on 127.0.0.1:{port}: address already in use"
    )
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", " on 192.0.2.1:1: cannot assign requested address"),
        ("a b", ": name or service not known"),
    ],
)
def test_serve_says_that_an_address_is_not_this_machines(
    config: Path, host: str, said: str
) -> None:
    """In one line, with exit code 1 (192.0.2.1 is nobody's: RFC 5737)."""
    with running("serve", "--config", config, "--host", host, "--port", 1) as process:
        _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr.splitlines()[-1] == f"gateway: can't listen{said}"


def test_healthcheck_finds_the_admin_port_in_the_settings(config: Path) -> None:
    """Nobody listens there: exit 1 with one line, whatever else is wrong in the file."""
    config.write_text('admin = { port = 1, host = "0.0.0.0" }\nnonsense = 1\n')
    result = run("healthcheck", "--config", config)
    assert (result.exit_code, result.output) == (
        1,
        "gateway: http://127.0.0.1:1/livez: connection refused\n",
    )
    assert "http://127.0.0.1:1/readyz" in run("healthcheck", "--config", config, "--ready").output


def test_healthcheck_says_when_the_settings_do_not_tell(tmp_path: Path) -> None:
    """Exit 1, never 78: a container knows only healthy and not."""
    result = run("healthcheck", GATEWAY_CONFIG=str(tmp_path / "missing.toml"))
    assert result.exit_code == 1
    assert result.output.startswith("gateway: ")


def test_keymanager_serves_the_clients_it_is_given(tmp_path: Path) -> None:
    """By flag and by file; it says where it listens."""
    clients = tmp_path / "clients"
    clients.write_text("filed:secret\n\n")
    with running(
        "keymanager", "--port", 0, "--store", "memory://",
        "--client", "flagged:secret", "--clients-file", clients,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.strip().removeprefix("key manager listening on ")
        answers = [
            subprocess.run(
                [sys.executable, "-c", _ASK, url, client],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for client in ("flagged", "filed", "other")
        ]
        process.send_signal(signal.SIGTERM)
        assert (process.wait(), answers) == (0, ["200", "200", "401"])


@pytest.mark.parametrize(
    ("flags", "refreshed"),
    [
        ([], ["one", "two"]),
        (["--no-refresh-tokens"], []),
        (["--without-refresh", "one"], ["two"]),
    ],
)
def test_keymanager_issues_refresh_tokens_where_it_is_told(
    flags: list[str], refreshed: list[str]
) -> None:
    """With every client, with none, or with all but some: issuing them is optional."""
    with running(
        "keymanager", "--port", 0, "--store", "memory://",
        "--client", "one:secret", "--client", "two:secret", *flags,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip().removeprefix("key manager listening on ")
        answers = {
            client: subprocess.run(
                [sys.executable, "-c", _ASK.replace("answer.status", "answer.read()"), url, client],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for client in ("one", "two")
        }
    assert all("access_token" in answer for answer in answers.values())
    assert [client for client, answer in answers.items() if "refresh_token" in answer] == refreshed


_ASK = """
import base64, sys, urllib.error, urllib.request
url, client = sys.argv[1:]
credentials = base64.b64encode(f"{client}:secret".encode()).decode()
request = urllib.request.Request(
    f"{url}/token", b"grant_type=client_credentials", {"Authorization": f"Basic {credentials}"}
)
try:
    with urllib.request.urlopen(request) as answer:
        print(answer.status, end="")
except urllib.error.HTTPError as error:
    print(error.code, end="")
"""


def test_keymanager_says_which_port_is_taken() -> None:
    """In one line, with exit code 1."""
    with (
        taken_port() as port,
        running("keymanager", "--client", "a:b", "--store", "memory://", "--port", port) as process,
    ):
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (
        1,
        f"gateway: can't listen on 127.0.0.1:{port}: address already in use\n",
    )


def test_a_missing_extra_is_named() -> None:
    """One line with what to install, exit code 1."""
    code = (
        "import sys; sys.modules['oauthlib'] = None; from gateway.cli import main; "
        "main(['keymanager', '--client', 'a:b'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (
        1,
        f"gateway: oauthlib isn't installed; {how_to_install('demo')}\n",
    )
