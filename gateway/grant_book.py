"""Grants in the token store: which access tokens belong to which refresh token.

A token may be recorded by one gateway while its refresh token is revoked through another. So the
recording first notes the token in its grant and reads what the grant has then, and only afterwards
writes the token, which it may not over an end; the revocation first marks the grant and reads what
it has then, and only afterwards ends the tokens that it found. Each is a write before a read, so at
least one of the two sees the other, whoever waits where.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.clock import Clock
from gateway.grants import Grant
from gateway.issued import Issued
from gateway.store import GrantUpdate, TokenStore
from gateway.tokens import TokenKey

GRANT_SECONDS = 30 * 86_400.0
"""How long a grant is remembered after its last use. Nobody tells the gateway how long a refresh
token lives; one that is used later than this buys access tokens without a subject. For the cascade
of a revocation a grant need only outlive its access tokens, and does."""

ENDED_SECONDS = 7_200.0
"""How long it is remembered that a token or a grant has ended, at least: longer than any gateway
holds a token that it couldn't write (``recording.HELD_SECONDS``)."""

_TIDY_FROM = 8
"""Expired access tokens that a grant may have before they are taken out."""

_MOST_STEPS = 16


@dataclass(slots=True)
class Linked:
    """An issued token and its grant.

    ``issued`` is completed by what the grant knows, ``has_ended`` says that it must not be written.
    ``earlier`` are the other access tokens of the grant, and ``doomed`` those that turned out to
    have ended, with when each expires.
    """

    issued: Issued
    has_ended: bool = False
    earlier: Mapping[TokenKey, int] = field(default_factory=dict)
    doomed: Mapping[TokenKey, int] = field(default_factory=dict)


class GrantBook:
    """Reads and writes grants. Every method raises ``StoreUnavailable`` as the store does.

    With ``remembers_replaced`` a refresh token that was replaced is remembered as long as its
    grant, else as long as the access token that it bought.
    """

    def __init__(
        self, store: TokenStore, clock: Clock, *, remembers_replaced: bool = False
    ) -> None:
        self.remembers_replaced = remembers_replaced
        self._store = store
        self._clock = clock

    async def find(self, refresh_keys: Sequence[TokenKey]) -> list[Grant]:
        """Return the grants of refresh tokens, in order, an empty one where it isn't known."""
        return [Grant.from_fields(found) for found in await self._store.grants(refresh_keys)]

    async def link(self, tokens: Sequence[Issued]) -> list[Linked]:
        """Note issued tokens in their grants, before they are in the store.

        Their order doesn't matter: one that was bought with a refresh token that another brought
        is noted after that.
        """
        linked: dict[int, Linked] = {}
        for ready in _in_order(tokens):
            linked |= zip(map(id, ready), await self._link(ready), strict=True)
        return [linked[id(token)] for token in tokens]

    async def end(
        self, refresh_key: TokenKey, grant: Grant, *, ended_at: int | None = None
    ) -> dict[TokenKey, int]:
        """Mark a refresh token as revoked and its family as ended; return all its access tokens.

        ``grant`` is what ``find`` said of it. All of the family's go (RFC 7009 §2.1), whichever
        refresh token bought them, but its other refresh tokens aren't marked as revoked: a client
        that tidies up one which it has replaced goes on with the new one.
        """
        now_at = int(self._clock.wall())
        ended_at = now_at if ended_at is None else ended_at
        known, end = grant != Grant(), Grant(ended_at=ended_at)
        marks = [
            _update(
                refresh_key,
                Grant(revoked_at=ended_at, ended_at=ended_at),
                None if known else ENDED_SECONDS,
            )
        ]
        if grant.family is not None:
            marks.append(_update(grant.family, end))
        found: dict[TokenKey, Grant] = {}
        # Then whatever else these lead to: families that were joined, and successors.
        for _ in range(_MOST_STEPS):
            found |= await self._write(marks)
            linked = {key for each in found.values() for key in (each.family, each.successor)}
            marks = [_update(key, end) for key in linked - found.keys() - {None} if key is not None]
            if not marks:
                break
        access = {key: exp for each in found.values() for key, exp in each.access.items()}
        if known and not grant.was_replaced:
            # It is over, most likely: nobody has to remember it for a month.
            seconds = max([ENDED_SECONDS, *(exp - now_at for exp in access.values())])
            await self._write([_update(key, Grant(), seconds) for key in found])
        return access

    async def _link(self, tokens: Sequence[Issued]) -> list[Linked]:
        keys = [key for token in tokens for key in _looked_up(token)]
        known = dict(zip(keys, await self.find(keys), strict=True))
        plans = [self._plan(token, known) for token in tokens]
        found = await self._write([update for plan in plans for update in plan.updates])
        return [
            await self._judge(
                plan, {each.refresh_key: found[each.refresh_key] for each in plan.updates}
            )
            for plan in plans
        ]

    def _plan(self, token: Issued, known: Mapping[TokenKey, Grant]) -> "_Plan":
        """Return what is to be written of a token's grant, by what is known of its refresh tokens.

        Two of these may each have a family already, as a refresh token may be used through one
        gateway before another has noted whose it is. Then the families become one.
        """
        used_key, new_key = token.used_refresh_key, token.refresh_key
        used = known.get(used_key, Grant()) if used_key is not None else Grant()
        new = known.get(new_key, Grant()) if new_key is not None else Grant()
        token = token.completed(used)
        heads = [used.family or used_key, new.family or new_key]
        head, other = heads[0] or heads[1], heads[1]
        if head is None:
            return _Plan(token, None, {})
        now_at = self._clock.wall()
        life_seconds = token.exp - now_at
        grant_seconds = max(life_seconds, GRANT_SECONDS)
        # A refresh may have narrowed the scope for this one token (RFC 6749 §6). From another
        # client's grant nothing is handed on, as nothing was taken.
        is_its_own = used.client_id == token.client_id
        about = Grant(
            client_id=token.client_id,
            sub=token.sub,
            username=token.username,
            scope=used.scope if is_its_own and used.scope is not None else token.scope,
        )
        plan = _Plan(token, head, {})
        plan.add(head, Grant(access={token.key: token.exp}), grant_seconds)
        if head in {used_key, new_key} and known.get(head, Grant()).client_id is None:
            plan.add(head, about)
        if new_key is not None and new_key != head:
            plan.add(new_key, replace(about, family=head), grant_seconds)
        if other not in {None, head, new_key}:
            plan.add(other, Grant(family=head))
        is_replaced = new_key not in {None, used_key}
        if used_key is not None:
            keeps = not is_replaced or self.remembers_replaced or used_key == head
            seconds = grant_seconds if keeps else max(life_seconds, ENDED_SECONDS)
            plan.add(used_key, Grant(replaced_at=int(now_at) if is_replaced else None), seconds)
        return plan

    async def _judge(self, plan: "_Plan", found: dict[TokenKey, Grant]) -> Linked:
        """Return what a grant says of a token, once that is noted in it."""
        token, new_key = plan.token, plan.token.refresh_key
        if plan.head is None:
            return Linked(token)
        head = await self._gather(plan.head, found)
        doomed: Mapping[TokenKey, int] = {}
        its_own = {new_key, token.used_refresh_key}
        has_ended = any(
            grant.has_ended_for(token.iat, by_this=key in its_own) for key, grant in found.items()
        )
        marked = Grant() if new_key is None or new_key == head else found[new_key]
        if new_key is not None and marked.has_ended_for(token.iat, by_this=True):
            # It was revoked while nobody else knew whose it is.
            at = max(marked.revoked_at or 0, marked.ended_at or 0)
            doomed = await self.end(new_key, marked, ended_at=at)
        now_at = self._clock.wall()
        access = found[head].access
        expired = [key.hex() for key, exp in access.items() if exp <= now_at]
        if len(expired) >= _TIDY_FROM:
            await self._write([replace(_update(head, Grant()), without=expired)])
        return Linked(
            token,
            has_ended=has_ended,
            earlier={k: exp for k, exp in access.items() if exp > now_at and k != token.key},
            doomed=doomed,
        )

    async def _gather(self, head: TokenKey, found: dict[TokenKey, Grant]) -> TokenKey:
        """See to it that the head of a family has all its access tokens; return the head."""
        for _ in range(_MOST_STEPS):
            further = found[head].family
            if further is not None and further not in found:  # joined to another meanwhile
                head, there = further, Grant()
            else:
                there = found[head]
            access = {key: exp for each in found.values() for key, exp in each.access.items()}
            missing = {key: exp for key, exp in access.items() if key not in there.access}
            if not missing:
                break
            found |= await self._write([_update(head, Grant(access=missing), GRANT_SECONDS)])
        return head

    async def _write(self, updates: Sequence[GrantUpdate]) -> dict[TokenKey, Grant]:
        """Carry out updates; return what each grant is after the last of its own."""
        found = await self._store.update_grants(updates)
        return {
            update.refresh_key: Grant.from_fields(fields)
            for update, fields in zip(updates, found, strict=True)
        }


@dataclass(slots=True)
class _Plan:
    """What is to be written of a token's grant; its ``head`` is to have all that belongs to it."""

    token: Issued
    head: TokenKey | None
    _updates: dict[TokenKey, GrantUpdate]

    @property
    def updates(self) -> list[GrantUpdate]:
        """One for each refresh token."""
        return list(self._updates.values())

    @property
    def refresh_keys(self) -> list[TokenKey]:
        """The refresh tokens of which something is written."""
        return list(self._updates)

    def add(
        self, refresh_key: TokenKey, grant: Grant, expires_in_seconds: float | None = None
    ) -> None:
        """Write fields of a grant, besides those that are written already."""
        update = _update(refresh_key, grant, expires_in_seconds)
        before = self._updates.get(refresh_key)
        if before is not None:
            fields = {**before.fields, **update.fields}
            seconds = expires_in_seconds or before.expires_in_seconds
            update = replace(before, fields=fields, expires_in_seconds=seconds)
        self._updates[refresh_key] = update


def _update(
    refresh_key: TokenKey, grant: Grant, expires_in_seconds: float | None = None
) -> GrantUpdate:
    return GrantUpdate(refresh_key, grant.fields(), expires_in_seconds=expires_in_seconds)


def _looked_up(token: Issued) -> list[TokenKey]:
    """Return the refresh tokens whose grants decide what is written.

    That of a first one shows itself when it is written.
    """
    keys = (token.used_refresh_key, token.used_refresh_key and token.refresh_key)
    return [key for key in dict.fromkeys(keys) if key is not None]


def _in_order(tokens: Sequence[Issued]) -> Iterator[list[Issued]]:
    """Yield tokens in parts: each after that which brought the refresh token it was bought with."""
    left = list(tokens)
    while left:
        brought = {each.refresh_key for each in left if each.refresh_key != each.used_refresh_key}
        ready = [
            each
            for each in left
            if each.used_refresh_key is None or each.used_refresh_key not in brought
        ]
        ready = ready or left  # a circle
        yield ready
        now = set(map(id, ready))
        left = [each for each in left if id(each) not in now]
