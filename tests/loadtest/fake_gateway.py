"""A scripted authorization server and gateway in one, whose windows are known.

``window_seconds`` is how long a revoked token is still accepted: 0 by default, so a token is
refused from the moment its revocation is handled.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.test_utils import TestServer
from streams import listening

Answer = Callable[[web.Request], web.StreamResponse | None]


class FakeGateway:
    """Issues ``t0``, ``t1``…, revokes them, and accepts those not revoked.

    Each hook, where set, may answer a request in its own way, or return None to leave it.
    ``stall`` holds every answer of the resource until it is set.
    """

    def __init__(self, *, window_seconds: float = 0.0) -> None:
        self.window_seconds = window_seconds
        self.revoked_at: dict[str, float] = {}
        self.forms: list[dict[str, str]] = []
        self.seen: list[tuple[str, str]] = []
        self.on_token: Answer | None = None
        self.on_revoke: Answer | None = None
        self.on_probe: Answer | None = None
        self.stall: asyncio.Event | None = None
        self._asked = asyncio.Event()
        self._numbers = count()
        self._refresh = "r0"

    def app(self) -> web.Application:
        """Return the application: ``/token``, ``/revoke``, and anything else is protected."""
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_post("/revoke", self._revoke)
        app.router.add_route("*", "/{rest:.*}", self._probe)
        return app

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait, request by request, until it has happened; TimeoutError after 30 seconds."""
        async with asyncio.timeout(30):
            while not happened():
                self._asked.clear()
                await self._asked.wait()

    async def _form(self, request: web.Request) -> dict[str, str]:
        form = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        self.forms.append({**form, "authorization": request.headers.get("Authorization", "")})
        return form

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = await self._form(request)
        if self.on_token and (answer := self.on_token(request)):
            return answer
        number = next(self._numbers)
        granted = {"access_token": f"t{number}", "token_type": "Bearer", "expires_in": 3600}
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] != self._refresh:
                return web.json_response({"error": "invalid_grant"}, status=400)
            self._refresh = f"r{number + 1}"
            granted["refresh_token"] = self._refresh
        return web.json_response(granted)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        form = await self._form(request)
        if self.on_revoke and (answer := self.on_revoke(request)):
            return answer
        self.revoked_at[form["token"]] = time.monotonic()
        self._asked.set()
        return web.Response()

    async def _probe(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.seen.append((request.raw_path, token))
        self._asked.set()
        if self.stall is not None:
            await self.stall.wait()
        if self.on_probe and (answer := self.on_probe(request)):
            return answer
        revoked_at = self.revoked_at.get(token)
        if revoked_at is not None and time.monotonic() >= revoked_at + self.window_seconds:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({"path": request.path})


@asynccontextmanager
async def serving(gateway: FakeGateway) -> AsyncIterator[str]:
    """Serve it on loopback; gives its base URL."""
    async with TestServer(gateway.app()) as server:
        yield str(server.make_url("")).rstrip("/")


class RawServer:
    """Answers each request with bytes as they are: chunked, close-delimited or garbled.

    ``script`` gives the pieces for each request in turn; the last stays. A None ends the
    connection.
    """

    def __init__(self, *script: list[bytes | None]) -> None:
        self.script = list(script)
        self.requests: list[bytes] = []
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    def serving(self) -> AbstractAsyncContextManager[int]:
        """Serve on loopback; gives the port."""
        return listening(self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        while True:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            pieces = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            for piece in pieces:
                if piece is None:
                    return
                writer.write(piece)
                await writer.drain()
