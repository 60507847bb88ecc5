"""The sockets on which clients connect, without and with TLS."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.errors import SettingsError
from gateway.settings import Settings

# Only Linux shares out connections among the sockets of one port.
_BALANCED = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Sockets:
    """Listening sockets: more than one of a kind where a host has several addresses."""

    plain: tuple[socket.socket, ...] = ()
    tls: tuple[socket.socket, ...] = ()

    def close(self) -> None:
        """Close them all here; whoever has inherited them isn't concerned."""
        for sock in self.plain + self.tls:
            sock.close()


@dataclass(frozen=True, slots=True)
class Inherited:
    """What one of several workers has instead of ports of its own."""

    sockets: Sockets
    """Those that clients connect to; they listen already."""
    admin: web.Application
    """Gets what the admin port would serve; whoever made it serves it."""


async def bind(settings: Settings, count: int) -> list[Sockets]:
    """Return ``count`` times the sockets to listen on, for as many processes.

    On Linux each has sockets of its own, among which the kernel shares out new connections
    (``SO_REUSEPORT``); elsewhere all have the same.

    Raises:
        OSError: a port is taken or the address isn't this machine's.
    """
    listen = settings.listen
    both = listen.tls_certificate is not None and listen.tls_port is not None
    plain: list[tuple[socket.socket, ...]] = [()] * count
    tls = plain
    if listen.tls_certificate is None or both:
        plain = await _bind(settings, listen.port, count)
    if listen.tls_certificate is not None:
        port = listen.port if listen.tls_port is None else listen.tls_port
        tls = await _bind(settings, port, count)
    return [Sockets(*pair) for pair in zip(plain, tls, strict=True)]


async def _bind(settings: Settings, port: int, count: int) -> list[tuple[socket.socket, ...]]:
    listen = settings.listen
    # asyncio's way to find the addresses. Without SO_REUSEPORT, so that a port that any other
    # process listens on is taken, even by another gateway of the same user.
    server = await asyncio.get_running_loop().create_server(
        asyncio.Protocol, listen.host, port, start_serving=False
    )
    found = [(sock.family, sock.getsockname()) for sock in server.sockets]
    if not _BALANCED:
        shared = tuple(socket.fromfd(s.fileno(), s.family, s.type) for s in server.sockets)
        for sock in shared:
            sock.listen(listen.backlog)
    server.close()
    if not _BALANCED:
        return [shared] * count
    return [tuple(_listen(*place, listen.backlog) for place in found) for _ in range(count)]


def _listen(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        what = f"error while attempting to bind on address {address!r}: {error.strerror}"
        raise OSError(error.errno, what) from None
    return sock


class Listeners:
    """One listener, or two: ``listen.port`` and ``listen.tls_port``.

    With a certificate and no ``tls_port``, ``port`` is the one that speaks TLS.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tls_url: str | None = None
        self._servers: list[asyncio.Server] = []
        self._tls: ssl.SSLContext | None = None

    async def open(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        settings: Settings,
        sockets: Sockets | None = None,
    ) -> None:
        """Listen as settings say, on ``sockets`` if they are given.

        Raises:
            OSError: a port is taken or the address isn't this machine's.
            SettingsError: the certificate or the key can't be used.
        """
        listen = settings.listen
        if listen.tls_certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.set_alpn_protocols(["http/1.1"])
            self.reload_certificate(settings)
        if self._tls is None or listen.tls_port is not None:
            given = sockets.plain if sockets else None
            place = await self._open(protocol_factory, settings, listen.port, None, given)
            self.url = f"http://{place}"
        if self._tls is not None:
            port = listen.port if listen.tls_port is None else listen.tls_port
            given = sockets.tls if sockets else None
            place = await self._open(protocol_factory, settings, port, self._tls, given)
            self.tls_url = f"https://{place}"
            self.url = self.url or self.tls_url

    def reload_certificate(self, settings: Settings) -> None:
        """Use the certificate and key as they are in their files now, for new connections.

        Raises:
            SettingsError: they can't be used; those in use stay.
        """
        listen = settings.listen
        if self._tls is None or listen.tls_certificate is None:
            return
        try:
            # First where nobody sees it: a failure half way leaves a certificate without its key.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._tls):
                # The password keeps OpenSSL from asking for one on the terminal.
                context.load_cert_chain(
                    listen.tls_certificate, listen.tls_key, password=lambda: b""
                )
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise SettingsError(
                f"listen.tls_certificate = {str(listen.tls_certificate)!r}: "
                f"a certificate with its key in listen.tls_key is allowed ({reason})"
            ) from None

    def close(self) -> None:
        """Accept nothing more; connections that are open stay."""
        for server in self._servers:
            server.close()

    async def _open(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        settings: Settings,
        port: int,
        tls: ssl.SSLContext | None,
        given: tuple[socket.socket, ...] | None,
    ) -> str:
        timeout = settings.limits.header_timeout.total_seconds()
        places: list[dict[str, object]] = [{"host": settings.listen.host, "port": port}]
        if given is not None:
            places = [{"sock": sock} for sock in given]
        opened: list[asyncio.Server] = []
        for place in places:
            server: asyncio.Server = await asyncio.get_running_loop().create_server(  # type: ignore[call-overload]
                protocol_factory,
                **place,
                ssl=tls,
                backlog=settings.listen.backlog,
                ssl_handshake_timeout=timeout if tls else None,
            )
            opened.append(server)
        self._servers += opened
        return authority(opened[0].sockets[0].getsockname())


def authority(address: tuple[str, int]) -> str:
    """Return a socket's address as it stands in a URL."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
