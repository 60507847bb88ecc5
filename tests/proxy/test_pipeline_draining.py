"""Draining: readiness goes first, then new connections, then what is under way, finished."""

import asyncio
import socket
from pathlib import Path

import pytest
from backends import Connection, RecordingBackend, answering, scripted
from streams import cut
from test_listeners import trusting
from wire import Client, connect, fetch, request

from gateway.app import Gateway
from gateway.demo.certificate import write_certificate
from gateway.proxy.server import GatewayConnection
from proxy.gateways import LogText, count, outcomes, running, settings_for, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def status_of(url: str) -> int:
    """Return the status of a GET."""
    parts = url.rpartition("/")
    return (await fetch(parts[0], request("/" + parts[2], "Host: localhost"))).status


async def test_the_grace_period(gateway: Gateway, backend: RecordingBackend) -> None:
    """Readiness fails at once, and connections are still accepted, to be told not to come back."""
    drain = asyncio.create_task(gateway.drain(grace_seconds=3600))
    async with connect(gateway.url) as client:
        await until(lambda: gateway._health.terminating)
        ready = await fetch(gateway.admin_url, request("/readyz", "Host: localhost"))
        assert (ready.status, ready.error["reason"]) == (503, "terminating")
        assert await status_of(f"{gateway.admin_url}/livez") == 200
        for data, status in (
            (request("/"), 200),
            (request("/", token="bad"), 401),
            (request("*", method="OPTIONS"), 200),
        ):
            async with connect(gateway.url) as new:
                await new.send(data)
                answer = await new.answer()
                assert (answer.status, answer.values("Connection")) == (status, [b"close"])
                assert await new.rest() == b""
        await client.send(request("/"))
        assert (await client.answer()).values("Connection") == [b"close"]
    drain.cancel()
    await asyncio.gather(drain, return_exceptions=True)


async def test_a_reload_in_the_grace_period_changes_nothing_of_it(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """Answers by new settings are the last on their connections, too."""
    drain = asyncio.create_task(gateway.drain(grace_seconds=3600))
    await until(lambda: gateway._health.terminating)
    gateway.reload(settings_for(backend.url))
    assert (await fetch(gateway.url, request("/"))).values("Connection") == [b"close"]
    drain.cancel()
    await asyncio.gather(drain, return_exceptions=True)


async def test_idle_connections_close_and_ports_too(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """After the grace nobody gets in, and who does nothing is let go."""
    async with connect(gateway.url) as idle, connect(gateway.url) as silent:
        await idle.send(request("/"))
        assert (await idle.answer()).status == 200
        await gateway.drain(grace_seconds=0)
        assert await idle.rest() == b""
        assert await silent.rest() == b""
    for url in (gateway.url, gateway.admin_url):
        with pytest.raises(ConnectionRefusedError):
            await status_of(url + "/")


class Slow:
    """A backend that reads a whole request, and answers when it is let."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.body = b""

    async def __call__(self, connection: Connection) -> None:
        head = await connection.head()
        self.reached.set()
        if b"Content-Length: 10" in head:
            self.body = await connection.reader.readexactly(10)
        await self.go.wait()
        await connection.send(self.answer)
        await connection.rest()


async def test_requests_under_way_finish(log: LogText) -> None:
    """Idle connections close first; the answer comes, is the last, and only then all is closed."""
    slow = Slow()
    async with (
        scripted(slow) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
        connect(gateway.url) as idle,
    ):
        await client.send(request("/"))
        await slow.reached.wait()
        await until(lambda: count(gateway, "gateway_connections") == 2)
        drain = asyncio.create_task(gateway.drain(grace_seconds=0))
        assert await idle.rest() == b""
        assert not drain.done()
        slow.go.set()
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.values("Connection") == [b"close"]
        await drain
        assert outcomes(gateway) == {"proxied": 1}
    assert [record["level"] for record in log.records if record["level"] != "info"] == []


async def test_uploads_under_way_finish() -> None:
    """Also those of which half is yet to come."""
    slow = Slow()
    slow.go.set()
    async with (
        scripted(slow) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/", "Content-Length: 10", method="POST"), b"first")
        await slow.reached.wait()
        drain = asyncio.create_task(gateway.drain(grace_seconds=0))
        async with connect(gateway.admin_url) as admin:
            await until(lambda: not gateway._listeners.serving)
            await client.send(b"other")
            assert (await client.answer()).status == 200
            await drain
            assert await admin.ended()
    assert slow.body == b"firstother"


def answer_of(size: int) -> bytes:
    """Return an answer with so much content."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)


async def stalled(client: Client, gateway: Gateway) -> tuple[int, int]:
    """Ask for an answer and don't read it; return how much of it is sent, and how much waits."""
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(request("/"))
    assert gateway._server is not None
    await until(lambda: count(gateway, "gateway_requests_in_progress") == 1)
    (connection,) = gateway._server.connections
    assert isinstance(connection, GatewayConnection)
    assert connection.transport is not None
    written = 0
    sizes: list[tuple[int, int]] = []
    while len(sizes) < 2000 or sizes[-1] != sizes[-1000]:
        await asyncio.sleep(0)
        if connection._fast is not None:
            written = connection._fast.bytes_sent
        elif connection._current_request is not None:
            written = connection._current_request.writer.output_size
        sizes.append((written, connection.transport.get_write_buffer_size()))
    return sizes[-1]


async def test_an_answer_that_is_read_slowly_is_read_to_its_end() -> None:
    """Under way is whatever the operating system hasn't taken yet, were it a few bytes."""
    small = 4096
    slow = Slow(answer_of(20_000_000))
    slow.go.set()
    async with scripted(slow) as backend, running(backend.url) as gateway:
        async with connect(gateway.url, receive_buffer=small) as client:
            written, waiting = await stalled(client, gateway)
        await until(lambda: count(gateway, "gateway_connections") == 0)
        # Now just more than the system takes, and less than asyncio finds worth a pause.
        size = written - waiting + 30_000
        slow.answer = answer_of(size)
        async with connect(gateway.url, receive_buffer=small) as client:
            _, waiting = await stalled(client, gateway)
            assert 0 < waiting < 65536
            drain = asyncio.create_task(gateway.drain(grace_seconds=0))
            await until(lambda: not gateway._listeners.serving)
            assert count(gateway, "gateway_requests_in_progress") == 1
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len((await client.answer()).body) == size
            await drain


@pytest.mark.plain_asyncio("counts on how much the system takes in so many writes")
async def test_a_small_answer_behind_a_big_one_is_under_way_too() -> None:
    """One that would go out at once, if there were room for it."""
    answers = [answer_of(20_000_000)]
    async with (
        scripted(answering(lambda: answers.pop(0))) as backend,
        running(backend.url) as gateway,
    ):
        async with connect(gateway.url, receive_buffer=4096) as client:
            written, waiting = await stalled(client, gateway)
        await until(lambda: count(gateway, "gateway_connections") == 0)
        size = written - waiting - 20_000
        answers += [answer_of(size), answer_of(40_000)]
        async with connect(gateway.url, receive_buffer=4096) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(request("/"))
            await until(lambda: outcomes(gateway)["proxied"] == 1)
            _, waiting = await stalled(client, gateway)
            assert 0 < waiting < 40_000
            assert count(gateway, "gateway_requests_in_progress") == 1
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert [len((await client.answer()).body) for _ in range(2)] == [size, 40_000]


async def test_a_request_that_is_beginning_is_answered(backend: RecordingBackend) -> None:
    """Half a header section is no idle connection."""
    slow = Slow()
    async with (
        scripted(slow) as other,
        running(other.url) as gateway,
        connect(gateway.url) as client,
        connect(gateway.url) as holding,
    ):
        await holding.send(request("/"))
        await slow.reached.wait()
        data = request("/nowhere", token=None)
        await client.send(data[:20])
        await until(lambda: sum(bool(c._deadlines) for c in gateway._server.connections) == 1)  # type: ignore[union-attr]
        drain = asyncio.create_task(gateway.drain(grace_seconds=0))
        await until(lambda: not gateway._listeners.serving)
        await client.send(data[20:])
        answer = await client.answer()
        assert (answer.status, answer.values("Connection")) == (401, [b"close"])
        slow.go.set()
        await drain


async def test_what_takes_too_long_is_cut_off(log: LogText) -> None:
    """After ``listen.drain_timeout`` the rest is closed, and the log says so."""
    slow = Slow()
    async with (
        scripted(slow) as backend,
        running(backend.url, listen={"drain_timeout": "50ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        await slow.reached.wait()
        await gateway.drain(grace_seconds=0)
        assert await client.ended()
        assert outcomes(gateway) == {"client_gone": 1}
    assert [record["event"] for record in log.records if record["level"] == "warning"] == [
        "requests were still under way at the end of listen.drain_timeout"
    ]


async def test_stopping_cuts_off_what_is_under_way(log: LogText) -> None:
    """``stop`` waits for nobody, and leaves no task behind."""
    before = asyncio.all_tasks()
    slow = Slow()
    async with scripted(slow) as backend, running(backend.url) as gateway:
        async with connect(gateway.url) as client:
            await client.send(request("/"))
            await slow.reached.wait()
            await gateway.stop()
            assert await client.ended()
        assert count(gateway, "gateway_requests_in_progress") == 0
    await until(lambda: asyncio.all_tasks() == before)
    assert log.named("internal error") == []


async def test_an_answer_that_began_before_ends_its_connection() -> None:
    """It couldn't say so any more, but the connection closes behind it all the same."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await go.wait()
        await connection.send(b"k")
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        assert (await client.head()).values("Connection") == []
        drain = asyncio.create_task(gateway.drain(grace_seconds=3600))
        await until(lambda: gateway._health.terminating)
        go.set()
        assert await client.rest() == b"ok"
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)


async def test_a_client_in_its_handshake_when_the_gateway_stops_is_answered(
    tmp_path: Path, backend: RecordingBackend
) -> None:
    """It had connected, and was cut off: only those whose handshake was over were waited for."""
    files = write_certificate(tmp_path, "localhost", now_at=1_600_000_000)
    listen = {"tls_port": 0, "tls_certificate": str(files.certificate), "tls_key": str(files.key)}
    async with running(backend.url, listen=listen) as gateway:
        assert gateway.tls_url is not None
        port = int(gateway.tls_url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as early:
            await until(lambda: count(gateway, "gateway_tls_handshakes_in_progress") == 1)
            drain = asyncio.create_task(gateway.drain(grace_seconds=0))
            await until(lambda: not gateway._listeners.serving)
            reader, writer = await asyncio.open_connection(
                sock=early, ssl=trusting(), server_hostname="localhost"
            )
            client = Client(reader, writer)
            await client.send(request("/"))
            answer = await client.answer()
            assert (answer.status, answer.values("Connection")) == (200, [b"close"])
            await cut(writer)
        await drain
