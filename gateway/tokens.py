"""What a token is to the gateway: a key to look it up by, and the facts found there.

A raw token never leaves the request it came in: everything else works on its
``TokenKey``. Facts come from an RFC 7662 introspection document.
"""

import json
import math
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, NewType, NoReturn

TokenKey = NewType("TokenKey", bytes)
"""The SHA-256 digest of a token."""
KEY_BYTES = 32

MOST_DOCUMENT_BYTES = 64 * 1024
"""A longer value in the store is malformed: to read it would hold up every request."""


def token_key(token: str | bytes) -> TokenKey:
    """Return the key of a token; a ``str`` is taken as UTF-8."""
    return TokenKey(sha256(token.encode() if isinstance(token, str) else token).digest())


MOST_REMEMBERED = 1024
"""Characters of a scope, or bytes of a packed grant, that are remembered: they are in a few
thousand slots, which long ones would fill with some hundred megabytes."""


class MalformedFacts(ValueError):
    """A store value that isn't an introspection document. The message never quotes the value."""


class Facts(NamedTuple):
    """What a validation learned of a token (RFC 7662 §2.2). Facts are cached, never decisions.

    ``exp`` is the instant, in seconds since the epoch, from which the token is no longer
    good, and ``nbf`` the one before which it isn't yet; ``None`` where the key manager gave none.
    ``sub`` identifies; ``username``, which is another or ``None``, is for people to read and may
    stand as somebody typed it.
    """

    active: bool
    client_id: str | None = None
    sub: str | None = None
    scopes: frozenset[str] = frozenset()
    exp: float | None = None
    nbf: float | None = None
    username: str | None = None


class Found(NamedTuple):
    """What the token store has of a token: its document, and for how much longer at most.

    ``life_seconds`` is infinite where the store keeps it until someone removes it. It counts from
    the instant at which the store was asked: it has answered since.
    """

    document: bytes
    life_seconds: float = math.inf


INACTIVE = Facts(active=False)
"""The facts of a token that is unknown, revoked, expired, not yet valid, or not a bearer token."""


def split_scope(scope: str) -> frozenset[str]:
    """Return the scope tokens of a space-separated scope (RFC 6749 §3.3).

    Only the space separates: a scope token of a lenient key manager that has, say, a no-break
    space in it stays one, which no route asks for.
    """
    return _remembered(scope) if len(scope) <= MOST_REMEMBERED else _split(scope)


def _split(scope: str) -> frozenset[str]:
    return frozenset(scope.split(" ")) - {""}


_remembered = lru_cache(maxsize=4096)(_split)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


# Python reads NaN and Infinity too, and guesses at encodings; JSON has neither (RFC 8259 §6, §8.1).
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _decode(text: str) -> Any:
    try:
        members, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError:
        end = -1
    # Space around the document is allowed; looking for it takes half as long again.
    return members if end == len(text) else _DECODER.decode(text)


def parse_facts(document: bytes | str, *, now_at: float) -> Facts:
    """Return the facts in an introspection document as they stand at ``now_at`` (epoch seconds).

    Only ``active: true`` authorises (RFC 7662 §2.2), from ``nbf`` and until ``exp``. A token
    that a bearer may not use alone is ``INACTIVE`` too: one whose ``token_type`` isn't
    ``Bearer``, or that is bound to a key (``cnf``: RFC 7800, RFC 8705, RFC 9449), because the
    gateway can't check the proof.

    Raises:
        MalformedFacts: the document is longer than ``MOST_DOCUMENT_BYTES``, isn't JSON in UTF-8,
            isn't an object, or has a member of a wrong type.
    """
    if len(document) > MOST_DOCUMENT_BYTES:
        raise MalformedFacts(f"longer than {MOST_DOCUMENT_BYTES} bytes")
    try:
        text = document if isinstance(document, str) else document.decode()
        members: Any = _decode(text)
    except (ValueError, RecursionError):
        raise MalformedFacts("not JSON") from None
    if not isinstance(members, dict):
        raise MalformedFacts("not a JSON object")
    active = members.get("active")
    if not isinstance(active, bool):
        raise MalformedFacts("active is not true or false")
    client_id = _text(members, "client_id")
    sub = _text(members, "sub")
    scope = _text(members, "scope")
    token_type = _text(members, "token_type")
    exp = _instant(members, "exp")
    nbf = _instant(members, "nbf")
    if (
        not active
        or (exp is not None and exp <= now_at)
        or (nbf is not None and nbf > now_at)
        or (token_type is not None and token_type.lower() != "bearer")
        or members.get("cnf") is not None
    ):
        return INACTIVE
    username = members.get("username")
    if username == sub or not isinstance(username, str) or not _is_unicode(username):
        username = None  # nothing is decided by it: an odd one doesn't cost its token
    return Facts(True, client_id, sub, split_scope(scope or ""), exp, nbf, username)


def _text(members: dict[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedFacts(f"{name} is not a string")
    if value is not None and not _is_unicode(value):
        raise MalformedFacts(f"{name} is not Unicode text")
    return value


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instant(members: dict[str, Any], name: str) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedFacts(f"{name} is not a number")
    try:
        instant = float(value)
    except OverflowError:
        raise MalformedFacts(f"{name} is out of range") from None
    if not math.isfinite(instant):
        raise MalformedFacts(f"{name} is not finite")
    return instant
