"""A running demo on free ports, and a timeline that can be read."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from gateway.demo import DemoOptions
from gateway.demo.stack import Stack, running

Run = Callable[..., AbstractAsyncContextManager[Stack]]


def free_ports(**others: object) -> DemoOptions:
    """Options with free ports, and others."""
    ports = ("port", "tls_port", "admin_port", "key_manager_port", "backend_port")
    return DemoOptions(**{**dict.fromkeys(ports, 0), **others})  # type: ignore[arg-type]


@pytest.fixture
def run() -> Run:
    """Run a demo on free ports, with options of the test's own."""
    return lambda clock=None, **others: running(free_ports(**others), clock=clock)


@pytest.fixture
async def stack(run: Run) -> AsyncIterator[Stack]:
    async with run() as stack:
        yield stack


@pytest.fixture
def console() -> Console:
    """What is written to a file: ``console.file.getvalue()``."""
    return Console(file=StringIO(), width=80, highlight=False)


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
