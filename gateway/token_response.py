"""What an answer of the token endpoint says, where that is beyond doubt (RFC 6749 §5.1).

Pure: no I/O, no asyncio, no aiohttp. The client gets the answer byte for byte, whatever is read.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeGuard
from urllib.parse import parse_qsl

from gateway.jwt_claims import Claims, Doubled, claims_of, is_bound, without_doubles
from gateway.oauth_messages import Answer

Reason = Literal[
    "content_coding",
    "syntax",
    "access_token",
    "token_type",
    "bound",
    "expires_in",
    "scope",
    "refresh_token",
    "expired",
]
"""Why a token isn't recorded: ``gateway_tokens_unrecorded_total{reason}``."""

MOST_BYTES = 2**20
"""What a compressed answer may become: as much as one that isn't may have."""
MOST_CODINGS = 2
LONGEST_SECONDS = 10 * 365 * 86_400
"""What an ``expires_in`` is cut to: some key managers say "never" by a number that neither Redis
nor a clock can hold."""

_MEMBERS = (
    *("access_token", "token_type", "expires_in", "scope", "refresh_token"),
    *("id_token", "issued_token_type", "cnf"),
)
_MOST_FIELDS = 100
_FORM = b"application/x-www-form-urlencoded"
# RFC 6750 §2.1: nothing else can be presented as a bearer token.
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
# RFC 8693 §3: what a token exchange has issued may be no access token.
_ACCESS_TOKEN_TYPES = frozenset(
    {
        "urn:ietf:params:oauth:token-type:access_token",
        "urn:ietf:params:oauth:token-type:jwt",
    }
)
# Half a surrogate pair: JSON can say it, UTF-8 can't.
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")
_WINDOW_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


class Unrecorded(ValueError):
    """A token that can't be recorded, and why. The message never quotes the answer."""

    def __init__(self, reason: Reason, fault: str) -> None:
        super().__init__(fault)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A bearer token and what the key manager said of it.

    ``expires_in_seconds``, ``scope`` and ``refresh_token`` are ``None`` where it didn't say.
    ``claims`` are those of the access token, ``id_claims`` those of the ID token, none where there
    are none to be read.
    """

    access_token: str = field(repr=False)
    expires_in_seconds: float | None = None
    scope: str | None = None
    refresh_token: str | None = field(default=None, repr=False)
    claims: Claims = field(default_factory=dict, repr=False)
    id_claims: Claims = field(default_factory=dict, repr=False)


def read_token_response(answer: Answer) -> TokenResponse:
    """Return what a successful answer of the token endpoint says.

    Raises:
        Unrecorded: it says nothing that can be relied upon, or not of a bearer token: a token that
            is bound to a key isn't one, whatever its type (decision 0005).
    """
    members = _members(answer)
    if any(isinstance(members.get(name), Doubled) for name in _MEMBERS):
        raise Unrecorded("syntax", "a member is there twice")
    access_token = _text(members, "access_token", "access_token")
    if not access_token or not _B64TOKEN.fullmatch(access_token):
        raise Unrecorded("access_token", "no access_token that can be presented (RFC 6750 §2.1)")
    token_type = _text(members, "token_type", "token_type")
    if token_type is None:
        raise Unrecorded("token_type", "no token_type (RFC 6749 §5.1)")
    issued_type = _text(members, "issued_token_type", "token_type")
    if token_type.lower() != "bearer" or issued_type not in {None, *_ACCESS_TOKEN_TYPES}:
        raise Unrecorded("token_type", "not a bearer token")
    if members.get("cnf") is not None or is_bound(access_token):
        raise Unrecorded("bound", "bound to a key")
    id_token = members.get("id_token")
    return TokenResponse(
        access_token=access_token,
        expires_in_seconds=_expires_in(members.get("expires_in")),
        scope=scope_text(members.get("scope")),
        refresh_token=_text(members, "refresh_token", "refresh_token") or None,
        claims=claims_of(access_token),
        id_claims=claims_of(id_token) if isinstance(id_token, str) else {},
    )


def is_invalid_grant(answer: Answer) -> bool:
    """Tell whether a grant was refused as expired, revoked, or used before (RFC 6749 §5.2)."""
    try:
        return answer.status == 400 and _members(answer).get("error") == "invalid_grant"
    except Unrecorded:
        return False


def scope_text(value: Any) -> str | None:
    """Return a scope as RFC 6749 §3.3 writes it; a list of scope tokens is understood too.

    Raises:
        Unrecorded: it is something else.
    """
    if isinstance(value, list) and all(
        isinstance(token, str) and token and " " not in token for token in value
    ):
        value = " ".join(value)
    if value is None or is_text(value):
        return value
    raise Unrecorded("scope", "scope is neither text nor a list of scope tokens")


def _members(answer: Answer) -> Mapping[str, Any]:
    content = _decoded(answer)
    types = {value.partition(b";")[0].strip().lower() for value in answer.values({b"content-type"})}
    if types == {_FORM}:
        return _form(content)
    try:
        # UTF-8 but for old key managers, and that can be seen (RFC 4627 §3, RFC 8259 §8.1).
        text = content.decode(json.detect_encoding(content))
        members = json.loads(
            text, object_pairs_hook=without_doubles, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise Unrecorded("syntax", "not JSON") from None
    if not isinstance(members, dict):
        raise Unrecorded("syntax", "not a JSON object")
    return members


def _form(content: bytes) -> Mapping[str, Any]:
    try:
        pairs = parse_qsl(
            content.decode("utf-8-sig"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise Unrecorded("syntax", "not a form") from None
    return without_doubles(list(pairs))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity: Python reads them, JSON has neither


def _decoded(answer: Answer) -> bytes:
    codings = [coding.lower() for coding in answer.values({b"content-encoding"})]
    codings = [coding for coding in codings if coding != b"identity"]
    if len(codings) > MOST_CODINGS:
        raise Unrecorded("content_coding", "encoded too often, though identity was asked for")
    content = answer.content
    for coding in reversed(codings):  # listed in the order in which they were applied
        content = _inflated(coding, content)
    return content


def _inflated(coding: bytes, content: bytes) -> bytes:
    window_bits = _WINDOW_BITS.get(coding)
    if window_bits is None:
        raise Unrecorded("content_coding", "encoded, though identity was asked for")
    if coding == b"deflate" and not _has_zlib_header(content):
        window_bits = -window_bits  # which RFC 9110 §8.4.1.2 knows some to send
    inflater = zlib.decompressobj(window_bits)
    try:
        inflated = inflater.decompress(content, MOST_BYTES)
    except zlib.error:
        raise Unrecorded("content_coding", "encoded, and broken") from None
    if not inflater.eof or inflater.unused_data:
        raise Unrecorded("content_coding", "encoded, and too long or incomplete")
    return inflated


def _has_zlib_header(content: bytes) -> bool:
    # RFC 1950 §2.2
    return len(content) > 1 and content[0] & 0x0F == 8 and int.from_bytes(content[:2]) % 31 == 0


def is_text(value: Any) -> TypeGuard[str]:
    """Tell whether a value is text that UTF-8 can write."""
    return isinstance(value, str) and not _HALF_A_PAIR.search(value)


def _text(members: Mapping[str, Any], name: str, reason: Reason) -> str | None:
    value = members.get(name)
    if value is None or is_text(value):
        return value
    raise Unrecorded(reason, f"{name} is not text")


def _expires_in(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise Unrecorded("expires_in", "expires_in is not a positive number")
    return float(min(value, LONGEST_SECONDS))
