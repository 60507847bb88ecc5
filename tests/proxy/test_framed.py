"""Where requests end on a connection: nothing is lost, nothing is read twice or too early."""

import asyncio
from contextlib import closing, suppress
from itertools import pairwise

import pytest
from aiohttp.http_parser import HttpRequestParser
from aiohttp.streams import StreamReader
from backends import Connection, RecordingBackend, answering, scripted
from hypothesis import given, settings
from hypothesis import strategies as st
from lanes.asking import Ask, asks
from wire import Client, connect, fetch, request

from gateway.app import Gateway
from gateway.errors import BadRequest, GatewayError
from gateway.proxy.server import GatewayConnection
from gateway.request_framing import RequestFramer
from proxy.gateways import FAST_LANE, HANDLER_LANE, outcomes, running, until

CHUNKED = "Transfer-Encoding: chunked"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

UPGRADES = {
    "a protocol of no kind": ["Connection: Upgrade", "Upgrade: foo"],
    "HTTP/2": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"],
    "one of two": ["Connection: Upgrade", "Upgrade: h2c, websocket"],
    "one of two, in two fields": ["Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"],
    "WebSocket that isn't nominated": ["Upgrade: websocket"],
    "TLS": ["Connection: Upgrade", "Upgrade: TLS/1.0"],
    "nothing": ["Connection: Upgrade"],
}


@pytest.mark.parametrize("fields", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("lane", [HANDLER_LANE, FAST_LANE], ids=["handler lane", "fast lane"])
async def test_an_upgrade_that_is_not_served_costs_no_byte(
    backend: RecordingBackend, fields: list[str], method: str, lane: dict[str, bool]
) -> None:
    """It is ignored (RFC 9110 §7.8): a POST behind it keeps its body, which comes later."""
    body = request("/smuggled")
    upload = request("/upload", method="POST", body=body)
    async with running(backend.url, proxy=lane) as gateway, connect(gateway.url) as client:
        await client.send(request("/first", *fields, method=method), upload[: -len(body)])
        assert (await client.answer()).status == 200
        await client.send(body)
        assert (await client.answer()).status == 200
        await client.send(request("/last", *fields, method=method))
        assert (await client.answer()).status == 200
    assert [seen.target for seen in backend.seen] == ["/first", "/upload", "/last"]
    assert backend.seen[1].body == body
    for seen in backend.seen:
        assert seen.values("Upgrade") + seen.values("HTTP2-Settings") == []


@pytest.mark.parametrize("framing", ["Content-Length: 5", CHUNKED])
@pytest.mark.parametrize("cut", [0, 2, 5])
@pytest.mark.parametrize("protocol", ["foo", "h2c", "websocket"])
async def test_content_of_a_request_to_upgrade_is_its_own(
    gateway: Gateway, backend: RecordingBackend, framing: str, cut: int, protocol: str
) -> None:
    """All of it reaches the backend, wherever it is cut, and what follows is the next request."""
    content = b"hello" if framing != CHUNKED else b"5\r\nhello\r\n0\r\n\r\n"
    head = request("/first", "Connection: Upgrade", f"Upgrade: {protocol}", framing, method="POST")
    async with connect(gateway.url) as client:
        await client.send(head, content[:cut])
        await until(lambda: bool(backend.peers))
        await client.send(content[cut:], request("/next"))
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert [(seen.target, seen.body) for seen in backend.seen] == [
        ("/first", b"hello"),
        ("/next", b""),
    ]


@pytest.mark.parametrize("lane", [HANDLER_LANE, FAST_LANE], ids=["handler lane", "fast lane"])
@pytest.mark.parametrize(
    ("data", "version"),
    [
        (request("/", "Connection: close"), b"HTTP/1.1"),
        (request("/", version="HTTP/1.0"), b"HTTP/1.0"),
        (request("/", "Connection: close", method="POST", body=b"hello"), b"HTTP/1.1"),
        (request("/", "Connection: close", CHUNKED, method="POST", body=b"0\r\n\r\n"), b"HTTP/1.1"),
    ],
)
@pytest.mark.parametrize("behind", [b"\r\n", b"x", b"\x00\x01", request("/smuggled")])
async def test_what_follows_a_request_that_closes_is_ignored(
    backend: RecordingBackend, lane: dict[str, bool], data: bytes, version: bytes, behind: bytes
) -> None:
    """The request is answered and the connection closed (RFC 9112 §9.6)."""
    async with running(backend.url, proxy=lane) as gateway, connect(gateway.url) as client:
        await client.send(data, behind)
        answer = await client.answer()
        assert (answer.version, answer.status) == (version, 200)
        assert answer.values("Connection") == [b"close"]
        assert await client.ended()
        assert outcomes(gateway) == {"proxied": 1}
    assert [seen.target for seen in backend.seen] == ["/"]


FLOODS = {
    "extensions": (b"1;" + b"x" * 1000 + b"\r\na\r\n") * 20,
    "quoted extensions": (b'1;a="' + b"x" * 1000 + b'"\r\na\r\n') * 20,
    "leading zeros": (b"0" * 15 + b"1\r\na\r\n") * 4000,
    "one line without an end": b"1;" + b"x" * 20_000,
    "trailers": b"0\r\n" + b"X-Trailer: 1\r\n" * 2000,
    "one trailer": b"0\r\nX-Trailer: " + b"x" * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("target", ["/", "/token"])
async def test_a_flood_that_is_hardly_content_ends(
    backend: RecordingBackend, flood: bytes, target: str
) -> None:
    """400 and closed, wherever it is read, and no backend sees it as whole."""
    key_manager = {"url": backend.url}
    async with (
        running(backend.url, key_manager=key_manager) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request(target, CHUNKED, method="POST"), b"1\r\na\r\n")
        (connection,) = connections(gateway)
        await until(lambda: connection._under_way)
        await client.send(flood)
        answer = await client.answer()
        assert (answer.status, answer.values("Connection")) == (400, [b"close"])
        assert await client.ended()
        assert outcomes(gateway) == {"bad_request": 1}
    assert backend.seen == []


@pytest.mark.parametrize("size", [1, 20, 1000])
async def test_very_many_chunks_in_one_segment(
    gateway: Gateway, backend: RecordingBackend, size: int
) -> None:
    """All of them reach the backend, and the request behind them is the next."""
    count = 600_000 // (size + 6)
    content = b"%x\r\n%b\r\n" % (size, b"x" * size) * count + b"0\r\n\r\n"
    async with connect(gateway.url) as client:
        for _ in range(2):
            await client.send(request("/", CHUNKED, method="POST", body=content), request("/next"))
            assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    assert [len(seen.body) for seen in backend.seen] == [count * size, 0] * 2


async def test_very_many_chunks_that_nobody_wants(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """They are thrown away, and the connection closes with the last of them."""
    content = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    async with connect(gateway.url) as client:
        head = request("/", CHUNKED, method="POST", token="bad")
        await client.send(head, content[:1000])
        assert (await client.answer()).status == 401
        await client.send(content[1000:], request("/smuggled"))
        assert await client.ended()
    assert backend.seen == []


@pytest.mark.parametrize("name", ["chunked", "Chunked", "CHUNKED"])
async def test_chunks_in_any_spelling(
    gateway: Gateway, backend: RecordingBackend, name: str
) -> None:
    """Names of codings are case-insensitive (RFC 9112 §7); the backend gets ours."""
    body = b"5\r\nhello\r\n0\r\n\r\n"
    data = request("/", f"Transfer-Encoding: {name}", method="POST", body=body)
    async with connect(gateway.url) as client:
        for _ in range(2):
            await client.send(data)
            answer = await client.answer()
            assert (answer.status, answer.values("Connection")) == (200, [])
    assert [seen.body for seen in backend.seen] == [b"hello"] * 2
    assert backend.seen[0].values("Transfer-Encoding") == [b"chunked"]


@pytest.mark.parametrize("value", ["gzip, chunked", "GZIP,Chunked", "br;a=b , chunked"])
async def test_another_coding_is_not_implemented(
    gateway: Gateway, backend: RecordingBackend, value: str
) -> None:
    """501 (RFC 9112 §6.1), and nothing of it is taken for a request."""
    data = request("/", f"Transfer-Encoding: {value}", method="POST", body=b"0\r\n\r\n")
    async with connect(gateway.url) as client:
        await client.send(data, request("/smuggled"))
        answer = await client.answer()
        assert (answer.status, answer.error["error"]) == (501, "not_implemented")
        assert answer.values("Connection") == [b"close"]
        assert await client.ended()
    assert backend.seen == []
    assert outcomes(gateway) == {"not_implemented": 1}


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: xchunked"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["X Y: 1"],
        ["X: " + "x" * 20_000],
    ],
)
async def test_a_refusal_to_head_has_no_content(gateway: Gateway, lines: list[str]) -> None:
    """Whoever forwards it would take that for the answer to the next request."""
    async with connect(gateway.url) as client:
        await client.send(request("/", *lines, method="HEAD"))
        answer = await client.answer(bodiless=True)
        assert 400 <= answer.status < 500
        assert answer.values("Connection") == [b"close"]
        assert await client.rest() == b""


async def test_requests_sent_ahead_are_answered_in_turn(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """Whichever lane is theirs, and however they are cut."""
    kinds = [
        request("/get"),
        request("/post", method="POST", body=b"hello"),
        request("/chunks", CHUNKED, method="POST", body=b"1\r\na\r\n0\r\n\r\n"),
        request("/bad", token="bad"),
        request("/public", token=None),
    ]
    sent = b"".join(kinds * 20)
    async with connect(gateway.url) as client:
        for at in range(0, len(sent), 1000):
            await client.send(sent[at : at + 1000])
        statuses = [(await client.answer()).status for _ in range(100)]
    assert statuses == [200, 200, 200, 401, 200] * 20
    assert [seen.target for seen in backend.seen] == ["/get", "/post", "/chunks", "/public"] * 20


async def test_nothing_sent_ahead_is_begun_before_its_turn() -> None:
    """The second request reaches its backend when the first one is answered."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await go.wait()
        await connection.send(OK)
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/", CHUNKED, method="POST", body=b"0\r\n\r\n"))
        await until(lambda: len(backend.connections) == 1)
        await client.send(b"no HTTP\r\n\r\n")
        (connection,) = connections(gateway)
        await until(lambda: connection._held_bytes > 0)
        go.set()
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 400
        assert await client.ended()


async def test_what_is_sent_ahead_is_read_no_faster_than_it_is_served() -> None:
    """A client that sends on and on while it waits for an answer fills no memory."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await go.wait()
        await answering(OK)(connection)

    async with scripted(script) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            ahead = request("/") * 100_000
            client.writer.write(request("/") + ahead)
            (connection,) = connections(gateway)
            await until(lambda: connection._held_back)
            held = connection._held_bytes
            for _ in range(100):
                await asyncio.sleep(0)
            assert connection._held_bytes == held < 1024 * 1024
            client.abort()
        go.set()


def connections(gateway: Gateway) -> list[GatewayConnection]:
    """Return the connections that clients have."""
    assert gateway._server is not None
    found = [each for each in gateway._server.connections if isinstance(each, GatewayConnection)]
    assert found
    return found


async def begin(client: Client, gateway: Gateway, part: bytes = b"GET / HT") -> GatewayConnection:
    """Send a part of a header section; return the connection when it has it."""
    await client.send(part)
    await until(lambda: any(each._framer.in_head for each in connections(gateway)))
    (connection,) = (each for each in connections(gateway) if each._framer.in_head)
    return connection


@pytest.mark.parametrize("before", [False, True])
async def test_a_head_begun_just_before_idle_timeout_has_its_own_time(
    gateway: Gateway, backend: RecordingBackend, before: bool
) -> None:
    """The connection isn't idle any more: header_timeout counts, from the first byte."""
    async with connect(gateway.url) as client:
        if before:
            await client.send(request("/"))
            assert (await client.answer()).status == 200
        connection = await begin(client, gateway, request("/")[:5])
        connection._next_keepalive_close_time = 0.0  # idle_timeout is over
        connection._process_keepalive()
        await client.send(request("/")[5:])
        assert (await client.answer()).status == 200
        connection._next_keepalive_close_time = 0.0
        connection._process_keepalive()
        assert await client.ended()


async def test_a_head_that_comes_with_the_connection_has_its_time(gateway: Gateway) -> None:
    """Also where a loop hands over the first bytes before anything else has run (uvloop does)."""
    server = gateway._server
    assert server is not None

    class Transport(asyncio.Transport):
        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def close(self) -> None:
            self.closed = True

        closed = False

    connection, transport = server(), Transport()
    connection.connection_made(transport)
    connection.data_received(b"GET / HTTP/1.1\r\nHost")
    assert list(connection._deadlines) == ["header"]
    connection._header_late()
    assert transport.closed
    connection.connection_lost(None)


async def test_an_empty_line_is_no_header_section(gateway: Gateway) -> None:
    """One that some clients send behind content leaves the connection idle (RFC 9112 §2.2)."""
    async with connect(gateway.url) as client:
        await client.send(request("/", method="POST", body=b"hello"), b"\r\n")
        assert (await client.answer()).status == 200
        (connection,) = connections(gateway)
        await until(lambda: connection._between)
        assert connection._deadlines == {}
        await client.send(b"\r\n", request("/"))
        assert (await client.answer()).status == 200


async def test_content_that_turns_malformed_behind_an_early_answer_gets_no_answer() -> None:
    """The client would take a second one for that to its next request; it is cut off."""
    async with scripted(answering(OK)) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            await client.send(request("/", CHUNKED, method="POST"), b"1\r\na\r\n")
            assert (await client.answer()).status == 200
            await client.send(b"Z\r\n", request("/smuggled"))
            assert await client.ended()
        assert outcomes(gateway) == {"proxied": 1}
        assert len(backend.connections) == 1


async def test_the_gateway_and_its_parser_must_agree(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """Where aiohttp's parser sees two requests in what is one to us, both are refused."""
    async with connect(gateway.url) as client:
        await client.send(b"\r\n")
        (connection,) = connections(gateway)
        take = connection._framer.take

        def takes_two(data: bytes, max_head: int) -> tuple[bytes, bytes]:
            given, behind = take(data, max_head)
            return given + behind, b""

        class Lax:
            def __getattr__(self, name: str) -> object:
                return takes_two if name == "take" else getattr(framer, name)

        framer, connection._framer = connection._framer, Lax()  # type: ignore[assignment]
        await client.send(request("/", CHUNKED, method="POST", body=b"0\r\n\r\n"), request("/"))
        answer = await client.answer()
        assert (answer.status, answer.values("Connection")) == (400, [b"close"])
        assert await client.ended()
    assert backend.seen == []


async def test_http_1_0_is_answered_in_its_version(gateway: Gateway) -> None:
    """As before, where the request could be read."""
    answer = await fetch(gateway.url, request("/", version="HTTP/1.0"))
    assert (answer.version, answer.status) == (b"HTTP/1.0", 200)


class Parser:
    """aiohttp's, for one request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._parser = HttpRequestParser(
            self,  # type: ignore[arg-type]  # all of a protocol that it needs
            loop,
            1 << 20,
            auto_decompress=False,
        )
        self.contents: list[StreamReader] = []

    _reading_paused = False

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...

    def feed(self, data: bytes) -> None:
        try:
            messages, _, behind = self._parser.feed_data(data)
        except Exception:  # noqa: BLE001 -- some targets make yarl raise anything
            raise BadRequest from None
        assert not behind
        self.contents += [content for _, content in messages]


@given(st.lists(asks(), min_size=1, max_size=3), st.lists(st.integers(0, 4000), max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_is_one_request_to_the_gateway_is_one_to_its_parser(
    asked: list[Ask], cuts: list[int]
) -> None:
    """However odd and however cut: one message and its end, or a refusal; never none, never two."""
    sent = b"".join(ask.data for ask in asked)
    at = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    loop = asyncio.new_event_loop()
    framer, parser, begun = RequestFramer(), Parser(loop), 0
    with closing(loop), suppress(GatewayError):
        for start, end in pairwise(at):
            behind = sent[start:end]
            while behind:
                piece, behind = framer.take(behind, 16 * 1024)
                parser.feed(piece)
                assert len(parser.contents) == framer.heads - begun
                if framer.whole:
                    (content,) = parser.contents
                    assert content.is_eof()
                    parser, begun = Parser(loop), framer.heads
                    framer.next()
