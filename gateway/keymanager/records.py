"""What the key manager remembers: codes, refresh tokens, and the families they belong to.

A *family* is everything that was issued on one authorization grant: the refresh tokens that
followed one another and the access tokens that came with them. Records are JSON; no record
holds a token, only digests. Instants are whole seconds since the epoch.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from gateway.tokens import TokenKey


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code (RFC 6749 §4.1.2), bound to its client and redirect URI.

    ``redirect_uri_given`` tells whether the authorization request named it: then the token
    request must too (§4.1.3). ``family`` is set when the code is redeemed; a code that has
    one was used.
    """

    client_id: str
    username: str
    scope: str
    redirect_uri: str
    redirect_uri_given: bool
    code_challenge: str
    exp: int
    family: str | None = None


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token. Its record never changes: whether it was used, its family knows."""

    family: str
    client_id: str
    username: str | None
    scope: str
    iat: int
    exp: int


@dataclass(frozen=True, slots=True)
class Family:
    """A live grant. ``current`` is the digest of the one refresh token that is still good.

    ``since_at`` is when it was made, ``used_at`` when tokens were last issued on it, ``exp``
    when the last of them expires. A family that was revoked isn't there any more.
    """

    client_id: str
    current: str | None
    username: str | None = None
    scope: str = ""
    since_at: int = 0
    used_at: int = 0
    exp: int = 0


Record = TypeVar("Record", Code, RefreshToken, Family)


def to_json(record: Code | RefreshToken | Family) -> bytes:
    """Return a record as it is stored."""
    return json.dumps(asdict(record), separators=(",", ":")).encode()


def from_json(kind: type[Record], value: bytes | str | None) -> Record | None:
    """Return a stored record; ``None`` for nothing, or for what isn't such a record."""
    if value is None:
        return None
    try:
        return kind(**json.loads(value))
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Issue:
    """The tokens that one answer hands out, ready to be stored.

    ``access_document`` is the RFC 7662 document of the access token, ``exp`` and ``client_id``
    among its members. ``family`` is ``None`` for a token that belongs to no grant; ``since_at`` is
    when its grant was made, if that was before.
    """

    access_key: TokenKey
    access_document: dict[str, Any]
    family: str | None = None
    refresh_key: TokenKey | None = None
    refresh: RefreshToken | None = None
    since_at: int | None = None
