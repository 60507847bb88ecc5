"""A worker's process from the supervisor's side, with commands that stand in for a worker."""

import asyncio
import signal
import sys

import pytest

from gateway.listeners import Sockets
from gateway.settings import Settings
from gateway.worker_process import WorkerProcess

# As the supervisor does, which is the only one to start workers.
pytestmark = pytest.mark.plain_asyncio("uvloop starts no process in a group of its own")


def standing_in(code: str) -> WorkerProcess:
    """Return a worker that is this Python code."""
    return WorkerProcess(1, (sys.executable, "-c", code))


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "import sys; sys.stdin.buffer.read(); raise SystemExit(3)"]
)
async def test_a_process_that_ends_has_not_started(code: str) -> None:
    """Whether it reads what it is sent or not; its exit code is told."""
    worker = standing_in(code)
    async with asyncio.timeout(20):
        await worker.spawn(Settings(), Sockets())
        assert await worker.started() is False
        assert await worker.ended() in {3, -signal.SIGKILL}
    assert (worker.pid, worker.session) == (None, None)


async def test_a_command_that_is_not_there() -> None:
    """That is an error of the system, for the supervisor to log."""
    worker = WorkerProcess(1, ("/nowhere/python",))
    with pytest.raises(FileNotFoundError):
        await worker.spawn(Settings(), Sockets())
    worker.signal(signal.SIGTERM)  # which nobody gets
    assert worker.pid is None


async def test_the_settings_are_not_on_the_command_line() -> None:
    """They hold secrets: a worker reads them from standard input."""
    reads = "import sys, pickle; sys.exit(pickle.load(sys.stdin.buffer).settings.limits.body % 251)"
    worker = standing_in(reads)
    async with asyncio.timeout(20):
        await worker.spawn(Settings(), Sockets())
        assert await worker.ended() == Settings().limits.body % 251
