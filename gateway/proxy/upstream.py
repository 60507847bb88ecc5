"""A connection to an upstream, for exchanges that have no task to wait in."""

import asyncio
import ssl
from typing import TYPE_CHECKING, Protocol, cast

import structlog

from gateway.answer_head import ReceivedHead
from gateway.answer_reader import AnswerReader, End, Part
from gateway.causes import CLOSED, NO_CLOSE_NOTIFY, RESET
from gateway.errors import GatewayError, UpstreamInvalid, UpstreamUnreachable
from gateway.proxy.answers import AnswerHead, AnswerHeads, read_head, render_interim
from gateway.tls_end import tls_end

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

    def answer_comes(self, interim: bytes) -> None:
        """The upstream isn't silent: some of the answer is here, perhaps an interim one to send."""
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
        "_known",
        "_pool",
        "_reader",
        "_remaining",
        "_tls",
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
        self._reader: AnswerReader | None = None
        self._tls: ssl.SSLObject | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._tls = transport.get_extra_info("ssl_object")
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
            self._pool.distrust(data)
            return
        try:
            if self._remaining >= 0:
                self._take_content(exchange, data)
            elif self._reader is not None:
                self._read(exchange, self._reader, data)
            elif not self._take_whole(exchange, data):
                self._reader = AnswerReader(
                    to_head=exchange.bodiless, most_fields=self._pool.most_fields
                )
                self._read(exchange, self._reader, data)
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
            self._pool.distrust()
            data = data[:left]
        exchange.answer_goes_on(data)
        self._end(exchange)

    def _read(self, exchange: UpstreamExchange, reader: AnswerReader, data: bytes) -> None:
        try:
            parts = reader.feed(data)
        except UpstreamInvalid as error:
            # What doesn't even begin as an answer may be left over from another exchange.
            self.heard = self.heard and reader.began
            if not reader.began:
                self._pool.distrust(data)
            self._fail(exchange, error)
            return
        if not parts:
            exchange.answer_comes(b"")
        self._tell(exchange, parts)

    def _tell(self, exchange: UpstreamExchange, parts: list[Part]) -> None:
        for part in parts:
            if self.exchange is not exchange:  # the client may be gone by now
                return
            if isinstance(part, bytes):
                exchange.answer_goes_on(part)
            elif isinstance(part, ReceivedHead):
                self._tell_head(exchange, part)
            else:
                self.closes = self.closes or part is End.LAST
                if self._reader is not None and self._reader.excess:
                    self._pool.distrust()
                self._end(exchange)

    def _tell_head(self, exchange: UpstreamExchange, received: ReceivedHead) -> None:
        if received.is_interim:
            exchange.answer_comes(render_interim(received))
            return
        try:
            head = read_head(received, to_head=exchange.bodiless)
        except UpstreamInvalid as error:
            self._fail(exchange, error)
        else:
            self.closes = head.closes
            exchange.answer_begins(head, b"")

    def _end(self, exchange: UpstreamExchange) -> None:
        if self.exchange is exchange:  # not abandoned meanwhile
            self.exchange = None
            self._remaining = -1
            self._reader = None
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
        if self.exchange is None:
            return
        end = tls_end(self._tls)
        if end.rest:
            self.data_received(end.rest)
        exchange = self.exchange
        if exchange is None:
            return
        cause = RESET if exc is not None else CLOSED
        if self._reader is not None and self._reader.ends_with_connection and exc is None:
            if end.meant or self._pool.accepts_incomplete_close:
                self._tell(exchange, self._reader.feed_eof())
                return
            cause = NO_CLOSE_NOTIFY
        self._fail(exchange, UpstreamUnreachable(cause=cause))
