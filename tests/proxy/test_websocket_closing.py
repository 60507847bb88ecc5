"""How WebSockets end: in good order, badly, or because the gateway stops."""

import asyncio

import pytest
from aiohttp import ClientSession, WSMsgType, web
from backends import Connection, recording, scripted
from wire import Client, connect, request

from gateway.proxy.websocket import _CLOSE_TIMEOUT_SECONDS
from proxy.gateways import LogText, count, outcomes, running, settings_for, until
from proxy.test_websocket import GOOD, HANDSHAKE, echo, talking

EMPTY_CLOSE = b"\x88\x80\x00\x00\x00\x00"


def close_frame(code: int, reason: bytes = b"", *, masked: bool = False) -> bytes:
    """Return a close frame; a client's is masked (RFC 6455 §5.1), here with zeros."""
    payload = code.to_bytes(2, "big") + reason
    size = len(payload)
    return bytes([0x88, 0x80 | size, 0, 0, 0, 0] if masked else [0x88, size]) + payload


async def opened(client: Client) -> None:
    """Open a WebSocket."""
    await client.send(request("/ws", *HANDSHAKE))
    assert (await client.head()).status == 101


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "gone"), (1008, ""), (1011, "h\u00e9"), (3000, ""), (4999, "x" * 123)],
)
async def test_the_clients_close_code_reaches_the_upstream(code: int, reason: str) -> None:
    """With its reason; and the client hears its own code back."""
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def talk(socket: web.WebSocketResponse[bool]) -> None:
        message = await socket.receive()
        assert (message.type, message.extra) == (WSMsgType.CLOSE, reason)
        ended.set_result(message.data)

    async with (
        recording(talking(talk), reads=False) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        await client.send(close_frame(code, reason.encode(), masked=True))
        async with asyncio.timeout(10):
            assert await ended == code
        assert await client.rest() == close_frame(code)
        await until(lambda: outcomes(gateway) == {"proxied": 1})


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, "done"), (1001, ""), (1011, ""), (3999, ""), (4000, "x" * 123)]
)
async def test_the_upstreams_close_code_reaches_the_client(code: int, reason: str) -> None:
    """With its reason."""

    async def talk(socket: web.WebSocketResponse[bool]) -> None:
        await socket.send_str("last words")
        await socket.close(code=code, message=reason.encode())

    async with (
        recording(talking(talk), reads=False) as backend,
        running(backend.url) as gateway,
        ClientSession(gateway.url, headers=GOOD) as session,
        session.ws_connect("/ws") as socket,
    ):
        assert (await socket.receive_str(timeout=10)) == "last words"
        message = await socket.receive(timeout=10)
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, reason)
        await until(lambda: outcomes(gateway) == {"proxied": 1})


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1012, 1014, 3000, 4999])
async def test_codes_that_may_be_sent_pass(code: int) -> None:
    """IANA has given out those up to 1014; from 3000 on they are for libraries and for all."""
    async with (
        scripted(answering_close) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        await client.send(close_frame(code, masked=True))
        assert await client.rest() == close_frame(code)
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()
        assert unmasked(backend.connections[0].received) == close_frame(code)


async def test_a_client_that_closes_without_a_status() -> None:
    """Then there is none for the upstream either: 1005 stands in no frame (RFC 6455 §7.4.1)."""
    async with (
        scripted(answering_close) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        await client.send(EMPTY_CLOSE)
        assert await client.rest() == b"\x88\x00"
        (connection,) = backend.connections
        async with asyncio.timeout(10):
            await connection.gone.wait()
        assert unmasked(connection.received) == b"\x88\x00"


async def test_an_upstream_that_closes_without_a_status() -> None:
    """Likewise for the client."""

    async def script(connection: Connection) -> None:
        await connection.accept_websocket()
        await connection.send(b"\x88\x00")
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        assert await client.read(2) == b"\x88\x00"
        await client.send(EMPTY_CLOSE)
        assert await client.rest() == b""


async def answering_close(connection: Connection) -> None:
    """Accept a WebSocket, and answer a close frame as it should be (RFC 6455 §5.5.1)."""
    await connection.accept_websocket()
    frame = await connection.reader.readexactly(2)
    connection.received = frame + await connection.reader.readexactly(4 + (frame[1] & 0x7F))
    await connection.send(unmasked(connection.received))
    connection.gone.set()


async def accepting(connection: Connection) -> None:
    """Accept a WebSocket, and read."""
    await connection.accept_websocket()
    await connection.rest()


def unmasked(frame: bytes) -> bytes:
    """Return a frame from a client as it would be from a server."""
    mask = frame[2:6]
    payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(frame[6:]))
    return bytes([frame[0], frame[1] & 0x7F]) + payload


@pytest.mark.parametrize("how", ["closes", "resets", "breaks the protocol"])
async def test_an_upstream_that_dies(log: LogText, how: str) -> None:
    """The client hears 1014, Bad Gateway: never that all went well."""

    async def script(connection: Connection) -> None:
        await connection.accept_websocket()
        await connection.send(b"\x81\x02hi")
        await connection.reader.readexactly(1)
        if how == "resets":
            connection.abort()
        elif how == "breaks the protocol":
            await connection.send(b"\xff\xff\xff\xff")
            await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        assert await client.read(4) == b"\x81\x02hi"
        await client.send(b"\x81\x81\x00\x00\x00\x00x")
        assert await client.read(4) == close_frame(1014)
        await client.send(close_frame(1014, masked=True))
        assert await client.rest() == b""
        await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)
    assert log.named("internal error") == []


@pytest.mark.parametrize("how", ["goes", "breaks the protocol"])
async def test_a_client_that_dies(log: LogText, how: str) -> None:
    """The upstream hears 1001 and is let go."""
    async with scripted(accepting) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            await opened(client)
            if how == "breaks the protocol":
                await client.send(b"\xff\xff\xff\xff")
                assert await client.rest() == close_frame(1002)
        (connection,) = backend.connections
        async with asyncio.timeout(10):
            await connection.gone.wait()
        assert unmasked(connection.received) == close_frame(1001)
        await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)
        assert outcomes(gateway) == {"client_gone": 1}
    assert log.named("request")[0]["status"] == 101
    assert log.named("internal error") == []


async def test_ends_that_do_not_answer_a_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is given a while, then cut off."""
    monkeypatch.setattr("gateway.proxy.websocket._CLOSE_TIMEOUT_SECONDS", 0.05)

    async def script(connection: Connection) -> None:
        await connection.accept_websocket()
        await connection.send(close_frame(1000))
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        assert await client.rest() == close_frame(1000)  # and no word of ours
        await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()


async def test_nothing_is_left_behind() -> None:
    """Ten WebSockets that ended in all manners leave no task and no connection."""
    handler = talking(echo)
    async with recording(handler, reads=False) as backend, running(backend.url) as gateway:
        idle = len(asyncio.all_tasks())
        for number in range(10):
            async with connect(gateway.url) as client:
                await opened(client)
                if number % 2:
                    await client.send(close_frame(1000, masked=True))
                    await client.rest()
        await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)
        await until(lambda: len(asyncio.all_tasks()) == idle)
        assert gateway._traffic.websocket._open == {}  # type: ignore[union-attr]


async def test_draining_tells_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both hear 1001, Going Away (RFC 6455 §7.4.1), and the drain doesn't wait for more."""
    monkeypatch.setattr("gateway.proxy.websocket._CLOSE_TIMEOUT_SECONDS", 0.05)
    ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def talk(socket: web.WebSocketResponse[bool]) -> None:
        await echo(socket)
        ended.set_result(socket.close_code)

    async with (
        recording(talking(talk), reads=False) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        drain = asyncio.create_task(gateway.drain(grace_seconds=0))
        assert await client.read(4) == close_frame(1001)
        assert await client.ended()
        async with asyncio.timeout(10):
            assert await ended == 1001
            await drain


async def test_stopping_tells_the_client() -> None:
    """Also when the gateway stops at once."""
    async with (
        recording(talking(echo), reads=False) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        stop = asyncio.create_task(gateway.stop())
        assert await client.read(4) == close_frame(1001)
        await stop


async def test_draining_tells_those_of_before_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drain doesn't wait for WebSockets that nobody told."""
    monkeypatch.setattr("gateway.proxy.websocket._CLOSE_TIMEOUT_SECONDS", 0.05)
    async with (
        recording(talking(echo), reads=False) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        gateway.reload(settings_for(backend.url))
        drain = asyncio.create_task(gateway.drain(grace_seconds=0))
        assert await client.read(4) == close_frame(1001)
        await drain


async def test_one_that_opens_while_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake under way when the gateway drains is told as soon as it is done."""
    monkeypatch.setattr("gateway.proxy.websocket._CLOSE_TIMEOUT_SECONDS", 0.05)
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await go.wait()
        await accepting(connection)

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/ws", *HANDSHAKE))
        await until(lambda: len(backend.connections) == 1)
        drain = asyncio.create_task(gateway.drain(grace_seconds=0))
        await until(lambda: gateway._traffic.websocket._closing)  # type: ignore[union-attr]
        go.set()
        assert (await client.head()).status == 101
        assert await client.read(4) == close_frame(1001)
        async with asyncio.timeout(10):
            await drain


async def test_ends_that_never_answer_do_not_outlast_the_drain() -> None:
    """``listen.drain_timeout`` bounds WebSockets as it does requests: then they are cut off."""
    async with (
        scripted(accepting) as backend,
        running(backend.url, listen={"drain_timeout": "50ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        # Ends that don't answer are given seconds, of which the drain leaves none.
        async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS - 1):
            await gateway.drain(grace_seconds=0)
            assert await client.read(4) == close_frame(1001)
            assert await client.ended()
            await backend.connections[0].gone.wait()


BROKEN = {
    "a frame without a mask": b"\x81\x02hi",
    "a close frame without a mask": b"\x88\x00",
    "a reserved bit": b"\xc1\x80\0\0\0\0",
    "a reserved opcode": b"\x83\x80\0\0\0\0",
    "a reserved control opcode": b"\x8b\x80\0\0\0\0",
    "a fragmented ping": b"\x09\x80\0\0\0\0",
    "a ping of 126 bytes": b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126),
    "a fragment of no message": b"\x80\x81\0\0\0\0x",
    "a message within a message": b"\x01\x81\0\0\0\0x\x81\x81\0\0\0\0x",
    "half a close code": b"\x88\x81\0\0\0\0\x03",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_client_that_breaks_the_protocol_hears_1002(broken: bytes) -> None:
    """What it sent reaches nobody; the upstream hears that the client is lost."""
    async with scripted(accepting) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            await opened(client)
            await client.send(broken)
            assert await client.rest() == close_frame(1002)
        (connection,) = backend.connections
        async with asyncio.timeout(10):
            await connection.gone.wait()
        assert unmasked(connection.received[-8:]) == close_frame(1001)
        await until(lambda: count(gateway, "gateway_requests_in_progress") == 0)


@pytest.mark.parametrize(
    "broken", [b"\x81\x82\0\0\0\0hi", b"\xc1\x00", b"\x83\x00", b"\x09\x00", b"\x80\x00"]
)
async def test_an_upstream_that_breaks_the_protocol_hears_1002(log: LogText, broken: bytes) -> None:
    """A masked frame, for one (RFC 6455 §5.1); the client hears 1014, and the log says why."""

    async def script(connection: Connection) -> None:
        await connection.accept_websocket()
        await connection.send(broken)
        await connection.rest()

    async with scripted(script) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            await opened(client)
            assert await client.read(4) == close_frame(1014)
            await client.send(close_frame(1014, masked=True))
            assert await client.rest() == b""
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()
        assert unmasked(backend.connections[0].received) == close_frame(1002)
    (record,) = log.named("WebSocket closed: an end broke the protocol")
    assert (record["end"], record["code"]) == ("upstream", 1002)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535])
async def test_a_code_that_may_not_be_sent_is_a_breach(code: int) -> None:
    """1002 from either end, and the code goes no further (RFC 6455 §7.4)."""

    async def script(connection: Connection) -> None:
        await connection.accept_websocket()
        await connection.send(close_frame(code))
        await connection.rest()

    async with scripted(accepting) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            await opened(client)
            await client.send(close_frame(code, masked=True))
            assert await client.rest() == close_frame(1002)
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()
        assert unmasked(backend.connections[0].received) == close_frame(1001)
    async with scripted(script) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            await opened(client)
            assert await client.read(4) == close_frame(1014)
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()
        assert unmasked(backend.connections[0].received) == close_frame(1002)


@pytest.mark.parametrize("said", [b"\x81\x82\0\0\0\0\xc3(", b"\x88\x84\0\0\0\0\x03\xe8\xc3("])
async def test_text_that_is_not_utf_8_is_1007(said: bytes) -> None:
    """In a message or in a reason (RFC 6455 §8.1)."""
    async with (
        scripted(accepting) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        await client.send(said)
        assert await client.rest() == close_frame(1007)
