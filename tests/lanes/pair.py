"""Two gateways that differ in ``proxy.fast_lane`` alone, and a conversation held with both.

Both live on one loop in memory and are told the same at the same time, each with a client and a
backend of its own. What either of them did is taken down as plain values, to be compared.
"""

import asyncio
import contextvars
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import structlog
from aiohttp import web
from clocks import FakeClock
from scripted import document
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gateway.app import Gateway
from gateway.errors import StoreUnavailable
from gateway.listeners import Inherited, Sockets
from gateway.settings import Settings
from gateway.store import TokenStore
from gateway.tokens import Found, TokenKey, token_key
from lanes.far_ends import Backend, Client
from lanes.memory import FarEnd, MemoryLoop, MemoryTransport

BACKEND = ("127.0.0.1", 9000)
CLIENT = ("127.0.0.1", 40000)
DOCUMENTS = {
    "good": document(client_id="app", sub="alice", scope="read write"),
    "admin": document(client_id="admin-app", sub="root", scope="read admin"),
    "narrow": document(client_id="app", sub="bob", scope="other"),
    "scopeless": document(client_id="app"),
    "odd": document(client_id="caf\u00e9 100%", scope="read \u00e9"),
    "expired": document(client_id="app", scope="read", exp=1_600_000_000),
    "inactive": b'{"active": false}',
    "malformed": b"{",
}
REVOKED = "revoked"
"""Good once, then revoked: where it is cached it is accepted still."""

_COUNTED = (
    *("gateway_requests", "gateway_cache_requests", "gateway_stale_accepts"),
    *("gateway_upstream_failures", "gateway_upstream_retries"),
    *("gateway_requests_in_progress", "gateway_connections"),
)
_LANE: contextvars.ContextVar["Lane"] = contextvars.ContextVar("lane")


class Documents(TokenStore):
    """The token store of one gateway, that fails when it is told to."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None), in_memory=True)
        self.fails = False
        self.documents: dict[TokenKey, bytes] = {
            token_key(token.encode()): text for token, text in DOCUMENTS.items()
        }

    async def find_many(self, keys: Sequence[TokenKey]) -> list[Found | None]:
        await asyncio.sleep(0)
        if self.fails:
            raise StoreUnavailable
        documents = [self.documents.get(key) for key in keys]
        return [None if found is None else Found(found) for found in documents]

    async def close(self) -> None: ...


class Lane:
    """One gateway, and what stands on either side of it."""

    def __init__(self, loop: MemoryLoop, clock: FakeClock, settings: Settings) -> None:
        self.loop = loop
        self.backend = Backend()
        self.log: list[dict[str, Any]] = []
        self.context = contextvars.copy_context()
        self.context.run(_LANE.set, self)
        self.store = Documents()
        self.client: Client
        self._counted: dict[tuple[str, ...], int] = {}
        self.run(self._start(settings, clock))

    async def _start(self, settings: Settings, clock: FakeClock) -> None:
        # A port that nobody connects to, and no admin port.
        port = socket.create_server(("127.0.0.1", 0))
        inherited = Inherited(Sockets((port,)), web.Application())
        self.gateway = Gateway(settings, clock=clock, store=self.store, inherited=inherited)
        await self.gateway.start()
        assert self.gateway._sweeper is not None
        self.gateway._sweeper.cancel()  # wakes ten times a second, and time flies here
        self._counters = [
            collector
            for collector in self.gateway.metrics._registry._collector_to_names
            if any(family.name in _COUNTED for family in collector.collect())
        ]
        assert len(self._counters) == len(_COUNTED)

    def run(self, coroutine: Any) -> None:
        """Run a coroutine of this gateway."""
        task = self.loop.create_task(coroutine, context=self.context)
        self.loop.settle()
        task.result()

    async def connect(self) -> None:
        """Have a client connect."""
        assert self.gateway._server is not None
        protocol = self.gateway._server()
        transport = MemoryTransport(self.loop, protocol, peer=CLIENT, context=self.context)
        self.client = Client(transport)
        transport.open(self.client)

    async def know(self, tokens: Iterable[str]) -> None:
        """Have these tokens cached as they are in the store, and one of them revoked since."""
        validator = self.gateway.validator
        for token in tokens:
            key = token_key(token.encode())
            if token == REVOKED:
                self.store.documents[key] = DOCUMENTS["good"]
            await validator.validate(key, float("inf"))
            if token == REVOKED:
                del self.store.documents[key]
                validator.revoke(key)

    def counts(self) -> dict[tuple[str, ...], int]:
        """Return all that is counted, by the metric and its labels."""
        return {
            (sample.name, *sample.labels.values()): int(sample.value)
            for collector in self._counters
            for family in collector.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def count_from_here(self) -> None:
        """Forget what happened so far."""
        self.log.clear()
        self.backend.forget()
        self._counted = self.counts()

    def counted(self) -> dict[tuple[str, ...], int]:
        """Return what has been counted since, where there is anything."""
        return {
            name: count - self._counted.get(name, 0)
            for name, count in sorted(self.counts().items())
            if count != self._counted.get(name, 0)
        }


@dataclass(frozen=True)
class Setting:
    """How things stand when a client connects.

    ``cached`` are tokens that the gateways know already. ``connected`` says that they hold an
    idle connection to the backend, ``store_fails`` that the store is down.
    """

    cached: Sequence[str] = ()
    connected: bool = False
    store_fails: bool = False


class Pair:
    """The two gateways; ``lanes`` has the fast one first."""

    def __init__(self, loop: MemoryLoop, clock: FakeClock, settings: dict[str, Any]) -> None:
        self.loop = loop
        self.lanes = tuple(
            Lane(loop, clock, _settings(settings, fast_lane=fast_lane))
            for fast_lane in (True, False)
        )

    def begin(self, setting: Setting) -> None:
        """Have things stand as told, and a client connected to each gateway."""
        for lane in self.lanes:
            lane.gateway.validator.evict_all()
            lane.run(lane.know(setting.cached))
            if setting.connected:
                lane.run(lane.connect())
                lane.client.transport.feed(b"GET /public HTTP/1.1\r\nHost: a\r\n\r\n")
        if setting.connected:
            self.loop.settle()
        for lane in self.lanes:
            if setting.connected:
                assert lane.client.stream.startswith(b"HTTP/1.1 200 ")
                lane.client.transport.feed_eof()
        self.loop.settle()
        for lane in self.lanes:
            lane.store.fails = setting.store_fails
            lane.count_from_here()
            lane.run(lane.connect())

    def send(self, data: bytes, *, settle: bool = True) -> None:
        """Send the same to both, and with ``settle`` wait until nothing more comes of it."""
        for lane in self.lanes:
            if lane.client.end == "open":
                lane.client.transport.feed(data)
        if settle:
            self.loop.settle()

    def go_on(self) -> None:
        """Have the backends say what they have to, piece by piece."""
        while sum(lane.backend.go_on() for lane in self.lanes):
            self.loop.settle()

    def leave(self) -> None:
        """Have both clients close, and all be over; nothing may be left behind."""
        for lane in self.lanes:
            lane.client.transport.feed_eof()
        self.loop.settle()
        connections = [connection for lane in self.lanes for connection in lane.backend.connections]
        for lane in self.lanes:
            lane.backend.reset()
            lane.store.fails = False
        self.loop.settle()
        assert self.loop.faults == []
        assert [connection for connection in connections if connection.is_open] == []
        for lane in self.lanes:
            counts = lane.counts()
            assert (counts["gateway_requests_in_progress",], counts["gateway_connections",]) == (
                0,
                0,
            )

    async def stop(self) -> None:
        for lane in self.lanes:
            await lane.gateway.stop()


def _settings(given: dict[str, Any], *, fast_lane: bool) -> Settings:
    sections = {"store": {"url": "memory://"}, "revocation": {"feed": False}, **given}
    sections["proxy"] = {**sections.get("proxy", {}), "fast_lane": fast_lane}
    return Settings.model_validate(sections)


class Pairs:
    """Pairs of gateways, made as they are asked for, by the name of their settings."""

    def __init__(self, worlds: dict[str, dict[str, Any]]) -> None:
        self.clock = FakeClock()
        self.loop = MemoryLoop(self.clock)
        self._worlds = worlds
        self._made: dict[str, Pair] = {}
        self.loop.listen(BACKEND, _accept)

    @contextmanager
    def talking(self, name: str, setting: Setting) -> Iterator[Pair]:
        """Hold a conversation with a pair; one that is left in disorder is replaced."""
        if name not in self._made:
            self._made[name] = Pair(self.loop, self.clock, self._worlds[name])
        pair = self._made[name]
        in_order = False
        try:
            pair.begin(setting)
            try:
                yield pair
            finally:
                pair.leave()
                in_order = True
        finally:
            if not in_order:
                del self._made[name]
                self.loop.faults.clear()
                self._stop(pair)

    def close(self) -> None:
        """Stop all gateways."""
        for pair in self._made.values():
            self.loop.finish(pair.stop())
        self.loop.end()

    def _stop(self, pair: Pair) -> None:
        task = self.loop.create_task(pair.stop())
        self.loop.settle()
        self.loop.advance(10)
        with suppress(Exception, asyncio.CancelledError):
            task.result()


@contextmanager
def pairs_of_gateways(worlds: dict[str, dict[str, Any]]) -> Iterator[Pairs]:
    """Make pairs of gateways by these settings, and keep what each of them logs."""
    with capture_logs(processors=(_file_away,)):
        pairs = Pairs(worlds)
        try:
            yield pairs
        finally:
            pairs.close()


def _accept(transport: MemoryTransport) -> FarEnd:
    return _LANE.get().backend.accept(transport)


def _file_away(_: Any, level: str, event: EventDict) -> NoReturn:
    lane = _LANE.get(None)
    if lane is not None:
        lane.log.append({"level": level, **event})
    raise structlog.DropEvent
