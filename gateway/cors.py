"""What pages of other origins may read of the gateway's own answers (Fetch Standard §3.2).

Pure: no I/O, no asyncio, no aiohttp. A page can't tell an expired token from a broken network
unless the answer names its origin. A backend's answers are its own business and stay as they are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Pairs = list[tuple[bytes, bytes]]

ANY = "*"
_EXPOSED = b"WWW-Authenticate, Retry-After, X-Request-ID"
_PREFLIGHT_SECONDS = 600
_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_METHOD = re.compile(_TOKEN)
_NAMES = re.compile(rb"%b(?:[ \t]*,[ \t]*%b)*" % (_TOKEN, _TOKEN))


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a page asks before it sends a request: the method, and the fields that it will have."""

    method: str
    names: bytes | None


@dataclass(frozen=True, slots=True)
class Cors:
    """The origins whose pages may read a route's errors, with ``credentials`` or without."""

    origins: frozenset[bytes]
    credentials: bool = False

    def allows(self, origin: bytes | None) -> bool:
        """Whether this is one of them: only what is listed ever is, and so never "null"."""
        return origin is not None and (origin in self.origins or ANY.encode() in self.origins)

    def answer_fields(self, origin: bytes | None) -> Pairs:
        """Return the fields of an answer of the gateway's own for a page of this origin."""
        if ANY.encode() in self.origins:
            fields = [(b"Access-Control-Allow-Origin", b"*")]
        else:
            # Caches must not give one origin's answer to another, whether it is listed or not.
            fields = [(b"Vary", b"Origin")]
            if origin is None or not self.allows(origin):
                return fields
            fields.append((b"Access-Control-Allow-Origin", origin))
        if self.credentials:
            fields.append((b"Access-Control-Allow-Credentials", b"true"))
        fields.append((b"Access-Control-Expose-Headers", _EXPOSED))
        return fields

    def preflight_fields(self, origin: bytes, asked: Preflight) -> Pairs:
        """Return the fields of the answer to a preflight from an origin that is allowed."""
        fields = [field for field in self.answer_fields(origin) if field[1] is not _EXPOSED]
        fields.append((b"Access-Control-Allow-Methods", asked.method.encode("ascii")))
        if asked.names is not None:
            fields.append((b"Access-Control-Allow-Headers", asked.names))
        fields.append((b"Access-Control-Max-Age", b"%d" % _PREFLIGHT_SECONDS))
        fields.append((b"Vary", b"Access-Control-Request-Method, Access-Control-Request-Headers"))
        return fields


def origin_of(fields: Iterable[tuple[bytes, bytes, bytes]]) -> bytes | None:
    """Return the origin that a request's fields name, if it is one.

    ``fields`` are those of a ``RequestHead``.
    """
    return _only([value for lower, _, value in fields if lower == b"origin"])


def preflight_of(method: str, fields: Sequence[tuple[bytes, bytes, bytes]]) -> Preflight | None:
    """Return what a preflight asks, ``None`` where a request isn't one."""
    if method != "OPTIONS":
        return None
    asked = _only([value for lower, _, value in fields if lower == _REQUEST_METHOD])
    if asked is None or not _METHOD.fullmatch(asked) or origin_of(fields) is None:
        return None
    names = [value for lower, _, value in fields if lower == b"access-control-request-headers"]
    if len(names) > 1 or not all(_NAMES.fullmatch(value) for value in names if value):
        return None
    return Preflight(asked.decode("ascii"), _only(names) or None)


_REQUEST_METHOD = b"access-control-request-method"


def _only(values: list[bytes]) -> bytes | None:
    return values[0] if len(values) == 1 else None
