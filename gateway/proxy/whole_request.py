"""A whole simple request in one piece, taken apart; what clients repeat is taken apart once.

A client says the same in each request but for the target and the token. What was learned of a
header section is kept by what it says without the token; one with anything else that may be a
credential, by a field's name, isn't kept. Nor is anything before its request was let through: who
has no good token fills nothing. What public routes are asked has a small part of its own.
"""

import asyncio
import re
from dataclasses import dataclass

from aiohttp import http_parser
from aiohttp.http_exceptions import HttpProcessingError

from gateway.cors import origin_of
from gateway.errors import GatewayError
from gateway.fields import one_spelling, to_bytes
from gateway.headers import HeaderPolicy, crossing_request
from gateway.proxy.answers import names_secret
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.remembered import PUBLIC_SECTIONS_BYTES, SECTIONS_BYTES, Remembered
from gateway.request_head import RequestHead, inspect_request
from gateway.routes import Route, Target
from gateway.tokens import Facts, TokenKey

# As most clients write it, and as those do that speak HTTP/2 otherwise. Any other spelling is
# read as well, only not as fast.
_AUTHORIZATION = (b"\r\nAuthorization: Bearer ", b"\r\nauthorization: Bearer ")
_SCHEME = len(b"Bearer ")
_PLACEHOLDER = b"x"
_FIRST_LINE = b"GET / HTTP/1.1"
_FOLDED = re.compile(rb"\r\n[ \t]")
_NOT_SIMPLE = frozenset({b"access-control-request-method", b"expect", b"max-forwards"})
_ENTRY_BYTES = 600  # what an item takes beside its bytes
# An empty body is announced where one would be expected, and only there (RFC 9110 §8.6).
_BODY_NOT_EXPECTED = frozenset({"GET", "HEAD", "OPTIONS"})
_EMPTY = b"Content-Length: 0\r\n"


@dataclass(frozen=True, slots=True)
class Section:
    """What a header section says of all requests that have it.

    ``to_upstream`` are the fields for the backend as they go out, before what tells this request
    apart, in two parts where a token that is forwarded goes between them. ``authorizations`` are
    those of the request itself; the token is ``cut`` out of the only one where it could be. After
    the answer the connection ``closes``.
    """

    content_length: int
    closes: bool
    cut: bool
    authorizations: tuple[bytes, ...]
    request_id: bytes | None
    origin: bytes | None
    to_upstream: tuple[bytes, bytes | None]
    length_missing: bool

    def announced(self, method: str) -> bytes:
        """Return the field with which a request of this method without content is announced."""
        if self.length_missing and method not in _BODY_NOT_EXPECTED:
            return _EMPTY
        return b""


@dataclass(frozen=True, slots=True)
class FastRoute:
    """A request line taken apart: the route that governs it, and its ``start`` for the backend."""

    method: str
    target: Target
    route: Route
    pool: UpstreamPool
    start: bytes


SectionKey = tuple[bytes, str | None, bool, bool]
"""A header section without its token; the peer, whether it came over TLS, for a public route."""


@dataclass(slots=True)
class WholeRequest:
    """A request taken apart.

    ``start`` is what goes to the backend before the request id; ``announced`` is the field that
    announces that no content comes, where some is expected. ``identity`` are the fields that tell
    the backend of ``facts``.
    ``key`` is that of its token, ``None`` on a public route; ``repeats`` tells that it may be kept
    for when the same comes again: the token isn't in it. What was learned by it and isn't kept yet
    ``is_news``: its ``new_line``, the key of its ``new_section``, and the ``digest`` of all of it.
    """

    section: Section
    target: FastRoute
    key: TokenKey | None
    start: bytes
    announced: bytes
    body: bytes
    repeats: bool
    facts: Facts | None = None
    identity: bytes = b""
    new_line: bytes | None = None
    new_section: SectionKey | None = None
    digest: bytes | None = None
    is_news: bool = False


class NoFlowControl:
    """Whom a parser tells to slow down: nobody, as what it holds is taken at once."""

    _reading_paused = False

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing."""


class Sections:
    """What was learned of header sections, and is known when they come again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        policy: HeaderPolicy,
        max_header_bytes: int,
        max_fields: int,
        underscores: str,
    ) -> None:
        self._loop = loop
        self._policy = policy
        self._max_header_bytes = max_header_bytes
        self._max_fields = max_fields
        self._underscores = underscores
        self._known: Remembered[SectionKey, Section] = Remembered(SECTIONS_BYTES)
        self._public: Remembered[SectionKey, Section] = Remembered(PUBLIC_SECTIONS_BYTES)

    @property
    def held_bytes(self) -> int:
        """How much memory they take."""
        return self._known.held_bytes + self._public.held_bytes

    def keep(self, key: SectionKey, section: Section) -> None:
        """Know a section when it comes again."""
        before, after = section.to_upstream
        size = _ENTRY_BYTES + len(key[0]) + len(before) + len(after or b"")
        (self._public if key[3] else self._known).put(key, section, size)

    def find(
        self, data: bytes, start: int, end: int, peer: str | None, *, secure: bool, public: bool
    ) -> tuple[Section, bytes | None, SectionKey | None] | None:
        """Return what a header section says, and the value of its Authorization if it was cut.

        With them comes the section's key if it isn't kept, and may be.

        It is ``data[start:end]``, from the end of the request line to the empty line, neither
        included but for the line end that it begins with. It came over TLS if ``secure``, for a
        ``public`` route or another. ``None`` is for what isn't simple.
        """
        for field in _AUTHORIZATION:
            begin = data.find(field, start, end)
            if begin >= 0:
                begin += len(field)
                stop = data.find(b"\r\n", begin, end)
                if stop < 0:
                    stop = end
                value = data[begin - _SCHEME : stop]
                section = data[start:begin] + _PLACEHOLDER + data[stop:end]
                break
        else:
            value = None
            section = data[start:end]
        key = (section, peer, secure, public)
        known = (self._public if public else self._known).get(key)
        if known is not None:
            return known, value, None
        # Lines of another kind may hide a field from whoever looks for its name.
        if section.count(b"\n") != section.count(b"\r\n") or _FOLDED.search(section):
            return None
        known = self._learn(section, peer, secure, public=public, cut=value is not None)
        if known is None:
            return None
        secret = names_secret(section, known=int(value is not None))
        return known, value, None if secret else key

    def _learn(
        self, section: bytes, peer: str | None, secure: bool, *, public: bool, cut: bool
    ) -> Section | None:
        parser = http_parser.HttpRequestParser(
            NoFlowControl(),  # type: ignore[arg-type]
            self._loop,
            1 << 16,
            max_line_size=self._max_header_bytes,
            max_field_size=self._max_header_bytes,
            max_headers=self._max_fields,
            auto_decompress=False,
        )
        try:
            messages, upgraded, _ = parser.feed_data(_FIRST_LINE + section + b"\r\n\r\n")
            if len(messages) != 1 or upgraded:
                return None
            message = messages[0][0]
            head = inspect_request(
                message.raw_headers,
                http_1_1=True,
                max_bytes=self._max_header_bytes,
                max_fields=self._max_fields,
                underscores=self._underscores,
            )
        except (HttpProcessingError, GatewayError):
            return None
        names = {name.lower() for name, _ in message.raw_headers}
        if head.chunked or names & _NOT_SIMPLE or not head.host:
            return None
        if head.upgrade == b"websocket":  # any other is ignored (RFC 9110 §7.8)
            return None
        if cut and len(head.authorizations) != 1:
            return None
        crossing = crossing_request(
            head,
            policy=self._policy,
            peer=peer,
            scheme_name="https" if secure else "http",
            public=public,
        )
        return Section(
            content_length=head.content_length or 0,
            closes=message.should_close,
            cut=cut,
            authorizations=tuple(head.authorizations),
            request_id=head.request_id,
            origin=origin_of(head.fields),
            to_upstream=_parts(one_spelling(crossing), head, cut=cut),
            length_missing=head.content_length is None,
        )


def _text(fields: list[tuple[str, str]]) -> bytes:
    return to_bytes("".join([f"{name}: {value}\r\n" for name, value in fields]))


def _parts(
    fields: list[tuple[str, str]], head: RequestHead, *, cut: bool
) -> tuple[bytes, bytes | None]:
    """Return the fields around the value of Authorization, if it was cut out and crosses."""
    for index, (name, value) in enumerate(fields):
        if cut and name.lower() == "authorization" and to_bytes(value) in head.authorizations:
            before = _text(fields[:index]) + f"{name}: ".encode("ascii")
            return before, b"\r\n" + _text(fields[index + 1 :])
    return _text(fields), None
