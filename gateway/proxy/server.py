"""Client connections: how many, how slow they may be, and what a malformed one is told.

A subclass of aiohttp's server and of its connection protocol, because aiohttp has no time-out
for a header section and shows the bytes of a malformed request in its answer and its log.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog
from aiohttp import client_proto, web, web_protocol
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.errors import BadRequest, GatewayError, TooManyConnections
from gateway.exchange import RelayedResponse, cut_off, error_parts, reason_phrase
from gateway.metrics import Metrics
from gateway.request_framing import RequestFramer
from gateway.request_head import too_many_bytes, too_many_fields
from gateway.request_method import StandIn
from gateway.settings import Limits

if TYPE_CHECKING:
    from gateway.proxy.fast_exchange import FastExchange

log = structlog.stdlib.get_logger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refusal = Callable[[web.BaseRequest, GatewayError], web.StreamResponse]

_LINGER_SECONDS = 2.0
_LOOK_SECONDS = 0.02
_MOST_HELD = 64 * 1024  # bytes of what is read ahead of its turn
_HELD_PART = 16 * 1024
_NONE_HELD: deque[bytes] = deque()  # an empty one is three quarters of a KiB


def require_c_parser() -> None:
    """Raise ``RuntimeError`` unless aiohttp parses with llhttp.

    Its fallback in Python has had request smuggling faults (CVE-2023-37276, CVE-2023-47627).
    """
    # Those in use: AIOHTTP_NO_EXTENSIONS in the environment turns to the fallback, too.
    parsers = (vars(web_protocol)["HttpRequestParser"], vars(client_proto)["HttpResponseParser"])
    for parser in parsers:
        if parser.__module__ != "aiohttp._http_parser":
            raise RuntimeError(
                "aiohttp's C parser is not in use; install aiohttp from a wheel, and don't set "
                "AIOHTTP_NO_EXTENSIONS"
            )


class Lane(Protocol):
    """What connections need of ``fast.FastLane``."""

    taken: int

    def take(self, client: "GatewayConnection", data: bytes) -> bool:
        """Take a request, or leave it to aiohttp."""
        ...


class GatewayServer(web.Server):
    """Makes a ``GatewayConnection`` of each connection that the limits allow.

    ``handler`` answers requests; ``refuse`` renders the error for what never becomes one. Where
    there is a ``lane`` it is asked first.
    """

    def __init__(
        self,
        handler: Handler,
        refuse: Refusal,
        *,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            lingering_time=_LINGER_SECONDS,
        )
        self.refuse = refuse
        self.metrics = metrics
        self.apply(limits)
        self.open_connections = 0
        self.lane: Lane | None = None
        self._taken_before = 0

    @property
    def fast_requests(self) -> int:
        """How many requests have been taken by this lane and those before it."""
        return self._taken_before + (0 if self.lane is None else self.lane.taken)

    def use_lane(self, lane: Lane | None) -> None:
        """Have requests taken by a lane from the next one on, or by none."""
        self._taken_before, self.lane = self.fast_requests, lane

    def apply(self, limits: Limits) -> None:
        """Hold connections to these limits; those already open keep some of their old ones."""
        self.max_connections = limits.connections
        self.max_head = limits.headers
        self.header_timeout_seconds = limits.header_timeout.total_seconds()
        self.write_timeout_seconds = limits.write_timeout.total_seconds()
        self._kwargs |= {
            "keepalive_timeout": limits.idle_timeout.total_seconds(),
            "max_line_size": limits.headers,
            "max_field_size": limits.headers,
            "max_headers": limits.header_fields,
        }

    def admits(self, *, beginning: int = 0) -> bool:
        """Whether one more connection is allowed, while so many are beginning."""
        return self.open_connections + beginning < self.max_connections

    async def hear_newcomers(self, seconds: float) -> None:
        """Wait until all who have connected have asked for something, for so long at most.

        Their first request is on its way; were they taken for idle, it would be lost.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                newcomers = self.connections
                while newcomers:
                    await asyncio.sleep(_LOOK_SECONDS)
                    newcomers = [
                        each
                        for each in newcomers
                        if isinstance(each, GatewayConnection) and each.is_new
                    ]

    def close_idle(self) -> None:
        """Close the connections on which nothing is under way."""
        for connection in self.connections:
            if isinstance(connection, GatewayConnection):
                connection.close_if_idle()

    def __call__(self) -> "GatewayConnection":
        """Return the protocol of a new connection (asyncio's protocol factory)."""
        return GatewayConnection(self, loop=asyncio.get_running_loop(), **self._kwargs)


class GatewayConnection(RequestHandler):
    """One client connection.

    aiohttp is given one request at a time, and the next when that one is answered and all here:
    what comes ahead of its turn is held back. So no byte is read as part of a request before it is
    sure that there is another one.
    """

    REPEATS = 16

    __slots__ = (
        "_answered",
        "_between",
        "_born",
        "_content",
        "_counted",
        "_deadlines",
        "_fast",
        "_framer",
        "_held",
        "_held_back",
        "_held_bytes",
        "_over",
        "_server",
        "_stand_in",
        "_switched",
        "_under_way",
        "last_request",
        "peer",
        "repeats",
        "secure",
        "stalled",
    )

    def __init__(
        self, server: GatewayServer, *, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._server = server
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._born = 0.0
        self._counted = False
        self.stalled = False
        self.peer: str | None = None
        self.secure = False
        self._fast: FastExchange | None = None
        self.last_request: tuple[bytes, Lane, Any] | None = None
        """The digest of the last request, and what the lane learned of it."""
        self.repeats = self.REPEATS
        """How many more different requests it takes until none is expected to come again."""
        self._framer = RequestFramer()
        self._stand_in = StandIn()
        self._between = False  # nothing of a request is here, and one may come
        self._under_way = False  # aiohttp has one
        self._answered = False  # and has answered it, though its content may still be coming
        self._content: StreamReader = EMPTY_PAYLOAD
        self._over = True  # nothing more is read as a request
        self._switched = False  # another protocol is spoken
        self._held = _NONE_HELD
        self._held_bytes = 0
        self._held_back = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or answer 503 and close it where there are too many."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if not self._server.admits():
            error = TooManyConnections()
            self._server.metrics.request_started()
            self._server.metrics.request_ended("", error.outcome, 0.0)
            transport.write(_bare_answer(error))
            transport.close()
            self._force_close = True  # whatever comes is not read
            self._manager = None  # and aiohttp has nothing to clean up
            return
        super().connection_made(transport)
        # An answer is under way until the operating system has all of it: nobody closes, or ends
        # the process, with a part of it in hand, and pause_writing tells of any that isn't taken.
        # Over TLS asyncio compares with "at least" where it has "more than" elsewhere: with no
        # limit at all it would pause for nothing, and for ever.
        self.secure = transport.get_extra_info("sslcontext") is not None
        transport.set_write_buffer_limits(high=1 if self.secure else 0, low=0)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else peer
        self._born = self._next_keepalive_close_time
        self._between, self._over = True, False
        self._counted = True
        self._server.open_connections += 1
        self._server.metrics.connection_opened()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._call_off("header")
        self._call_off("write")
        if self._fast is not None:
            self._fast.client_gone("client_stalled" if self.stalled else "client_gone")
        if self._counted:
            self._server.open_connections -= 1
            self._server.metrics.connection_closed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let the fast lane have a request, or feed the parser."""
        if self._between:
            lane = self._server.lane
            if lane is None or not lane.take(self, data):
                self._read(data)
        elif not data:  # the parser goes on with what it kept when it was paused
            self._feed(data)
            self._go_on()
        elif self._switched:
            super().data_received(data)
        elif self._over and not self._wants_content:
            pass
        elif self._held or self._fast is not None or self._framer.whole:
            # It was sent ahead, or the client says more than it should. Reading goes on meanwhile,
            # or nobody would learn that the client leaves.
            if not self._held:
                self._held = deque()
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > _MOST_HELD and not self._held_back:
                self._held_back = True
                self._pause_transport_reading()
        else:
            self._read(data)

    def fast_begun(self, exchange: "FastExchange") -> None:
        """The fast lane has taken a request."""
        self._fast = exchange
        self._between = False

    def fast_ended(self, *, closes: bool) -> None:
        """The fast lane has answered it, or given it up; the connection ``closes`` then."""
        self._fast = None
        if self.transport is None:
            return
        if closes:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._held:
            self._loop.call_soon(self._go_on)
        else:
            self._between = not self._over

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send what is left of an answer; then the next request may begin, if one may at all."""
        resp, gone = await super().finish_response(request, resp, start_time)
        self._answered = True
        if gone or not resp.keep_alive:
            self._end_reading()
        else:
            self._go_on()
        return resp, gone

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """Switch to another protocol: what the client sent ahead belongs to that."""
        super().set_parser(parser, data_received_cb)
        self._switched = True
        held = self._drop_held()
        for data in held:
            super().data_received(data)
        self._let_read()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 -- aiohttp's
        """Take no request more, and end with the one that is under way."""
        self._end_reading()
        await super().shutdown(timeout)

    def _read(self, data: bytes) -> None:
        """Give the parser what belongs to the request at hand; a header section has its time."""
        framer, heads = self._framer, self._framer.heads
        try:
            piece, behind = framer.take(data, self._server.max_head)
        except GatewayError as error:
            self._refuse(error)
            return
        self._between = framer.idle and not self._over
        if behind and not (self._over and framer.whole):
            # In parts, or thousands of requests in one piece would each copy what is behind them.
            parts = [behind[at : at + _HELD_PART] for at in range(0, len(behind), _HELD_PART)]
            self._held = deque([*parts, *self._held])
            self._held_bytes += len(behind)
        shown = self._stand_in.take(piece, in_head=framer.in_head)
        if shown:
            self._feed(shown, begins=framer.heads - heads)
        if not framer.in_head or self._over:
            self._call_off("header")
        elif "header" not in self._deadlines:
            self._deadlines["header"] = self._loop.call_later(
                self._server.header_timeout_seconds, self._header_late
            )
        if self._answered and framer.whole:
            self._go_on()
        elif self._held and not framer.whole:
            self._loop.call_soon(self._go_on)  # others have their turn between very many chunks

    def _feed(self, data: bytes, *, begins: int = 0) -> None:
        """Feed the parser with what makes so many requests begin."""
        count = self._request_count
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001 -- the parser's: some targets make yarl raise anything
            self._refuse(BadRequest("The request is malformed."))
            return
        found = self._request_count - count
        fault = self._messages[-1][0] if found else None
        if isinstance(fault, _ErrInfo):
            self._messages.pop()
            self._refuse(_as_error(fault.exc, self.max_headers))
        elif found != begins:
            # The parser reads it otherwise than the gateway does.
            for _ in range(found):
                self._messages.pop()
            self._refuse(BadRequest("The request is malformed."))
        elif begins:
            message, content = self._messages[-1]
            self._under_way, self._content = True, content
            if self._stand_in.method is not None:
                named = cast("Any", message)._replace(method=self._stand_in.method)
                self._messages[-1] = named, content

    def _go_on(self) -> None:
        """Begin with what was held back, once its turn has come."""
        if self._switched or self._fast is not None or self.transport is None:
            return
        if self._under_way and self._framer.whole:
            if self._over or not (self._answered and self._content.is_eof()):
                return
            self._under_way = self._answered = False
            self._content = EMPTY_PAYLOAD
            self._framer.next()
            self._stand_in.next()
            if self._upgraded and self._parser is not None:  # nobody took the upgrade
                self._parser.set_upgraded(False)
                self._upgraded = False
        if self._over and not self._wants_content:
            return
        if self._framer.idle:
            self._between = True
        elif self._reading_paused:
            return  # until somebody has read some of the content
        if self._held and not self._framer.whole:
            data = self._held.popleft()
            self._held_bytes -= len(data)
            self._held = self._held or _NONE_HELD
            lane = self._server.lane if self._between else None
            if lane is None or not lane.take(self, data):
                self._read(data)
        self._let_read()

    @property
    def _wants_content(self) -> bool:
        """Whether content is read of the request under way, if only to be thrown away."""
        return self._under_way and not self._framer.whole and not self._close

    def _drop_held(self) -> deque[bytes]:
        held, self._held, self._held_bytes = self._held, _NONE_HELD, 0
        return held

    def _let_read(self) -> None:
        if self._held_back and self._held_bytes <= _MOST_HELD:
            self._held_back = False
            if not self._reading_paused and not self._buffer_paused:
                self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._held_back:
            super()._resume_transport_reading()

    def _end_reading(self) -> None:
        """Read nothing more as a request."""
        self._over, self._between = True, False
        if not self._wants_content:
            self._drop_held()
        self._call_off("header")

    def _refuse(self, error: GatewayError) -> None:
        """Answer what isn't a request, or have the one under way fail whose content it is."""
        if self._under_way:
            # Nobody knows where the next one would begin.
            self._close = True
        self._end_reading()
        if self._under_way:
            if not self._content.is_eof():
                if not self._answered:
                    self._content.set_exception(web.RequestPayloadError("malformed"))
                self._content.feed_eof()
            return
        self._request_count += 1
        self._messages.append((_ErrInfo(error.status, error, ""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _process_keepalive(self) -> None:
        if self._fast is None and not self._framer.in_head:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(
                self._keepalive_timeout, self._process_keepalive
            )

    @property
    def over(self) -> bool:
        """Whether nothing more is read as a request, once the one under way is answered."""
        return self._over

    def may_have_trailers(self) -> bool:
        """Whether there are, or may be, trailers behind the content of the request under way."""
        return not self._framer.whole or self._framer.had_trailers

    def pause_writing(self) -> None:
        """Give the client ``limits.write_timeout`` to take some of what waits for it."""
        super().pause_writing()
        self._watch_writing()
        if self._fast is not None:
            self._fast.client_slow()

    def resume_writing(self) -> None:
        """The client took it."""
        self._call_off("write")
        super().resume_writing()
        if self._fast is not None:
            self._fast.client_ready()

    @property
    def is_new(self) -> bool:
        """Whether nothing has come on the connection yet."""
        untouched = self._next_keepalive_close_time == self._born
        return untouched and self._between

    def close_if_idle(self) -> None:
        """Close the connection unless a request is under way, or beginning."""
        if self._between:
            self.force_close()

    def _header_late(self) -> None:
        del self._deadlines["header"]
        if self._framer.in_head:
            self.force_close()

    def _call_off(self, what: str) -> None:
        timer = self._deadlines.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _watch_writing(self) -> None:
        if self.transport is not None:
            waiting = self.transport.get_write_buffer_size()
            self._deadlines["write"] = self._loop.call_later(
                self._server.write_timeout_seconds, self._write_late, waiting
            )

    def _write_late(self, waiting: int) -> None:
        del self._deadlines["write"]
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < waiting:
            self._watch_writing()  # slow, but not stalled
        else:
            self.stalled = True
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 -- aiohttp's; the exception says it better
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 -- aiohttp's; it quotes the request
    ) -> web.StreamResponse:
        """Answer what isn't HTTP, repeating none of it.

        Raises:
            ConnectionResetError: an answer had begun, so that no other can follow.
        """
        if isinstance(exc, GatewayError):
            error = exc
        else:
            error = GatewayError("Internal error.")
            if not isinstance(exc, ConnectionError):
                log.error("internal error", exc_info=exc)
            if isinstance(exc, ConnectionError) or request.writer.output_size:
                cut_off(request)
                raise ConnectionResetError("an answer was cut off") from None
        response = self._server.refuse(request, error)
        if isinstance(response, RelayedResponse):
            response.bodiless = self._framer.to_head
        response.force_close()
        return response

    def log_exception(self, *_args: Any, **kw: Any) -> None:
        """Log through the gateway's own log, without the arguments, which may quote a request."""
        log.error("connection failed", exc_info=kw.get("exc_info"))


def how_client_left(request: web.BaseRequest) -> str:
    """Return the outcome of a request whose client's connection has ended before its answer."""
    connection = request.protocol
    stalled = isinstance(connection, GatewayConnection) and connection.stalled
    return "client_stalled" if stalled else "client_gone"


def may_have_trailers(request: web.BaseRequest) -> bool:
    """Return whether trailers may follow the content of a request, which came in chunks."""
    connection = request.protocol
    return not isinstance(connection, GatewayConnection) or connection.may_have_trailers()


def is_last(request: web.BaseRequest) -> bool:
    """Return whether nothing that follows a request on its connection is read as one."""
    connection = request.protocol
    return isinstance(connection, GatewayConnection) and connection.over


def _as_error(fault: BaseException, max_fields: int) -> GatewayError:
    """Return what a fault that the parser found is to the client; none of its text is repeated."""
    if isinstance(fault, LineTooLong):
        return too_many_bytes()
    if isinstance(fault, HttpProcessingError) and fault.message.startswith("Too many headers"):
        return too_many_fields(max_fields)
    return BadRequest("The request is malformed.")


def _bare_answer(error: GatewayError) -> bytes:
    fields, body = error_parts(error, secrets.token_hex(16).encode())
    fields += [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    line = f"HTTP/1.1 {error.status} {reason_phrase(error.status)}\r\n".encode()
    return line + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + body
