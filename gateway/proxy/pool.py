"""The connections to one upstream: opened, kept and given out."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from gateway.causes import CONNECT_TIMEOUT, cause_of
from gateway.errors import GatewayError, UpstreamTimeout, UpstreamUnreachable
from gateway.proxy.upstream import UpstreamConnection, UpstreamExchange
from gateway.resolver import is_numeric, open_socket

if TYPE_CHECKING:
    from gateway.proxy.pools import UpstreamPools

log = structlog.stdlib.get_logger(__name__)


class UpstreamPool:
    """The connections to one upstream: scheme, host and port."""

    def __init__(self, pools: "UpstreamPools", origin: str) -> None:
        parts = urlsplit(origin)
        assert parts.hostname is not None
        self._pools = pools
        self.most_fields = pools.most_fields
        self.accepts_incomplete_close = pools.accepts_incomplete_close
        self.origin = origin
        """Scheme, host and port, as in a URL."""
        self._host = parts.hostname
        self._tls = pools.tls if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._numeric = is_numeric(self._host)
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
        while len(self._connecting) < len(self.waiting) and self._pools.admit(self):
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
            or (pools.suspects.until and self.origin in pools.suspects)
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

    def distrust(self, said: bytes = b"") -> None:
        """The upstream said more than it was asked for: keep no connection to it for a while."""
        if self._pools.suspects.note(self.origin, said):
            for connection in list(self.idle):
                self.discard(connection)

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
        except OSError as failure:  # refused, not resolved, not trusted, not in time
            cause, why = cause_of(failure)
            if cause == CONNECT_TIMEOUT:
                error = UpstreamTimeout(cause=cause, why=why)
            else:
                error = UpstreamUnreachable(cause=cause, why=why)
        except Exception:
            log.exception("connecting to an upstream failed")
            error = UpstreamUnreachable(cause="other")
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
        addresses = await self._pools.resolver.addresses(self._host, self._port)
        opened = await open_socket(addresses)
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
