"""The command ``gateway`` as a process of its own, the way users run it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

GATEWAY = [sys.executable, "-m", "gateway"]


class GatewayProcess:
    """A running ``gateway serve``; its log is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())
        self.url = ""
        self.tls_url: str | None = None
        self.admin_url = ""

    async def logged(self, event: str, *, times: int = 1, **members: object) -> dict[str, Any]:
        """Return the log entry of this event and with these members, once it is there.

        The first one, or the ``times``-th.
        """
        wanted = {"event": event, **members}.items()
        async with asyncio.timeout(20), self._news:
            while True:
                found = [entry for entry in self.log if wanted <= entry.items()]
                if len(found) >= times:
                    return found[times - 1]
                if self._reader.done():
                    raise AssertionError(f"the gateway ended without {event!r}: {self.log}")
                await self._news.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        async with asyncio.timeout(20):
            code = await self.process.wait()
            await self._reader
            return code

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.log.append({"event": line.decode(errors="replace")})
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def serving(config: Path, *arguments: str, **environ: str) -> AsyncIterator[GatewayProcess]:
    """Run ``gateway serve`` until the block ends, killing what is left of it then."""
    process = await asyncio.create_subprocess_exec(
        *GATEWAY,
        "serve",
        "--config",
        str(config),
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
        limit=2**20,
    )
    gateway = GatewayProcess(process)
    try:
        listening = await gateway.logged("listening")
        gateway.url = listening["url"]
        gateway.tls_url = listening["tls_url"]
        gateway.admin_url = listening["admin_url"]
        yield gateway
    finally:
        if process.returncode is None:
            process.kill()
        await gateway.exit_code()
