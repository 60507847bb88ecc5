"""A worker, as the supervisor has it: its process, and the channel to talk with it."""

import asyncio
import os
import pickle
import signal
import socket
import sys
from contextlib import suppress

import aiohttp

from gateway.channel import ADMIN, CONTROL, WorkerConnector, WorkerStart
from gateway.listeners import Sockets
from gateway.restarts import Restarts
from gateway.settings import Settings

# A fresh interpreter: nothing of a loop or a thread is inherited, as it would be by a fork.
# -P: nothing is imported from the directory that the gateway happens to be started in, but
# where the path of this process says so.
COMMAND = (sys.executable, "-P", "-m", "gateway.worker")

_START_SECONDS = 60.0
_RELOAD = aiohttp.ClientTimeout(total=30)


class WorkerProcess:
    """One worker: at most one process at a time, and how to talk with it."""

    def __init__(self, number: int, command: tuple[str, ...]) -> None:
        self.number = number
        self.session: aiohttp.ClientSession | None = None
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._policy = Restarts()

    @property
    def pid(self) -> int | None:
        """Its process, ``None`` between two."""
        return self._process.pid if self._process is not None else None

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._policy.count

    def delay_after(self, ran_seconds: float) -> float | None:
        """Return how long to wait before it is started again, ``None`` if it isn't."""
        return self._policy.delay_after(ran_seconds)

    async def spawn(self, settings: Settings, sockets: Sockets) -> None:
        """Start a process.

        Raises:
            OSError: there can't be another one.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            start = WorkerStart(
                number=self.number,
                settings=settings,
                control=theirs.fileno(),
                plain=tuple(sock.fileno() for sock in sockets.plain),
                tls=tuple(sock.fileno() for sock in sockets.tls),
            )
            try:
                process = await self._execute(start)
            except OSError:
                ours.close()
                raise
        self._process, self._control = process, ours
        assert process.stdin is not None
        with suppress(OSError):  # it has ended already, which will be seen
            process.stdin.write(pickle.dumps(start))
            await process.stdin.drain()
        process.stdin.close()

    async def _execute(self, start: WorkerStart) -> asyncio.subprocess.Process:
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(start.control, *start.plain, *start.tls),
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C at a terminal is the supervisor's to hand on.
            process_group=0,
        )

    async def started(self) -> bool:
        """Return whether it serves, once that is known; kill it if it takes too long."""
        assert self._control is not None
        assert self._process is not None
        session = aiohttp.ClientSession(connector=WorkerConnector(self._control, ADMIN))
        try:
            timeout = aiohttp.ClientTimeout(total=_START_SECONDS)
            async with session.get("http://worker/livez", timeout=timeout):
                self.session = session
                return True
        except (aiohttp.ClientError, TimeoutError):
            await session.close()
            self.signal(signal.SIGKILL)
            return False

    async def reload(self, settings: Settings) -> list[str]:
        """Have it work by other settings; return what is wrong with them.

        Raises:
            aiohttp.ClientError: it has ended.
            TimeoutError: it hangs.
        """
        assert self._control is not None
        connector = WorkerConnector(self._control, CONTROL)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_RELOAD) as session,
            session.post("http://worker/reload", data=pickle.dumps(settings)) as answer,
        ):
            faults: list[str] = (await answer.json())["faults"]
            return faults

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is a process to get it."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                # Not send_signal, which looks whether it has ended, and takes the exit code away
                # from asyncio if it has.
                os.kill(self._process.pid, number)

    async def ended(self) -> int:
        """Return the exit code, once there is one; a signal's is negative."""
        assert self._process is not None
        code = await self._process.wait()
        await self._forget()
        return code

    async def _forget(self) -> None:
        self._process = None
        session, self.session = self.session, None
        if session is not None:
            await session.close()
        if self._control is not None:
            self._control.close()
