"""Client connections: how many, how slow they may be, and what a malformed one is told.

A subclass of aiohttp's server and of its connection protocol, because aiohttp has no time-out
for a header section and shows the bytes of a malformed request in its answer and its log.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog
from aiohttp import client_proto, web, web_protocol

from gateway.errors import GatewayError, TooManyConnections
from gateway.exchange import RelayedResponse, cut_off, error_parts, reason_phrase
from gateway.metrics import Metrics
from gateway.proxy.framed import FramedConnection
from gateway.proxy.holdings import Holdings
from gateway.settings import Limits

if TYPE_CHECKING:
    from gateway.proxy.fast_exchange import FastExchange

log = structlog.stdlib.get_logger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refusal = Callable[[web.BaseRequest, GatewayError], web.StreamResponse]

_LINGER_SECONDS = 2.0
_LOOK_SECONDS = 0.02
_MOST_LOOKED_AT = 64  # connections, for one that makes room
_MOST_IN_TURN = 8
"""Requests that begin in one turn of the loop, of clients that have shown no good token."""


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
        self.holdings: Holdings[GatewayConnection] = Holdings()
        self.unproven: dict[GatewayConnection, None] = {}
        """Connections on which no good token has come, in the order in which they were made."""
        self._in_line: deque[GatewayConnection] = deque()
        self._begun = 0
        self._turning = False
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

    def is_full(self, *, beginning: int = 0) -> bool:
        """Whether there are as many connections as may be, with so many that are beginning."""
        return self.open_connections + beginning >= self.max_connections

    def admits(self, *, beginning: int = 0) -> bool:
        """Whether one more connection is allowed, while so many are beginning.

        If there are as many as may be, one makes room whose client keeps us waiting, and that has
        shown no good token: who holds connections for nothing keeps nobody out.
        """
        if not self.is_full(beginning=beginning):
            return True
        waiting: list[GatewayConnection] = []
        for connection in list(islice(self.unproven, _MOST_LOOKED_AT)):
            if connection.waits_for_client:
                waiting.append(connection)
            else:
                self.unproven[connection] = self.unproven.pop(connection)
        if not waiting:
            return False
        idlest = min(waiting, key=lambda each: (not each.is_idle, each.active_at))
        del self.unproven[idlest]
        idlest.displace("connections")
        return True

    def may_begin(self) -> bool:
        """Whether a request may begin now, of a client that has shown no good token.

        Some may in each turn of the loop, in the order in which they came: others, whose turn is
        always now, don't wait for very many.
        """
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._begun += 1
        return self._begun <= _MOST_IN_TURN and not self._in_line

    def line_up(self, connection: "GatewayConnection") -> None:
        """Have a connection go on when its turn has come."""
        self._in_line.append(connection)

    def _next_turn(self) -> None:
        self._begun = min(len(self._in_line), _MOST_IN_TURN)
        self._turning = self._begun > 0
        if self._turning:
            asyncio.get_running_loop().call_soon(self._next_turn)
        for _ in range(self._begun):
            self._in_line.popleft().begin()

    async def hear_newcomers(
        self, seconds: float, *, beginning: Callable[[], int] = lambda: 0
    ) -> None:
        """Wait until all who have connected have asked for something, for so long at most.

        Their first request is on its way; were they taken for idle, it would be lost. So would
        those of the clients that are ``beginning``, by a TLS handshake: they are connections soon.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while beginning() or self._has_newcomers():  # noqa: ASYNC110 -- of many
                    await asyncio.sleep(_LOOK_SECONDS)

    def _has_newcomers(self) -> bool:
        return any(each.is_new for each in self.connections if isinstance(each, GatewayConnection))

    def close_idle(self) -> None:
        """Close the connections on which nothing is under way."""
        for connection in self.connections:
            if isinstance(connection, GatewayConnection):
                connection.close_if_idle()

    def __call__(self) -> "GatewayConnection":
        """Return the protocol of a new connection (asyncio's protocol factory)."""
        return GatewayConnection(self, loop=asyncio.get_running_loop(), **self._kwargs)


class GatewayConnection(FramedConnection):
    """One client connection of the traffic port."""

    REPEATS = 16

    __slots__ = (
        *("_born", "_counted", "_fast", "_in_hand", "_server"),
        *("last_request", "peer", "proven", "repeats", "secure", "stalled"),
    )

    def __init__(
        self, server: GatewayServer, *, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._server = server
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
        self._in_hand = 0
        self.proven = False
        """Whether a request was let through by its token, ever."""

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
        self._begin_reading()
        self._counted = True
        self._server.unproven[self] = None
        self._server.open_connections += 1
        self._server.metrics.connection_opened()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._call_off("header")
        self._call_off("write")
        if self._fast is not None:
            self._fast.client_gone("client_stalled" if self.stalled else "client_gone")
        if self._counted:
            self._server.unproven.pop(self, None)
            self._server.holdings.release(self)
            self._server.open_connections -= 1
            self._server.metrics.connection_closed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let the fast lane have a request, or feed the parser."""
        if self._between:  # without a call more, as most requests come here
            if not (self.proven or self._server.may_begin()):
                self._between = False
                self._hold_back(data)
                self._server.line_up(self)
                return
            lane = self._server.lane
            if lane is None or not lane.take(self, data):
                self._read(data)
        else:
            super().data_received(data)

    def begin(self) -> None:
        """Go on with a request that was in line."""
        self._go_on()

    def prove(self) -> None:
        """A request was let through by its token: what the client holds doesn't count any more."""
        self.proven = True
        self._server.unproven.pop(self, None)
        self._server.holdings.release(self)

    def hold(self, size: int) -> None:
        """Count so many bytes that a handler has of the request under way."""
        self._in_hand = 2 * size  # when it is put together, it is there twice
        self._account()

    def _account(self) -> None:
        """Count what is held of a client's bytes; who has held some for longest may have to go."""
        if self.proven or not self._counted:
            return
        if self._answered:
            self._in_hand = 0
        for connection in self._server.holdings.hold(self, self.held_bytes + self._in_hand):
            connection.displace("memory")

    def displace(self, why: str) -> None:
        """Cut the connection off, for others."""
        self._server.metrics.connection_displaced(why)
        self._let_go()  # now: many may be cut off in one turn of the loop
        if self.transport is not None:
            self.transport.abort()

    def _take_aside(self, data: bytes) -> bool:
        lane = self._server.lane
        return lane is not None and lane.take(self, data)

    def _head_limits(self) -> tuple[int, float]:
        return self._server.max_head, self._server.header_timeout_seconds

    def fast_begun(self, exchange: "FastExchange") -> None:
        """The fast lane has taken a request."""
        self._fast = exchange
        self._between, self._aside = False, True

    def fast_ended(self, *, closes: bool) -> None:
        """The fast lane has answered it, or given it up; the connection ``closes`` then."""
        self._fast, self._aside = None, False
        if self.transport is None:
            return
        if closes:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._held:
            self._go_on_soon()
        else:
            self._between = not self._over

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

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: no more than a header section that has begun."""
        return self._between or (self._framer.in_head and not self._under_way)

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has to say something before anything goes on."""
        return self._fast is None and (self.is_idle or self._wants_content)

    @property
    def active_at(self) -> float:
        """When the last request ended, or the connection was made, on a clock of its own."""
        return self._next_keepalive_close_time

    def close_if_idle(self) -> None:
        """Close the connection unless a request is under way, or beginning."""
        if self._between:
            self.force_close()

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
            response.bodiless = self.to_head
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


def prove(request: web.BaseRequest) -> None:
    """Note that a request was let through by its token."""
    connection = request.protocol
    if isinstance(connection, GatewayConnection) and not connection.proven:
        connection.prove()


def hold(request: web.BaseRequest, size: int) -> None:
    """Count so many bytes of a request's content that are kept in memory."""
    connection = request.protocol
    if isinstance(connection, GatewayConnection):
        connection.hold(size)


def is_last(request: web.BaseRequest) -> bool:
    """Return whether nothing that follows a request on its connection is read as one."""
    connection = request.protocol
    return isinstance(connection, GatewayConnection) and connection.over


def _bare_answer(error: GatewayError) -> bytes:
    fields, body = error_parts(error, secrets.token_hex(16).encode())
    fields += [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    line = f"HTTP/1.1 {error.status} {reason_phrase(error.status)}\r\n".encode()
    return line + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + body
