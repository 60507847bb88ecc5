"""The admin port's connections: how many, and how slow they may be."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress

import pytest
from aiohttp import web
from proxy.gateways import LogText, running, until
from wire import connect, request

from gateway.admin import door
from gateway.admin.door import AdminDoor, application
from gateway.metrics import Metrics
from gateway.settings import Admin


class Port:
    """A port that answers, holds an answer back, or never ends one."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.asked = 0
        app = application()
        app.router.add_get("/", self._answer)
        app.router.add_get("/held", self._held)
        app.router.add_get("/long", self._long)
        self.door = AdminDoor(app, counting=Metrics())

    async def _answer(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _held(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.go_on.wait()
        return web.Response(text="ok")

    async def _long(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 50_000_000)


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    port = Port()
    await port.door.open(Admin(port=0))
    yield port
    port.go_on.set()
    await port.door.close()


def half_requests(port: Port, count: int, stack: ExitStack) -> None:
    """Open so many connections with half a request each."""
    host, _, number = port.door.url.removeprefix("http://").partition(":")
    for _ in range(count):
        half = stack.enter_context(socket.create_connection((host, int(number))))
        half.sendall(b"GET / HTTP/1.1\r\nHo")


async def test_half_requests_keep_nobody_out(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """450 of them took all descriptors, for as long as they liked: the oldest make room."""
    monkeypatch.setattr(door, "MOST_ADMIN_CONNECTIONS", 5)
    with ExitStack() as stack:
        half_requests(port, 30, stack)
        async with connect(port.door.url) as client:
            await client.send(request("/", token=None))
            assert (await client.answer()).status == 200
            server = port.door._runner.server
            assert server is not None
            assert len(server.connections) == 5


async def test_requests_under_way_make_no_room(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all are busy it is the new one that is closed."""
    monkeypatch.setattr(door, "MOST_ADMIN_CONNECTIONS", 2)
    async with connect(port.door.url) as one, connect(port.door.url) as other:
        for client in (one, other):
            await client.send(request("/held", token=None))
        await until(lambda: port.asked == 2)
        async with connect(port.door.url) as third:
            assert await third.ended()
        port.go_on.set()
        for client in (one, other):
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHo"])
async def test_a_head_has_its_time(
    port: Port, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """Whatever has come of it, and whenever."""
    monkeypatch.setattr(door, "HEAD_SECONDS", 0.01)
    async with connect(port.door.url) as client:
        await client.send(said)
        assert await client.ended()


async def test_a_second_head_has_its_time(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first byte, on a connection that may be idle for longer."""
    async with connect(port.door.url) as client:
        await client.send(request("/", token=None))
        assert (await client.answer()).status == 200
        monkeypatch.setattr(door, "HEAD_SECONDS", 0.01)
        await client.send(b"GET / HTTP/1.1\r\nHo")
        assert await client.ended()


async def test_an_answer_that_is_not_read(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its time, too."""
    monkeypatch.setattr(door, "WRITE_SECONDS", 0.01)
    async with connect(port.door.url, receive_buffer=4096) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request("/long", token=None))
        server = port.door._runner.server
        assert server is not None
        await until(lambda: bool(server.connections))
        await until(lambda: not server.connections)


SMUGGLED = request("/held", token=None)
LENGTH = f"Content-Length: {len(SMUGGLED)}"


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([request("/", LENGTH, method="CONNECT", token=None) + SMUGGLED], 404),
        ([request("/", LENGTH, method="CONNECT", token=None), SMUGGLED], 404),
        ([request("/", LENGTH, method="TRACE", token=None) + SMUGGLED], 405),
        ([request("/", "Connection: close", token=None) + SMUGGLED], 200),
        ([request("/", version="RTSP/1.0", token=None) + SMUGGLED], 400),
        ([request("/", "Content-Length: 5", "Content-Length: 5", token=None) + SMUGGLED], 400),
        ([request("/", "X: " + "x" * 20_000, token=None)], 431),
        ([b"\x16\x03\x01\x02\x00"], 400),
    ],
)
async def test_nothing_is_smuggled_to_the_admin_port(
    port: Port, pieces: list[bytes], status: int
) -> None:
    """What follows a request there is read by the same rules as on the other ports."""
    async with connect(port.door.url) as client:
        await client.send(pieces[0])
        answer = await client.answer()
        assert (answer.version, answer.status) == (b"HTTP/1.1", status)
        assert answer.values("Connection") == [b"close"]
        for piece in pieces[1:]:
            with suppress(ConnectionError):
                await client.send(piece)
        assert await client.ended()
    assert port.asked == 0


async def test_an_upgrade_costs_no_byte_on_the_admin_port(port: Port) -> None:
    """It is ignored, and the request behind it keeps its content, which comes later."""
    async with connect(port.door.url) as client:
        upload = request("/nowhere", method="POST", body=SMUGGLED, token=None)
        fields = ["Connection: Upgrade", "Upgrade: foo"]
        await client.send(request("/", *fields, token=None), upload[:-10])
        assert [(await client.answer()).status for _ in range(2)] == [200, 404]
        await client.send(upload[-10:], request("/", token=None))
        assert (await client.answer()).status == 200
    assert port.asked == 0


async def test_a_later_header_section_has_its_time_on_the_admin_port(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first has."""
    monkeypatch.setattr(door, "HEAD_SECONDS", 0.05)
    async with connect(port.door.url) as client:
        await client.send(request("/", token=None))
        assert (await client.answer()).status == 200
        await client.send(b"GET / HT")
        assert await client.ended()


@pytest.mark.parametrize(
    "path", ["/metrics", "/livez", "/readyz", "/", "/page/page.js", "/nowhere"]
)
@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("evil.test:9090", False),
        ("127.0.0.1.evil.test", False),
        ("", False),
        ("127.0.0.1:9090", True),
        ("localhost", True),
        ("[::1]:9090", True),
        ("proxy.internal", True),
        (None, True),
    ],
)
async def test_nothing_is_told_under_a_name_that_was_rebound(
    path: str, host: str | None, *, told: bool
) -> None:
    """A page at http://evil.test:9090, now 127.0.0.1, reads neither metrics nor health."""
    settings = {"port": 0, "hosts": ["proxy.internal"]}
    async with (
        running("http://127.0.0.1:1", admin=settings) as gateway,
        connect(gateway.admin_url) as client,
    ):
        named = b"" if host is None else f"Host: {host}\r\n".encode()
        version = b"1.0" if host is None else b"1.1"
        await client.send(b"GET " + path.encode() + b" HTTP/" + version + b"\r\n" + named + b"\r\n")
        status = (await client.answer()).status
        assert (status != 421) == told


@pytest.mark.parametrize(
    "field",
    [
        b"Authorization: Bearer\r\n s3cret-t0ken",
        b"Authorization: Bearer s3cret-t0ken\x00",
        b"Authorization : Bearer s3cret-t0ken",
        b"Authorization: Bearer \xffs3cret-t0ken",
        b"Authorization Bearer s3cret-t0ken",
    ],
)
async def test_a_malformed_field_with_a_token_is_quoted_nowhere(log: LogText, field: bytes) -> None:
    """Neither in the answer nor in the log, where a traceback would quote it."""
    async with (
        running("http://127.0.0.1:1") as gateway,
        connect(gateway.admin_url) as client,
    ):
        await client.send(b"GET /api/state HTTP/1.1\r\nHost: localhost\r\n" + field + b"\r\n\r\n")
        answer = await client.answer()
    assert b"s3cret-t0ken" not in answer.body
    assert "s3cret-t0ken" not in log.text
    assert "Traceback" not in log.text
