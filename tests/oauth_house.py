"""The OAuth endpoints behind a real port, with everything that they work with."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from clocks import FakeClock
from scripted_key_manager import Message, ScriptedKeyManager, read_message
from streams import closed

from gateway.cache import FactsCache
from gateway.failures import UpstreamFailures
from gateway.headers import HeaderPolicy
from gateway.metrics import Metrics
from gateway.oauth import OAuthEndpoints
from gateway.proxy.http import HttpProxy
from gateway.proxy.pipeline import Pipeline
from gateway.proxy.server import GatewayServer
from gateway.proxy.websocket import WebSocketProxy
from gateway.recording import Recorder
from gateway.routes import Routes
from gateway.settings import KeyManager, Limits
from gateway.store import TokenStore
from gateway.tokens import Facts, token_key
from gateway.upstream import open_session
from gateway.validator import Validator

MAX_AGE_SECONDS = 900.0
BASIC = b"Basic " + b64encode(b"demo-key:secret-demo")
FORM = b"application/x-www-form-urlencoded"


class OAuthHouse:
    """A pipeline with the OAuth endpoints on a port of the loopback interface.

    ``sleeps`` gets a permission for each retry of what the store didn't take.
    """

    def __init__(
        self, key_manager: ScriptedKeyManager, store: TokenStore, clock: FakeClock
    ) -> None:
        self.key_manager = key_manager
        self.store = store
        self.clock = clock
        self.metrics = Metrics()
        self.validator = Validator(
            store.find_many,
            cache=FactsCache(max_age_seconds=MAX_AGE_SECONDS, max_entries=100, clock=clock),
            negative_cache=FactsCache(max_age_seconds=1.0, max_entries=100, clock=clock),
            clock=clock,
            metrics=self.metrics,
            timeout_seconds=5.0,
        )
        self.retries = asyncio.Semaphore(0)
        self.recorder = Recorder(
            store,
            known=self.validator,
            metrics=self.metrics,
            clock=clock,
            sleep=self._wait_for_permission,
        )
        self.endpoints: OAuthEndpoints
        self.handled: asyncio.Queue[None] = asyncio.Queue()
        self._address: tuple[str, int] = ("", 0)

    @asynccontextmanager
    async def open(
        self, *, limits: Limits | None = None, revokes_on_replay: bool = False, **settings: Any
    ) -> AsyncIterator[None]:
        """Open the port; ``settings`` are those of the key manager's section."""
        limits = limits or Limits()
        section = KeyManager(**{"url": self.key_manager.url, **settings})
        policy = HeaderPolicy()
        failures = UpstreamFailures(self.metrics, monotonic=self.clock.monotonic)
        session = open_session(
            connect_timeout_seconds=section.connect_timeout.total_seconds(),
            read_timeout_seconds=section.read_timeout.total_seconds(),
            idle_timeout_seconds=15.0,
            connections=10,
        )
        self.endpoints = OAuthEndpoints(
            section,
            session=session,
            recorder=self.recorder,
            metrics=self.metrics,
            clock=self.clock,
            limits=limits,
            policy=policy,
            revokes_on_replay=revokes_on_replay,
        )
        http = HttpProxy(
            session,
            policy=policy,
            metrics=self.metrics,
            failures=failures,
            max_body=limits.body,
            body_timeout_seconds=5.0,
        )
        self.pipeline = Pipeline(
            routes=Routes([]),
            validator=self.validator,
            http=http,
            websocket=WebSocketProxy(http, most_message=0),
            oauth=self.endpoints,
            metrics=self.metrics,
            failures=failures,
            clock=self.clock,
            realm="gateway",
            max_header_bytes=limits.headers,
            max_header_fields=limits.header_fields,
            underscores="refuse",
            access_log_enabled=True,
        )
        server = GatewayServer(
            self._handle, self.pipeline.refuse, metrics=self.metrics, limits=limits
        )
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        self._address = listener.sockets[0].getsockname()
        try:
            yield
        finally:
            listener.close()
            await server.shutdown(1.0)
            await self.endpoints.close()
            await session.close()
            await self.recorder.close()
            await self.validator.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address[:2])

    async def send(self, request: bytes) -> Message:
        """Send bytes on a connection of their own and return the answer."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            async with asyncio.timeout(10):
                return await read_message(reader)
        finally:
            await closed(writer)

    async def post(self, path: str, *, basic: bytes | None = BASIC, **form: Any) -> Message:
        """Post a form, as a client does."""
        fields = [] if basic is None else [(b"Authorization", basic)]
        return await self.send(request(path, urlencode(form, doseq=True).encode(), fields))

    async def facts(self, token: str) -> Facts:
        """Return what a request with this token would be judged by."""
        return await self.validator.validate(token_key(token), MAX_AGE_SECONDS)

    def count(self, name: str, **labels: str) -> float:
        """Return a counter as it stands."""
        return self.metrics._registry.get_sample_value(f"gateway_{name}_total", labels) or 0.0

    async def finished(self) -> None:
        """Return when no exchange with the key manager is under way."""
        if self.endpoints._under_way:
            await asyncio.wait(self.endpoints._under_way, timeout=10)

    async def retry(self) -> None:
        """Let what the store didn't take be tried once more."""
        retrying = self.recorder._retrying
        assert retrying is not None
        self.retries.release()
        await asyncio.wait({retrying}, timeout=10)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self.pipeline.handle(request)
        finally:
            self.handled.put_nowait(None)

    async def _wait_for_permission(self, _seconds: float) -> None:
        await self.retries.acquire()


def request(
    target: str,
    content: bytes = b"",
    fields: list[tuple[bytes, bytes]] | None = None,
    *,
    method: str = "POST",
    content_type: bytes | None = FORM,
) -> bytes:
    """Return a request as bytes."""
    everything = [(b"Host", b"gateway.example"), *(fields or [])]
    if content_type is not None and content:
        everything.append((b"Content-Type", content_type))
    if method == "POST" or content:
        everything.append((b"Content-Length", str(len(content)).encode()))
    head = b"".join(b"%b: %b\r\n" % item for item in everything)
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), target.encode(), head, content)


BRIEF: dict[str, Any] = {"connect_timeout": "25ms", "read_timeout": "50ms"}
"""Settings for a key manager that will not answer."""
