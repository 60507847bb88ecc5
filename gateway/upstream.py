"""How the gateway reaches what is behind it, and what its failures mean to a client."""

import asyncio
import re
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import aiohttp
from aiohttp import (
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from gateway.errors import UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from gateway.exchange import RequestBody
from gateway.fields import one_spelling, to_bytes

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 §9.2.2); those of them that a gateway forwards."""

# No field of a request can have this name, which isn't a token.
_TARGET = ":path"
_AUTHORITY = re.compile(r"[^/?]*//[^/?]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
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


class _UpstreamRequest(ClientRequest):
    """A request that goes out as it is given: each byte of its target and of its fields' values.

    aiohttp's own loses the question mark of an empty query, and bytes that aren't UTF-8.
    """

    async def send(self, conn: Connection) -> ClientResponse:
        """Send the header section, and begin to send the content; aiohttp's, but for the bytes."""
        protocol = conn.protocol
        assert protocol is not None
        told = partial(self._on_headers_request_sent, self.method, self.url)
        writer = _HeadWriter(protocol, self.loop, on_headers_sent=told)
        if self.chunked is not None:
            writer.enable_chunking()
        target = self.headers.pop(_TARGET, self.url.raw_path_qs)
        await writer.write_headers(f"{self.method} {target} HTTP/1.1", self.headers)
        writing = None
        if self._body or protocol.writing_paused:
            writing = asyncio.create_task(
                self.write_bytes(writer, conn, self._get_content_length())
            )
            self._writer = writing
        else:
            protocol.start_timeout()
            writer.set_eof()
        assert self.response_class is not None
        assert self._session is not None
        answer = self.response_class(
            self.method,
            self.original_url,
            writer=writing,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )
        vars(self)["response"] = answer  # aiohttp has it as None, to its type checker
        return answer


class _HeadWriter(StreamWriter):
    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Keep a header section until the first content goes out with it."""
        if self._on_headers_sent is not None:
            await self._on_headers_sent(headers)
        lines = [status_line, *(f"{name}: {value}" for name, value in headers.items())]
        if any(map(_CONTROL.search, lines)):  # never: what came was judged
            raise ValueError("a field has control bytes")
        self._headers_buf = to_bytes("\r\n".join([*lines, "", ""]))
        self._headers_written = False


def outgoing(fields: Iterable[tuple[bytes, bytes]], url: str) -> CIMultiDict[str]:
    """Return what makes a session send these fields, and ``url``'s target, byte for byte."""
    headers = CIMultiDict(one_spelling(fields))
    headers[_TARGET] = request_target(url)
    return headers


def request_target(url: str) -> str:
    """Return the target in origin form that a URL asks for, byte for byte (RFC 9112 §3.2.1)."""
    target = _AUTHORITY.sub("", url, count=1)
    return target if target.startswith("/") else f"/{target}"


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
    ``connect_timeout_seconds`` includes the wait for one of ``connections``. With an
    ``idle_timeout_seconds`` of 0 each request has a connection of its own.
    """
    context = ssl.create_default_context(cafile=ca_file) if ca_file else True
    connector = TCPConnector(
        limit=connections,
        keepalive_timeout=idle_timeout_seconds or None,
        force_close=not idle_timeout_seconds,
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
        request_class=_UpstreamRequest,
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
