"""A worker's end of the channel in the test's own process, with the applications of the test."""

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Self

import aiohttp
from aiohttp import web

from gateway.channel import ADMIN, CONTROL, Intake, WorkerConnector


class InProcessWorker:
    """Routes are added to ``admin`` and ``control``, then ``serve`` opens both.

    It is a ``WorkerView``, whose ``session`` a test may take away.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.restarts = 0
        self.pid: int | None = 1000 + number
        self.session: aiohttp.ClientSession | None = None
        self.admin = web.Application()
        self.control = web.Application()
        self.orphaned = asyncio.Event()
        self.supervisors_end, self._workers_end = socket.socketpair()
        self.supervisors_end.setblocking(False)
        self._stack = AsyncExitStack()

    async def serve(self) -> None:
        servers = {}
        for name, app in ((ADMIN, self.admin), (CONTROL, self.control)):
            runner = web.AppRunner(app)
            await runner.setup()
            self._stack.push_async_callback(runner.cleanup)
            assert runner.server is not None
            servers[name] = runner.server
        intake = Intake(self._workers_end, servers, gone=self.orphaned.set)
        self._stack.callback(intake.close)
        connector = WorkerConnector(self.supervisors_end, ADMIN)
        self.session = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=connector)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()
        self._workers_end.close()
        self.supervisors_end.close()
