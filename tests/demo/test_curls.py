"""The commands that are printed, run as a person would."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.demo.curls import reference_curls, walkthrough
from gateway.demo.process import browsable
from gateway.demo.stack import Stack

Run = Callable[..., AbstractAsyncContextManager[Stack]]

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


async def shell(script: str, path: str) -> str:
    """What a shell prints that runs a script and stops where it fails."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-eu",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": path},
    )
    out, _ = await process.communicate(script.encode())
    assert process.returncode == 0
    return out.decode()


async def test_walkthrough(run: Run, path: str) -> None:
    """Pasted from top to bottom, the commands show what is said of them."""
    async with run(max_age_seconds=1.0) as stack:
        curls = walkthrough(browsable(stack.tls_url), 1.0)
        script = "\necho =====\n".join(curl.command for curl in curls)
        shown = (await shell(script, path)).split("=====\n")
    received = json.loads(shown[1])
    identity = {
        name: value for name, value in received["headers"].items() if name.startswith("X-Token")
    }
    assert (received["path"], identity) == (
        "/orders/1",
        {
            "X-Token-Client-Id": "demo-key",
            "X-Token-Subject": "alice",
            "X-Token-Scope": "read write",
        },
    )
    lapsed = shown.pop(6)
    assert (lapsed.split()[1], '"error": "invalid_token"' in lapsed) == ("401", True)
    assert [part.split() for part in (shown[0], *shown[2:])] == [
        [],
        [],
        ["200"],
        ["200"],
        ["200"],
        ["200", "200", "401"],
    ]


async def test_reference(stack: Stack, path: str) -> None:
    """The reference's refresh and revoke work as they stand, once they are filled in."""
    url = browsable(stack.tls_url)
    refresh, revoke = (curl.command for curl in reference_curls(url))
    setting, tokens = walkthrough(url, 1.0)[0].command.split("\n", 1)
    script = "\n".join(
        [
            setting,
            tokens,
            'REFRESH=$(echo "$TOKENS" | field refresh_token)',
            refresh.replace("<retoken>", "$REFRESH"),
            "echo",
            "echo =====",
            revoke.replace("<access-token-to-be-revoked>", "$TOKEN"),
        ]
    )
    refreshed, revoked = (await shell(script, path)).split("=====\n")
    assert ({"access_token", "refresh_token"} <= json.loads(refreshed).keys(), revoked) == (
        True,
        "",
    )


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
