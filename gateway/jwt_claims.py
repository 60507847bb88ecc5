"""What a JWT says of itself, read without a look at its signature.

Pure: no I/O, no asyncio, no aiohttp. Whoever calls knows why the JWT may be believed: it came just
now over the key manager's own channel (OpenID Connect Core §3.1.3.7), or the key manager has
accepted exactly this one.
"""

import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

Claims = Mapping[str, Any]

MOST_NESTED = 3
"""JWTs within JWTs (RFC 7519 §5.2) that are looked into."""

_SEPARATORS = re.compile("[.~]")  # "~" holds the parts of an SD-JWT together
_NOT_BASE64 = re.compile("[^A-Za-z0-9+/]")
_URL_SAFE = str.maketrans("-_", "+/")


class Doubled:
    """Stands for a member that a JSON object has twice, with different values."""


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose members say one thing each; for ``object_pairs_hook``.

    Which of two values another reader takes isn't known (RFC 8259 §4).
    """
    members: dict[str, Any] = {}
    for name, value in pairs:
        members[name] = value if members.get(name, value) == value else Doubled()
    return members


def claims_of(token: str) -> Claims:
    """Return the claims of a signed JWT (RFC 7519 §3), none where it isn't one.

    A claim that is there twice with different values is a ``Doubled``. What is encrypted says
    nothing.
    """
    parts = token.partition("~")[0].split(".")
    if len(parts) != 3 or "alg" not in (_object(parts[0]) or {}):
        return {}
    return _object(parts[1]) or {}


def is_bound(token: str) -> bool:
    """Tell whether a token says that it is bound to a key (``cnf``, RFC 7800 §3.1).

    However it is written: with padding or the other alphabet of base64, in the header of an
    encrypted JWT (RFC 7519 §5.3), within another JWT, as a disclosure of an SD-JWT. Better one
    too many than a bound token that passes for a plain one.
    """
    return any(_binds(value) for value in _values(token, MOST_NESTED))


def _binds(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("cnf") is not None
    return isinstance(value, list) and len(value) == 3 and value[1] == "cnf"


def _values(token: str, depth: int) -> Iterator[Any]:
    for part in _SEPARATORS.split(token):
        text = _text(part)
        if text is None:
            continue
        yield _json(text)
        if depth and "." in text:
            yield from _values(text.strip().strip('"'), depth - 1)


def _object(part: str) -> dict[str, Any] | None:
    value = _json(_text(part) or "")
    return value if isinstance(value, dict) else None


def _text(part: str) -> str | None:
    digits = _NOT_BASE64.sub("", part.translate(_URL_SAFE))
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    try:
        return b64decode(digits + "=" * (-len(digits) % 4)).decode("utf-8-sig")
    except ValueError:
        return None


def _json(text: str) -> Any:
    try:
        # Numbers as floats: Python refuses integers of many digits, others don't.
        return json.loads(text, object_pairs_hook=without_doubles, parse_int=float)
    except (ValueError, RecursionError):
        return None
