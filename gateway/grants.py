"""What the gateway remembers of a grant: who it is for, and its access tokens that still live.

Pure: no I/O, no asyncio, no aiohttp. A key manager's answer to a refresh doesn't say for whom the
token is, nor, often, its scope (RFC 6749 §5.1); and a refresh token that is revoked takes the
access tokens of its grant with it (RFC 7009 §2.1). Both are known from the answers before.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.tokens import TokenKey

_DIGEST = re.compile(r"[0-9a-f]{64}")
_INSTANT = re.compile(r"[0-9]{1,15}")


RACE_SECONDS = 60.0
"""A token that the key manager issued on a refresh token so long after its revocation wasn't
overtaken by that: the key manager goes on honouring the refresh token."""

CLOCKS_DIFFER_SECONDS = 10.0
"""The same for a token that was issued on another refresh token of the grant. A client that tidies
up a refresh token which it has replaced goes on with the new one: all that has to be allowed for is
how far the clocks of two gateways may differ."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What is known of a refresh token: fields of a Redis hash, named as in ``docs/store.md``.

    A grant's refresh tokens are a family. The first of them that the gateway saw gives it its
    identity: ``family`` of all others is that one, whoever replaced whom, and its hash has the
    access tokens of all (``access``, and when each expires).

    ``sub`` is the user as the key manager knows them, ``username`` as they were typed. ``scope`` is
    that of the grant, which a refresh may have narrowed for one access token only (RFC 6749 §6).
    All instants are seconds since the epoch: when this refresh token was replaced,
    when it was revoked, and when the family ended, by the revocation of any of its refresh tokens.
    ``successor`` is what was written before there were families: the refresh token that replaced
    this one, with access tokens of its own.
    """

    client_id: str | None = None
    sub: str | None = None
    scope: str | None = None
    access: Mapping[TokenKey, int] = field(default_factory=dict)
    family: TokenKey | None = None
    replaced_at: int | None = None
    revoked_at: int | None = None
    ended_at: int | None = None
    successor: TokenKey | None = None
    username: str | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> "Grant":
        """Return the grant in a hash; fields that make no sense are left out."""
        return cls(
            client_id=fields.get("client_id"),
            sub=fields.get("sub"),
            username=fields.get("username"),
            scope=fields.get("scope"),
            access={
                TokenKey(bytes.fromhex(name)): int(value)
                for name, value in fields.items()
                if _DIGEST.fullmatch(name) and _INSTANT.fullmatch(value)
            },
            family=_digest(fields, "family"),
            replaced_at=_instant(fields, "replaced"),
            revoked_at=_instant(fields, "revoked"),
            ended_at=_instant(fields, "ended"),
            successor=_digest(fields, "next"),
        )

    def fields(self) -> dict[str, str]:
        """Return the grant as the fields of a hash."""
        known: dict[str, str | int | None] = {
            "client_id": self.client_id,
            "sub": self.sub,
            "username": self.username,
            "scope": self.scope,
            **{key.hex(): exp for key, exp in self.access.items()},
            "family": None if self.family is None else self.family.hex(),
            "replaced": self.replaced_at,
            "revoked": self.revoked_at,
            "ended": self.ended_at,
            "next": None if self.successor is None else self.successor.hex(),
        }
        return {name: str(value) for name, value in known.items() if value is not None}

    def living(self, now_at: float) -> dict[TokenKey, int]:
        """Return the access tokens that haven't expired at ``now_at`` (epoch seconds)."""
        return {key: exp for key, exp in self.access.items() if exp > now_at}

    @property
    def was_replaced(self) -> bool:
        """Whether this refresh token has bought another: whoever uses it once more replays it."""
        return self.replaced_at is not None or self.successor is not None

    def has_ended_for(self, issued_at: float, *, by_this: bool) -> bool:
        """Whether an access token that was asked for at ``issued_at`` ended with this grant.

        ``by_this`` if it was bought with this refresh token or came with it.
        """
        revoked = by_this and _is_before(issued_at, self.revoked_at, RACE_SECONDS)
        return revoked or _is_before(issued_at, self.ended_at, CLOCKS_DIFFER_SECONDS)


def _is_before(issued_at: float, ended_at: int | None, margin_seconds: float) -> bool:
    return ended_at is not None and issued_at < ended_at + margin_seconds


def _digest(fields: Mapping[str, str], name: str) -> TokenKey | None:
    value = fields.get(name, "")
    return TokenKey(bytes.fromhex(value)) if _DIGEST.fullmatch(value) else None


def _instant(fields: Mapping[str, str], name: str) -> int | None:
    value = fields.get(name, "")
    return int(value) if _INSTANT.fullmatch(value) else None
