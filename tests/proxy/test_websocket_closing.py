"""How WebSockets end: in good order, badly, or because the gateway stops."""

import asyncio

import pytest
from aiohttp import ClientSession, WSMsgType, web
from backends import Connection, recording, scripted
from wire import Client, connect, request

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


@pytest.mark.parametrize("code", [1006, 1007, 1014])
async def test_codes_that_tell_of_what_was_not_sent(code: int) -> None:
    """1006 never stands in a frame (RFC 6455 §7.4.1), so it isn't passed on as one."""
    async with (
        scripted(accepting) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        await client.send(close_frame(code, masked=True))
        passed = 1000 if code == 1006 else code
        assert await client.rest() == close_frame(passed)
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()
        assert unmasked(backend.connections[0].received) == close_frame(passed)


async def test_a_client_that_closes_without_a_status() -> None:
    """No status is a normal end (RFC 6455 §7.1.5): the upstream hears 1000."""
    async with (
        scripted(accepting) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await opened(client)
        await client.send(EMPTY_CLOSE)
        assert await client.rest() == close_frame(1000)
        (connection,) = backend.connections
        async with asyncio.timeout(10):
            await connection.gone.wait()
        assert unmasked(connection.received) == close_frame(1000)


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
        assert await client.read(4) == close_frame(1000)
        await client.send(close_frame(1000, masked=True))
        assert await client.rest() == b""


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
        assert gateway._traffic.websocket._open == set()  # type: ignore[union-attr]


async def test_draining_tells_both_ends() -> None:
    """Both hear 1001, Going Away (RFC 6455 §7.4.1), and the drain doesn't wait for more."""
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


async def test_draining_tells_those_of_before_a_reload() -> None:
    """The drain doesn't wait for WebSockets that nobody told."""
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
