"""How the gateway reaches what is behind it, and what its failures mean to a client."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from gateway.errors import UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from gateway.exchange import RequestBody

_AUTO_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


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
    session = ClientSession(
        connector=TCPConnector(
            limit=connections,
            keepalive_timeout=idle_timeout_seconds,
            ttl_dns_cache=30,
            ssl=context,
        ),
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
        trace_configs=[trace] if trace else None,
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
            raise UpstreamTimeout("The upstream did not answer in time.") from None
        if isinstance(error, aiohttp.ClientConnectionError | OSError):
            raise UpstreamUnreachable("The upstream can not be reached.") from None
        raise UpstreamInvalid("The upstream's answer can not be passed on.") from None
