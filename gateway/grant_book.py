"""Grants in the token store: which access tokens belong to which refresh token.

A token can be recorded by one gateway while its refresh token is revoked through another. So the
recording writes the token first, then its grant, then looks whether the grant was revoked; the
revocation marks the grant first and then reads it: at least one of the two sees the other.
"""

from gateway.clock import Clock
from gateway.grants import Grant
from gateway.issued import Issued
from gateway.store import TokenStore
from gateway.tokens import TokenKey

GRANT_SECONDS = 30 * 86_400.0
"""How long a grant is remembered after its last use. Nobody tells the gateway how long a refresh
token lives; one that is used later than this buys access tokens without a subject. For the cascade
of a revocation a grant need only outlive its access tokens, and does."""

REVOKED_SECONDS = 3_600.0
"""How long a grant is remembered once it was revoked, at least: a recording may be late."""

RACE_SECONDS = 60.0
"""A token that the key manager issued on a refresh token so long after its revocation wasn't
overtaken by that: the key manager goes on honouring the refresh token."""


class GrantBook:
    """Reads and writes grants. Every method raises ``StoreUnavailable`` as the store does."""

    def __init__(self, store: TokenStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def find(self, refresh_key: TokenKey) -> Grant:
        """Return the grant of a refresh token, an empty one where it isn't known."""
        return Grant.from_fields(await self._store.grant(refresh_key))

    async def link(self, issued: Issued, grant: Grant) -> bool:
        """Note an issued token that is in the store; return whether it must be removed from there.

        ``grant`` is that of the used refresh token. A new refresh token takes over its living
        access tokens; the used one then is remembered no longer than these live.
        """
        now_at = self._clock.wall()
        used_key, new_key = issued.used_refresh_key, issued.refresh_key
        living = grant.living(now_at) | {issued.key: issued.exp}
        access_seconds = max(living.values()) - now_at
        grant_seconds = max(access_seconds, GRANT_SECONDS)
        replaced = new_key is not None and new_key != used_key
        fields = Grant(
            client_id=issued.client_id,
            sub=issued.sub,
            username=issued.username,
            scope=issued.scope if grant.scope is None else grant.scope,
            access=living,
        ).fields()
        if replaced:
            assert new_key is not None
            # Complete before the old one points to it, so that whoever revokes that finds it all.
            await self._store.update_grant(new_key, fields, expires_in_seconds=grant_seconds)
        if used_key is None:
            return False
        if replaced:
            found = await self._store.update_grant(
                used_key, Grant(successor=new_key).fields(), expires_in_seconds=access_seconds
            )
        else:  # the old one stays valid (RFC 6749 §6)
            found = await self._store.update_grant(
                used_key,
                fields,
                without=[key.hex() for key in grant.access if key not in living],
                expires_in_seconds=grant_seconds,
            )
        revoked_at = Grant.from_fields(found).revoked_at
        return revoked_at is not None and issued.iat < revoked_at + RACE_SECONDS

    async def end(self, refresh_key: TokenKey) -> set[TokenKey]:
        """Mark a refresh token's grant as revoked; return its access tokens, none if unknown.

        Those of its successors too (RFC 7009 §2.1: all of the grant's), but these aren't marked:
        a client that tidies up a refresh token which it has replaced goes on with the new one.
        """
        grant = await self.find(refresh_key)
        if grant == Grant():
            return set()
        now_at = self._clock.wall()
        last_exp = max(grant.access.values(), default=0)
        grant = Grant.from_fields(
            await self._store.update_grant(
                refresh_key,
                Grant(revoked_at=int(now_at)).fields(),
                expires_in_seconds=max(last_exp - now_at, REVOKED_SECONDS),
            )
        )
        access = set(grant.access)
        seen = {refresh_key}
        while grant.successor is not None and grant.successor not in seen:
            seen.add(grant.successor)
            grant = await self.find(grant.successor)
            access |= grant.access.keys()
        return access
