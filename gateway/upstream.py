"""How the gateway reaches what is behind it, and what its failures mean to a client."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import aiohttp
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.client_proto import ResponseHandler

from gateway.errors import UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from gateway.exchange import RequestBody

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 §9.2.2); those of them that a gateway forwards."""

_AUTO_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class _UpstreamConnection(ResponseHandler):
    """A connection to an upstream, that is careful in four things where aiohttp's own isn't."""

    def is_connected(self) -> bool:
        """Whether the pool may give the connection out: not once something came unasked.

        Some servers say 408 before they close an idle connection; that, or whatever else came,
        would be taken for the answer to the next request.
        """
        return super().is_connected() and not self.should_close

    _heard = False

    def set_response_params(self, **params: Any) -> None:
        """Begin to wait for an answer."""
        self._heard = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Note that there is something of an answer."""
        self._heard = self._heard or bool(data)
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Fail, and tell who reads the content, who would wait for ever after a broken chunk.

        A request is only sent again where nothing of an answer came: not after this error.
        """
        if self._heard and isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            exc = aiohttp.ClientConnectionError("the answer broke off")
        super().set_exception(exc, *cause)
        content = self._payload
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the answer broke off"))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take a connection that was reset for no end of content that ends with it."""
        content = self._payload
        if exc is not None and content is not None and not content.is_eof():
            content.set_exception(aiohttp.ClientPayloadError("the answer broke off"))
        super().connection_lost(exc)


async def _decline_redirect(
    _session: ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> NoReturn:
    # ClientSession.ws_connect has no allow_redirects, and would take the handshake, identity
    # headers and all, to wherever an upstream points.
    answer = params.response
    raise aiohttp.WSServerHandshakeError(
        answer.request_info, (), message="redirected", status=answer.status, headers=answer.headers
    )


def open_session(
    *,
    connect_timeout_seconds: float,
    read_timeout_seconds: float,
    idle_timeout_seconds: float,
    connections: int,
    ca_file: Path | None = None,
    trace: aiohttp.TraceConfig | None = None,
) -> ClientSession:
    """Return a session that adds nothing to a message, follows nothing and remembers nothing.

    ``read_timeout_seconds`` is the longest silence of an upstream, before and within its answer;
    ``connect_timeout_seconds`` includes the wait for one of ``connections``.
    """
    context = ssl.create_default_context(cafile=ca_file) if ca_file else True
    connector = TCPConnector(
        limit=connections,
        keepalive_timeout=idle_timeout_seconds,
        ttl_dns_cache=30,
        ssl=context,
    )
    protocol = partial(_UpstreamConnection, loop=asyncio.get_running_loop())
    # There is no other way to have a protocol of our own.
    connector._factory = cast("partial[ResponseHandler]", protocol)  # noqa: SLF001
    trace = trace or aiohttp.TraceConfig()
    trace.on_request_redirect.append(_decline_redirect)
    session = ClientSession(
        connector=connector,
        timeout=ClientTimeout(
            total=None,
            connect=connect_timeout_seconds,
            sock_connect=connect_timeout_seconds,
            sock_read=read_timeout_seconds,
        ),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=_AUTO_HEADERS,
        trace_configs=[trace],
        max_line_size=64 * 1024,
        max_field_size=64 * 1024,
    )
    # aiohttp sends idempotent requests twice when a connection closes, also a fresh one, and
    # also with a body. There is no public switch; tests/proxy holds this one to its word.
    session._retry_connection = False  # noqa: SLF001
    return session


@contextmanager
def upstream_errors(body: RequestBody | None = None) -> Iterator[None]:
    """Turn what aiohttp's client raises into what a client of the gateway is told.

    A fault of the client's own while its body was sent (``body.fault``) goes before.

    Raises:
        UpstreamTimeout: no connection, or no answer, in time: 504.
        UpstreamUnreachable: refused, reset, closed, not resolved, not trusted: 502.
        UpstreamInvalid: an answer that isn't HTTP: 502.
    """
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        if body is not None and body.fault is not None:
            raise body.fault from None
        if isinstance(error, TimeoutError):  # aiohttp's time-outs are, too
            raise UpstreamTimeout from None
        if isinstance(error, aiohttp.ClientConnectionError | OSError):
            raise UpstreamUnreachable from None
        raise UpstreamInvalid from None
