"""A connection to an upstream, for exchanges that have no task to wait in."""

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

import structlog
from aiohttp import ClientPayloadError, StreamReader, http_parser
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import GatewayError, UpstreamInvalid, UpstreamUnreachable
from gateway.proxy.answers import AnswerHead, AnswerHeads, open_parser, read_head

if TYPE_CHECKING:
    from gateway.proxy.pool import UpstreamPool

log = structlog.stdlib.get_logger(__name__)


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
        self.opened = self.idle_since = 0  # counts of ticks
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
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.transport.set_write_buffer_limits(high=0)  # so that uvloop writes at once

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
            # Some servers say 408 before they close; nothing unasked is the next answer.
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
            if self._content is None or not self._content.is_eof():
                self._fail(exchange, UpstreamInvalid())
            else:  # it is whole, and what follows is no answer
                self._last_bytes = b""
                self._pump(exchange)

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
            self.exchange = None
            self._remaining = -1
            self._content = self._parser = None
            self.go_on()
            self._pool.take_back(self)
            exchange.answer_ends()

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
