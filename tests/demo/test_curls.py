"""The commands that are printed, run as a person would."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from clocks import FakeClock

from gateway.demo.curls import reference_curls, walkthrough
from gateway.demo.process import browsable
from gateway.demo.stack import Stack

Run = Callable[..., AbstractAsyncContextManager[Stack]]

END = "=" * 9
STAND_IN = Path(__file__).with_name("curl.py")


@pytest.fixture(params=["curl", "stand-in"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where programs are found: with the curl of this machine, and with a stand-in for it."""
    if request.param == "stand-in":
        script = tmp_path / "curl"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        script.chmod(0o755)
    elif shutil.which("curl") is None:
        pytest.skip("this machine has no curl; the stand-in is run")
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


class Shell:
    """A shell to paste into; it ends where a command fails."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def paste(self, command: str) -> str:
        """Return what the command printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho; echo {END}\n".encode())
        shown = await self._process.stdout.readuntil(f"\n{END}\n".encode())
        return shown.decode().removesuffix(f"\n{END}\n")


@pytest.fixture
async def shell(path: str) -> AsyncIterator[Shell]:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": path},
    )
    yield Shell(process)
    await process.communicate(b"exit\n")


async def test_walkthrough(run: Run, shell: Shell, clock: FakeClock) -> None:
    """Pasted from top to bottom, the commands show what is said of them."""
    async with run(clock, max_age_seconds=900.0) as stack:
        curls = walkthrough(browsable(stack.tls_url), 900.0)
        sign_in, call, refresh, validate, revoke, still, lapsed, payments = curls
        assert await shell.paste(sign_in.command) == ""
        received = json.loads(await shell.paste(call.command))
        assert await shell.paste(refresh.command) == ""
        assert await shell.paste(validate.command) == "200\n"
        assert await shell.paste(revoke.command) == "200\n"
        clock.advance(899.0)
        assert await shell.paste(still.command) == "200\n"
        sleep, call_again = lapsed.command.split("\n", 1)
        clock.advance(float(sleep.removeprefix("sleep ")) - 899.0)
        refused = await shell.paste(call_again)
        assert await shell.paste(payments.command) == "200\n200\n401\n"
    identity = {
        name: value for name, value in received["headers"].items() if name.startswith("X-Token")
    }
    assert identity == {
        "X-Token-Client-Id": "demo-key",
        "X-Token-Subject": "alice",
        "X-Token-Scope": "read write",
    }
    assert (refused.split()[1], '"error": "invalid_token"' in refused) == ("401", True)


async def test_reference(stack: Stack, shell: Shell) -> None:
    """The reference's refresh and revoke work as they stand, once they are filled in."""
    url = browsable(stack.tls_url)
    refresh, revoke = (curl.command for curl in reference_curls(url))
    await shell.paste(walkthrough(url, 1.0)[0].command)
    await shell.paste('REFRESH=$(echo "$TOKENS" | field refresh_token)')
    refreshed = json.loads(await shell.paste(refresh.replace("<retoken>", "$REFRESH")))
    revoked = await shell.paste(revoke.replace("<access-token-to-be-revoked>", "$TOKEN"))
    assert ({"access_token", "refresh_token"} <= refreshed.keys(), revoked) == (True, "")


def test_reference_form() -> None:
    """They have the form that the reference documentation gives them."""
    refresh, revoke = (curl.command for curl in reference_curls("https://localhost:8443"))
    basic = '-H "Authorization: Basic ZGVtby1rZXk6ZGVtby1zZWNyZXQ="'
    assert refresh == (
        f'curl -k -d "grant_type=refresh_token&refresh_token=<retoken>" {basic} '
        '-H "Content-Type: application/x-www-form-urlencoded" https://localhost:8443/token'
    )
    assert revoke == (
        f'curl -k -d "token=<access-token-to-be-revoked>" {basic} https://localhost:8443/revoke'
    )


@pytest.mark.parametrize(
    ("seconds", "written"), [(15.0, "sleep 15\n"), (0.5, "sleep 0.5\n"), (1800.0, "sleep 1800\n")]
)
def test_wait(seconds: float, written: str) -> None:
    """The wait is as long as the window."""
    commands = [curl.command for curl in walkthrough("https://localhost:8443", seconds)]
    assert any(command.startswith(written) for command in commands)


def test_lines_fit() -> None:
    """No line of the walk-through is longer than a terminal is wide, nor ends in a space."""
    lines = [
        line
        for number, curl in enumerate(walkthrough("https://localhost:8443", 15.0), 1)
        for line in f"{number}. {curl.says}\n{curl.command}".split("\n")
    ]
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []
