"""How the gateway reaches what is behind it, and what its failures mean to a client."""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp import (
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    HttpVersion,
    StreamReader,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.answer_head import MOST_FIELDS, ReceivedHead
from gateway.answer_reader import AnswerReader, End
from gateway.causes import CLOSED, CONNECT_TIMEOUT, NO_CLOSE_NOTIFY, RESET, SILENT, cause_of
from gateway.errors import GatewayError, UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from gateway.exchange import RequestBody
from gateway.fields import one_spelling, to_bytes
from gateway.resolver import Resolver, open_socket
from gateway.shares import room
from gateway.suspects import Suspects
from gateway.tls_end import tls_end

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 §9.2.2); those of them that a gateway forwards."""

# No field of a request can have this name, which isn't a token.
_TARGET = ":path"
_AUTHORITY = re.compile(r"[^/?]*//[^/?]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_AUTO_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class AnswerListener:
    """Who is told what an answer brings before aiohttp's client tells: nobody, unless overridden.

    One listens to the exchanges that its task begins while it ``listens``.
    """

    def answer_comes(self) -> None:
        """The upstream isn't silent: some of the answer is here."""

    def interim_answer(self, received: ReceivedHead) -> None:
        """An interim answer is here (RFC 9110 §15.2)."""

    @contextmanager
    def listens(self) -> Iterator[None]:
        """Listen within the block."""
        token = _LISTENER.set(self)
        try:
            yield
        finally:
            _LISTENER.reset(token)


_LISTENER: ContextVar[AnswerListener] = ContextVar("listener")


class _AnswerParser:
    """What aiohttp's client takes for its parser: our reader, which judges by our rules.

    aiohttp's own, llhttp, is set to be lenient to upstreams (ADR 14).
    """

    def __init__(
        self,
        connection: "_UpstreamConnection",
        *,
        to_head: bool,
        most_fields: int,
        limit: int,
        timer: Any,
    ) -> None:
        self.reader = AnswerReader(to_head=to_head, most_fields=most_fields)
        self._connection = connection
        self._limit = limit
        self._timer = timer
        self._listener = _LISTENER.get(AnswerListener())
        self._content: StreamReader | None = None

    def feed_data(self, data: bytes) -> tuple[list[tuple[Any, StreamReader]], bool, bytes]:
        """Return messages, whether the protocol was switched, and what came after that."""
        messages: list[tuple[Any, StreamReader]] = []
        switched, rest = False, b""
        parts = self.reader.feed(bytes(data))
        if self.reader.excess:
            self._connection.distrust(data)
        if data and self.reader.head is None:
            self._listener.answer_comes()
        for part in parts:
            if isinstance(part, ReceivedHead):
                if part.is_interim:
                    self._listener.interim_answer(part)
                else:
                    messages.append(self._begin(part))
                    switched = part.status == 101
            elif isinstance(part, bytes):
                if switched:
                    rest = part
                elif self._content is not None:
                    self._content.feed_data(part)
            else:
                self._end(part)
        return messages, switched, rest

    def _begin(self, received: ReceivedHead) -> tuple[Any, StreamReader]:
        headers = CIMultiDict(
            (name.decode("ascii"), value.decode("utf-8", "surrogateescape"))
            for name, value in received.fields
        )
        message = RawResponseMessage(
            HttpVersion(*received.version),
            received.status,
            received.reason.decode("utf-8", "surrogateescape"),
            CIMultiDictProxy(headers),
            tuple(received.fields),
            received.closes,
            None,
            received.status == 101,
            received.content.chunked,
        )
        if received.content.length == 0:
            return message, EMPTY_PAYLOAD
        self._content = StreamReader(
            self._connection,
            self._limit,
            timer=self._timer,
            loop=self._connection._loop,  # noqa: SLF001 -- aiohttp's own way to make one
        )
        return message, self._content

    def _end(self, end: End) -> None:
        if end is End.LAST:
            self._connection.force_close()
        if self._content is not None:
            self._content.feed_eof()

    def feed_eof(self) -> None:
        """End content that ends with the connection; raises ``UpstreamInvalid`` within other."""
        if self.reader.head is not None:
            for part in self.reader.feed_eof():
                assert isinstance(part, End)
                self._end(part)

    def pause_reading(self) -> None:
        """Do nothing: what is here is handed on, and no more comes."""


class _LeftOver(aiohttp.ServerDisconnectedError):
    """What came is left over from another exchange: to this one nothing was said."""


class _BrokeOff(aiohttp.ClientConnectionError):
    """An answer of which something had come didn't go on."""

    def __init__(self, failure: GatewayError) -> None:
        super().__init__("the answer broke off")
        self.failure = failure


class _CutOff(aiohttp.ClientPayloadError):
    """The same, for who reads its content."""

    def __init__(self, failure: GatewayError) -> None:
        super().__init__("the answer broke off")
        self.failure = failure


def _failure(error: BaseException, causes: Sequence[BaseException]) -> GatewayError:
    if causes and isinstance(causes[0], UpstreamInvalid):
        return causes[0]
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(cause=SILENT)
    cause = CLOSED if isinstance(error, aiohttp.ServerDisconnectedError) else RESET
    return UpstreamUnreachable(cause=cause)


class _UpstreamConnection(ResponseHandler):
    """A connection to an upstream, which reads answers as the fast lane does."""

    accepts_incomplete_close = False
    suspects: Suspects | None = None
    _peer: Any = None
    _heard = False
    _exchanges = 0
    _tls: ssl.SSLObject | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        super().connection_made(transport)
        self._tls = transport.get_extra_info("ssl_object")
        self._peer = transport.get_extra_info("peername")

    @property
    def should_close(self) -> bool:
        """Whether the connection is to be closed when it has served."""
        return super().should_close or (self.suspects is not None and self._peer in self.suspects)

    def distrust(self, said: bytes) -> None:
        """The upstream said more than it was asked for: keep no connection to it for a while."""
        self.force_close()
        if self.suspects is not None:
            self.suspects.note(self._peer, said)

    def is_connected(self) -> bool:
        """Whether the pool may give the connection out: not once something came unasked.

        Some servers say 408 before they close an idle connection; that, or whatever else came,
        would be taken for the answer to the next request.
        """
        return super().is_connected() and not self.should_close

    def set_response_params(
        self,
        *,
        timer: Any = None,
        skip_payload: bool = False,
        read_bufsize: int = 2**16,
        max_headers: int = MOST_FIELDS,
        **params: Any,
    ) -> None:
        """Begin to wait for an answer."""
        self._heard = False
        self._exchanges += 1
        early, self._tail = self._tail, b""
        super().set_response_params(
            timer=timer, skip_payload=skip_payload, read_bufsize=read_bufsize, **params
        )
        parser = _AnswerParser(
            self, to_head=skip_payload, most_fields=max_headers, limit=read_bufsize, timer=timer
        )
        self._parser = cast("Any", parser)
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        """Note that there is something of an answer."""
        self._heard = self._heard or bool(data)
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Fail, and tell who reads the content, who would wait for ever after a broken chunk.

        A request is only sent again where nothing of an answer came: not after this error.
        """
        failure = _failure(exc, cause)
        if self._heard and isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            exc = _BrokeOff(failure)
        elif isinstance(failure, UpstreamInvalid):
            exc = failure
            if self._is_left_over():
                exc = _LeftOver()
                self.distrust(b"")
        super().set_exception(exc, *cause)
        content = self._payload
        if content is not None and not content.is_eof() and content.exception() is None:
            content.set_exception(_CutOff(failure))

    def _is_left_over(self) -> bool:
        """Whether what came doesn't even begin as an answer, on a connection that had another."""
        return (
            self._exchanges > 1
            and isinstance(self._parser, _AnswerParser)
            and not self._parser.reader.began
        )

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take a connection that was reset, or cut, for no end of content that ends with it."""
        end = tls_end(self._tls)
        if end.rest:
            self.data_received(end.rest)
        content = self._payload
        meant = end.meant or self.accepts_incomplete_close or not self._ends_with_connection()
        if content is not None and not content.is_eof() and (exc is not None or not meant):
            cause = RESET if exc is not None else NO_CLOSE_NOTIFY
            content.set_exception(_CutOff(UpstreamUnreachable(cause=cause)))
        super().connection_lost(exc)

    def _ends_with_connection(self) -> bool:
        return isinstance(self._parser, _AnswerParser) and self._parser.reader.ends_with_connection


class _ForgivingConnection(_UpstreamConnection):
    """One whose upstream may close without a closure alert."""

    accepts_incomplete_close = True


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
        if conn._connector.force_close:  # noqa: SLF001 -- as aiohttp's own does
            self.headers.setdefault("Connection", "close")
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


class _Addresses(AbstractResolver):
    """What aiohttp's client asks for the addresses of a name: the resolver of all."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 -- any will do
    ) -> list[ResolveResult]:
        """Return where a host is; raises ``OSError``."""
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in await self._resolver.addresses(host, port)
        ]

    async def close(self) -> None:
        """Do nothing: it is shared."""


class _Connector(TCPConnector):
    """aiohttp's, but it connects as the fast lane does: to addresses, which nobody looks up."""

    def __init__(self, upstreams: int, **options: Any) -> None:
        super().__init__(**options)
        self._upstreams = upstreams

    @property
    def limit_per_host(self) -> int:
        """No limit of its own: aiohttp's is set so that it counts, and ``shares`` judges."""
        return 0

    def _available_connections(self, key: ConnectionKey) -> int:
        """Return how many connections more an upstream may have (``shares``)."""
        counts = {each: len(held) for each, held in self._acquired_per_host.items() if held}
        return room(
            self.limit,
            used=len(self._acquired),
            own=counts.pop(key, 0),
            others=counts.values(),
            upstreams=max(self._upstreams, len(counts)),
        )

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: Sequence[Any],
        req: ClientRequest,
        timeout: ClientTimeout,  # noqa: ASYNC109 -- aiohttp's
        client_error: type[Any] = aiohttp.ClientConnectorError,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        try:
            async with asyncio.timeout(timeout.sock_connect):
                opened = await open_socket(addr_infos)
                try:
                    made = await self._loop.create_connection(*args, **kwargs, sock=opened)
                except BaseException:
                    opened.close()
                    raise
        except ssl.CertificateError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except TimeoutError as error:
            if error.errno is None:  # ours, and not the operating system's
                raise
            raise client_error(req.connection_key, error) from error
        except OSError as error:
            raise client_error(req.connection_key, error) from error
        return cast("tuple[asyncio.Transport, ResponseHandler]", made)


def open_session(
    *,
    connect_timeout_seconds: float,
    read_timeout_seconds: float,
    idle_timeout_seconds: float,
    connections: int,
    ca_file: Path | None = None,
    resolver: Resolver | None = None,
    most_fields: int = MOST_FIELDS,
    accept_incomplete_close: bool = False,
    upstreams: int = 1,
    trace: aiohttp.TraceConfig | None = None,
) -> ClientSession:
    """Return a session that adds nothing to a message, follows nothing and remembers nothing.

    ``read_timeout_seconds`` is the longest silence of an upstream, before and within its answer;
    ``connect_timeout_seconds`` includes the wait for one of ``connections``. With an
    ``idle_timeout_seconds`` of 0 each request has a connection of its own.
    """
    context = ssl.create_default_context(cafile=ca_file) if ca_file else True
    connector = _Connector(
        upstreams,
        limit=connections,
        limit_per_host=connections,  # so that it counts them by host
        keepalive_timeout=idle_timeout_seconds or None,
        force_close=not idle_timeout_seconds,
        use_dns_cache=False,  # the resolver has its own, which both lanes share
        resolver=_Addresses(resolver or Resolver()),
        ssl=context,
    )
    kind = _ForgivingConnection if accept_incomplete_close else _UpstreamConnection
    loop = asyncio.get_running_loop()
    suspects = Suspects(loop.time)

    def protocol() -> ResponseHandler:
        connection = kind(loop)
        connection.suspects = suspects
        return connection

    # There is no other way to have a protocol of our own.
    connector._factory = cast("partial[ResponseHandler]", protocol)  # noqa: SLF001
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
        trace_configs=[trace] if trace else [],
        max_headers=most_fields,
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
        raise upstream_error(error) from None


def upstream_error(error: Exception) -> GatewayError:
    """Return what a failure of aiohttp's client, or of a connection, means, with its cause."""
    if isinstance(error, _BrokeOff | _CutOff):
        return error.failure
    if isinstance(error, aiohttp.ClientConnectorError):
        untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
        cause, why = cause_of(cast("Any", error).certificate_error if untrusted else error.os_error)
        return UpstreamUnreachable(cause=cause, why=why)
    if isinstance(error, TimeoutError):  # aiohttp's time-outs are, too
        connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
        return UpstreamTimeout(cause=CONNECT_TIMEOUT if connecting else SILENT)
    if isinstance(error, _LeftOver):
        return UpstreamInvalid(cause="status_line")
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        closed = isinstance(error, aiohttp.ServerDisconnectedError)
        return UpstreamUnreachable(cause=CLOSED if closed else RESET)
    cause_given = error.__cause__
    return cause_given if isinstance(cause_given, GatewayError) else UpstreamInvalid(cause="other")


def origin(url: str) -> str:
    """Return the scheme, host and port of a URL, without what else it may say."""
    return str(URL(url, encoded=True).origin())
