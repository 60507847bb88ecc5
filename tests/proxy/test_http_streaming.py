"""Streams: events one by one, and backpressure both ways, so that nobody's pace costs memory."""

import asyncio
import tracemalloc
from collections.abc import Iterator

import pytest
from backends import Connection, scripted
from wire import connect, request

from proxy.gateways import outcomes, running, until

MEGABYTE = 2**20
SIZE = 200 * MEGABYTE
BUFFERS = 32 * MEGABYTE
"""What the kernel's socket buffers of four ends may hold, generously."""


async def test_server_sent_events_arrive_one_by_one() -> None:
    """The client has the first before the backend sends the second, and the head before both."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            await go.wait()
            go.clear()
            await connection.send(b"data: %d\n\n" % number)

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/", "Accept: text/event-stream"))
        head = await client.head()
        assert head.values("Content-Type") == [b"text/event-stream"]
        for number in range(3):
            go.set()
            assert await client.chunk() == b"data: %d\n\n" % number
        assert await client.chunk() == b""


async def test_a_content_length_answer_arrives_as_it_comes() -> None:
    """Streaming doesn't depend on the framing."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello")
        await go.wait()
        await connection.send(b" world")

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        await client.head()
        assert await client.read(5) == b"hello"
        go.set()
        assert await client.read(6) == b" world"


@pytest.fixture
def traced() -> Iterator[None]:
    """Count what Python allocates."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


class Pace:
    """How much went through so far, and whether that stands still."""

    def __init__(self) -> None:
        self.sent = 0

    async def stalls(self) -> int:
        """Wait until the loop turns and turns and nothing goes through; return how much did."""
        before, still = 0, 0
        async with asyncio.timeout(10):
            while still < 2000:
                still = still + 1 if 0 < self.sent == before else 0
                before = self.sent
                await asyncio.sleep(0)
        return self.sent


@pytest.mark.parametrize("framing", [f"Content-Length: {SIZE}", "Connection: close"])
async def test_a_stalled_client_of_a_big_answer(traced: None, framing: str) -> None:
    """200 MB for a client that reads nothing: the backend's writes stop, and memory is small."""
    pace = Pace()
    piece = b"x" * 65536

    async def script(connection: Connection) -> None:
        await connection.head()
        connection.writer.transport.set_write_buffer_limits(0)
        await connection.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        for _ in range(SIZE // len(piece)):
            await connection.send(piece)
            pace.sent += len(piece)

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await client.send(request("/"))
        assert 0 < await pace.stalls() < BUFFERS
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 4 * MEGABYTE
        # And all of it arrives, once the client reads.
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.head()
        total = 0
        if framing.startswith("Content-Length"):
            while total < SIZE:
                total += len(await client.reader.read(MEGABYTE))
        else:
            while chunk := await client.chunk():
                total += len(chunk)
        assert total == SIZE
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 12 * MEGABYTE
        await until(lambda: outcomes(gateway) == {"proxied": 1})


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_big_upload_to_a_stalled_backend(traced: None, framing: str) -> None:
    """200 MB for a backend that reads nothing: the client's writes stop, and memory is small."""
    pace = Pace()
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        received, end = 0, b""
        while received < SIZE or (framing == "chunked" and end != b"0\r\n\r\n"):
            data = await connection.reader.read(MEGABYTE)
            received, end = received + len(data), (end + data)[-5:]
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with (
        scripted(script) as backend,
        running(backend.url, limits={"body": "1GiB"}) as gateway,
        connect(gateway.url) as client,
    ):
        client.writer.transport.set_write_buffer_limits(0)
        piece = b"x" * 65536

        async def upload() -> None:
            chunked = framing == "chunked"
            field = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
            await client.send(request("/", field, method="POST"))
            for _ in range(SIZE // len(piece)):
                client.writer.write(b"10000\r\n%b\r\n" % piece if chunked else piece)
                await client.writer.drain()
                pace.sent += len(piece)
            if chunked:
                client.writer.write(b"0\r\n\r\n")

        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        task = asyncio.create_task(upload())
        assert 0 < await pace.stalls() < BUFFERS
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 4 * MEGABYTE
        go.set()
        await task
        assert (await client.answer()).status == 200
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 12 * MEGABYTE
