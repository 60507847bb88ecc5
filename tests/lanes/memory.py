"""Connections in memory, on a loop whose time is a test's: nothing in them is left to chance.

Only one end of a connection is asyncio's, a protocol of the gateway with a ``MemoryTransport``;
the far end is a test's own object, told at once of what is written, and feeding what it likes.
"""

import asyncio
import contextvars
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from clocks import FakeClock
from virtual_loop import VirtualLoop

Address = tuple[str, int]
_RESET = struct.pack("ii", 1, 0)


class FarEnd(Protocol):
    """The other side of a connection."""

    def received(self, data: bytes) -> None:
        """The gateway wrote."""
        ...

    def ended(self, *, reset: bool) -> None:
        """The gateway closed, ``reset`` if so that the far end can't take it for a good end."""
        ...


class MemorySocket:
    """As much of a socket as a protocol asks its transport for."""

    family = socket.AF_INET

    def __init__(self, peer: Address) -> None:
        self._peer = peer
        self.resets = False

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self.resets = value == _RESET

    def getpeername(self) -> Address:
        return self._peer


class MemoryTransport(asyncio.Transport):
    """A transport as asyncio's own is, without a socket; its buffer is never full.

    What is fed arrives in the loop's later turns, each piece in one of its own.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        *,
        peer: Address,
        context: contextvars.Context,
    ) -> None:
        self._socket = MemorySocket(peer)
        super().__init__(
            {"peername": peer, "sockname": ("127.0.0.1", 8080), "socket": self._socket}
        )
        self.far: FarEnd | None = None
        self._loop = loop
        self._protocol = protocol
        self._context = context
        self._coming: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._paused = False
        self._closing = False

    def open(self, far: FarEnd) -> None:
        """Connect; to be called in the gateway's context."""
        self.far = far
        self._protocol.connection_made(self)

    def feed(self, data: bytes) -> None:
        """Have bytes arrive."""
        self._come(lambda: self._arrive(data))

    def feed_eof(self) -> None:
        """Have the far end close in good order."""
        self._come(self._end)

    def feed_reset(self) -> None:
        """Have the far end cut off."""
        self._come(lambda: self._lose(ConnectionResetError(104, "Connection reset by peer")))

    def _come(self, event: Callable[[], None]) -> None:
        self._coming.append(event)
        self._schedule()

    def _schedule(self) -> None:
        if self._coming and not self._scheduled and not self._paused and not self._closing:
            self._scheduled = True
            self._loop.call_soon(self._next, context=self._context)

    def _next(self) -> None:
        self._scheduled = False
        if self._paused or self._closing:
            return
        self._coming.popleft()()
        self._schedule()

    def _arrive(self, data: bytes) -> None:
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            while data and not self._closing:
                buffer = memoryview(self._protocol.get_buffer(len(data)))
                count = min(len(buffer), len(data))
                buffer[:count] = data[:count]
                self._protocol.buffer_updated(count)
                data = data[count:]
        else:
            assert isinstance(self._protocol, asyncio.Protocol)
            self._protocol.data_received(data)

    def _end(self) -> None:
        assert isinstance(self._protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not self._protocol.eof_received():
            self.close()

    def _lose(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.call_soon(self._protocol.connection_lost, error, context=self._context)
        if self.far is not None:
            self.far.ended(reset=self._socket.resets)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"bytes are written, not {type(data).__name__}")
        if not self._closing and self.far is not None and data:
            self.far.received(bytes(data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._schedule()

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol


class MemoryLoop(VirtualLoop):
    """A loop on which connections lead to far ends of the test's, and to nowhere else."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))
        self._listening: dict[Address, Callable[[MemoryTransport], FarEnd]] = {}
        self._connected: dict[int, Address] = {}

    def listen(self, address: Address, accept: Callable[[MemoryTransport], FarEnd]) -> None:
        """Have connections to an address made; all others are refused."""
        self._listening[address] = accept

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Note where a socket would connect to."""
        self._check(address)
        self._connected[sock.fileno()] = address

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        sock: socket.socket | None = None,
        **_options: Any,
    ) -> tuple[MemoryTransport, asyncio.BaseProtocol]:
        """Connect to a far end, in the caller's context.

        Raises:
            ConnectionRefusedError: nobody listens there.
        """
        if sock is not None:
            address = self._connected.pop(sock.fileno())
            sock.close()
        else:
            assert host is not None
            assert port is not None
            address = (host, port)
        self._check(address)
        await asyncio.sleep(0)
        protocol = protocol_factory()
        transport = MemoryTransport(
            self, protocol, peer=address, context=contextvars.copy_context()
        )
        transport.open(self._listening[address](transport))
        return transport, protocol

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """Find addresses without a thread."""
        return socket.getaddrinfo(
            host, port, **{**hints, "flags": hints.get("flags", 0) | socket.AI_NUMERICHOST}
        )

    def _check(self, address: Any) -> None:
        if address not in self._listening:
            raise ConnectionRefusedError(111, "Connection refused")
