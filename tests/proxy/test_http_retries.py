"""Upstream connections: used again, and what becomes of a request when one closes on it."""

import asyncio

import pytest
from backends import Connection, answering, recording, scripted
from wire import connect, fetch, request

from proxy.gateways import HANDLER_LANE, count, outcomes, running, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_sequential_requests_use_one_upstream_connection() -> None:
    """An answer that was read to its end gives its connection back."""
    async with recording() as backend, running(backend.url) as gateway:
        for method in ("GET", "POST", "HEAD", "DELETE", "GET"):
            data = request("/", method=method)
            assert (await fetch(gateway.url, data, bodiless=method == "HEAD")).status == 200
        assert len(backend.seen) == 5
        assert len(set(backend.peers)) == 1


async def test_an_upstream_that_closes_is_not_reused() -> None:
    """``Connection: close`` of an upstream is believed."""
    said = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with scripted(answering(said)) as backend, running(backend.url) as gateway:
        for _ in range(3):
            assert (await fetch(gateway.url, request("/"))).status == 200
        assert len(backend.connections) == 3


class Closing:
    """An upstream that closes its first connection on reading a second request there."""

    def __init__(self, *, reset: bool = False) -> None:
        self.requests: list[bytes] = []
        self.reset = reset

    async def __call__(self, connection: Connection) -> None:
        if connection.number == 0:
            await self._read(connection)
            await connection.send(OK)
        await self._read(connection)
        if connection.number == 0:
            if self.reset:
                connection.abort()
            return
        await connection.send(OK[:-2] if self.requests[-1] == b"HEAD" else OK)
        await connection.rest()

    async def _read(self, connection: Connection) -> None:
        head = await connection.head()
        if b"Content-Length: 5" in head:
            await connection.reader.readexactly(5)
        self.requests.append(head.split(b" ")[0])


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_request_is_sent_again_once(method: str, reset: bool) -> None:
    """A kept connection that closes before answering costs the client nothing."""
    script = Closing(reset=reset)
    async with scripted(script) as backend, running(backend.url) as gateway:
        assert (await fetch(gateway.url, request("/"))).status == 200
        answer = await fetch(gateway.url, request("/", method=method), bodiless=method == "HEAD")
        assert answer.status == 200
        assert script.requests == [b"GET", method.encode(), method.encode()]
        assert len(backend.connections) == 2
        assert count(gateway, "gateway_upstream_retries_total") == 1
        assert outcomes(gateway) == {"proxied": 2}


async def test_once_and_not_twice() -> None:
    """When the second connection closes too, the client is told."""

    async def script(connection: Connection) -> None:
        await connection.head()
        if connection.number == 0:
            await connection.send(OK)
            await connection.head()

    async with scripted(script) as backend, running(backend.url) as gateway:
        assert (await fetch(gateway.url, request("/"))).status == 200
        assert (await fetch(gateway.url, request("/"))).status == 502
        assert len(backend.connections) == 2
        assert count(gateway, "gateway_upstream_retries_total") == 1


@pytest.mark.parametrize(
    ("method", "body"),
    [("POST", b""), ("PATCH", b""), ("POST", b"hello"), ("PUT", b"hello"), ("GET", b"hello")],
)
async def test_nothing_else_is_sent_again(method: str, body: bytes) -> None:
    """Neither what may not be repeated nor what has a body (RFC 9110 §9.2.2)."""
    script = Closing()
    async with scripted(script) as backend, running(backend.url) as gateway:
        assert (await fetch(gateway.url, request("/"))).status == 200
        assert (await fetch(gateway.url, request("/", method=method, body=body))).status == 502
        assert script.requests == [b"GET", method.encode()]
        assert len(backend.connections) == 1
        assert count(gateway, "gateway_upstream_retries_total") == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_never_on_a_fresh_connection(method: str) -> None:
    """The library would silently send these twice to an upstream that accepts and closes."""

    async def script(connection: Connection) -> None:
        await connection.head()

    async with scripted(script) as backend, running(backend.url) as gateway:
        answer = await fetch(gateway.url, request("/", method=method), bodiless=method == "HEAD")
        assert answer.status == 502
        assert len(backend.connections) == 1


async def test_a_time_out_is_not_sent_again() -> None:
    """An upstream that is slow gets no second helping."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        await connection.head()
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url, limits={"read_timeout": "500ms"}) as gateway,
    ):
        assert (await fetch(gateway.url, request("/"))).status == 200
        assert (await fetch(gateway.url, request("/"))).status == 504
        assert len(backend.connections) == 1


async def test_an_upstream_that_has_closed_is_not_asked() -> None:
    """A connection that closed while idle isn't used, so that even POST succeeds."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)

    async with scripted(script) as backend, running(backend.url) as gateway:
        for number in range(3):
            assert (await fetch(gateway.url, request("/", method="POST"))).status == 200
            assert len(backend.connections) == number + 1
            connection = backend.connections[-1]
            await until(connection.writer.transport.is_closing)
            await asyncio.sleep(0)
        assert count(gateway, "gateway_upstream_retries_total") == 0


async def test_what_an_upstream_says_unasked_answers_nobody() -> None:
    """An answer that comes on an idle connection isn't given to the next client."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        if connection.number == 0:
            await go.wait()
            late = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
            await connection.send(late)
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url, proxy=HANDLER_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        assert (await client.answer()).body == b"ok"
        go.set()
        assert gateway._traffic is not None
        connector = gateway._traffic._sessions[0].connector
        assert connector is not None
        ((idle, _),) = next(iter(connector._conns.values()))
        await until(lambda: idle.should_close)  # it has come
        await client.send(request("/"))
        assert (await client.answer()).body == b"ok"
        assert len(backend.connections) == 2


async def test_more_than_was_asked_for_answers_nobody() -> None:
    """A second answer in the same breath ends that connection."""
    twice = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
    async with scripted(answering(twice)) as backend, running(backend.url) as gateway:
        for number in range(3):
            assert (await fetch(gateway.url, request("/"))).body == b"ok"
            assert len(backend.connections) == number + 1


async def test_an_answer_to_head_with_content() -> None:
    """What an upstream wrongly sends after HEAD isn't taken for the next answer."""
    content = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)

    async def script(connection: Connection) -> None:
        head = await connection.head()
        await connection.send(said if head.startswith(b"HEAD") else OK)
        await connection.rest()

    async with scripted(script) as backend, running(backend.url) as gateway:
        await fetch(gateway.url, request("/", method="HEAD"), bodiless=True)
        assert (await fetch(gateway.url, request("/"))).body == b"ok"
        assert len(backend.connections) == 2
