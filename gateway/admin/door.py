"""The admin port's connections: how many, and how slow they may be.

It is served beside the traffic: whoever reaches it must not take what traffic needs.
"""

import asyncio
import secrets
import socket
from typing import Any, cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.accepting import Acceptor, Counting, PlainEntrance
from gateway.admin.access import Access
from gateway.admin.answers import refusal_response
from gateway.admin.guard import MOST_BODY_BYTES, Handler
from gateway.clock import Clock
from gateway.descriptors import MOST_ADMIN_CONNECTIONS
from gateway.errors import GatewayError
from gateway.exchange import RelayedResponse, error_parts, reason_phrase
from gateway.listeners import authority, listening_sockets
from gateway.proxy.framed import FramedConnection
from gateway.settings import Admin

HEAD_SECONDS = 10.0
"""How long a header section may take, the first from when its client has connected."""
WRITE_SECONDS = 10.0
"""How long a client may leave an answer unread."""
IDLE_SECONDS = 75.0
_LINGER_SECONDS = 1.0
_SHUTDOWN_SECONDS = 5.0
_BACKLOG = 128
_MOST_HEAD_BYTES = 16 * 1024


class AdminDoor:
    """Listens for an application; ``url`` says where, once it is open."""

    def __init__(
        self, app: web.Application, *, counting: Counting, clock: Clock | None = None
    ) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=_LINGER_SECONDS,
        )
        self._counting = counting
        self._clock = clock
        self._acceptors: list[Acceptor] = []
        self.url = ""

    async def open(self, admin: Admin) -> None:
        """Listen.

        Raises:
            OSError: the port is taken or the address isn't this machine's.
        """
        sockets: tuple[socket.socket, ...] = ()
        await self._runner.setup()
        try:
            sockets = await listening_sockets(admin.host, admin.port, _BACKLOG)
        except BaseException:
            await self._runner.cleanup()
            raise
        assert self._runner.server is not None
        entrance = PlainEntrance(_Connections(self._runner.server))
        self._acceptors = [
            Acceptor(each, entrance.take, counting=self._counting, clock=self._clock)
            for each in sockets
        ]
        self.url = f"http://{authority(sockets[0].getsockname())}"

    async def close(self) -> None:
        """Close the port, and what is under way."""
        for acceptor in self._acceptors:
            acceptor.close()
        await self._runner.cleanup()


def application(access: Access | None = None) -> web.Application:
    """Return an application that takes as much as the API needs.

    With ``access`` each of its paths is asked under its own names only; without, who hands the
    requests on has judged them.
    """
    middlewares = [] if access is None else [_under_its_own_names(access)]
    return web.Application(client_max_size=MOST_BODY_BYTES, middlewares=middlewares)


def _under_its_own_names(access: Access) -> Middleware:
    @web.middleware
    async def judge(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Who sends no Host is no browser; checks of health by HTTP/1.0 do that.
        host = request.headers.get("Host")
        refusal = None if host is None else access.judge_host(host)
        return await handler(request) if refusal is None else refusal_response(refusal)

    return judge


class _Connections:
    """Makes the connections, and room for one more."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self.open: dict[AdminConnection, None] = {}

    def __call__(self) -> "AdminConnection":
        loop = asyncio.get_running_loop()
        # As the server itself makes them.
        return AdminConnection(self, self._server, loop=loop, **self._server._kwargs)  # noqa: SLF001

    def make_room(self) -> bool:
        """Close the oldest connection that asks for nothing, if there are as many as may be."""
        if len(self.open) < MOST_ADMIN_CONNECTIONS:
            return True
        for connection in self.open:
            if not connection.busy:
                del self.open[connection]
                connection.force_close()
                return True
        return False


class AdminConnection(FramedConnection):
    """One connection of the admin port."""

    __slots__ = ("_connections",)

    def __init__(
        self,
        connections: _Connections,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        **kwargs: Any,
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._connections = connections

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._current_request is not None or bool(self._messages)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection where there is room for it."""
        if not self._connections.make_room():
            cast("asyncio.Transport", transport).close()
            self._force_close = True  # whatever comes is not read
            self._manager = None  # and aiohttp has nothing to clean up
            return
        super().connection_made(transport)
        self._begin_reading()
        self._connections.open[self] = None
        self._begin("head", HEAD_SECONDS)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._connections.open.pop(self, None)
        for what in list(self._deadlines):
            self._end(what)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; the first header section must end in time, as all that begin must."""
        super().data_received(data)
        if self._request_count:
            self._end("head")

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what isn't HTTP, repeating none of it."""
        if not isinstance(exc, GatewayError):
            return super().handle_error(request, status, exc, message)
        fields, body = error_parts(exc, secrets.token_hex(16).encode())
        response = RelayedResponse(exc.status, reason_phrase(exc.status), fields, body=body)
        response.minor_version, response.bodiless = 1, self.to_head
        response.force_close()
        return response

    def _head_limits(self) -> tuple[int, float]:
        return _MOST_HEAD_BYTES, HEAD_SECONDS

    def pause_writing(self) -> None:
        """Give the client a time to take what waits for it."""
        super().pause_writing()
        self._begin("write", WRITE_SECONDS)

    def resume_writing(self) -> None:
        """It took it."""
        self._end("write")
        super().resume_writing()

    def _begin(self, what: str, seconds: float) -> None:
        if what not in self._deadlines:
            self._deadlines[what] = self._loop.call_later(seconds, self._late, what)

    def _end(self, what: str) -> None:
        timer = self._deadlines.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _late(self, what: str) -> None:
        del self._deadlines[what]
        if self.transport is not None:
            self.transport.abort()
