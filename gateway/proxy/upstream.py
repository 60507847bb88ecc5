"""Connections to upstreams, kept and given out to exchanges that have no task to wait in.

Long, because a connection and the pool that it returns to are one thing seen from two sides.
"""

import asyncio
import socket
from collections import deque
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlsplit

import structlog
from aiohappyeyeballs import AddrInfoType, start_connection
from aiohttp import ClientPayloadError, StreamReader, http_parser
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import GatewayError, UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from gateway.proxy.answers import AnswerHead, AnswerHeads, open_parser, read_head

if TYPE_CHECKING:
    from gateway.proxy.pools import UpstreamPools

log = structlog.stdlib.get_logger(__name__)

_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305 §5


class UpstreamExchange(Protocol):
    """What a connection needs of the exchange that it serves."""

    bodiless: bool
    """Whether the answer has no content whatever it says, because HEAD was asked."""

    def send_on(self, connection: "UpstreamConnection", *, reused: bool) -> None:
        """Write the request."""
        ...

    def answer_whole(self, head: AnswerHead, content: bytes) -> None:
        """All of the answer is here; the connection isn't the exchange's any more."""
        ...

    def answer_begins(self, head: AnswerHead, content: bytes) -> None:
        """The header section of the answer is here, and what came with it."""
        ...

    def answer_goes_on(self, content: bytes) -> None:
        """More content is here."""
        ...

    def answer_ends(self) -> None:
        """The answer is whole; the connection isn't the exchange's any more."""
        ...

    def upstream_failed(self, error: GatewayError, *, silent: bool) -> None:
        """There is no answer, or no more of it; ``silent`` is an upstream that said nothing."""
        ...

    def fault(self) -> None:
        """The gateway itself failed, and has logged it."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream, which serves one exchange at a time."""

    __slots__ = (
        "_content",
        "_known",
        "_last_bytes",
        "_loop",
        "_parser",
        "_pool",
        "_remaining",
        "closes",
        "counted",
        "exchange",
        "heard",
        "held",
        "idle_since",
        "opened",
        "transport",
    )

    def __init__(self, pool: "UpstreamPool", known: AnswerHeads) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._known = known
        self.transport: asyncio.Transport | None = None
        self.exchange: UpstreamExchange | None = None
        self.opened = 0  # as ``idle_since`` a count of ticks
        self.idle_since = 0
        self.counted = True  # among those that the pools may have open
        self.closes = False
        self.heard = False
        self.held = False
        self._remaining = -1  # bytes of content to come; negative while that isn't known
        self._parser: http_parser.HttpResponseParser | None = None
        self._content: StreamReader | None = None
        self._last_bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        transport.set_write_buffer_limits(high=0)  # so that uvloop writes at once
        self.transport = transport

    def serve(self, exchange: UpstreamExchange, *, reused: bool) -> None:
        """Send the request of an exchange, which hears of the answer.

        For one that has waited: nobody but the exchange itself is to hear of its fault.
        """
        self.exchange = exchange
        self.heard = False
        try:
            exchange.send_on(self, reused=reused)
        except Exception:
            log.exception("internal error")
            self.abandon()
            exchange.fault()

    def hold(self) -> None:
        """Read no more for now: whoever takes the content is slow."""
        if not self.held and self.transport is not None:
            self.held = True
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self.held and self.transport is not None:
            self.held = False
            self.transport.resume_reading()

    def abandon(self) -> None:
        """Close the connection: nobody wants any more of it."""
        self.exchange = None
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand on what the upstream says."""
        exchange = self.exchange
        if exchange is None:
            # Some servers say 408 before they close an idle connection; nothing that comes
            # unasked may be taken for the next answer.
            self._pool.discard(self)
            return
        try:
            if self._remaining >= 0:
                self._take_content(exchange, data)
            elif self._parser is not None:
                self._parse(exchange, data)
            elif not self._take_whole(exchange, data):
                self._last_bytes = b""
                self._parser = open_parser(self._loop, with_body=not exchange.bodiless)
                self._parse(exchange, data)
        except Exception:
            log.exception("internal error")
            if self.exchange is exchange:
                self.abandon()
            exchange.fault()

    def _take_whole(self, exchange: UpstreamExchange, data: bytes) -> bool:
        """Take the beginning of an answer if all of its header section is here, and simple."""
        self.heard = True
        end = data.find(b"\r\n\r\n")
        if end <= 0:
            return False
        head = self._known.find(data[:end])
        if head is None:
            return False
        end += 4
        length = 0 if head.bodiless or exchange.bodiless else head.content_length or 0
        left = length + end - len(data)
        if left < 0:
            return False  # more than was asked for
        self.closes = head.closes
        if left:
            self._remaining = left
            exchange.answer_begins(head, data[end:])
        else:
            self.exchange = None
            self._pool.take_back(self)
            exchange.answer_whole(head, data[end:])
        return True

    def _take_content(self, exchange: UpstreamExchange, data: bytes) -> None:
        left = self._remaining - len(data)
        if left > 0:
            self._remaining = left
            exchange.answer_goes_on(data)
            return
        if left < 0:
            self.closes = True
            data = data[:left]
        exchange.answer_goes_on(data)
        self._end(exchange)

    def _parse(self, exchange: UpstreamExchange, data: bytes) -> None:
        assert self._parser is not None
        # Whether something follows the end of chunked content the parser doesn't tell.
        self._last_bytes = (self._last_bytes + data[-4:])[-4:]
        try:
            messages, _, _ = self._parser.feed_data(data)
            for message, content in messages:
                if self._content is not None:
                    self.closes = True  # a second answer to one request
                    break
                if 100 <= message.code < 200 and message.code != 101:
                    continue  # RFC 9110 §15.2: not the answer yet
                head = read_head(message, to_head=exchange.bodiless)
                self.closes = head.closes
                self._content = content
                exchange.answer_begins(head, b"")
            self._pump(exchange)
        except UpstreamInvalid as error:
            self._fail(exchange, error)
        except (HttpProcessingError, ClientPayloadError):
            self._fail(exchange, UpstreamInvalid())

    def _pump(self, exchange: UpstreamExchange) -> None:
        content = self._content
        if content is None or self.exchange is not exchange:  # the client may be gone by now
            return
        data = content.read_nowait()
        if data:
            exchange.answer_goes_on(data)
        if content.is_eof():
            self.closes = self.closes or self._last_bytes != b"\r\n\r\n"
            self._end(exchange)

    def _end(self, exchange: UpstreamExchange) -> None:
        if self.exchange is exchange:  # not abandoned meanwhile
            self._release()
            exchange.answer_ends()

    def _release(self) -> None:
        self.exchange = None
        self._remaining = -1
        self._content = self._parser = None
        self.go_on()
        self._pool.take_back(self)

    def _fail(self, exchange: UpstreamExchange, error: GatewayError) -> None:
        self.abandon()
        exchange.upstream_failed(error, silent=not self.heard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; by its end an answer without a length is whole."""
        self.transport = None
        self._pool.forget(self)
        exchange = self.exchange
        if exchange is None:
            return
        if self._content is not None and self._parser is not None and exc is None:
            try:
                self._parser.feed_eof()
                self._pump(exchange)
            except (HttpProcessingError, ClientPayloadError):
                pass
        if self.exchange is not None:
            self._fail(exchange, UpstreamUnreachable())


class UpstreamPool:
    """The connections to one upstream: scheme, host and port."""

    def __init__(self, pools: "UpstreamPools", origin: str) -> None:
        parts = urlsplit(origin)
        assert parts.hostname is not None
        self._pools = pools
        self._host = parts.hostname
        self._tls = pools.tls if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._numeric = _is_address(self._host)
        self.idle: list[UpstreamConnection] = []
        self.waiting: deque[UpstreamExchange] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self.connections = 0
        """How many there are, those that are being opened among them."""

    def submit(self, exchange: UpstreamExchange, *, fresh: bool = False) -> None:
        """Send a request as soon as there is a connection for it, an idle one or a new one.

        ``fresh`` asks for a new one, ahead of those that wait.
        """
        if fresh:
            self.waiting.appendleft(exchange)
        elif self.idle:
            connection = self.idle.pop()
            connection.exchange = exchange
            connection.heard = False
            exchange.send_on(connection, reused=True)
            return
        else:
            self.waiting.append(exchange)
        self.connect()

    def withdraw(self, exchange: UpstreamExchange) -> None:
        """Wait no more for a connection."""
        if exchange in self.waiting:
            self.waiting.remove(exchange)

    def connect(self) -> None:
        """Open as many connections as are waited for and allowed."""
        while len(self._connecting) < len(self.waiting) and self._pools.admit():
            self.connections += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._connecting.add(task)

    def take_back(self, connection: UpstreamConnection) -> None:
        """A connection's answer is whole: the next exchange has it, or it is kept for one."""
        pools, transport = self._pools, connection.transport
        if transport is None:
            return
        if (
            connection.closes
            or pools.closed
            # A name may have another address by now, which only a new connection finds.
            or (not self._numeric and pools.ticks - connection.opened >= pools.renewal_ticks)
            or transport.is_closing()
        ):
            self._uncount(connection)
            transport.close()
        elif self.waiting:
            if pools.starves(self):
                self._uncount(connection)
                transport.close()
            else:
                connection.serve(self.waiting.popleft(), reused=True)
        else:
            connection.idle_since = pools.ticks
            self.idle.append(connection)
            if pools.is_full:
                pools.make_room(self)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has closed."""
        if connection in self.idle:
            self.idle.remove(connection)
        self._uncount(connection)

    def _uncount(self, connection: UpstreamConnection) -> None:
        if connection.counted:
            connection.counted = False
            self._give_room()

    def _give_room(self) -> None:
        self.connections -= 1
        self._pools.release(self)

    def discard(self, connection: UpstreamConnection) -> None:
        """Close a connection that is idle."""
        self.forget(connection)
        connection.abandon()

    def discard_idle(self, ticks: int) -> None:
        """Close the connections that have been idle for so long."""
        while self.idle and self._pools.ticks - self.idle[0].idle_since >= ticks:
            self.discard(self.idle[0])

    async def close(self) -> None:
        """Close what is idle, and open nothing more."""
        tasks = list(self._connecting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.idle):
            self.discard(connection)

    async def _connect(self) -> None:
        error: GatewayError | None = None
        connection = None
        try:
            async with asyncio.timeout(self._pools.connect_timeout_seconds):
                connection = await self._open()
        except TimeoutError:
            error = UpstreamTimeout()
        except OSError:  # refused, not resolved, not trusted
            error = UpstreamUnreachable()
        except Exception:
            log.exception("connecting to an upstream failed")
            error = UpstreamUnreachable()
        except BaseException:  # cancelled
            self._give_room()
            raise
        finally:
            self._connecting.discard(asyncio.current_task())
        if connection is not None:
            connection.opened = connection.idle_since = self._pools.ticks
            if self._pools.closed:
                self.discard(connection)
            elif self.waiting:
                connection.serve(self.waiting.popleft(), reused=False)
            else:
                self.idle.append(connection)
                self._pools.make_room(self)
        else:
            failed = self.waiting.popleft() if self.waiting else None
            self._give_room()
            if failed is not None and error is not None:
                failed.upstream_failed(error, silent=True)
        self.connect()

    async def _open(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        if self._numeric:
            addresses = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        else:
            addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        opened = await start_connection(
            list[AddrInfoType](addresses),
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
            interleave=1,
            loop=loop,
        )
        try:
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self, self._pools.known),
                sock=opened,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        except BaseException:
            opened.close()
            raise
        return connection


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
