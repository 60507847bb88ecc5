"""Access tokens that the key manager issued, and what is known of them.

Pure: no I/O, no asyncio, no aiohttp. What a token is worth is what the key manager said: in its
answer, in the JWTs that came with it, or earlier, of the grant that a refresh token belongs to.
A request adds what the key manager must have checked to accept it (which client, which user's
password) and never more: not a scope, unless a setting says that this key manager means so.
``docs/store.md`` goes through it member by member.
"""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.client_authentication import Doubt, RequestClient
from gateway.grants import Grant
from gateway.jwt_claims import Claims
from gateway.oauth_messages import Answer, Parameters, one
from gateway.token_response import (
    LONGEST_SECONDS,
    TokenResponse,
    Unrecorded,
    is_text,
    read_token_response,
    scope_text,
)
from gateway.tokens import TokenKey, token_key

OmittedScope = Literal["none", "as_requested"]
"""What an answer without ``scope`` grants: ``key_manager.omitted_scope``."""

ClientDoubt = Doubt | Literal["contradicted"]

CLOCKS_DIFFER_SECONDS = 60.0
"""How far a key manager's clock may be ahead: a token isn't "not yet valid" within that."""

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
# Where a user took part, whoever the client is (RFC 6749 §4.1, §4.3, RFC 8628).
_OF_USERS = frozenset(
    {"authorization_code", "password", "urn:ietf:params:oauth:grant-type:device_code"}
)


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token that the key manager issued, and what is known of it.

    ``iat``, ``exp`` and ``nbf`` are seconds since the epoch. ``sub`` names a user as the key
    manager knows them, ``username`` as they were typed. ``requested_scope`` narrows the scope of
    the grant after a refresh, and stands for a missing one where ``trusts_request`` says so.
    ``refresh_key`` is the refresh token that came with it, ``used_refresh_key`` the one that it
    was bought with. ``client_doubt`` says why there is no ``client_id`` though one was named.
    """

    key: TokenKey
    iat: int
    exp: int
    nbf: int | None = None
    client_id: str | None = None
    sub: str | None = None
    username: str | None = None
    scope: str | None = None
    requested_scope: str | None = None
    trusts_request: bool = False
    refresh_key: TokenKey | None = None
    used_refresh_key: TokenKey | None = None
    client_doubt: ClientDoubt | None = None

    @property
    def keys(self) -> frozenset[TokenKey]:
        """Whatever token may be revoked to take this one away."""
        keys = {self.key, self.refresh_key, self.used_refresh_key}
        return frozenset(key for key in keys if key is not None)

    def completed(self, grant: Grant) -> "Issued":
        """Return this with what only the grant of the used refresh token knows.

        The scope is never more than the grant's, whatever the client asked for (RFC 6749 §6).
        From another client's grant nothing is taken: it must have been refused (§6 as well).
        """
        scope = self.scope
        if scope is None and self.trusts_request:
            scope = self.requested_scope
        if self.used_refresh_key is None:
            return replace(self, scope=scope)
        if grant == Grant() or self.client_id not in {None, grant.client_id}:
            # Whether the grant has a user isn't known.
            return replace(self, scope=scope, sub=None)
        if self.scope is None and grant.scope is not None:
            scope = grant.scope
            if self.requested_scope is not None:
                granted = grant.scope.split(" ")
                asked_for = self.requested_scope.split(" ")
                scope = " ".join(part for part in asked_for if part in granted)
        return replace(
            self,
            client_id=grant.client_id,
            # A grant without a user has none, whatever a JWT calls the client (RFC 9068 §2.2).
            sub=grant.sub if self.sub in {None, grant.sub} else None,
            username=grant.username,
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
            "nbf": self.nbf,
            "exp": self.exp,
        }
        return {name: value for name, value in members.items() if value is not None}


def read_issued(
    answer: Answer,
    *,
    parameters: Parameters,
    client: RequestClient,
    now_at: float,
    default_expires_in_seconds: float,
    omitted_scope: OmittedScope = "none",
) -> Issued:
    """Return the access token in a success of the token endpoint (RFC 6749 §5.1).

    ``parameters`` are those of the request's body that nothing contradicts; ``now_at`` (epoch
    seconds) is when the token's life began, at the earliest.

    Raises:
        Unrecorded: the answer says nothing that can be relied upon, or not of a bearer token.
    """
    response = read_token_response(answer)
    grant_type = one(parameters, "grant_type")
    used = one(parameters, "refresh_token") if grant_type == "refresh_token" else None
    client_id, client_doubt = _client(response, client)
    return Issued(
        key=token_key(response.access_token),
        iat=int(now_at),
        exp=_exp(response, now_at, default_expires_in_seconds),
        nbf=_nbf(response.claims, now_at),
        client_id=client_id,
        sub=_subject(response, grant_type, client, client_id),
        # The user whose password was checked (RFC 6749 §4.3.2), by the name that was typed.
        username=one(parameters, "username") if grant_type == "password" else None,
        scope=_scope(response),
        requested_scope=_requested_scope(grant_type, parameters),
        trusts_request=omitted_scope == "as_requested",
        refresh_key=token_key(response.refresh_token) if response.refresh_token else None,
        used_refresh_key=token_key(used) if used else None,
        client_doubt=client_doubt,
    )


def _client(
    response: TokenResponse, client: RequestClient
) -> tuple[str | None, ClientDoubt | None]:
    """Return the client that a token was issued to, or why it isn't known.

    A JWT names it (RFC 9068 §2.2, OpenID Connect Core §2), else it is the request's, which the
    key manager must have authenticated if it authenticates at all (RFC 6749 §3.2.1).
    """
    claims, id_claims = response.claims, response.id_claims
    told = [_said(claims, "client_id") or _said(claims, "azp"), _said(id_claims, "azp")]
    if told[1] is None:
        told[1] = _said(id_claims, "aud")  # where it is one only
    named = {client_id for client_id in told if client_id is not None}
    if not named:
        return client.client_id, client.doubt
    if len(named) > 1 or (client.readings and not named <= client.readings):
        return None, "contradicted"
    return named.pop(), None


def _subject(
    response: TokenResponse,
    grant_type: str | None,
    client: RequestClient,
    client_id: str | None,
) -> str | None:
    """Return the user that a token is for, as the key manager names them.

    What it names for a client that acts for itself is no user (RFC 9068 §2.2), and must not pass
    for one of the same name (RFC 9700 §4.15).
    """
    if grant_type in {None, "client_credentials"}:
        return None
    if client_id is None and grant_type not in _OF_USERS:
        return None  # it could be the client's own name
    sub = response.claims.get("sub")
    if sub is None and _is_for(response.id_claims, client.readings or {client_id}):
        # OpenID Connect Core §3.1.3.7: over the key manager's own channel it needs no signature.
        sub = response.id_claims.get("sub")
    if not is_text(sub) or sub in client.readings | {client_id, ""}:
        return None
    return sub


def _is_for(id_claims: Claims, clients: AbstractSet[str | None]) -> bool:
    """Tell whether an ID token is for one of some clients (OpenID Connect Core §3.1.3.7).

    One without an audience came in this answer, and so to this client.
    """
    audience = id_claims.get("aud")
    if audience is None:
        return True
    audiences = audience if isinstance(audience, list) else [audience]
    return any(is_text(name) and name in clients for name in audiences)


def _scope(response: TokenResponse) -> str | None:
    """Return the scope that was granted: the answer's, and no more than a JWT has."""
    inside = scope_text(response.claims.get("scope"))
    if response.scope is None or inside is None:
        return inside if response.scope is None else response.scope
    both = inside.split(" ")
    return " ".join(token for token in response.scope.split(" ") if token in both)


def _exp(response: TokenResponse, now_at: float, default_expires_in_seconds: float) -> int:
    ends = _instant(response.claims, "exp")
    life_seconds = response.expires_in_seconds
    if life_seconds is None:
        life_seconds = default_expires_in_seconds if ends is None else LONGEST_SECONDS
    exp = now_at + life_seconds if ends is None else min(now_at + life_seconds, ends)
    if exp < int(now_at) + 1:
        raise Unrecorded("expired", "expired when it was issued")
    return int(exp)


def _nbf(claims: Claims, now_at: float) -> int | None:
    begins = _instant(claims, "nbf")
    if begins is None or begins <= now_at + CLOCKS_DIFFER_SECONDS:
        return None
    return math.ceil(min(begins, now_at + LONGEST_SECONDS))


def _instant(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(value)


def _said(claims: Claims, name: str) -> str | None:
    value = claims.get(name)
    return value if is_text(value) and value else None


def _requested_scope(grant_type: str | None, parameters: Parameters) -> str | None:
    if grant_type not in _SCOPE_IS_REQUESTED or not parameters.get("scope"):
        return None
    return one(parameters, "scope") or ""  # two different ones: none of either
