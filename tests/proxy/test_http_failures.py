"""Upstreams and clients that fail: who is told what, and that half an answer never looks whole."""

import asyncio
import socket
from collections.abc import AsyncIterator
from itertools import product

import pytest
from backends import Connection, answering, scripted
from clocks import FakeClock
from wire import connect, fetch, request

from gateway.exchange import RelayedResponse, RequestBody
from gateway.failures import UpstreamFailures
from gateway.headers import HeaderPolicy
from gateway.metrics import Metrics
from gateway.proxy.http import HttpProxy
from gateway.upstream import open_session
from proxy.gateways import HANDLER_LANE, LogText, count, outcomes, running, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def silence(connection: Connection) -> None:
    """Read, and say nothing."""
    await connection.rest()


async def test_a_refused_connection(free_port: int) -> None:
    """502, and counted as an upstream failure of the route."""
    async with running(f"http://127.0.0.1:{free_port}") as gateway:
        answer = await fetch(gateway.url, request("/"))
        assert (answer.status, answer.error["error"]) == (502, "bad_gateway")
        assert outcomes(gateway) == {"upstream_unreachable": 1}
        assert count(gateway, "gateway_upstream_failures_total") == 1


async def test_a_name_that_does_not_resolve() -> None:
    """502 (RFC 6761 §6.4 keeps ``.invalid`` free)."""
    async with running("http://backend.invalid") as gateway:
        answer = await fetch(gateway.url, request("/"))
        assert (answer.status, outcomes(gateway)) == (502, {"upstream_unreachable": 1})


@pytest.fixture
async def full() -> AsyncIterator[str]:
    """An address where connections are neither accepted nor refused: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for one in waiting:
            one.close()


async def test_a_connection_that_takes_too_long(full: str) -> None:
    """504 after ``limits.connect_timeout``."""
    async with running(full, limits={"connect_timeout": "50ms"}) as gateway:
        answer = await fetch(gateway.url, request("/"))
        assert (answer.status, answer.error["error"]) == (504, "gateway_timeout")
        assert outcomes(gateway) == {"upstream_timeout": 1}


async def test_no_upstream_connection_is_free() -> None:
    """504 when all ``limits.upstream_connections`` are busy for ``connect_timeout``."""
    limits = {"upstream_connections": 1, "connect_timeout": "500ms"}
    async with (
        scripted(silence) as backend,
        running(backend.url, limits=limits) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        await until(lambda: len(backend.connections) == 1)
        assert (await fetch(gateway.url, request("/"))).status == 504


async def test_an_answer_that_takes_too_long() -> None:
    """504 after ``limits.read_timeout``, and the upstream's connection is closed."""
    async with (
        scripted(silence) as backend,
        running(backend.url, limits={"read_timeout": "50ms"}) as gateway,
    ):
        answer = await fetch(gateway.url, request("/"))
        assert (answer.status, answer.error["error"]) == (504, "gateway_timeout")
        assert outcomes(gateway) == {"upstream_timeout": 1}
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()


@pytest.mark.parametrize("framing", ["Content-Length: 10000000", "Transfer-Encoding: chunked"])
async def test_a_body_that_the_upstream_does_not_take(framing: str) -> None:
    """504 after ``limits.read_timeout``: aiohttp alone would wait for ever."""

    async def script(connection: Connection) -> None:
        await connection.head()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with (
        scripted(script) as backend,
        running(backend.url, limits={"read_timeout": "200ms"}) as gateway,
        connect(gateway.url) as client,
    ):

        async def upload() -> None:
            client.writer.write(request("/", framing, method="POST"))
            for _ in range(100):
                client.writer.write(b"186a0\r\n%b\r\n" % (b"x" * 100_000))
                await client.writer.drain()

        task = asyncio.create_task(upload())
        answer = await client.answer()
        assert (answer.status, answer.error["error"]) == (504, "gateway_timeout")
        assert outcomes(gateway) == {"upstream_timeout": 1}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_upstream_that_takes_the_body_and_falls_silent() -> None:
    """504 also when all of the body was handed over, but perhaps not taken."""
    session = open_session(
        connect_timeout_seconds=1, read_timeout_seconds=9, idle_timeout_seconds=1, connections=1
    )
    proxy = HttpProxy(
        session,
        policy=HeaderPolicy(),
        metrics=Metrics(),
        failures=UpstreamFailures(Metrics(), monotonic=FakeClock().monotonic),
        max_body=100,
        body_timeout_seconds=1,
    )

    class Body(RequestBody):
        def __init__(self) -> None:
            """Need no request."""

        async def chunks(self) -> AsyncIterator[bytes]:
            yield b"content"

    async with session, asyncio.timeout(None) as patience:
        chunks = proxy._handed_over(Body(), patience)
        assert await anext(chunks) == b"content"
        assert patience.when() is not None
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
        assert patience.when() is not None
        patience.reschedule(None)


GARBLED = {
    "no HTTP": b"220 mail.test ESMTP\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a bad status": b"HTTP/1.1 2xx OK\r\nContent-Length: 2\r\n\r\nok",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nX a\r\nContent-Length: 2\r\n\r\nok",
    "bare LF in a value": b"HTTP/1.1 200 OK\r\nX: a\nX: b\r\nContent-Length: 2\r\n\r\nok",
    "bare CR in a value": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a coding that stays": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding without chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "101 unasked": b"HTTP/1.1 101 Sw\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    "a huge header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("garbled", GARBLED.values(), ids=GARBLED)
async def test_a_garbled_answer(log: LogText, garbled: bytes) -> None:
    """502, with nothing of it."""
    async with scripted(answering(garbled)) as backend, running(backend.url) as gateway:
        for _ in range(2):
            answer = await fetch(gateway.url, request("/"))
            assert (answer.status, answer.error["error"]) == (502, "bad_gateway")
            assert answer.values("X") == []
        assert outcomes(gateway) == {"upstream_invalid": 2}
    assert log.named("internal error") == []


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX: a"])
async def test_an_upstream_that_closes_before_its_answer(said: bytes) -> None:
    """502, and a request on a fresh connection is sent once."""
    async with scripted(answering(said, close=True)) as backend, running(backend.url) as gateway:
        answer = await fetch(gateway.url, request("/"))
        assert answer.status == 502
        assert len(backend.connections) == 1


HEADS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
}


@pytest.mark.parametrize(
    ("said", "how"),
    [
        *product(HEADS.values(), ["closes", "resets", "falls silent"]),
        (HEADS["chunked"], "garbles"),
    ],
)
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
async def test_an_upstream_that_dies_within_its_answer(
    log: LogText, version: str, said: bytes, how: str
) -> None:
    """The client's connection is cut off: never a clean end, whatever the framing."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(said)
        await go.wait()
        if how == "resets":
            connection.abort()
        elif how == "garbles":
            await connection.send(b"ZZ\r\n")
            await connection.rest()
        elif how == "falls silent":
            await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url, limits={"read_timeout": "500ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/", version=version))
        head = await client.head()
        go.set()
        if version == "HTTP/1.0" and not head.values("Content-Length"):
            # Here the end of the connection would be that of the answer, so it is reset.
            with pytest.raises(ConnectionResetError):
                await client.rest()
        else:
            try:
                rest = await client.rest()
            except ConnectionResetError:
                rest = b""
            assert not rest.endswith(b"0\r\n\r\n")
            assert len(rest) < 100
        await until(lambda: bool(outcomes(gateway)))
        assert outcomes(gateway) == {"upstream_aborted": 1}
        assert count(gateway, "gateway_upstream_failures_total") == 1
        assert count(gateway, "gateway_requests_in_progress") == 0
    assert log.named("internal error") == []
    (record,) = log.named("request")
    assert (record["status"], record["outcome"]) == (200, "upstream_aborted")


async def test_more_content_than_announced() -> None:
    """The client gets what was announced, and the rest is nobody's answer."""
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more"
    async with (
        scripted(answering(said)) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        for _ in range(2):
            await client.send(request("/"))
            answer = await client.answer()
            assert (answer.status in {200, 502}, answer.body[:2] in {b"ok", b'{"'}) == (True, True)
        assert len(backend.connections) == 2


class TestClientGone:
    """A client that goes away takes the upstream's request with it."""

    async def test_before_the_answer(self, log: LogText) -> None:
        """The upstream's connection is closed, and the outcome says why."""
        async with scripted(silence) as backend, running(backend.url) as gateway:
            async with connect(gateway.url) as client:
                await client.send(request("/"))
                await until(lambda: len(backend.connections) == 1)
            async with asyncio.timeout(10):
                await backend.connections[0].gone.wait()
            await until(lambda: outcomes(gateway) == {"client_gone": 1})
            assert count(gateway, "gateway_upstream_failures_total") == 0
        assert log.named("request")[0]["status"] == 499
        assert log.named("internal error") == []

    async def test_within_the_answer(self, log: LogText) -> None:
        """Even while the upstream could go on and on."""

        async def script(connection: Connection) -> None:
            await connection.head()
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await connection.send(b"x" * 1000)
                await asyncio.sleep(0)

        async with scripted(script) as backend, running(backend.url) as gateway:
            async with connect(gateway.url) as client:
                await client.send(request("/"))
                await client.head()
            await until(lambda: outcomes(gateway) == {"client_gone": 1})
            await until(backend.connections[0].writer.transport.is_closing)
            assert count(gateway, "gateway_upstream_failures_total") == 0
        assert log.named("internal error") == []

    async def test_within_its_upload(self, log: LogText) -> None:
        """The upstream sees its request broken off, not ended."""
        async with scripted(silence) as backend, running(backend.url) as gateway:
            async with connect(gateway.url) as client:
                await client.send(
                    request("/", "Transfer-Encoding: chunked", method="POST", body=b"1\r\nx\r\n")
                )
                await until(lambda: len(backend.connections) == 1)
            async with asyncio.timeout(10):
                await backend.connections[0].gone.wait()
            await until(lambda: outcomes(gateway) == {"client_gone": 1})
        assert log.named("internal error") == []

    async def test_while_waiting_for_the_store(self) -> None:
        """A request that nobody waits for isn't sent."""
        release = asyncio.Event()
        async with scripted(silence) as backend, running(backend.url) as gateway:

            async def find_many(keys: object) -> list[None]:
                await release.wait()
                return [None]

            gateway.validator._lookups._find_many = find_many  # type: ignore[assignment]
            async with connect(gateway.url) as client:
                await client.send(request("/"))
                await until(lambda: count(gateway, "gateway_requests_in_progress") == 1)
            await until(lambda: outcomes(gateway) == {"client_gone": 1})
            release.set()
            assert backend.connections == []


async def test_a_fault_of_our_own_within_an_answer(
    log: LogText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second answer in the middle of the first: the client is cut off, once counted."""

    async def fail(self: RelayedResponse, data: bytes = b"") -> None:
        self.send_head()
        raise ValueError("a fault")

    monkeypatch.setattr(RelayedResponse, "write", fail)
    async with (
        scripted(answering(OK)) as backend,
        running(backend.url, proxy=HANDLER_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        assert (await client.head()).status == 200
        assert await client.rest() == b""
        assert outcomes(gateway) == {"server_error": 1}
    assert len(log.named("internal error")) == 1


async def test_a_fault_of_our_own_before_an_answer(
    log: LogText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 as JSON that says nothing of it; the log does."""

    async def fail(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(HttpProxy, "_send", fail)
    async with scripted(silence) as backend, running(backend.url, proxy=HANDLER_LANE) as gateway:
        answer = await fetch(gateway.url, request("/"))
        assert (answer.status, answer.error["error"]) == (500, "server_error")
        assert b"fault" not in answer.body
        assert outcomes(gateway) == {"server_error": 1}
    assert "ValueError: a fault" in log.text


async def test_nothing_is_left_behind() -> None:
    """Ten exchanges aborted at different points leave no task, no connection, no count."""

    async def script(connection: Connection) -> None:
        head = await connection.head()
        if b"GET /answer" in head:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await connection.rest()

    async with scripted(script) as backend, running(backend.url) as gateway:
        idle = asyncio.all_tasks()
        for number in range(10):
            async with connect(gateway.url) as client:
                target = "/answer" if number % 2 else "/silence"
                if number % 3:
                    await client.send(request(target))
                else:
                    await client.send(request("/", "Content-Length: 9", method="POST"), b"half")
                await until(lambda seen=number + 1: len(backend.connections) == seen)  # type: ignore[misc]
        await until(lambda: outcomes(gateway) == {"client_gone": 10})
        await until(lambda: all(connection.gone.is_set() for connection in backend.connections))
        await until(lambda: asyncio.all_tasks() == idle)
        assert count(gateway, "gateway_requests_in_progress") == 0
        assert count(gateway, "gateway_connections") == 0
