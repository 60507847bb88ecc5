"""The sockets on which clients connect, without and with TLS."""

import asyncio
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from aiohttp import web

from gateway.accepting import Acceptor, Counting, PlainEntrance, TlsEntrance
from gateway.certificates import UnusableCertificate, doubts, server_context
from gateway.clock import Clock
from gateway.errors import SettingsError
from gateway.settings import Settings

log = structlog.stdlib.get_logger(__name__)

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

    On Linux each of several has sockets of its own, among which the kernel shares out new
    connections (``SO_REUSEPORT``); elsewhere all have the same.

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
        try:
            tls = await _bind(settings, port, count)
        except OSError:
            for sockets in plain:
                Sockets(sockets).close()
            raise
    return [Sockets(*pair) for pair in zip(plain, tls, strict=True)]


async def _bind(settings: Settings, port: int, count: int) -> list[tuple[socket.socket, ...]]:
    listen = settings.listen
    shared = await listening_sockets(listen.host, port, listen.backlog)
    if count == 1 or not _BALANCED:
        return [shared] * count
    places = [(sock.family, sock.getsockname()) for sock in shared]
    for sock in shared:
        sock.close()
    return [tuple(_listen(*place, listen.backlog) for place in places) for _ in range(count)]


async def listening_sockets(host: str, port: int, backlog: int) -> tuple[socket.socket, ...]:
    """Return sockets that listen on all addresses of a host.

    Raises:
        OSError: the port is taken or the address isn't this machine's.
    """
    # asyncio's way to find the addresses. Without SO_REUSEPORT, so that a port that any other
    # process listens on is taken, even by another gateway of the same user.
    server = await asyncio.get_running_loop().create_server(
        asyncio.Protocol, host, port, start_serving=False
    )
    sockets = tuple(socket.fromfd(s.fileno(), s.family, s.type) for s in server.sockets)
    for sock in sockets:
        sock.listen(backlog)
    server.close()
    return sockets


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


class Doorkeeper(Protocol):
    """Who makes connections of those that are let in: ``proxy.server.GatewayServer``."""

    header_timeout_seconds: float

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        ...

    def is_full(self, *, beginning: int = 0) -> bool:
        """Whether there are as many connections as may be, with so many that are beginning."""
        ...

    def admits(self, *, beginning: int = 0) -> bool:
        """Whether one more connection is allowed, while so many are beginning."""
        ...


class Listeners:
    """One listener, or two: ``listen.port`` and ``listen.tls_port``.

    With a certificate and no ``tls_port``, ``port`` is the one that speaks TLS.
    """

    def __init__(self, *, counting: Counting, clock: Clock | None = None) -> None:
        self.url = ""
        self.tls_url: str | None = None
        self._counting = counting
        self._clock = clock
        self._acceptors: list[Acceptor] = []
        self._entrances: list[PlainEntrance | TlsEntrance] = []
        self._tls: ssl.SSLContext | None = None

    async def open(
        self,
        server: Doorkeeper,
        settings: Settings,
        sockets: Sockets | None = None,
    ) -> None:
        """Listen as settings say, on ``sockets`` if they are given.

        Raises:
            OSError: a port is taken or the address isn't this machine's.
            SettingsError: the certificate or the key can't be used.
        """
        if settings.listen.tls_certificate is not None:
            self._load_certificate(settings.listen.tls_certificate, settings.listen.tls_key)
        if sockets is None:
            (sockets,) = await bind(settings, 1)
        if sockets.plain:
            self._accept(PlainEntrance(server), sockets.plain)
            self.url = f"http://{authority(sockets.plain[0].getsockname())}"
        if sockets.tls:
            entrance = TlsEntrance(
                server,
                context=self._current_context,
                crowded=lambda: server.is_full(beginning=len(entrance)),
                full=lambda: not server.admits(beginning=len(entrance) - 1),
                timeout_seconds=lambda: server.header_timeout_seconds,
                counting=self._counting,
                clock=self._clock,
            )
            self._accept(entrance, sockets.tls)
            self.tls_url = f"https://{authority(sockets.tls[0].getsockname())}"
            self.url = self.url or self.tls_url

    def reload_certificate(self, settings: Settings) -> None:
        """Use the certificate and key as they are in their files now, for new connections.

        Raises:
            SettingsError: they can't be used; those in use stay.
        """
        if self._tls is not None and settings.listen.tls_certificate is not None:
            self._load_certificate(settings.listen.tls_certificate, settings.listen.tls_key)

    def _load_certificate(self, certificate: Path, key: Path | None) -> None:
        try:
            self._tls = server_context(certificate, key)
        except (OSError, UnusableCertificate) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SettingsError(
                f"listen.tls_certificate = {str(certificate)!r}: "
                f"a certificate with its key in listen.tls_key is allowed ({reason})"
            ) from None
        for doubt in doubts(certificate, key):
            log.warning("certificate in doubt", file=str(certificate), doubt=doubt)

    @property
    def serving(self) -> bool:
        """Whether clients may connect."""
        return any(acceptor.serving for acceptor in self._acceptors)

    @property
    def beginning(self) -> int:
        """How many clients have connected, and have no connection of ours yet."""
        return sum(map(len, self._entrances))

    async def drain(self) -> None:
        """Accept who has connected, then nothing more; connections that are open stay."""
        await asyncio.gather(*(acceptor.drain() for acceptor in self._acceptors))

    def close(self) -> None:
        """Accept nothing more; connections that are open stay."""
        for acceptor in self._acceptors:
            acceptor.close()
        for entrance in self._entrances:
            entrance.close()

    def _accept(
        self, entrance: PlainEntrance | TlsEntrance, sockets: tuple[socket.socket, ...]
    ) -> None:
        self._entrances.append(entrance)
        self._acceptors += [
            Acceptor(sock, entrance.take, counting=self._counting, clock=self._clock)
            for sock in sockets
        ]

    def _current_context(self) -> ssl.SSLContext:
        assert self._tls is not None
        return self._tls


def authority(address: tuple[str, int]) -> str:
    """Return a socket's address as it stands in a URL."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
