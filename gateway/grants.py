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


@dataclass(frozen=True, slots=True)
class Grant:
    """What is known of a refresh token: fields of a Redis hash, named as in ``docs/store.md``.

    ``sub`` is the user as the key manager knows them, ``username`` as they were typed. ``scope`` is
    that of the grant, which a refresh may have narrowed for one access token only (RFC 6749 §6).
    ``access`` are its access tokens and when each expires (epoch seconds).
    ``successor`` is the refresh token that replaced this one, ``revoked_at`` when this one was
    revoked (epoch seconds).
    """

    client_id: str | None = None
    sub: str | None = None
    scope: str | None = None
    access: Mapping[TokenKey, int] = field(default_factory=dict)
    successor: TokenKey | None = None
    revoked_at: int | None = None
    username: str | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> "Grant":
        """Return the grant in a hash; fields that make no sense are left out."""
        successor = fields.get("next", "")
        revoked_at = fields.get("revoked", "")
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
            successor=(
                TokenKey(bytes.fromhex(successor)) if _DIGEST.fullmatch(successor) else None
            ),
            revoked_at=int(revoked_at) if _INSTANT.fullmatch(revoked_at) else None,
        )

    def fields(self) -> dict[str, str]:
        """Return the grant as the fields of a hash."""
        known = {
            "client_id": self.client_id,
            "sub": self.sub,
            "username": self.username,
            "scope": self.scope,
        }
        fields = {name: value for name, value in known.items() if value is not None}
        fields |= {key.hex(): str(exp) for key, exp in self.access.items()}
        if self.successor is not None:
            fields["next"] = self.successor.hex()
        if self.revoked_at is not None:
            fields["revoked"] = str(self.revoked_at)
        return fields

    def living(self, now_at: float) -> dict[TokenKey, int]:
        """Return the access tokens that haven't expired at ``now_at`` (epoch seconds)."""
        return {key: exp for key, exp in self.access.items() if exp > now_at}
