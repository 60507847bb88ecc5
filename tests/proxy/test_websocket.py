"""WebSockets: the handshake, and frames carried both ways."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from backends import Connection, RecordingBackend, answering, recording, scripted
from wire import connect, fetch, request

from gateway.app import Gateway
from gateway.websocket_frames import BINARY, CLOSE, TEXT, Close, FrameReader, Piece, frame
from gateway.websocket_relay import End
from proxy.gateways import LogText, count, outcomes, running, seed, until

Talk = Callable[[web.WebSocketResponse[bool]], Awaitable[object]]
GOOD = {"Authorization": "Bearer good"}
HANDSHAKE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"


def talking(
    talk: Talk, *, protocols: tuple[str, ...] = (), autoping: bool = True
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return a backend's handler that accepts a WebSocket and talks."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=protocols, autoping=autoping, max_msg_size=0, compress=True
        )
        await socket.prepare(request)
        await talk(socket)
        return socket

    return handler


async def echo(socket: web.WebSocketResponse[bool]) -> None:
    """Send back what comes."""
    async for message in socket:
        data = message.data.encode() if message.type is WSMsgType.TEXT else bytes(message.data)
        await socket.send_frame(data, message.type)


@asynccontextmanager
async def relayed(
    talk: Talk, *, protocols: tuple[str, ...] = (), autoping: bool = True, **sections: Any
) -> AsyncIterator[tuple[RecordingBackend, Gateway, aiohttp.ClientSession]]:
    """Run a backend that talks, a gateway before it, and a client."""
    handler = talking(talk, protocols=protocols, autoping=autoping)
    async with (
        recording(handler, reads=False) as backend,
        running(backend.url, **sections) as gateway,
        aiohttp.ClientSession(gateway.url, headers=GOOD) as session,
    ):
        yield backend, gateway, session


async def received(socket: ClientWebSocketResponse[bool]) -> tuple[WSMsgType, object]:
    """Return the next message."""
    message = await socket.receive(timeout=10)
    return message.type, message.data


class TestHandshake:
    """Who may open a WebSocket, and what its ends learn of each other."""

    @pytest.mark.parametrize(
        ("token", "status", "error"),
        [
            (None, 401, "unauthorized"),
            ("bad", 401, "invalid_token"),
            ("narrow", 403, "insufficient_scope"),
        ],
    )
    async def test_the_token_is_judged_first(self, token: str, status: int, error: str) -> None:
        """The upstream hears of nobody who may not pass."""
        async with relayed(echo) as (backend, gateway, _):
            await seed(gateway, "narrow", scope="write")
            answer = await fetch(gateway.url, request("/ws", *HANDSHAKE, token=token))
            assert (answer.status, answer.error["error"]) == (status, error)
            assert backend.peers == []

    async def test_what_the_upstream_sees(self) -> None:
        """The header hygiene of other requests, and a handshake of the gateway's own."""
        async with relayed(echo) as (backend, gateway, _):
            fields = ["Origin: http://page.test", "Cookie: a=1", "X-Token-Subject: root"]
            fields.append("Sec-WebSocket-Extensions: permessage-deflate")
            answer = await fetch(gateway.url, request("/ws?x=%20", *HANDSHAKE, *fields))
            assert answer.status == 101
            (seen,) = backend.seen
        assert (seen.method, seen.target) == ("GET", "/ws?x=%20")
        assert seen.values("Origin") == [b"http://page.test"]
        assert seen.values("Cookie") == [b"a=1"]
        assert seen.values("X-Token-Subject") == [b"alice"]
        assert seen.values("Authorization") == []
        assert seen.values("Host") == [b"gateway.test"]
        assert seen.values("X-Forwarded-For") == [b"127.0.0.1"]
        assert seen.values("User-Agent") == []
        assert seen.values("Sec-WebSocket-Extensions") == []
        assert seen.values("Sec-WebSocket-Key") != [b"dGhlIHNhbXBsZSBub25jZQ=="]
        assert seen.values("Upgrade") == [b"websocket"]

    async def test_what_the_client_sees(self) -> None:
        """A handshake that is its own, without extensions, and what the upstream adds to it."""
        async with relayed(echo) as (_, gateway, _):
            fields = ["X-Request-ID: mine", "Sec-WebSocket-Extensions: permessage-deflate"]
            answer = await fetch(gateway.url, request("/ws", *HANDSHAKE, *fields))
        assert answer.status == 101
        assert answer.values("Sec-WebSocket-Accept") == [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
        assert answer.values("X-Request-ID") == [b"mine"]
        assert sorted(answer.names) == sorted(
            [
                *(b"X-Request-ID", b"Upgrade", b"Connection", b"Sec-WebSocket-Accept"),
                *(b"Date", b"Server"),  # aiohttp's, here the upstream
            ]
        )

    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [(["a", "chat", "b"], "chat"), (["chat"], "chat"), (["a", "b"], None), ([], None)],
    )
    async def test_the_upstream_chooses_the_subprotocol(
        self, offered: list[str], chosen: str | None
    ) -> None:
        """What the client offers goes to the upstream, in its order, and its choice comes back."""
        async with relayed(echo, protocols=("chat", "x")) as (backend, _, session):
            async with session.ws_connect("/ws", protocols=offered) as socket:
                assert socket.protocol == chosen
            values = backend.seen[0].values("Sec-WebSocket-Protocol")
        assert [name for value in values for name in value.decode().split(",")] == offered

    @pytest.mark.parametrize("chosen", [[], [b"Sec-WebSocket-Protocol: chat"]])
    @pytest.mark.parametrize(
        "offers", [["bearer.S3cret"], ["chat, bearer.S3cret"], [", ", "chat, bearer.S3cret"]]
    )
    async def test_a_token_offered_as_a_subprotocol_is_not_logged(
        self, log: LogText, chosen: list[bytes], offers: list[str]
    ) -> None:
        """Browsers can't set Authorization, so some pages offer their token there."""

        async def script(connection: Connection) -> None:
            await connection.accept_websocket(*chosen)
            await connection.rest()

        fields = [f"Sec-WebSocket-Protocol: {offer}" for offer in offers]
        async with scripted(script) as backend, running(backend.url) as gateway:
            answer = await fetch(gateway.url, request("/ws", *HANDSHAKE, *fields))
            assert answer.status == 101
            assert b"S3cret" in backend.connections[0].heads[0]
            await until(lambda: bool(outcomes(gateway)))
        assert "S3cret" not in log.text

    @pytest.mark.parametrize(
        "broken",
        [
            ["Sec-WebSocket-Version: 13"],
            ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"],
            ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: not base64 at all!!"],
            ["Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
            ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
        ],
    )
    async def test_a_bad_handshake(self, broken: list[str]) -> None:
        """400 (RFC 6455 §4.2.1), and the upstream isn't asked."""
        async with relayed(echo) as (backend, gateway, _):
            data = request("/ws", "Upgrade: websocket", "Connection: Upgrade", *broken)
            answer = await fetch(gateway.url, data)
            assert (answer.status, answer.error["error"]) == (400, "bad_request")
            assert backend.peers == []

    @pytest.mark.parametrize(
        ("data", "upgrades"),
        [
            (request("/", *HANDSHAKE, method="POST"), False),
            (request("/", *HANDSHAKE, version="HTTP/1.0"), False),
            (request("/", HANDSHAKE[0], *HANDSHAKE[2:]), False),
            (request("/", "Upgrade: h2c", *HANDSHAKE[1:]), False),
            (request("/", "upgrade: WebSocket", "connection: x, upgrade", *HANDSHAKE[2:]), True),
        ],
    )
    async def test_what_is_an_upgrade(self, data: bytes, upgrades: bool) -> None:
        """GET on HTTP/1.1 with both fields; anything else is a plain request."""

        async def handler(seen: web.BaseRequest) -> web.StreamResponse:
            return web.Response(text="plain")

        async with recording(handler) as backend, running(backend.url) as gateway:
            answer = await fetch(gateway.url, data)
            assert backend.seen[0].values("Upgrade") == ([b"websocket"] if upgrades else [])
            assert answer.status == 200

    @pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 426, 503])
    async def test_an_upstream_that_declines(self, status: int) -> None:
        """Its status and header section pass, and the connection can be used again."""

        async def handler(seen: web.BaseRequest) -> web.StreamResponse:
            headers = {"Location": "http://elsewhere.test/", "X-Why": "because"}
            return web.Response(text="no", status=status, headers=headers)

        async with (
            recording(handler) as backend,
            running(backend.url) as gateway,
            connect(gateway.url) as client,
        ):
            for _ in range(2):
                await client.send(request("/ws", *HANDSHAKE))
                answer = await client.answer()
                assert (answer.status, answer.values("X-Why")) == (status, [b"because"])
                assert answer.values("Location") == [b"http://elsewhere.test/"]
            assert outcomes(gateway) == {"proxied": 2}

    async def test_what_the_upstream_says_with_its_101(self) -> None:
        """Cookies and other fields reach the client (RFC 6455 §4.2.2); what frames content not."""
        fields = [b"Set-Cookie: a=1", b"Set-Cookie: b=caf\xe9", b"X-Trace: 1", b"X-Hop: 1"]
        fields += [b"Connection: X-Hop", b"Content-Length: 0", b"Keep-Alive: 5"]

        async def script(connection: Connection) -> None:
            await connection.accept_websocket(*fields)
            await connection.rest()

        async with scripted(script) as backend, running(backend.url) as gateway:
            answer = await fetch(gateway.url, request("/ws", *HANDSHAKE))
        assert answer.status == 101
        assert answer.values("Set-Cookie") == [b"a=1", b"b=caf\xe9"]
        assert answer.values("X-Trace") == [b"1"]
        assert (answer.values("Connection"), answer.values("Upgrade")) == (
            [b"Upgrade"],
            [b"websocket"],
        )
        for name in ("X-Hop", "Content-Length", "Keep-Alive", "Transfer-Encoding"):
            assert answer.values(name) == []

    @pytest.mark.parametrize(
        "framing",
        [
            b"Content-Length: %d\r\n\r\n%b",
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n",
        ],
        ids=["by length", "in chunks"],
    )
    async def test_why_the_upstream_declines(self, framing: bytes) -> None:
        """A 403 with a JSON body passes whole: reason phrase, type and content."""
        content = b'{"error": "no such room"}'
        said = b"HTTP/1.1 403 Not Here\r\nContent-Type: application/json\r\nSet-Cookie: a=1\r\n"
        said += framing % (len(content), content)
        async with (
            scripted(answering(said)) as backend,
            running(backend.url) as gateway,
            connect(gateway.url) as client,
        ):
            for _ in range(2):  # and the connection goes on
                await client.send(request("/ws", *HANDSHAKE))
                answer = await client.answer()
                assert (answer.status, answer.reason) == (403, b"Not Here")
                assert answer.body == content
                assert answer.values("Content-Type") == [b"application/json"]
                assert answer.values("Set-Cookie") == [b"a=1"]
            assert outcomes(gateway) == {"proxied": 2}

    async def test_the_query_of_a_handshake(self) -> None:
        """Byte for byte, an empty one too, and opaque bytes in values."""
        async with relayed(echo) as (backend, gateway, _):
            for target in ("/ws?", "/ws??", '/ws?a="<>|'):
                data = request(target, *HANDSHAKE, b"Cookie: n=M\xfcller")
                assert (await fetch(gateway.url, data)).status == 101
            assert [seen.target for seen in backend.seen] == ["/ws?", "/ws??", '/ws?a="<>|']
            assert backend.seen[0].values("Cookie") == [b"n=M\xfcller"]

    async def test_a_redirect_is_not_followed(self) -> None:
        """The handshake, identity headers and all, goes only to the route's upstream."""
        async with recording() as elsewhere:

            async def handler(seen: web.BaseRequest) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": elsewhere.url + "/internal"})

            async with recording(handler) as backend, running(backend.url) as gateway:
                answer = await fetch(gateway.url, request("/ws", *HANDSHAKE))
            assert answer.status == 307
            assert elsewhere.peers == []

    @pytest.mark.parametrize(
        "said",
        [
            SWITCHING + b"Upgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
            SWITCHING + b"Upgrade: other\r\n\r\n",
            b"garbage\r\n\r\n",
            b"",
        ],
    )
    async def test_an_upstream_that_accepts_wrongly(self, said: bytes) -> None:
        """502, as of any answer that makes no sense."""

        async def script(connection: Connection) -> None:
            await connection.head()
            await connection.send(said)

        async with scripted(script) as backend, running(backend.url) as gateway:
            answer = await fetch(gateway.url, request("/ws", *HANDSHAKE))
            assert (answer.status, answer.error["error"]) == (502, "bad_gateway")

    async def test_an_upstream_that_cannot_be_reached(self, free_port: int) -> None:
        """502, as for any request."""
        async with running(f"http://127.0.0.1:{free_port}") as gateway:
            assert (await fetch(gateway.url, request("/ws", *HANDSHAKE))).status == 502

    async def test_an_upstream_that_does_not_answer(self) -> None:
        """504, as for any request."""

        async def script(connection: Connection) -> None:
            await connection.rest()

        limits = {"read_timeout": "50ms"}
        async with scripted(script) as backend, running(backend.url, limits=limits) as gateway:
            assert (await fetch(gateway.url, request("/ws", *HANDSHAKE))).status == 504


class TestFrames:
    """What is said on either end arrives on the other."""

    async def test_text_and_binary_both_ways(self) -> None:
        """As they are, empty ones too, and bytes that aren't UTF-8."""
        async with relayed(echo) as (_, _, session), session.ws_connect("/ws") as socket:
            for text in ("hello", "", "h\u00e9\U0001f600", "x" * 1000):
                await socket.send_str(text)
                assert await received(socket) == (WSMsgType.TEXT, text)
            for data in (b"", bytes(range(256)), b"\xff" * 70_000):
                await socket.send_bytes(data)
                assert await received(socket) == (WSMsgType.BINARY, data)

    async def test_the_upstream_may_speak_first(self) -> None:
        """Also in the very segment of its handshake."""

        async def talk(socket: web.WebSocketResponse[bool]) -> None:
            await socket.send_str("welcome")
            await echo(socket)

        async with relayed(talk) as (_, _, session), session.ws_connect("/ws") as socket:
            assert await received(socket) == (WSMsgType.TEXT, "welcome")

    async def test_the_client_may_speak_with_its_handshake(self) -> None:
        """Frames that come with the request wait for the upstream."""
        frame = b"\x81\x82\x00\x00\x00\x00hi"
        async with relayed(echo) as (_, gateway, _), connect(gateway.url) as client:
            await client.send(request("/ws", *HANDSHAKE), frame)
            assert (await client.head()).status == 101
            assert await client.read(4) == b"\x81\x02hi"

    async def test_big_messages(self) -> None:
        """Larger than any library's default limit."""
        data = b"x" * (20 * 2**20)
        async with (
            relayed(echo) as (_, _, session),
            session.ws_connect("/ws", max_msg_size=0) as socket,
        ):
            await socket.send_bytes(data)
            assert await received(socket) == (WSMsgType.BINARY, data)

    async def test_fragments_are_one_message(self) -> None:
        """Whatever it is fragmented into on the way, it is the same message (RFC 6455 §5.4)."""
        frames = b"\x01\x83\x00\x00\x00\x00one\x80\x83\x00\x00\x00\x00two"
        async with relayed(echo) as (_, gateway, _), connect(gateway.url) as client:
            await client.send(request("/ws", *HANDSHAKE), frames)
            await client.head()
            assert await client.read(8) == b"\x81\x06onetwo"

    async def test_pings_and_pongs_pass(self) -> None:
        """The ends ask each other whether they live, and not the gateway."""
        async with (
            relayed(echo, autoping=False) as (_, _, session),
            session.ws_connect("/ws", autoping=False) as socket,
        ):
            await socket.ping(b"are you there")
            assert await received(socket) == (WSMsgType.PING, b"are you there")
            await socket.pong(b"I am")
            assert await received(socket) == (WSMsgType.PONG, b"I am")

    async def test_a_ping_is_answered_by_the_other_end(self) -> None:
        """A pong comes from where the ping went."""
        async with (
            relayed(echo) as (_, _, session),
            session.ws_connect("/ws", autoping=False) as socket,
        ):
            await socket.ping(b"1")
            assert await received(socket) == (WSMsgType.PONG, b"1")

    async def test_an_idle_one_outlives_the_time_outs(self) -> None:
        """Silence is what WebSockets are for; before the first message and after."""
        limits = dict.fromkeys(("read_timeout", "idle_timeout", "header_timeout"), "300ms")
        async with (
            relayed(echo, limits=limits) as (_, gateway, session),
            session.ws_connect("/ws") as socket,
        ):
            for text in ("first", "second"):
                async with connect(gateway.url) as idle:
                    assert await idle.ended()  # which takes as long as the time-outs are
                await socket.send_str(text)
                assert await received(socket) == (WSMsgType.TEXT, text)

    async def test_a_client_that_does_not_read_is_cut_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stalled client costs no memory and no more time than ``limits.write_timeout``."""
        monkeypatch.setattr("gateway.proxy.websocket._CLOSE_TIMEOUT_SECONDS", 0.05)
        sent = 0

        async def talk(socket: web.WebSocketResponse[bool]) -> None:
            nonlocal sent
            while True:
                await socket.send_bytes(b"x" * 65536)
                sent += 65536

        async with relayed(talk, limits={"write_timeout": "50ms"}) as (_, gateway, _):
            async with connect(gateway.url, receive_buffer=4096) as client:
                await client.send(request("/ws", *HANDSHAKE))
                await client.head()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await until(lambda: outcomes(gateway) == {"client_stalled": 1})
            assert sent < 32 * 2**20

    async def test_many_at_once(self) -> None:
        """Each has its own other end."""
        async with relayed(echo) as (_, _, session):

            async def talk(number: int) -> object:
                async with session.ws_connect("/ws") as socket:
                    await socket.send_str(str(number))
                    return (await received(socket))[1]

            answers = await asyncio.gather(*(talk(number) for number in range(20)))
        assert answers == [str(number) for number in range(20)]


def mask_of_zeros(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """Return a frame from a client."""
    return frame(opcode, payload, final=final, key=bytes(4))


class TestBigMessages:
    """However big, a message is never held: it goes on as fast as the other end takes it."""

    async def test_a_frame_of_a_gigabyte_arrives_as_it_comes(self) -> None:
        """Its beginning is at the other end while the rest has not been sent."""

        async def script(connection: Connection) -> None:
            await connection.accept_websocket()
            await connection.rest()

        async with (
            scripted(script) as backend,
            running(backend.url) as gateway,
            connect(gateway.url) as client,
        ):
            await client.send(request("/ws", *HANDSHAKE))
            assert (await client.head()).status == 101
            begun = bytes((0x82, 0x80 | 127)) + (1 << 30).to_bytes(8, "big") + bytes(4)
            await client.send(begun, b"x" * 5000)
            (connection,) = backend.connections
            await until(lambda: len(connection.received) > 5000)
            client.abort()
            async with asyncio.timeout(10):
                await connection.gone.wait()
        events = FrameReader(masked=True).feed(connection.received)
        assert all(isinstance(event, Piece) and not event.final for event in events[:-1])
        payload = b"".join(event.payload for event in events if isinstance(event, Piece))
        assert payload == b"x" * 5000
        assert events[-1] == Close(1001)

    @pytest.mark.parametrize("how", ["fragments", "one frame"])
    @pytest.mark.parametrize("end", ["client", "upstream"])
    async def test_who_sends_without_end_waits_for_who_does_not_read(
        self, how: str, end: str
    ) -> None:
        """Both ways: the sender is held up, and the gateway holds kilobytes."""
        key = bytes(4) if end == "client" else b""
        size = 1 << 40 if how == "one frame" else 60_000
        masked = 0x80 if key else 0
        begun = bytes((0x02, masked | 127)) + size.to_bytes(8, "big") + key
        each = b"x" * 60_000
        if how == "fragments":
            begun, each = (
                frame(BINARY, b"", final=False, key=key),
                frame(0, each, final=False, key=key),
            )
        stopped = asyncio.Event()
        sent = 0

        async def pour(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(begun)
            while not stopped.is_set():
                writer.write(each)
                sent += len(each)
                await writer.drain()

        async def script(connection: Connection) -> None:
            await connection.accept_websocket()
            if end == "upstream":
                await pour(connection.writer)
            else:
                connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await stopped.wait()

        async with scripted(script) as backend, running(backend.url) as gateway:
            async with connect(gateway.url, receive_buffer=4096) as client:
                await client.send(request("/ws", *HANDSHAKE))
                await client.head()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                pouring = asyncio.create_task(pour(client.writer)) if end == "client" else None
                sides = next(iter(gateway._traffic.websocket._open.values()))._sides  # type: ignore[union-attr]
                source = sides[End.CLIENT if end == "client" else End.UPSTREAM]
                sink = sides[End.UPSTREAM if end == "client" else End.CLIENT]
                await until(lambda: source.content.total_bytes > 60_000)
                await until(lambda: not source.transport.is_reading())
                held = sink.transport.get_write_buffer_size() + source.content._size
                assert held <= 2**20
                stopped.set()
                if pouring is not None:
                    pouring.cancel()
            await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)

    @pytest.mark.parametrize(
        "said",
        [
            mask_of_zeros(TEXT, b"x" * 1025),
            mask_of_zeros(TEXT, b"x" * 1000, final=False) + mask_of_zeros(0, b"x" * 25),
            bytes((0x82, 0xFF)) + (1 << 30).to_bytes(8, "big"),
        ],
        ids=["one frame", "fragments", "announced"],
    )
    async def test_a_bound_on_messages(self, said: bytes) -> None:
        """``limits.websocket_message``: both ends hear 1009, as soon as it is announced."""

        async def script(connection: Connection) -> None:
            await connection.accept_websocket()
            await connection.rest()

        limits = {"websocket_message": "1KiB"}
        async with scripted(script) as backend, running(backend.url, limits=limits) as gateway:
            async with connect(gateway.url) as client:
                await client.send(request("/ws", *HANDSHAKE), mask_of_zeros(TEXT, b"y" * 1024))
                await client.head()
                await client.send(said)
                assert await client.rest() == frame(CLOSE, Close(1009).payload)
            (connection,) = backend.connections
            async with asyncio.timeout(10):
                await connection.gone.wait()
        events = FrameReader(masked=True).feed(connection.received)
        assert events[0] == Piece(TEXT, b"y" * 1024)
        assert events[-1] == Close(1009)

    async def test_a_bound_on_the_upstreams_messages(self) -> None:
        """It holds both ways."""

        async def script(connection: Connection) -> None:
            await connection.accept_websocket()
            await connection.send(frame(BINARY, b"x" * 2000))
            await connection.rest()

        limits = {"websocket_message": "1KiB"}
        async with scripted(script) as backend, running(backend.url, limits=limits) as gateway:
            async with connect(gateway.url) as client:
                await client.send(request("/ws", *HANDSHAKE))
                await client.head()
                assert await client.read(4) == frame(CLOSE, Close(1009).payload)
            async with asyncio.timeout(10):
                await backend.connections[0].gone.wait()
        (told,) = FrameReader(masked=True).feed(backend.connections[0].received)
        assert told == Close(1009)


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("token", ["good", None])
async def test_a_handshake_with_content_reaches_no_backend(
    gateway: Gateway, backend: RecordingBackend, framing: str, token: str | None
) -> None:
    """400: one end would wait for content, or take it for frames; nothing behind it is read."""
    target = "/" if token else "/public"
    async with connect(gateway.url) as client:
        handshake = request(target, *HANDSHAKE, framing, token=token)
        await client.send(handshake, request("/smuggled"))
        answer = await client.answer()
        assert (answer.status, answer.values("Connection")) == (400, [b"close"])
        assert await client.ended()
    assert backend.seen == []


async def test_what_follows_a_declined_handshake_is_the_next_request(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """The backend here speaks no WebSocket; the client goes on by HTTP, as RFC 6455 §4.1 has it."""
    upload = request("/upload", method="POST", body=b"hello")
    async with connect(gateway.url) as client:
        await client.send(request("/", *HANDSHAKE), upload[:-3])
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"from the backend")
        await client.send(upload[-3:])
        assert (await client.answer()).status == 200
    assert [(seen.target, seen.body) for seen in backend.seen] == [
        ("/", b""),
        ("/upload", b"hello"),
    ]


async def test_frames_sent_with_the_handshake_are_relayed() -> None:
    """A client that doesn't wait for the answer loses nothing."""
    async with relayed(echo) as (_, gateway, _), connect(gateway.url) as client:
        sent = frame(TEXT, b"hello", key=b"abcd")
        await client.send(request("/", *HANDSHAKE), sent[:4])
        assert (await client.head()).status == 101
        await client.send(sent[4:])
        assert await client.read(7) == b"\x81\x05hello"
