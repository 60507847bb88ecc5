"""Client connections: how many, how slow they may be, and what a malformed one is told.

A subclass of aiohttp's server and of its connection protocol, because aiohttp has no time-out
for a header section and shows the bytes of a malformed request in its answer and its log.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import import_module
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from gateway.errors import BadRequest, GatewayError, HeadersTooLarge, TooManyConnections
from gateway.metrics import Metrics
from gateway.settings import Limits

log = structlog.stdlib.get_logger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refusal = Callable[[web.BaseRequest, GatewayError], web.StreamResponse]

_LINGER_SECONDS = 2.0


def require_c_parser() -> None:
    """Raise ``RuntimeError`` unless aiohttp parses with llhttp.

    Its fallback in Python has had request smuggling faults (CVE-2023-37276, CVE-2023-47627).
    """
    try:
        import_module("aiohttp._http_parser")
    except ImportError:
        raise RuntimeError("aiohttp's C parser is missing; install aiohttp from a wheel") from None


class GatewayServer(web.Server):
    """Makes a ``GatewayConnection`` of each connection that the limits allow.

    ``handler`` answers requests; ``refuse`` renders the error for what never becomes one.
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

    def apply(self, limits: Limits) -> None:
        """Hold connections to these limits; those already open keep some of their old ones."""
        self.max_connections = limits.connections
        self.header_timeout_seconds = limits.header_timeout.total_seconds()
        self._kwargs |= {
            "keepalive_timeout": limits.idle_timeout.total_seconds(),
            "max_line_size": limits.headers,
            "max_field_size": limits.headers,
        }

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

    __slots__ = ("_counted", "_header_deadline", "_server")

    def __init__(
        self, server: GatewayServer, *, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._server = server
        self._header_deadline: asyncio.TimerHandle | None = None
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or answer 503 and close it where there are too many."""
        assert isinstance(transport, asyncio.Transport)
        if self._server.open_connections >= self._server.max_connections:
            transport.write(_bare_answer(TooManyConnections()))
            transport.close()
            self._force_close = True  # whatever comes is not read
            self._manager = None  # and aiohttp has nothing to clean up
            return
        super().connection_made(transport)
        self._counted = True
        self._server.open_connections += 1
        self._server.metrics.connection_opened()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_header_timer()
        if self._counted:
            self._server.open_connections -= 1
            self._server.metrics.connection_closed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a header section that began must end in time."""
        super().data_received(data)
        if self._awaits_header():
            if data and self._header_deadline is None:
                self._header_deadline = self._loop.call_later(
                    self._server.header_timeout_seconds, self._header_late
                )
        else:
            self._stop_header_timer()

    def close_if_idle(self) -> None:
        """Close the connection unless a request is under way, or beginning."""
        if self._awaits_header() and self._header_deadline is None:
            self.close()

    def _awaits_header(self) -> bool:
        return self._waiter is not None and not self._waiter.done() and not self._messages

    def _header_late(self) -> None:
        self._header_deadline = None
        if self._awaits_header():
            self.force_close()

    def _stop_header_timer(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 -- aiohttp's; it quotes the request
    ) -> web.StreamResponse:
        """Answer what isn't HTTP, repeating none of it."""
        error: GatewayError
        if isinstance(exc, LineTooLong):
            error = HeadersTooLarge("The header section is too large.")
        elif status == 400:
            error = BadRequest("The request is malformed.")
        else:
            error = GatewayError("Internal error.")
            log.error("internal error", exc_info=exc)
        response = self._server.refuse(request, error)
        response.force_close()
        return response

    def log_exception(self, *_args: Any, **kw: Any) -> None:
        """Log through the gateway's own log, without the arguments, which may quote a request."""
        log.error("connection failed", exc_info=kw.get("exc_info"))


def _bare_answer(error: GatewayError) -> bytes:
    status = HTTPStatus(error.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in error.headers]
    lines += ["Cache-Control: no-store", "Content-Length: 0", "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()
