"""The commands, from the command line to the exit code."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from gateway.loadtest.cli import loadtest
from gateway.loadtest.record import load_record
from loadtest.fake_gateway import FakeGateway, serving
from loadtest.synthetic import Scenario, uniform
from loadtest.test_runs import write
from loadtest.told import SECRET

WHERE = ["--target", "http://h/a", "--revoke-url", "http://h/revoke"]
WHO = ["--token-url", "http://h/token", "--client-id", "me"]


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(loadtest, arguments)


@pytest.mark.parametrize("command", [[], ["run"], ["report"], ["merge"]])
def test_help(command: list[str]) -> None:
    """Every command says what it does."""
    result = call(*command, "--help")
    assert (result.exit_code, result.output.startswith("Usage: ")) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["run"], "Missing option '--target'"),
        (["run", *WHERE], "gateway: --token-url: it is needed, or --tokens-file"),
        (["run", *WHERE, *WHO], "gateway: --client-secret: it is needed for client_credentials"),
        (["run", *WHERE, "--max-age", "5"], "Invalid value for '--max-age': '5': a duration"),
        (["run", *WHERE, "--slo", "p99"], "Invalid value for '--slo': 'p99': an SLO such as"),
        (["run", *WHERE, "--grant", "implicit"], "Invalid value for '--grant': 'implicit'"),
        (["run", *WHERE, "--arrivals", "odd"], "Invalid value for '--arrivals': 'odd'"),
        (["run", *WHERE, "--tokens", "many"], "Invalid value for '--tokens': 'many'"),
        (["run", *WHERE, "--tokens-file", "nowhere"], "'--tokens-file': 'nowhere': no such file"),
        (["report"], "Missing argument 'RUN...'"),
        (["merge", "a.jsonl"], "Missing argument 'RUN...'"),
        (["merge", "a.jsonl", "a.jsonl"], "'a.jsonl' is one of the files to be merged."),
    ],
)
def test_usage(arguments: list[str], fault: str) -> None:
    """A wrong command line exits 2, and names the flag, the value and what is allowed."""
    result = call(*arguments)
    assert result.exit_code == 2
    assert fault in result.output


def test_the_secret_of_a_wrong_command_line_isn_t_shown() -> None:
    """Whatever else is wrong with it."""
    secrets = ["--client-secret", SECRET, "--password", SECRET, "--header", f"X-Key: {SECRET}\n"]
    result = call("run", *WHERE, *WHO, *secrets, "--tokens", "0", "--refresh-token", SECRET)
    assert result.exit_code == 2
    assert SECRET not in result.output


@pytest.mark.parametrize("runs", [["nowhere.jsonl"]])
def test_a_file_that_isn_t_there(runs: list[str]) -> None:
    """It is said in a line."""
    result = call("report", *runs)
    assert (result.exit_code, result.output) == (
        1,
        "gateway: 'nowhere.jsonl': no such file or directory\n",
    )


def test_a_file_that_is_no_record(tmp_path: Path) -> None:
    """It is said in a line, by its path and the line that is wrong."""
    path = tmp_path / "run.jsonl"
    path.write_text("nonsense\n")
    result = call("report", str(path))
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert result.output.startswith(f"gateway: {path}: line 1: not JSON")


def test_report(tmp_path: Path) -> None:
    """A report of a run is printed and written, and its exit code is the verdict."""
    path = write(tmp_path / "run.jsonl", Scenario(window=uniform(2.0), tokens=40))
    page = tmp_path / "report.html"
    good = call("report", str(path), "--html", str(page), "--slo", "max<=3s")
    bad = call("report", str(path), "--slo", "max<=1s", "--slo", "p50<=3s")
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "Revocation window" in good.output
    assert page.stat().st_size > 1000


def flags_for(url: str, out: Path) -> list[str]:
    """Return a command line for a run of half a second after its beginning."""
    told: dict[str, Any] = {
        "target": f"{url}/orders",
        "token-url": f"{url}/token",
        "revoke-url": f"{url}/revoke",
        "client-id": "me",
        "tokens": 12,
        "probe-interval": "200ms",
        "revoke-rate": 200,
        "watch": "500ms",
        "max-age": "20ms",
        "warm-up": "0s",
        "background-rps": 50,
        "seed": 3,
        "out": out,
    }
    return [part for name, value in told.items() for part in (f"--{name}", str(value))]


async def run_command(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run the command in a process of its own; returns exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "loadtest", "run", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "GATEWAY_LOADTEST_CLIENT_SECRET": SECRET, **environment},
    )
    async with asyncio.timeout(40):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_run(tmp_path: Path) -> None:
    """A run is announced, shown, written, reported and judged; the secret is in none of it."""
    out = tmp_path / "run.jsonl"
    async with serving(FakeGateway(window_seconds=0.01)) as url:
        code, said, errors = await run_command(
            *flags_for(url, out), "--slo", "p50<=10s", "--html", str(tmp_path / "report.html")
        )
    assert errors.startswith("12 tokens at 1 target, seed 3; at most")
    assert "tokens issued 22; revoked 12 of 12" in errors
    # A machine that is busy makes it a run that isn't valid, by rules with tests of their own.
    code_of = {"kept: p50<=10s": 0, "invalid run: the generator lagged": 3}
    verdict = said.splitlines()[-1]
    assert [code] == [code_of[said] for said in code_of if verdict.startswith(said)], verdict
    record = load_record(out)
    assert (len(record.revokes), record.header.arguments["slo"]) == (12, ["p50<=10s"])
    assert (tmp_path / "report.html").exists()
    assert SECRET not in said + errors + out.read_text()


async def test_a_run_without_any_token(tmp_path: Path) -> None:
    """No token at all is exit code 3, with the status and the OAuth error code in one line."""
    gateway = FakeGateway()
    gateway.on_token = lambda _: web.json_response({"error": "invalid_client"}, status=401)
    async with serving(gateway) as url:
        code, said, errors = await run_command(*flags_for(url, tmp_path / "run.jsonl"), "--quiet")
    assert (code, said, errors) == (
        3,
        "",
        "gateway: invalid run: no token could be issued: HTTP status 401, error invalid_client\n",
    )


async def test_an_interrupt(tmp_path: Path) -> None:
    """Ctrl-C ends a run early: what was measured is written, reported and judged."""
    gateway = FakeGateway(window_seconds=60)
    out = tmp_path / "run.jsonl"
    async with serving(gateway) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "loadtest", "run", *flags_for(url, out)),
            *("--watch", "60s", "--quiet"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GATEWAY_LOADTEST_CLIENT_SECRET": SECRET},
        )
        await gateway.until(lambda: len(gateway.revoked_at) == 12)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(40):
            said, errors = await process.communicate()
    record = load_record(out)
    assert record.end is not None
    assert (record.end.reason, errors, len(record.revokes)) == ("interrupted", b"", 12)
    assert (process.returncode, said) == (0, b"valid run, no SLO\n")


def test_merge(tmp_path: Path) -> None:
    """The files of several workers become one."""
    files = [
        write(tmp_path / f"{number}.jsonl", Scenario(tokens=20, seed=7)) for number in range(2)
    ]
    result = call("merge", str(tmp_path / "all.jsonl"), *map(str, files))
    assert (result.exit_code, result.output) == (0, "")
    assert len(load_record(tmp_path / "all.jsonl").revokes) == 40


async def test_a_run_that_fails_at_once_leaves_the_earlier_record(tmp_path: Path) -> None:
    """No token, nobody there, or an endpoint's fault: the file of the run before is untouched."""
    out = tmp_path / "run.jsonl"
    out.write_text("an earlier run\n")
    gateway = FakeGateway()
    gateway.on_token = lambda _: web.json_response({"error": "invalid_client"}, status=401)
    async with serving(gateway) as url:
        refused = await run_command(*flags_for(url, out), "--quiet")
    nobody = await run_command(*flags_for(url, out), "--quiet")
    assert [code for code, _, _ in (refused, nobody)] == [3, 3]
    assert out.read_text() == "an earlier run\n"
