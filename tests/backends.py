"""Small backends that a test scripts: one speaks HTTP and records, one speaks only bytes."""

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha1

from aiohttp import web
from streams import cut

Pairs = list[tuple[bytes, bytes]]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Script = Callable[["Connection"], Awaitable[None]]


@dataclass(frozen=True)
class Seen:
    """A request as it reached a backend."""

    method: str
    target: str
    fields: Pairs
    body: bytes

    def values(self, name: str) -> list[bytes]:
        """Return the values of all fields of this name, in any case."""
        return [value for key, value in self.fields if key.lower() == name.lower().encode()]


class RecordingBackend:
    """An HTTP server that keeps what it receives, and answers as ``handler`` does.

    Without ``reads`` it leaves bodies to the handler.
    """

    def __init__(self, handler: Handler | None = None, *, reads: bool = True) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.peers: list[object] = []
        self._handler = handler
        self._reads = reads

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        body = await request.read() if self._reads else b""
        self.seen.append(Seen(request.method, request.raw_path, list(request.raw_headers), body))
        if self._handler is not None:
            return await self._handler(request)
        return web.Response(text="from the backend")


@asynccontextmanager
async def recording(
    handler: Handler | None = None, *, reads: bool = True
) -> AsyncIterator[RecordingBackend]:
    """Run a recording backend on a free port."""
    backend = RecordingBackend(handler, reads=reads)
    server = web.Server(
        backend.handle,
        auto_decompress=False,
        access_log=None,
        max_line_size=2**20,
        max_field_size=2**20,
    )
    runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield backend
    finally:
        await runner.cleanup()


class Connection:
    """One connection to a scripted backend, as its script sees it.

    ``number`` counts from 0, ``heads`` are the header sections read, and ``gone`` is set when
    ``rest`` has found that the other side has closed; what came until then is ``received``.
    """

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.heads: list[bytes] = []
        self.received = b""
        self.gone = asyncio.Event()

    async def head(self) -> bytes:
        """Read a header section; raises ``IncompleteReadError`` if the connection closes."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until the operating system has taken them."""
        self.writer.write(data)
        await self.writer.drain()

    async def accept_websocket(self, *fields: bytes) -> None:
        """Read a WebSocket handshake and accept it (RFC 6455 §4.2.2)."""
        head = await self.head()
        (key,) = re.findall(rb"(?i)sec-websocket-key: *([^\r]*)", head)
        accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
        lines += [b"Sec-WebSocket-Accept: " + accept, *fields]
        await self.send(b"\r\n".join([*lines, b"", b""]))

    async def rest(self) -> bytes:
        """Read until the other side closes or cuts off."""
        try:
            while data := await self.reader.read(2**16):
                self.received += data
        except ConnectionError:
            pass
        self.gone.set()
        return self.received

    def close(self) -> None:
        """Close in good order."""
        self.writer.close()

    def abort(self) -> None:
        """Cut off."""
        self.writer.transport.abort()


class ScriptedBackend:
    """A server that runs a script for each connection."""

    def __init__(self, script: Script) -> None:
        self.url = ""
        self.connections: list[Connection] = []
        self.faults: list[BaseException] = []
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(len(self.connections), reader, writer)
        self.connections.append(connection)
        task = asyncio.create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(cut(connection.writer) for connection in self.connections))

    async def _run(self, connection: Connection) -> None:
        try:
            await self._script(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway closed, as it may
        except Exception as fault:  # noqa: BLE001 -- shown to the test, at its end
            self.faults.append(fault)
        finally:
            connection.close()


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedBackend]:
    """Run a scripted backend on a free port; what failed in a script fails the test."""
    backend = ScriptedBackend(script)
    server = await asyncio.start_server(backend.accept, "127.0.0.1", 0)
    backend.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield backend
    finally:
        server.close()
        await backend.stop()
    assert backend.faults == []


def answering(answer: bytes | Callable[[], bytes], *, close: bool = False) -> Script:
    """Return a script that gives these bytes to each request without a body, or to one."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.head()
            await connection.send(answer if isinstance(answer, bytes) else answer())
            if close:
                return

    return script
