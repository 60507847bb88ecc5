"""docs/loadtest.md says what the commands do: flags, exit codes, files, and nginx's settings."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import click
import pytest
from pydantic import SecretStr

from gateway.loadtest.cli import loadtest
from gateway.loadtest.options import RunOptions
from gateway.loadtest.plan import Plan
from gateway.settings.types import parse_duration

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "loadtest.md").read_text("utf-8")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
NJS = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def commands() -> Iterator[list[str]]:
    """Yield the load tester's commands in the page, as lists of what follows its name."""
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["gateway", "loadtest"]:
                yield words[2:]


def links() -> list[str]:
    found = re.findall(r"\]\(([^)\s#]+)[^)]*\)", PAGE)
    return [link for link in found if not link.startswith("http")]


def tables() -> Iterator[list[list[str]]]:
    """Yield each table's rows, the head among them."""
    for lines in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in lines.split("\n")]
        yield [row for row in rows if row[0] and not row[0].startswith("---")]


def column(head: str) -> Sequence[str]:
    """Return the first column of the table that begins so."""
    [rows] = [rows for rows in tables() if rows[0][0] == head]
    return [row[0].strip("`") for row in rows[1:]]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that measures nginx."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import nginx_gateway  # type: ignore[import-not-found]  # noqa: PLC0415 (a script's folder)

    assert isinstance(nginx_gateway, ModuleType)
    return nginx_gateway


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_commands_can_be_given(command: list[str]) -> None:
    """Each command of the page is one that the command line takes."""
    name, *arguments = command
    known = loadtest.commands[name]
    context = known.make_context(name, arguments)
    assert isinstance(context, click.Context)


def test_there_are_commands_to_be_checked() -> None:
    """The page has commands of each kind: a change of its form doesn't switch the test off."""
    assert {"run", "report", "merge"} == {command[0] for command in commands()}


def test_flags_in_the_text_exist() -> None:
    """A flag that the text names in code is one of the load tester's, or of what it's told of."""
    known = {
        flag
        for command in loadtest.commands.values()
        for parameter in command.params
        for flag in parameter.opts
    }
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert set() == named - known


@pytest.mark.parametrize("link", sorted(set(links())))
def test_links_lead_somewhere(link: str) -> None:
    """What the page links to in the repository is there."""
    assert (DOCS / link).exists()


@pytest.mark.parametrize("picture", sorted(set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE))))
def test_pictures_are_small(picture: str) -> None:
    """The page's pictures are PNGs that load quickly."""
    content = (DOCS / picture).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 250_000


@pytest.mark.parametrize("command", ["run", "report"])
def test_exit_codes_are_those_of_the_command(command: str) -> None:
    """The table of exit codes says what ``--help`` says."""
    epilog = loadtest.commands[command].epilog or ""
    told = dict(re.findall(r"^ +(\d) +(.+)$", epilog.partition("Exit codes:")[2], re.MULTILINE))
    [rows] = [rows for rows in tables() if rows[0][0] == "exit code"]
    assert told == {row[0]: row[1] for row in rows[1:]}


def test_the_estimated_duration_is_the_plans() -> None:
    """How long a run against a gateway that promises 15 minutes takes is what the plan says."""
    options = RunOptions(
        targets=("https://gateway.example/x",),
        revoke_url="https://gateway.example/revoke",
        given_tokens=tuple(SecretStr(f"token-{n}") for n in range(210)),
        tokens=200,
        background_rps=10,
        max_age=parse_duration("15m").total_seconds(),
        seed=1,
    )
    assert f"at most {Plan(options).load().seconds / 60:.0f} minutes" in PAGE


@pytest.mark.parametrize("block", blocks("nginx"))
def test_the_configuration_shown_is_the_one_measured(block: str) -> None:
    """What the page shows of nginx's configuration stands so in the file."""
    recipe = (DOCS / "loadtest" / "nginx.conf").read_text("utf-8")
    lines = recipe.splitlines()
    wanted = block.strip().splitlines()
    parts = ["\n".join(lines[i : i + len(wanted)]) for i in range(len(lines))]
    assert "\n".join(wanted) in [dedent(part) for part in parts]


def test_the_measured_runs_are_the_runners(runner: ModuleType) -> None:
    """The table of figures has the runs that the script makes, in its order."""
    assert list(runner.RUNS) == list(column("run"))


def test_what_the_runs_vary_is_said(runner: ModuleType) -> None:
    """The directives that tell the runs apart stand in the page."""
    said = {
        directive.strip() for run in runner.RUNS.values() for directive in run.cached.split(";")
    }
    missing = {directive for directive in said if directive and f"`{directive}" not in PAGE}
    assert set() == missing


def test_a_recipe_without_what_is_varied_is_refused(runner: ModuleType) -> None:
    """The script doesn't measure something else when the recipe has changed."""
    with pytest.raises(ValueError, match="the recipe has no"):
        runner.configuration("listen 127.0.0.1:8080;", {"8080": 1}, runner.CACHED)


@pytest.mark.skipif(NGINX is None or not NJS.exists(), reason="needs nginx with njs")
def test_nginx_takes_the_recipe(runner: ModuleType, tmp_path: Path) -> None:
    """Each of the configurations is one that nginx takes, with the files of the page alone."""
    assert NGINX
    for file in (DOCS / "loadtest").iterdir():
        shutil.copy(file, tmp_path)
    recipe = (DOCS / "loadtest" / "nginx.conf").read_text("utf-8")
    for run in runner.RUNS.values():
        config = tmp_path / "nginx.conf"
        config.write_text(runner.configuration(recipe, {}, run.cached))
        command = [NGINX, "-t", "-p", str(tmp_path), "-c", str(config), "-e", "stderr"]
        tested = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (0, tested.stderr) == (tested.returncode, tested.stderr)
