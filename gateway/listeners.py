"""The sockets on which clients connect, without and with TLS."""

import asyncio
import ssl
from collections.abc import Callable

from gateway.errors import SettingsError
from gateway.settings import Settings


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
        self, protocol_factory: Callable[[], asyncio.Protocol], settings: Settings
    ) -> None:
        """Listen as settings say.

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
            self.url = f"http://{await self._open(protocol_factory, settings, listen.port, None)}"
        if self._tls is not None:
            port = listen.port if listen.tls_port is None else listen.tls_port
            place = await self._open(protocol_factory, settings, port, self._tls)
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
    ) -> str:
        timeout = settings.limits.header_timeout.total_seconds()
        server = await asyncio.get_running_loop().create_server(
            protocol_factory,
            settings.listen.host,
            port,
            ssl=tls,
            backlog=settings.listen.backlog,
            ssl_handshake_timeout=timeout if tls else None,
        )
        self._servers.append(server)
        return authority(server.sockets[0].getsockname())


def authority(address: tuple[str, int]) -> str:
    """Return a socket's address as it stands in a URL."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
