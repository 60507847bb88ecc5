"""A backend whose answers a test holds back for as long as it likes."""

import asyncio

from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer


class HeldBackend:
    """Answers at once under ``/fast``, and under ``/slow`` when the test lets it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self.url = ""

    async def start(self, aiohttp_server: AiohttpServer) -> "HeldBackend":
        app = web.Application()
        app.router.add_get("/slow", self.slow)
        app.router.add_get("/{path:.*}", self.fast)
        self.url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
        return self

    async def slow(self, _request: web.Request) -> web.Response:
        self.reached.set()
        await self.released.wait()
        return web.Response(text="at last")

    async def fast(self, _request: web.Request) -> web.Response:
        return web.Response(text="at once")
