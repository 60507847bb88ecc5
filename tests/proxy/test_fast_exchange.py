"""Requests on the fast lane, and what may come while one is under way."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from backends import Connection, RecordingBackend, answering, recording, scripted
from clocks import FakeClock
from scripted import document
from streams import listening
from wire import connect, fetch, request

from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.demo.certificate import write_certificate
from gateway.errors import StoreUnavailable
from gateway.proxy.fast_exchange import FastExchange
from gateway.store import TokenStore
from gateway.tokens import Found, TokenKey, token_key
from proxy.gateways import (
    FAST_LANE,
    LogText,
    count,
    fast_lane,
    outcomes,
    pass_ticks,
    running,
    settings_for,
    taken,
    until,
)
from proxy.test_upstream import serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEY = token_key("good")


class Documents(TokenStore):
    """A store with one token, that can fail, or leave whoever asks without an answer."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None), in_memory=True)
        self.documents: dict[TokenKey, bytes] = {KEY: document(client_id="app", scope="read")}
        self.fails = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0

    async def find_many(self, keys: Sequence[TokenKey]) -> list[Found | None]:
        self.asked += 1
        await self.answers.wait()
        if self.fails:
            raise StoreUnavailable
        documents = [self.documents.get(key) for key in keys]
        return [None if found is None else Found(found) for found in documents]

    async def close(self) -> None: ...


class Held:
    """A script that begins an answer and goes on when it is let; ``requests`` counts them."""

    def __init__(self, begin: bytes = b"", end: bytes = OK) -> None:
        self.begin = begin
        self.end = end
        self.go = asyncio.Event()
        self.requests = 0

    async def __call__(self, connection: Connection) -> None:
        while True:
            await connection.head()
            self.requests += 1
            await connection.send(self.begin)
            await self.go.wait()
            await connection.send(self.end)


class Silent:
    """A script that reads, answers nothing or a part, and finds out when it is left."""

    def __init__(self, part: bytes = b"") -> None:
        self.part = part
        self.requests = 0

    async def __call__(self, connection: Connection) -> None:
        await connection.head()
        self.requests += 1
        await connection.send(self.part)
        await connection.rest()


# What fails, and what is told of it.


@pytest.mark.parametrize("what", ["refused", "no such name"])
async def test_an_upstream_that_can_not_be_reached(what: str, free_port: int) -> None:
    """The answer is 502, and the connection goes on."""
    url = f"http://127.0.0.1:{free_port}" if what == "refused" else "http://backend.invalid"
    async with running(url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
        for _ in range(2):
            await client.send(request("/"))
            answer = await client.answer()
            assert (answer.status, answer.error["error"]) == (502, "bad_gateway")
        assert outcomes(gateway) == {"upstream_unreachable": 2}
        assert taken(gateway) == 2


async def test_upstreams_with_tls(tmp_path: Path) -> None:
    """One that is trusted answers, one that isn't is 502."""
    certificate = write_certificate(tmp_path, "localhost", now_at=SystemClock().wall())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)

    async with listening(serve, tls=serving(certificate)) as port:
        url = f"https://localhost:{port}"
        trusts = FAST_LANE | {"ca_file": str(certificate.certificate)}
        async with running(url, proxy=trusts) as gateway:
            for _ in range(2):
                assert (await fetch(gateway.url, request("/"))).body == b"ok"
            assert taken(gateway) == 2
        async with running(url, proxy=FAST_LANE) as gateway:
            assert (await fetch(gateway.url, request("/"))).status == 502
            assert (taken(gateway), outcomes(gateway)) == (1, {"upstream_unreachable": 1})


async def test_an_upstream_that_does_not_speak_http() -> None:
    """Garbage is 502, and is not passed on."""
    async with (
        scripted(answering(b"SSH-2.0-x\r\n")) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
    ):
        answer = await fetch(gateway.url, request("/"))
        assert (answer.status, answer.error["error"]) == (502, "bad_gateway")
        assert b"SSH" not in answer.body
        assert (taken(gateway), outcomes(gateway)) == (1, {"upstream_invalid": 1})


async def test_a_connection_that_does_not_open_in_time() -> None:
    """The answer is 504 when the last tick of ``limits.connect_timeout`` has passed."""
    silent = Silent()
    async with scripted(silent) as backend:
        url = backend.url.replace("http:", "https:")  # a handshake that nobody answers
        async with running(url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
            lane = fast_lane(gateway)
            await client.send(request("/"))
            await until(lambda: len(backend.connections) == 1)
            pass_ticks(lane, lane.connect_ticks - 1)
            assert lane.in_flight == 1
            pass_ticks(lane, 1)
            assert (await client.answer()).status == 504
            assert outcomes(gateway) == {"upstream_timeout": 1}


async def test_an_upstream_that_does_not_answer_in_time() -> None:
    """The answer is 504 then, its connection is closed though it is a kept one, and that is all."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        await connection.head()
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        lane = fast_lane(gateway)
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        await client.send(request("/"))
        await until(lambda: len(backend.connections[0].heads) == 2)
        pass_ticks(lane, lane.read_ticks - 1)
        assert lane.in_flight == 1
        pass_ticks(lane, 1)
        answer = await client.answer()
        assert (answer.status, answer.error["error"]) == (504, "gateway_timeout")
        await until(backend.connections[0].gone.is_set)
        assert len(backend.connections) == 1
        assert outcomes(gateway) == {"proxied": 1, "upstream_timeout": 1}
        assert (lane.in_flight, taken(gateway)) == (0, 2)


async def test_an_upstream_that_falls_silent_within_its_answer() -> None:
    """The client is cut off, so that it can't take a part for the whole; what comes counts anew."""
    held = Held(begin=OK[:-2], end=b"o")
    async with (
        scripted(held) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        lane = fast_lane(gateway)
        await client.send(request("/"))
        await client.head()
        pass_ticks(lane, lane.read_ticks - 1)
        held.go.set()
        assert await client.read(1) == b"o"
        pass_ticks(lane, lane.read_ticks - 1)
        assert lane.in_flight == 1
        pass_ticks(lane, 1)
        assert await client.ended()
        assert outcomes(gateway) == {"upstream_aborted": 1}


# The store.


async def test_the_store_is_down() -> None:
    """Who isn't known gets 503, and it is asked again for the next request."""
    store = Documents()
    async with (
        recording() as backend,
        running(backend.url, store=store, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        store.fails = True
        await client.send(request("/"))
        answer = await client.answer()
        assert (answer.status, answer.error["error"]) == (503, "temporarily_unavailable")
        store.fails = False
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        assert (taken(gateway), len(backend.seen)) == (2, 1)


async def test_facts_that_serve_while_the_store_is_down(clock: FakeClock) -> None:
    """Within ``cache.stale_if_error`` beyond their max age, and are counted; then it is 503."""
    store = Documents()
    cache = {"max_age": "10s", "stale_if_error": "60s"}
    async with (
        recording() as backend,
        running(backend.url, clock=clock, store=store, cache=cache, proxy=FAST_LANE) as gateway,
    ):
        assert (await fetch(gateway.url, request("/"))).status == 200
        store.fails = True
        clock.advance(11)
        assert (await fetch(gateway.url, request("/"))).status == 200
        assert count(gateway, "gateway_cache_served_stale_total") == 1
        clock.advance(60)
        assert (await fetch(gateway.url, request("/"))).status == 503
        assert taken(gateway) == 3


async def test_a_store_that_does_not_answer_in_time() -> None:
    """The answer is 503 when the last tick of ``store.timeout`` has passed, and stays the only."""
    store = Documents()
    store.answers.clear()
    async with (
        recording() as backend,
        running(backend.url, store=store, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        lane = fast_lane(gateway)
        await client.send(request("/"))
        await until(lambda: store.asked == 1)
        pass_ticks(lane, lane.lookup_ticks - 1)
        assert lane.in_flight == 1
        pass_ticks(lane, 1)
        assert (await client.answer()).status == 503
        store.answers.set()
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        assert (taken(gateway), len(backend.seen)) == (2, 1)


async def test_a_client_that_leaves_while_its_token_is_looked_up() -> None:
    """Nothing is asked of the upstream for it, and what is learned is kept."""
    store = Documents()
    store.answers.clear()
    async with (
        recording() as backend,
        running(backend.url, store=store, proxy=FAST_LANE) as gateway,
    ):
        async with connect(gateway.url) as client:
            await client.send(request("/"))
            await until(lambda: store.asked == 1)
            client.abort()
            await until(lambda: outcomes(gateway) == {"client_gone": 1})
        store.answers.set()
        await until(lambda: gateway.validator.peek(KEY) is not None)
        assert (await fetch(gateway.url, request("/next"))).status == 200
        assert ([seen.target for seen in backend.seen], store.asked) == (["/next"], 1)


@pytest.mark.parametrize(
    ("on_revoke", "statuses", "accepted"), [("lapse", [200, 200], 2), ("evict", [401, 401], 0)]
)
async def test_a_token_that_is_revoked(
    on_revoke: str, statuses: list[int], accepted: int, backend: RecordingBackend
) -> None:
    """Its facts serve until they lapse, which is counted each time; or they are gone at once."""
    revocation = {"on_revoke": on_revoke}
    async with (
        running(backend.url, proxy=FAST_LANE, revocation=revocation) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        await gateway.store.delete([KEY])
        gateway.validator.revoke(KEY)
        answers = []
        for _ in statuses:
            await client.send(request("/"))
            answers.append((await client.answer()).status)
        assert answers == statuses
        assert count(gateway, "gateway_stale_accepts_total") == accepted
        assert taken(gateway) == 3


async def test_a_stream_whose_token_is_revoked() -> None:
    """It is cut off at the next look at its token (``limits.revalidate_streams``)."""
    held = Held(begin=b"HTTP/1.1 200 OK\r\n\r\nbegun")
    async with (
        scripted(held) as streaming,
        running(
            streaming.url,
            proxy=FAST_LANE,
            limits={"revalidate_streams": "10ms"},
            cache={"max_age": "0s"},
        ) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        await client.head()
        assert await client.chunk() == b"begun"
        looked = count(gateway, "gateway_store_batch_size_count")
        await until(lambda: count(gateway, "gateway_store_batch_size_count") > looked + 2)
        assert outcomes(gateway) == {}  # it was looked at, and is good
        await gateway.store.delete([KEY])
        assert await client.ended()
        assert (taken(gateway), outcomes(gateway)) == (1, {"token_ended": 1})
        assert fast_lane(gateway).in_flight == 0


async def test_an_answer_that_has_ended_is_not_looked_at_again() -> None:
    """Its connection goes on when the token is revoked, while a stream's is cut off."""

    async def script(connection: Connection) -> None:
        while True:
            stream = b" /stream " in await connection.head()
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\nbegun" if stream else OK)
            if stream:
                await connection.rest()

    limits = {"revalidate_streams": "10ms"}
    async with (
        scripted(script) as backend,
        running(backend.url, proxy=FAST_LANE, limits=limits, cache={"max_age": "0s"}) as gateway,
        connect(gateway.url) as client,
        connect(gateway.url) as other,
    ):
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        await other.send(request("/stream"))
        await other.head()
        await gateway.store.delete([KEY])
        assert await other.ended() is False
        await client.send(request("/"))
        assert (await client.answer()).status == 401
        assert taken(gateway) == 3


# Clients that leave.


async def test_a_client_that_leaves_while_it_waits_for_a_connection() -> None:
    """Its request never reaches the upstream, and those behind it move up."""
    held = Held()
    limits = {"upstream_connections": 1}
    async with (
        scripted(held) as backend,
        running(backend.url, proxy=FAST_LANE, limits=limits) as gateway,
        connect(gateway.url) as first,
        connect(gateway.url) as third,
    ):
        await first.send(request("/first"))
        await until(lambda: held.requests == 1)
        async with connect(gateway.url) as second:
            await second.send(request("/second"))
            await until(lambda: taken(gateway) == 2)
            await third.send(request("/third"))
            await until(lambda: taken(gateway) == 3)
            second.abort()
            await until(lambda: outcomes(gateway) == {"client_gone": 1})
        held.go.set()
        assert (await first.answer()).status == 200
        assert (await third.answer()).status == 200
        lines = [head.split(b" ")[1] for head in backend.connections[0].heads]
        assert (lines, len(backend.connections)) == ([b"/first", b"/third"], 1)


@pytest.mark.parametrize("part", [b"", OK[:-1]], ids=["for the answer", "within the answer"])
async def test_a_client_that_leaves_while_it_waits(part: bytes) -> None:
    """The upstream's connection is closed, and used for nobody else."""
    silent = Silent(part)
    async with (
        scripted(silent) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
    ):
        async with connect(gateway.url) as client:
            await client.send(request("/"))
            await until(lambda: silent.requests == 1)
            if part:
                await client.head()
            client.abort()
            async with asyncio.timeout(10):
                await backend.connections[0].gone.wait()
            await until(lambda: outcomes(gateway) == {"client_gone": 1})
        async with connect(gateway.url) as other:
            await other.send(request("/"))
            await until(lambda: len(backend.connections) == 2)
        lane = fast_lane(gateway)
        await until(lambda: lane.in_flight == 0)
        await until(lambda: lane._pools.open_connections == 0)


async def test_a_slow_client_holds_the_upstream() -> None:
    """Of 50 MB little is read before the client takes some, and the upstream isn't blamed."""
    size = 50 * 2**20
    sent = 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.head()
        connection.writer.transport.set_write_buffer_limits(0)
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 2**16):
            await connection.send(b"x" * 2**16)
            sent += 2**16
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        lane = fast_lane(gateway)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request("/"))
        await until(lambda: lane.in_flight == 1)
        (exchange,) = lane._active
        await until(lambda: exchange.upstream is not None and exchange.upstream.held)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert exchange.client.transport is not None
        assert 0 < exchange.client.transport.get_write_buffer_size() < 2**20
        assert sent < size
        pass_ticks(lane, 2 * lane.read_ticks)
        assert lane.in_flight == 1
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.head()
        total = len(await client.read(size))
        await until(lambda: outcomes(gateway) == {"proxied": 1})
        assert (total, taken(gateway)) == (size, 1)


# Faults of ours.


@pytest.mark.parametrize(
    ("method", "cold"),
    [
        ("judge", False),
        ("judge", True),
        ("look_up", True),
        ("proceed", False),
        ("proceed", True),
        ("send_on", True),
        ("answer_whole", False),
        ("_send_head", False),
    ],
)
async def test_a_fault_before_the_answer(
    backend: RecordingBackend,
    log: LogText,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    cold: bool,
) -> None:
    """The client gets 500, the log says why, nothing is left under way, and all goes on."""
    async with running(backend.url, proxy=FAST_LANE) as gateway:
        if not cold:
            assert (await fetch(gateway.url, request("/"))).status == 200
        with monkeypatch.context() as patch:
            patch.setattr(FastExchange, method, _fails)
            answer = await fetch(gateway.url, request("/"))
            assert (answer.status, answer.error["error"]) == (500, "server_error")
        assert "ZeroDivisionError" in log.text
        await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)
        assert outcomes(gateway)["server_error"] == 1
        assert fast_lane(gateway).in_flight == 0
        assert (await fetch(gateway.url, request("/"))).status == 200


@pytest.mark.parametrize("method", ["answer_goes_on", "answer_ends"])
async def test_a_fault_within_the_answer(
    log: LogText, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The client is cut off, the log says why, nothing is left under way, and all goes on."""
    held = Held(begin=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", end=b"ok")
    async with (
        scripted(held) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(FastExchange, method, _fails)
            await client.send(request("/"))
            await client.head()
            held.go.set()
            await client.ended()
        assert "ZeroDivisionError" in log.text
        await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)
        assert (outcomes(gateway), fast_lane(gateway).in_flight) == ({"server_error": 1}, 0)
        assert (await fetch(gateway.url, request("/"))).status == 200


def _fails(*_args: Any, **_given: Any) -> None:
    raise ZeroDivisionError


# Ends.


async def test_a_reload_closes_the_old_connections() -> None:
    """What is under way finishes on them first."""
    held = Held()
    async with (
        scripted(held) as old,
        scripted(answering(OK)) as new,
        running(old.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
        connect(gateway.url) as other,
    ):
        before = fast_lane(gateway)
        await client.send(request("/"))
        await until(lambda: held.requests == 1)
        gateway.reload(settings_for(new.url, proxy=FAST_LANE))
        await other.send(request("/"))
        assert (await other.answer()).status == 200
        assert (before._pools.open_connections, len(new.connections)) == (1, 1)
        held.go.set()
        assert (await client.answer()).status == 200
        await until(lambda: before._pools.open_connections == 0)
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        assert (held.requests, before.in_flight) == (1, 0)


async def test_a_gateway_that_stops_closes_what_is_idle() -> None:
    """Upstreams' connections that nobody uses go at once, and nothing ticks on."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        await connection.rest()

    async with scripted(script) as backend:
        async with running(backend.url, proxy=FAST_LANE) as gateway:
            assert (await fetch(gateway.url, request("/"))).status == 200
            lane = fast_lane(gateway)
            assert lane._pools.open_connections == 1
        assert lane._pools.open_connections == 0
        assert lane._timer is not None
        assert lane._timer.cancelled()
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()


@pytest.mark.parametrize("where", ["store", "connection", "answer", "within"])
async def test_a_gateway_that_stops_leaves_nothing(where: str) -> None:
    """Whatever an exchange waits for: its client is cut off, and no task or connection is left."""
    store = Documents()
    if where == "store":
        store.answers.clear()
    silent = Silent(OK[:-1] if where == "within" else b"")
    limits = {"upstream_connections": 1}
    before = asyncio.all_tasks()
    async with scripted(silent) as backend:
        async with Gateway(
            settings_for(backend.url, proxy=FAST_LANE, limits=limits), store=store
        ) as gateway:
            lane = fast_lane(gateway)
            async with connect(gateway.url) as first, connect(gateway.url) as second:
                await first.send(request("/"))
                await until(lambda: silent.requests == 1 or store.asked == 1)
                if where == "connection":
                    await second.send(request("/"))
                if where != "store":
                    await until(lambda: silent.requests == 1)
                await until(lambda: lane.in_flight == (2 if where == "connection" else 1))
                await gateway.stop()
                assert b"HTTP/1.1 200" not in await _whatever(second)
        assert lane.in_flight == 0
        await until(lambda: lane._pools.open_connections == 0)
        for connection in backend.connections:
            async with asyncio.timeout(10):
                await connection.gone.wait()
        await until(lambda: asyncio.all_tasks() <= before)
        assert count(gateway, "gateway_requests_in_progress") == 0


async def _whatever(client: Any) -> bytes:
    try:
        return bytes(await client.rest())
    except ConnectionError:
        return b""
