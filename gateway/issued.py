"""Access tokens that the key manager issued, and what is known of them.

Pure: no I/O, no asyncio, no aiohttp. An answer of the token endpoint says little (RFC 6749 §5.1):
the rest is in the request, or known from the grant that a refresh token belongs to.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.grants import Grant
from gateway.oauth_messages import Answer, Parameters, one
from gateway.tokens import TokenKey, token_key

LONGEST_SECONDS = 10 * 365 * 86_400
"""What an ``expires_in`` is cut to: some key managers say "never" by a number that neither Redis
nor a clock can hold."""

# The grants whose token request has a scope of its own. In the others it was asked for elsewhere
# (RFC 6749 §4.1.1, RFC 8628 §3.1), and a scope in the token request is anybody's invention.
_SCOPE_IS_REQUESTED = frozenset(
    {
        "client_credentials",  # RFC 6749 §4.4.2
        "password",  # RFC 6749 §4.3.2
        "refresh_token",  # RFC 6749 §6
        "urn:ietf:params:oauth:grant-type:jwt-bearer",  # RFC 7521 §4.1
        "urn:ietf:params:oauth:grant-type:saml2-bearer",  # RFC 7521 §4.1
        "urn:ietf:params:oauth:grant-type:token-exchange",  # RFC 8693 §2.1
    }
)
# Half a surrogate pair: JSON can say it, UTF-8 can't.
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")


class Unreadable(ValueError):
    """An answer of the token endpoint that can't be recorded. The message never quotes it."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token that the key manager issued, and what is known of it.

    ``iat`` and ``exp`` are seconds since the epoch. ``requested_scope`` is the client's wish,
    which stands where the answer has no ``scope`` (RFC 6749 §5.1). ``refresh_key`` is the refresh
    token that came with it, ``used_refresh_key`` the one that it was bought with.
    """

    key: TokenKey
    iat: int
    exp: int
    client_id: str | None = None
    sub: str | None = None
    username: str | None = None
    scope: str | None = None
    requested_scope: str | None = None
    refresh_key: TokenKey | None = None
    used_refresh_key: TokenKey | None = None

    @property
    def keys(self) -> frozenset[TokenKey]:
        """Whatever token may be revoked to take this one away."""
        keys = {self.key, self.refresh_key, self.used_refresh_key}
        return frozenset(key for key in keys if key is not None)

    def completed(self, grant: Grant) -> "Issued":
        """Return this with what only the grant of the used refresh token knows.

        The scope is never more than the grant's, whatever the client asked for (RFC 6749 §6).
        """
        scope = self.scope
        if scope is None:
            scope = self.requested_scope if grant.scope is None else grant.scope
            if self.requested_scope is not None and grant.scope is not None:
                granted = grant.scope.split()
                scope = " ".join(part for part in self.requested_scope.split() if part in granted)
        return replace(
            self,
            client_id=grant.client_id if self.client_id is None else self.client_id,
            sub=grant.sub if self.sub is None else self.sub,
            scope=scope,
        )

    def document(self) -> dict[str, Any]:
        """Return the RFC 7662 document for the token store."""
        members = {
            "active": True,
            "client_id": self.client_id,
            "sub": self.sub,
            "username": self.username,
            "scope": self.scope,
            "token_type": "Bearer",
            "iat": self.iat,
            "exp": self.exp,
        }
        return {name: value for name, value in members.items() if value is not None}


def read_issued(
    answer: Answer,
    *,
    parameters: Parameters,
    client_id: str | None,
    now_at: float,
    default_expires_in_seconds: float,
) -> Issued | None:
    """Return the access token in a 200 of the token endpoint (RFC 6749 §5.1).

    ``now_at`` (epoch seconds) is when its life began, ``None`` is returned for a token that isn't
    a bearer token. The subject is known where the grant says it: a client that acts for itself
    (RFC 9068 §2.2), or the user whose password it was.

    Raises:
        Unreadable: not a plain JSON object, or a member that is missing or wrong.
    """
    if set(answer.values({b"content-encoding"})) - {b"identity"}:
        raise Unreadable("encoded, though identity was asked for")
    members = _object(answer.content)
    access_token = _text(members, "access_token")
    token_type = _text(members, "token_type")
    if not access_token or token_type is None:
        raise Unreadable("no access_token, or no token_type")
    if token_type.lower() != "bearer":
        return None
    refresh_token = _text(members, "refresh_token")
    grant_type = one(parameters, "grant_type")
    used = one(parameters, "refresh_token") if grant_type == "refresh_token" else None
    username = one(parameters, "username") if grant_type == "password" else None
    return Issued(
        key=token_key(access_token),
        iat=int(now_at),
        exp=int(now_at + _expires_in(members.get("expires_in"), default_expires_in_seconds)),
        client_id=client_id,
        sub=client_id if grant_type == "client_credentials" else username,
        username=username,
        scope=_text(members, "scope"),
        requested_scope=_requested_scope(grant_type, parameters),
        refresh_key=token_key(refresh_token) if refresh_token else None,
        used_refresh_key=token_key(used) if used else None,
    )


def _object(content: bytes) -> dict[str, Any]:
    try:
        members = json.loads(content)
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    if not isinstance(members, dict):
        raise Unreadable("not a JSON object")
    return members


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None or (isinstance(value, str) and not _HALF_A_PAIR.search(value)):
        return value
    raise Unreadable(f"{name} is not text")


def _expires_in(value: Any, default_seconds: float) -> float:
    if value is None:
        return default_seconds
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise Unreadable("expires_in is not a positive number")
    return float(min(value, LONGEST_SECONDS))


def _requested_scope(grant_type: str | None, parameters: Parameters) -> str | None:
    if grant_type not in _SCOPE_IS_REQUESTED or not parameters.get("scope"):
        return None
    return one(parameters, "scope") or ""  # two different ones: none of either
