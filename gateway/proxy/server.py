"""Client connections: how many, how slow they may be, and what a malformed one is told.

A subclass of aiohttp's server and of its connection protocol, because aiohttp has no time-out
for a header section and shows the bytes of a malformed request in its answer and its log.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog
from aiohttp import client_proto, web, web_protocol
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.errors import BadRequest, GatewayError, TooManyConnections
from gateway.exchange import cut_off, error_parts, reason_phrase
from gateway.metrics import Metrics
from gateway.request_head import too_many_bytes, too_many_fields
from gateway.settings import Limits

if TYPE_CHECKING:
    from gateway.proxy.fast_exchange import FastExchange

log = structlog.stdlib.get_logger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refusal = Callable[[web.BaseRequest, GatewayError], web.StreamResponse]

_LINGER_SECONDS = 2.0
_LOOK_SECONDS = 0.02
_MOST_EARLY = 4  # pieces, as the operating system gives them out
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_CONTENT_LENGTH = re.compile(
    rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.IGNORECASE
)


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
    """One client connection."""

    REPEATS = 16

    __slots__ = (
        "_born",
        "_counted",
        "_deadlines",
        "_early",
        "_fast",
        "_fed",
        "_fed_whole",
        "_last_fed",
        "_server",
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
        self._early: list[bytes] = []  # what came while the fast lane was at work
        self._last_fed = b""
        self._fed = self._fed_whole = 0

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
        lane = self._server.lane
        if self._fast is not None or self._early:
            # It may be one that was sent ahead, or the client says more than it should. Reading
            # goes on meanwhile, or nobody would learn that the client leaves.
            self._early.append(data)
            if len(self._early) > _MOST_EARLY and self.transport is not None:
                self.transport.pause_reading()
        elif not self._is_between_requests():
            self._fed += len(data)
            self._last_fed = (self._last_fed + data[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
            self._feed(data)
        elif lane is None or not lane.take(self, data):
            self._fed = len(data)
            self._fed_whole = _length_of_first(data)
            self._last_fed = data[-len(_LAST_CHUNK) :]
            self._feed(data)

    def fast_begun(self, exchange: "FastExchange") -> None:
        """The fast lane has taken a request."""
        self._fast = exchange

    def fast_ended(self, *, closes: bool) -> None:
        """The fast lane has answered it, or given it up; the connection ``closes`` then."""
        self._fast = None
        if self.transport is None:
            return
        if closes:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._early:
            self._loop.call_soon(self._read_early)

    def _read_early(self) -> None:
        early, self._early = self._early, []
        if len(early) > _MOST_EARLY and self.transport is not None:
            self.transport.resume_reading()
        for data in early:  # each as it came
            if self.transport is not None:
                self.data_received(data)

    def _process_keepalive(self) -> None:
        if self._fast is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(
                self._keepalive_timeout, self._process_keepalive
            )

    def _is_between_requests(self) -> bool:
        """Whether aiohttp has nothing of a request: neither under way, nor half in its parser."""
        waiter = self._waiter
        if waiter is None:
            if self._request_count or self._messages or self._fed:
                return False  # under way; else its task hasn't even started
        elif waiter.done() or self._messages:
            return False
        if self._force_close or self._close or self._upgraded or self._payload_parser is not None:
            return False
        # Its parser says nothing of what it holds. It holds nothing after an empty line, which ends
        # a header section and chunked content, nor when all of the content announced is there.
        return not self._fed or self._last_fed.endswith(b"\r\n\r\n") or self._fed == self._fed_whole

    def may_have_trailers(self, request: web.BaseRequest) -> bool:
        """Whether there may be trailers behind the content of a request, which came in chunks.

        There are none if its last chunk and an empty line are all that came last.
        """
        ended = request.content.is_eof() and not self._messages
        return not ended or not self._last_fed.endswith(_LAST_CHUNK)

    def _feed(self, data: bytes) -> None:
        """Feed the parser; a header section that began must end in time."""
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001 -- the parser's: some targets make yarl raise anything
            self._add_error()
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._end_content()
        if self._awaits_header():
            if data and "header" not in self._deadlines:
                self._deadlines["header"] = self._loop.call_later(
                    self._server.header_timeout_seconds, self._header_late
                )
        else:
            self._call_off("header")

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
        return untouched and self._fast is None and self._is_between_requests()

    def close_if_idle(self) -> None:
        """Close the connection unless a request is under way, or beginning."""
        new = not self._request_count  # perhaps even too new for its task to have started
        idle = self._fast is None and not self._early and (new or self._awaits_header())
        if idle and "header" not in self._deadlines:
            self.force_close()

    def _add_error(self) -> None:
        # As aiohttp does for those errors of the parser that it expects.
        error = _ErrInfo(status=400, exc=BadHttpMessage("malformed"), message="")
        self._messages.append((error, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end_content(self) -> None:
        # aiohttp queues a parser's error as the next request, and leaves whoever reads the content
        # that was malformed waiting for its end.
        contents = [content for _, content in self._messages]
        if self._current_request is not None:
            contents.append(self._current_request.content)
        for content in contents:
            if not content.is_eof():
                content.set_exception(web.RequestPayloadError("malformed"))
                content.feed_eof()

    def _awaits_header(self) -> bool:
        return self._waiter is not None and not self._waiter.done() and not self._messages

    def _header_late(self) -> None:
        del self._deadlines["header"]
        if self._awaits_header():
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
        error: GatewayError
        if isinstance(exc, HttpProcessingError):
            error = BadRequest("The request is malformed.")
            if isinstance(exc, LineTooLong):
                error = too_many_bytes()
            elif exc.message.startswith("Too many headers"):
                error = too_many_fields(self.max_headers)
        else:
            error = GatewayError("Internal error.")
            if not isinstance(exc, ConnectionError):
                log.error("internal error", exc_info=exc)
            if isinstance(exc, ConnectionError) or request.writer.output_size:
                cut_off(request)
                raise ConnectionResetError("an answer was cut off") from None
        response = self._server.refuse(request, error)
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
    return not isinstance(connection, GatewayConnection) or connection.may_have_trailers(request)


def _length_of_first(data: bytes) -> int:
    """Return how long the request is that begins here, 0 where its Content-Length doesn't tell."""
    end = data.find(b"\r\n\r\n") + 4
    lengths = _CONTENT_LENGTH.findall(data, 0, end)
    return end + int(lengths[0]) if end >= 4 and len(lengths) == 1 else 0


def _bare_answer(error: GatewayError) -> bytes:
    fields, body = error_parts(error, secrets.token_hex(16).encode())
    fields += [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    line = f"HTTP/1.1 {error.status} {reason_phrase(error.status)}\r\n".encode()
    return line + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + body
