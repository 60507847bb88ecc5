"""A request's header section, inspected: what it says, once it can only be said one way.

Pure: no I/O, no asyncio, no aiohttp. Works on raw header pairs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.errors import BadRequest, ExpectationFailed, HeadersTooLarge, NotImplementedHere

RawHeaders = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields for one connection only (RFC 9110 §7.6.1), and Proxy-Connection, which never was one."""

_LOOKED_AT = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
        b"x-request-id",
    }
)
_ENDS_HERE = HOP_BY_HOP | {b"expect", b"host", b"x-request-id"}
ACTED_UPON = _LOOKED_AT | _ENDS_HERE
"""Fields that frame or route a message, or that the gateway decides by."""

_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Bytes from 0x80 on are opaque data, which passes (RFC 9110 §5.5).
_BAD_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
_MAX_FORWARDS = b"max-forwards"
_LIST = re.compile(rb"[ \t]*,[ \t]*")
# Another one than chunked, with its parameters (RFC 9112 §7).
_CODING = re.compile(
    rb"(?!chunked(?:[ \t;]|$))[a-z0-9!#$%&'*+.^_`|~-]+"
    rb"(?:[ \t]*;[ \t]*[a-z0-9!#$%&'*+.^_`|~-]+=[a-z0-9!#$%&'*+.^_`|~-]+)*"
)
_DIGITS = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a header section says.

    ``fields`` are (name in lower case, name, value), without the hop-by-hop ones and those that
    have an attribute of their own here. ``nominated`` are the names in ``Connection``, in lower
    case. ``content_length`` is ``None`` without a body of known length; ``chunked`` tells of one
    of unknown length. ``request_id`` is the client's, if it gave a sane one.
    """

    fields: tuple[tuple[bytes, bytes, bytes], ...] = ()
    authorizations: Sequence[bytes] = ()
    nominated: frozenset[bytes] = frozenset()
    host: bytes | None = None
    content_length: int | None = None
    chunked: bool = False
    expects_continue: bool = False
    upgrade: bytes | None = None
    request_id: bytes | None = None

    @property
    def has_body(self) -> bool:
        """Whether content follows the header section."""
        return self.chunked or bool(self.content_length)


@dataclass(slots=True)
class _Collected:
    fields: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    looked_at: dict[bytes, list[bytes]] = field(default_factory=dict)


def inspect_request(
    headers: RawHeaders,
    *,
    http_1_1: bool,
    max_bytes: int = 16 * 1024,
    max_fields: int = 128,
    underscores: str = "refuse",
) -> RequestHead:
    """Return what the header section of a request says.

    ``underscores`` says what becomes of names that have one: "refuse", "drop" or "allow".

    Raises:
        HeadersTooLarge: it has more than ``max_bytes``, or more than ``max_fields``.
        BadRequest: it could be understood in more than one way (RFC 9112 §2.2, §3.2, §5.1, §6.1).
        NotImplementedHere: its content has transfer codings besides chunked (RFC 9112 §6.1).
        ExpectationFailed: it expects something other than ``100-continue`` (RFC 9110 §10.1.1).
    """
    if len(headers) > max_fields:
        raise too_many_fields(max_fields)
    collected = _collect(headers, max_bytes, underscores)
    looked_at = collected.looked_at
    nominated = connection_options(looked_at.get(b"connection", ()))
    length, chunked = body_framing(
        looked_at.get(b"content-length", []),
        looked_at.get(b"transfer-encoding", []),
        http_1_1=http_1_1,
    )
    fields = collected.fields
    if length is not None and looked_at[b"content-length"][0].startswith(b"0") and length:
        # Leading zeros are octal to some (RFC 9110 §8.6 has decimal digits).
        fields = [
            (lower, name, b"%d" % length if lower == b"content-length" else value)
            for lower, name, value in fields
        ]
    return RequestHead(
        fields=tuple(fields),
        authorizations=looked_at.get(b"authorization", ()),
        nominated=nominated,
        host=_host(looked_at.get(b"host", []), http_1_1=http_1_1),
        content_length=length,
        chunked=chunked,
        expects_continue=_expects_continue(looked_at.get(b"expect", []), http_1_1=http_1_1),
        upgrade=_upgrade(looked_at.get(b"upgrade", []), nominated, http_1_1=http_1_1),
        request_id=_request_id(looked_at.get(b"x-request-id", [])),
    )


def too_many_fields(most: int) -> HeadersTooLarge:
    """Return the error that says which limit a header section is over."""
    return HeadersTooLarge(f"The header section has more fields than limits.header_fields: {most}.")


def too_many_bytes() -> HeadersTooLarge:
    """Return the error that says which limit a header section is over."""
    return HeadersTooLarge("The header section is too large: limits.headers bounds its bytes.")


def addressed(head: RequestHead, authority: str | None) -> RequestHead:
    """Return a header section with the host that its request is for.

    The ``authority`` of a target in absolute form goes before ``Host`` (RFC 9112 §3.2.2).

    Raises:
        BadRequest: there is none: an http URI has one (RFC 9110 §4.2.1, §7.2).
    """
    if authority is not None:
        return replace(head, host=authority.encode("ascii"))
    if head.host == b"":
        raise BadRequest("The Host field is empty.")
    return head


def hops_left(head: RequestHead) -> int | None:
    """Return how often ``Max-Forwards`` lets a request be forwarded, ``None`` if it doesn't say.

    It is for OPTIONS and TRACE alone (RFC 9110 §7.6.2).

    Raises:
        BadRequest: it isn't one number.
    """
    values = [value for lower, _, value in head.fields if lower == _MAX_FORWARDS]
    if not values:
        return None
    if len(values) > 1 or not _DIGITS.fullmatch(values[0]):
        raise BadRequest("The Max-Forwards field is malformed.")
    return int(values[0])


def with_hops(head: RequestHead, hops: int) -> RequestHead:
    """Return a header section whose ``Max-Forwards`` is this."""
    fields = [
        (lower, name, b"%d" % hops if lower == _MAX_FORWARDS else value)
        for lower, name, value in head.fields
    ]
    return replace(head, fields=tuple(fields))


def connection_options(values: Sequence[bytes]) -> frozenset[bytes]:
    """Return the options in the values of ``Connection``, in lower case (RFC 9110 §7.6.1)."""
    return frozenset(
        option.strip().lower() for value in values for option in value.split(b",") if option.strip()
    )


def _collect(headers: RawHeaders, max_bytes: int, underscores: str) -> _Collected:
    collected = _Collected()
    size = 0
    for name, value in headers:
        size += len(name) + len(value) + 4  # the colon, the space, CR and LF
        if size > max_bytes:
            raise too_many_bytes()
        if not _NAME.fullmatch(name) or _BAD_IN_VALUE.search(value):
            raise BadRequest("A header has bytes that are not allowed.")
        lower = name.lower()
        if b"_" in lower and underscores != "allow":
            if underscores == "refuse":
                raise BadRequest("A header name has an underscore.")
            continue
        if lower in _LOOKED_AT:
            collected.looked_at.setdefault(lower, []).append(value)
        if lower not in _ENDS_HERE:
            collected.fields.append((lower, name, value))
    return collected


def _host(hosts: list[bytes], *, http_1_1: bool) -> bytes | None:
    if len(hosts) > 1 or (http_1_1 and not hosts):
        raise BadRequest("Exactly one Host field is needed.")
    if not hosts:
        return None
    if hosts[0] and not _HOST.fullmatch(hosts[0]):
        raise BadRequest("The Host field is malformed.")
    return hosts[0]


def body_framing(
    lengths: Sequence[bytes], codings: Sequence[bytes], *, http_1_1: bool
) -> tuple[int | None, bool]:
    """Return the length of a request's content, ``None`` without one, and if it comes in chunks.

    What two parsers could frame differently is smuggling: refused, not repaired. ``lengths`` and
    ``codings`` are the values of ``Content-Length`` and ``Transfer-Encoding``.

    Raises:
        BadRequest: its end is in doubt (RFC 9112 §6.1, §6.3).
        NotImplementedHere: it has transfer codings besides chunked (RFC 9112 §6.1).
    """
    if codings:
        if lengths:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
        if not http_1_1:
            raise BadRequest("Transfer-Encoding is for HTTP/1.1.")
        if [value.lower() for value in codings] == [b"chunked"]:  # in any case (RFC 9112 §7)
            return None, True
        *others, last = _LIST.split(b",".join(codings).lower())
        if last == b"chunked" and all(map(_CODING.fullmatch, others)):
            raise NotImplementedHere("The only transfer coding taken is chunked.")
        raise BadRequest("The Transfer-Encoding field is malformed.")
    if not lengths:
        return None, False
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise BadRequest("The Content-Length field is malformed.")
    return int(lengths[0]), False


def _expects_continue(expectations: list[bytes], *, http_1_1: bool) -> bool:
    if not expectations or not http_1_1:  # HTTP/1.0 has none (RFC 9110 §10.1.1)
        return False
    if [value.lower() for value in expectations] != [b"100-continue"]:
        raise ExpectationFailed("Only 100-continue can be expected.")
    return True


def _upgrade(
    protocols: list[bytes], nominated: frozenset[bytes], *, http_1_1: bool
) -> bytes | None:
    if not http_1_1 or b"upgrade" not in nominated or len(protocols) != 1:
        return None
    return protocols[0].strip().lower()


def _request_id(request_ids: list[bytes]) -> bytes | None:
    if len(request_ids) == 1 and _REQUEST_ID.fullmatch(request_ids[0]):
        return request_ids[0]
    return None
