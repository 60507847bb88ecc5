"""One request and its answer: what the stages of the handler lane hand on to each other."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from gateway.errors import BadRequest, ContentTooLarge, GatewayError, RequestTimeout
from gateway.fields import Fields, render
from gateway.framing import answer_framing
from gateway.request_head import RequestHead
from gateway.routes import Target

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)  # linger for no time: RST instead of FIN
# RFC 6749 §5.1 asks for both on the token endpoint, and no error of ours is worth caching.
_NO_STORE = ((b"Cache-Control", b"no-store"), (b"Pragma", b"no-cache"))


@dataclass(slots=True)
class Exchange:
    """A request under way.

    ``request_id`` is the client's own or made here, ``peer`` the client's address,
    ``wall`` tells the time (epoch seconds), ``has_trailers`` whether
    there may be any behind content in chunks. ``route`` and ``client_id`` are filled in as they
    become known, for metrics and the access log, as is ``upstream`` (its origin) for failures;
    ``outcome`` at the end. ``stopping`` tells whether nothing is read behind the request, or the
    gateway is about to stop; ``holds`` is told how much of its content is kept in memory. ``cors``
    are the fields with which an error of the gateway's own lets a page of another origin read it.
    """

    request: web.BaseRequest
    request_id: bytes
    peer: str | None
    scheme: str
    wall: Callable[[], float]
    stopping: Callable[[], bool]
    has_trailers: Callable[[], bool] = lambda: False
    holds: Callable[[int], None] = lambda _size: None
    head: RequestHead | None = field(default=None, repr=False)  # has the token
    target: Target | None = None
    route: str = ""
    upstream: str = ""
    client_id: str | None = None
    cors: Sequence[tuple[bytes, bytes]] = ()
    outcome: str = ""
    status: int = 0

    @property
    def date(self) -> bytes:
        """The value of a ``Date`` field for the answer (RFC 9110 §6.6.1)."""
        return formatdate(self.wall(), usegmt=True).encode()

    @property
    def closes(self) -> bool:
        """Whether the answer should be the last on its connection.

        Because the gateway stops, because nobody knows where the next request would begin, or
        because of trailers, which other parsers have taken for fields of the next request.
        """
        chunked = self.head is not None and self.head.chunked
        return self.stopping() or (chunked and self.has_trailers())

    @property
    def leaves_doubt(self) -> bool:
        """Whether the next request might be looked for where this one's content is.

        So it is while content is still to come that nobody will read, or that may never come
        because it was expected and not asked for (RFC 9110 §10.1.1), and with content behind TRACE,
        which must have none (RFC 9110 §9.3.8). An answer that the gateway gives itself is the last
        on its connection then (RFC 9112 §11.2).
        """
        if not self.request.content.is_eof():
            return True
        head = self.head
        return head is not None and (
            head.expects_continue or (head.has_body and self.request.method == "TRACE")
        )


class RequestBody:
    """The content of a request, as it arrives: within its size, its pace, and only when wanted.

    The first read answers ``Expect: 100-continue`` (RFC 9110 §10.1.1): by then whoever asked has
    decided to take the content. ``fault`` is what went wrong on the client's side, because the
    library that reads an iterator reports its failure as one of the upstream's connection.
    ``holds`` is told how many bytes are on their way, or kept until all are here.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        head: RequestHead,
        *,
        most: int,
        timeout_seconds: float,
        holds: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._request = request
        self._head = head
        self._most = most
        self._timeout_seconds = timeout_seconds
        self._holds = holds
        self._kept = 0
        self.fault: GatewayError | None = None

    def check_length(self) -> None:
        """Raise ``ContentTooLarge`` if the announced length is over the limit already."""
        if (self._head.content_length or 0) > self._most or (self._head.chunked and not self._most):
            raise ContentTooLarge("The request body is too large.")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content as it comes.

        Raises:
            BadRequest: its chunks are malformed (RFC 9112 §7.1).
            ContentTooLarge: it turned out larger than ``most`` bytes.
            RequestTimeout: nothing came for ``timeout_seconds``.
        """
        if self._head.expects_continue and self._request.transport is not None:
            self._request.transport.write(_CONTINUE)
        content = self._request.content
        if not content.is_eof() and not content.total_bytes:
            # Nothing is here yet: whoever takes the content learns at once that it comes, and
            # may answer ahead of it. aiohttp keeps a header section back for company.
            yield b""
        read = 0
        while True:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    chunk = await content.readany()
            except TimeoutError:
                self.fault = RequestTimeout("The request body did not arrive in time.")
                raise self.fault from None
            except web.RequestPayloadError:
                self.fault = BadRequest("The request body is malformed.")
                raise self.fault from None
            if not chunk:
                return
            read += len(chunk)
            if read > self._most:
                self.fault = ContentTooLarge("The request body is too large.")
                raise self.fault
            self._holds(self._kept + len(chunk))
            yield chunk
            self._holds(self._kept)

    async def read(self) -> bytes:
        """Return all of the content; raises as ``chunks`` does."""
        self.check_length()
        content = bytearray()
        async for chunk in self.chunks():
            content += chunk
            self._kept = len(content)
        return bytes(content)


class RelayedResponse(web.StreamResponse):
    """An answer whose header section goes out byte for byte as given.

    aiohttp's own adds ``Server`` and ``Content-Type`` and drops bytes that aren't UTF-8.
    ``content_length`` is that of the message's own header section, ``None`` where it has none.
    Where ``body`` is given it is the whole content; otherwise content is written as it comes.
    Where the request can't tell, ``minor_version`` does which version is spoken, and ``bodiless``
    that it was to HEAD.
    """

    minor_version: int | None = None
    bodiless = False

    def __init__(
        self,
        status: int,
        reason: str,
        fields: Fields,
        *,
        content_length: int | None = None,
        body: bytes | None = None,
    ) -> None:
        super().__init__(status=status, reason=reason)
        self.fields = fields
        self._declared = len(body) if body is not None else content_length
        self._whole_body = body

    async def _prepare_headers(self) -> None:
        request, writer = self._started()
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        framing = answer_framing(
            self.status,
            self._declared,
            bodiless=bool(self._must_be_empty_body),
            http_1_1=request.version >= HttpVersion11,
        )
        self.fields += framing.fields
        if framing.chunked:
            writer.enable_chunking()
        elif framing.until_close:
            self._keep_alive = False
        elif framing.fields and not self.bodiless:
            writer.length = self._declared
        if not self._keep_alive:
            self.fields.append((b"Connection", b"close"))
        elif request.version == HttpVersion10:
            self.fields.append((b"Connection", b"keep-alive"))

    async def _write_headers(self) -> None:
        request, writer = self._started()
        # Our version and not the client's, which may be any (RFC 9112 §2.3).
        minor = self.minor_version
        if minor is None:
            minor = 0 if request.version == HttpVersion10 else 1
        line = f"HTTP/1.{minor} {self.status} {self.reason}\r\n"
        head = line.encode("utf-8", "surrogateescape")  # as aiohttp's parser decoded it
        head += render(self.fields) + b"\r\n"
        # Where aiohttp's writer keeps a header section until the first content goes out with it.
        writer._headers_buf = head  # type: ignore[attr-defined]  # noqa: SLF001
        writer._headers_written = False  # type: ignore[attr-defined]  # noqa: SLF001

    async def write_eof(self, data: bytes = b"") -> None:
        """Send what is left of the content, end the message, and wait until it is out."""
        if self._whole_body and not self._must_be_empty_body and not self.bodiless:
            data, self._whole_body = self._whole_body, None
        writer = self._payload_writer
        await super().write_eof(data)
        if writer is not None:
            await writer.drain()

    def send_head(self) -> None:
        """Send the header section now, ahead of any content."""
        if self._payload_writer is not None:
            self._payload_writer.send_headers()

    def _started(self) -> tuple[web.BaseRequest, AbstractStreamWriter]:
        assert self._req is not None
        assert self._payload_writer is not None
        return self._req, self._payload_writer


def error_response(error: GatewayError, exchange: Exchange) -> RelayedResponse:
    """Return the one form that every error of the gateway itself takes.

    JSON with ``error`` and ``error_description`` as in RFC 6749 §5.2, and the request id.
    """
    fields, body = error_parts(error, exchange.request_id, exchange.cors)
    fields.append((b"Date", exchange.date))
    response = RelayedResponse(error.status, reason_phrase(error.status), fields, body=body)
    if error.close or exchange.closes or exchange.leaves_doubt:
        response.force_close()
    return response


def error_parts(
    error: GatewayError, request_id: bytes, cors: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[Fields, bytes]:
    """Return the header fields that say what an error is, and its content.

    ``cors`` are those that let a page of another origin read it.
    """
    members = {
        "error": error.code,
        "error_description": error.description,
        "request_id": request_id.decode("ascii"),
    }
    fields: Fields = [(b"Content-Type", b"application/json"), *_NO_STORE]
    fields += [(name.encode(), value.encode()) for name, value in error.headers]
    fields += cors
    fields.append((b"X-Request-ID", request_id))
    return fields, json.dumps(members).encode() + b"\n"  # for those who read it in a terminal


def cut_off(request: web.BaseRequest) -> None:
    """Close the client's connection so that nobody takes what was sent for the whole.

    On HTTP/1.1 its framing tells. To an HTTP/1.0 client the end of the connection may be that of
    the content (RFC 9112 §6.3), unless it is reset.
    """
    transport = request.transport
    if transport is None:
        return
    if request.version == HttpVersion10:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def reason_phrase(status: int) -> str:
    """Return the phrase for a status line."""
    return web.Response(status=status).reason
