"""How slow clients may be, and how many: each limit ends with a connection closed."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from backends import Connection, RecordingBackend, answering, scripted
from wire import connect, fetch, request

from proxy.gateways import (
    FAST_LANE,
    LogText,
    connections,
    count,
    outcomes,
    running,
    taken,
    until,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\n", request("/")[:-2]])
async def test_a_slow_header_section(backend: RecordingBackend, part: bytes) -> None:
    """A client that begins and doesn't end its header section is closed after header_timeout."""
    async with (
        running(backend.url, limits={"header_timeout": "50ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(part)
        assert await client.ended()
        await until(lambda: count(gateway, "gateway_connections") == 0)
    assert backend.peers == []


async def test_a_trickled_header_section(backend: RecordingBackend) -> None:
    """Byte by byte isn't faster: the time counts from the first."""
    async with (
        running(backend.url, limits={"header_timeout": "50ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nX: ")
        ended = asyncio.create_task(client.ended())
        async with asyncio.timeout(10):
            while not client.writer.is_closing():
                client.writer.write(b"x")
                await asyncio.sleep(0)
        assert await ended


async def test_a_slow_header_section_on_a_kept_connection(backend: RecordingBackend) -> None:
    """The second request on a connection has no more time than the first."""
    async with (
        running(backend.url, limits={"header_timeout": "50ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        await client.send(b"GET / HT")
        assert await client.ended()
    assert len(backend.seen) == 1


async def test_a_slow_header_section_behind_a_request_under_way() -> None:
    """One that began while another was answered ends too, at idle_timeout at the latest."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await go.wait()
        await connection.send(OK)
        await connection.rest()

    limits = {"header_timeout": "50ms", "idle_timeout": "500ms"}
    async with (
        scripted(script) as backend,
        running(backend.url, limits=limits) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"), b"GET / HT")
        await until(lambda: len(backend.connections) == 1)
        go.set()
        assert (await client.answer()).status == 200
        assert await client.ended()


async def test_header_time_out_is_not_for_bodies_and_answers(backend: RecordingBackend) -> None:
    """Once the header section is here, its time is over."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await go.wait()
        await connection.send(OK)

    async with (
        scripted(script) as slow,
        running(slow.url, limits={"header_timeout": "20ms"}) as gateway,
        connect(gateway.url) as client,
        connect(gateway.url) as other,
    ):
        await client.send(request("/", "Content-Length: 5", method="POST"))
        await other.send(b"G")
        assert await other.ended()  # later than the first one's time would have been over
        await client.send(b"hello")
        go.set()
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("after", [b"", request("/")])
async def test_an_idle_connection(backend: RecordingBackend, after: bytes) -> None:
    """It is closed after idle_timeout: one that never said anything, and one between requests."""
    async with (
        running(backend.url, limits={"idle_timeout": "500ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        if after:
            await client.send(after)
            assert (await client.answer()).status == 200
        assert await client.rest() == b""


async def test_idle_time_out_is_not_for_requests_under_way() -> None:
    """A request may take longer than its connection may idle."""
    idle = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await idle.wait()
        await connection.send(OK)

    async with (
        scripted(script) as backend,
        running(backend.url, limits={"idle_timeout": "500ms"}) as gateway,
        connect(gateway.url) as client,
        connect(gateway.url) as other,
    ):
        await client.send(request("/"))
        assert await other.rest() == b""  # opened later, idle all the time
        idle.set()
        assert (await client.answer()).status == 200


async def test_too_many_connections(backend: RecordingBackend) -> None:
    """503 and closed, counted; and when one goes, the next is served."""
    async with running(backend.url, limits={"connections": 2}) as gateway:
        async with connect(gateway.url) as first, connect(gateway.url) as second:
            for client in (first, second):
                await client.send(request("/"))
                assert (await client.answer()).status == 200
            async with connect(gateway.url) as third:
                answer = await third.answer()
                assert (answer.status, answer.values("Retry-After")) == (503, [b"1"])
                assert answer.error["error"] == "temporarily_unavailable"
                assert answer.error["request_id"].encode() == answer.value("X-Request-ID")
                assert answer.values("Connection") == [b"close"]
                assert await third.ended()
            assert outcomes(gateway) == {"proxied": 2, "too_many_connections": 1}
            assert count(gateway, "gateway_connections") == 2
            await first.send(request("/"))
            assert (await first.answer()).status == 200
        await until(lambda: count(gateway, "gateway_connections") == 0)
        assert (await fetch(gateway.url, request("/"))).status == 200


async def test_a_request_on_a_refused_connection_is_not_read(backend: RecordingBackend) -> None:
    """Whatever a refused client sends goes nowhere."""
    async with (
        running(backend.url, limits={"connections": 1}) as gateway,
        connect(gateway.url) as first,
    ):
        await first.send(request("/"))
        await first.answer()
        assert (await fetch(gateway.url, request("/"))).status == 503
    assert len(backend.seen) == 1


class TestStalledClients:
    """Clients that don't read what they asked for, longer than ``limits.write_timeout``."""

    @staticmethod
    async def endless(connection: Connection) -> None:
        """Answer without end."""
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await connection.send(b"x" * 65536)

    async def test_within_an_answer(self, log: LogText) -> None:
        """The client is cut off, the upstream let go, and the outcome says why."""
        async with (
            scripted(self.endless) as backend,
            running(backend.url, limits={"write_timeout": "50ms"}) as gateway,
            connect(gateway.url) as client,
        ):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(request("/"))
            await until(lambda: outcomes(gateway) == {"client_stalled": 1})
            await until(lambda: count(gateway, "gateway_connections") == 0)
            await until(backend.connections[0].writer.transport.is_closing)
            assert count(gateway, "gateway_upstream_failures_total") == 0
        assert log.named("internal error") == []

    async def test_of_errors(self, backend: RecordingBackend) -> None:
        """Pipelining what is refused, and reading none of it, holds no connection for ever."""
        async with (
            running(backend.url, limits={"write_timeout": "50ms"}) as gateway,
            connect(gateway.url, receive_buffer=4096) as client,
        ):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            refused = request("/nowhere", token=None) * 50

            async def flood() -> None:
                while True:
                    await client.send(refused)

            with pytest.raises(ConnectionResetError):
                await flood()
            await until(lambda: count(gateway, "gateway_connections") == 0)
            assert set(outcomes(gateway)) == {"no_credentials"}

    @pytest.mark.plain_asyncio("runs a timer of the loop ahead of its time")
    async def test_slow_is_not_stalled(self, backend: RecordingBackend) -> None:
        """Who took some of what waits has as much time again; who took nothing is cut off."""

        class Transport(asyncio.Transport):
            waiting = 100_000
            aborted = False

            def get_write_buffer_size(self) -> int:
                return self.waiting

            def abort(self) -> None:
                self.aborted = True

        async with running(backend.url) as gateway:
            assert gateway._server is not None
            connection, transport = gateway._server(), Transport()
            connection.transport = transport
            connection.pause_writing()
            for transport.waiting in (99_999, 50_000, 1):
                (timer,) = connection._deadlines.values()
                timer._run()
                assert not transport.aborted
            (timer,) = connection._deadlines.values()
            timer._run()
            assert transport.aborted
            assert connection.stalled
            assert connection._deadlines == {}

    async def test_one_that_reads_slowly_is_served(self) -> None:
        """Pauses shorter than the limit are no stall, however many."""
        said = b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000
        async with (
            scripted(answering(said)) as backend,
            running(backend.url, limits={"write_timeout": "5s"}) as gateway,
            connect(gateway.url) as client,
        ):
            await client.send(request("/"))
            await client.head()
            for _ in range(80):
                assert len(await client.read(100_000)) == 100_000
            await until(lambda: outcomes(gateway) == {"proxied": 1})


async def test_a_crowd_without_a_good_token_waits_in_line(backend: RecordingBackend) -> None:
    """Some of its requests begin in each turn of the loop; those of a good client at once."""
    async with (
        AsyncExitStack() as stack,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as good,
    ):
        await good.send(request("/"))
        assert (await good.answer()).status == 200
        (proven,) = connections(gateway)
        crowd = [await stack.enter_async_context(connect(gateway.url)) for _ in range(50)]
        await until(lambda: len(connections(gateway)) == 51)
        before = taken(gateway)
        for connection in connections(gateway):
            if connection is not proven:
                connection.data_received(request("/", token="unknown"))
        assert taken(gateway) - before == 8
        proven.data_received(request("/"))
        assert taken(gateway) - before == 9
        for client in crowd:
            assert (await client.answer()).status == 401
        assert taken(gateway) - before == 51
