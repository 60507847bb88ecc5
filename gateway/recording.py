"""What passes through the OAuth endpoints, brought into the token store.

A client gets its answer from the token endpoint even if the store is down: the key manager may
have taken its refresh token away for it. What couldn't be written then waits in memory and is tried
again. A revocation that couldn't be written waits as well, but its client is told
(``docs/decisions/0003-revocation-needs-the-store.md``).

That a token was revoked is known to the store alone, not to whichever gateway holds it: what is
written late is written so that a revocation, by whomever, wins
(``docs/decisions/0016-a-revocation-leaves-an-end-behind.md``).
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import StoreUnavailable
from gateway.grant_book import ENDED_SECONDS, GrantBook, Linked
from gateway.grants import Grant
from gateway.issued import Issued
from gateway.store import NewDocument, TokenStore
from gateway.tokens import TokenKey

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 1.0
MOST_WAITING = 10_000
"""Entries of about a kilobyte: some minutes of a busy token endpoint."""
HELD_SECONDS = 3_600.0
"""How long a token waits, at most: less than its end is remembered, had it been revoked."""
BATCH = 128
"""Tokens that go to the store together."""
SHORTEST_END_SECONDS = 60.0
"""How long an end is remembered beyond the life of its token: the clocks of gateways differ."""


class RecordingMetrics(Protocol):
    """What is counted of recording."""

    def token_recorded(self, result: str) -> None:
        """An access token passed the token endpoint: "stored", "retried", "revoked" or "lost"."""
        ...

    def tokens_revoked(self, count: int) -> None:
        """A revocation removed ``count`` tokens from the store."""
        ...

    def store_failure(self, command: str) -> None:
        """A command failed: "record" or "revoke"."""
        ...

    def foreign_revocation(self) -> None:
        """The key manager accepted a revocation by another client than the token's."""
        ...


class Known(Protocol):
    """What the gateway knows of tokens: ``validator.Validator``."""

    def forget(self, key: TokenKey) -> None:
        """Drop all that is known of a token."""
        ...

    def revoking(self, key: TokenKey) -> None:
        """A token is about to leave the store."""
        ...

    def revoke(self, key: TokenKey, *, since: float) -> None:
        """A token has left the store; it was revoked at ``since`` (monotonic seconds)."""
        ...


@dataclass(frozen=True, slots=True)
class Revocation:
    """A token that is to end.

    ``cascade`` takes its grant along. ``by`` are the clients that the one who asked may be, none if
    it didn't say so; ``None`` where the key manager itself named the token. One that is a
    ``replay`` counts only where the token is a refresh token that was replaced. ``since`` is when
    it was revoked (monotonic seconds).
    """

    key: TokenKey
    since: float
    cascade: bool = True
    by: frozenset[str] | None = None
    replay: bool = False

    @property
    def what(self) -> tuple[object, ...]:
        """What it is, whenever it was: the same once more makes no difference."""
        return self.key, self.cascade, self.by, self.replay

    def may_end(self, client_id: str | None) -> bool:
        """Whether this ends what was issued to ``client_id``, ``None`` where that isn't known.

        RFC 7009 §2.1: the token must have been issued to the client that asks. A key manager that
        answers 200 and does nothing is in its right (§2.2), so its answer alone doesn't say. Only
        where two names contradict each other is it known that it can't have meant it: a 2xx that
        leaves a token good is the greater harm.
        """
        if self.replay:
            return client_id is not None and self.by is not None and client_id in self.by
        return not self.by or client_id is None or client_id in self.by


@dataclass(frozen=True, slots=True)
class _Held:
    """A token that waits for the store, since when (monotonic seconds)."""

    issued: Issued
    since: float


class Recorder:
    """Writes issued tokens into the store and ends revoked ones.

    One for each gateway, whatever becomes of its settings: what waits here is nowhere else. With
    ``revoke_on_refresh``, which may be set at any time, a refresh revokes the grant's earlier
    access tokens.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        known: Known,
        metrics: RecordingMetrics,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        most_waiting: int = MOST_WAITING,
        revoke_on_refresh: bool = False,
        remembers_replaced: bool = False,
    ) -> None:
        self.revoke_on_refresh = revoke_on_refresh
        self._store = store
        self._grants = GrantBook(store, clock, remembers_replaced=remembers_replaced)
        self._known = known
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._most_waiting = most_waiting
        # Both in the order in which they came. Revocations go first: they can't come too early.
        self._revocations: OrderedDict[tuple[object, ...], Revocation] = OrderedDict()
        self._held: OrderedDict[TokenKey, _Held] = OrderedDict()
        self._retrying: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def remembers_replaced(self) -> bool:
        """Whether refresh tokens that were replaced are remembered as long as their grants."""
        return self._grants.remembers_replaced

    @remembers_replaced.setter
    def remembers_replaced(self, remembers: bool) -> None:
        self._grants.remembers_replaced = remembers

    def holds(self, key: TokenKey) -> bool:
        """Whether a token is good but not in the store yet: nobody may call it unknown."""
        return key in self._held

    async def record(self, issued: Issued) -> None:
        """Write an issued token into the store, now or as soon as the store is there."""
        if self._must_wait(issued):
            self._hold(issued)
            return
        try:
            await self._write([issued], "stored")
        except StoreUnavailable:
            self._metrics.store_failure("record")
            self._hold(issued)

    async def revoke(
        self,
        keys: Sequence[TokenKey],
        *,
        by: frozenset[str] = frozenset(),
        named: Sequence[TokenKey] = (),
    ) -> None:
        """End revoked tokens, and with a refresh token the access tokens of its grant.

        ``by`` are the clients that the one who asked may be. ``named`` are tokens of which the key
        manager itself said that they ended.

        Raises:
            StoreUnavailable: they are still in the store. It is tried again in the background,
                but nobody should rely on that: the client must ask again.
        """
        since = self._clock.monotonic()
        asked = [Revocation(key, since, by=by) for key in keys]
        await self._revoke([*asked, *(Revocation(key, since) for key in named)])

    async def deactivate(self, keys: Sequence[TokenKey]) -> None:
        """End access tokens that the key manager ended on its own, now or later."""
        since = self._clock.monotonic()
        with suppress(StoreUnavailable):
            await self._revoke([Revocation(key, since, cascade=False) for key in keys])

    async def replayed(self, refresh_key: TokenKey, *, by: frozenset[str]) -> None:
        """End the grant of a refresh token that one of the clients ``by`` used, now or later.

        If it was replaced before: else the key manager may have had any reason to refuse it.
        """
        replay = Revocation(refresh_key, self._clock.monotonic(), by=by, replay=True)
        with suppress(StoreUnavailable):
            await self._revoke([replay])

    async def close(self) -> None:
        """Try what waits one last time; what still can't be written is lost."""
        self._closing = True
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        await self._write_waiting()
        for key in list(self._held):
            self._lose(key, "the gateway stops")
        for revocation in list(self._revocations.values()):
            self._give_up(revocation, "the gateway stops")

    # What waits

    def _must_wait(self, issued: Issued) -> bool:
        if not self._held:
            return False
        # While the store is known to be down, nobody should have to wait for its time-out; and what
        # waits may hold the grant that this token's subject comes from.
        used = issued.used_refresh_key
        return not self._store.reachable or (
            used is not None
            and any(used == held.issued.refresh_key for held in self._held.values())
        )

    def _hold(self, issued: Issued) -> None:
        self._held[issued.key] = _Held(issued, self._clock.monotonic())
        self._held.move_to_end(issued.key)
        self._known.forget(issued.key)  # someone may have asked for it too early
        if len(self._held) > self._most_waiting:
            self._lose(next(iter(self._held)), "too many wait")
        self._retry_later()
        if self._closing:
            self._lose(issued.key, "the gateway stops")

    def _postpone(self, revocation: Revocation) -> None:
        self._revocations.setdefault(revocation.what, revocation)
        if len(self._revocations) > self._most_waiting:
            self._give_up(next(iter(self._revocations.values())), "too many wait")
        self._retry_later()
        if self._closing:
            self._give_up(revocation, "the gateway stops")

    def _retry_later(self) -> None:
        if not self._closing and (self._retrying is None or self._retrying.done()):
            self._retrying = asyncio.create_task(self._retry())

    async def _retry(self) -> None:
        while self._held or self._revocations:
            await self._sleep(RETRY_SECONDS)
            await self._write_waiting()

    async def _write_waiting(self) -> None:
        """Write what waits, until something can't be."""
        try:
            while self._revocations:
                await self._try_revocations(list(islice(self._revocations.values(), BATCH)))
            while self._held:
                await self._try_held(self._next_held())
        except StoreUnavailable:
            return

    async def _try_revocations(self, revocations: list[Revocation]) -> None:
        try:
            await self._end(revocations)
        except StoreUnavailable:
            self._metrics.store_failure("revoke")
            raise
        except Exception as error:  # noqa: BLE001 -- a fault of ours must not hold up the rest
            if len(revocations) == 1:
                self._give_up(revocations[0], type(error).__name__)
            for revocation in revocations if len(revocations) > 1 else ():
                await self._try_revocations([revocation])
        for revocation in revocations:
            if self._revocations.get(revocation.what) is revocation:
                del self._revocations[revocation.what]

    def _next_held(self) -> list[_Held]:
        """Return the next tokens to be written, with all that wait of the same grants.

        A grant may have been revoked by a refresh token that only the last of them is known to have
        brought: what is noted of all of them comes before any of them is written.
        """
        batch = dict(islice(self._held.items(), BATCH))
        grants: set[TokenKey] = set()
        while (now := _refresh_keys(held.issued for held in batch.values())) != grants:
            grants = now
            batch |= {
                key: held
                for key, held in self._held.items()
                if not _refresh_keys([held.issued]).isdisjoint(grants)
            }
        return list(batch.values())

    async def _try_held(self, batch: list[_Held]) -> None:
        now, now_at = self._clock.monotonic(), self._clock.wall()
        for held in batch:
            if held.issued.exp <= now_at:
                self._lose(held.issued.key, "expired")
            elif held.since + HELD_SECONDS <= now:
                self._lose(held.issued.key, "waited too long")
        batch = [held for held in batch if self._held.get(held.issued.key) is held]
        try:
            await self._write([held.issued for held in batch], "retried")
        except StoreUnavailable:
            self._metrics.store_failure("record")
            raise
        except Exception as error:  # noqa: BLE001 -- a fault of ours must not hold up the rest
            if len(batch) == 1:
                self._lose(batch[0].issued.key, type(error).__name__)
            for held in batch if len(batch) > 1 else ():
                await self._try_held([held])
        for held in batch:
            if self._held.get(held.issued.key) is held:
                del self._held[held.issued.key]

    def _lose(self, key: TokenKey, why: str) -> None:
        if self._held.pop(key, None) is not None:
            self._metrics.token_recorded("lost")
            log.error("issued token not recorded", token_key=key.hex(), why=why)

    def _give_up(self, revocation: Revocation, why: str) -> None:
        if self._revocations.pop(revocation.what, None) is not None:
            log.error(
                "revoked token may still be in the store",
                token_key=revocation.key.hex(),
                why=why,
            )

    # What the store is told

    async def _write(self, tokens: Sequence[Issued], result: str) -> None:
        linked = await self._grants.link(tokens)
        doomed = {key: exp for each in linked for key, exp in each.doomed.items()}
        if doomed:
            await self._finish(doomed, dict.fromkeys(doomed, self._clock.monotonic()))
        good = await self._record([each for each in linked if not each.has_ended])
        for each in linked:
            key = each.issued.key
            if key in good:
                self._known.forget(key)
                self._metrics.token_recorded(result)
            else:
                self._metrics.token_recorded("revoked")
                log.info("token revoked before it was recorded", token_key=key.hex())
        replaced = [key for each in linked for key in self._replaced_by(each)]
        if replaced:
            await self.deactivate(replaced)

    async def _record(self, linked: Sequence[Linked]) -> set[TokenKey]:
        """Write tokens unless they have ended; return those that are in the store."""
        now_at = self._clock.wall()
        documents = [
            NewDocument(each.issued.key, each.issued.document(), each.issued.exp - now_at)
            for each in linked
        ]
        written = await self._store.record(documents)
        return {new.key for new, is_there in zip(documents, written, strict=True) if is_there}

    def _replaced_by(self, linked: Linked) -> Iterable[TokenKey]:
        if self.revoke_on_refresh and linked.issued.used_refresh_key and not linked.has_ended:
            return linked.earlier
        return ()

    async def _revoke(self, revocations: Sequence[Revocation]) -> None:
        for revocation in revocations:
            self._known.revoking(revocation.key)
        everything = [*revocations, *self._what_waits_with(revocations)]
        try:
            await self._end(everything)
        except StoreUnavailable:
            self._metrics.store_failure("revoke")
            for revocation in everything:
                self._postpone(revocation)
            raise

    def _what_waits_with(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Return what ends by these because it belongs to a grant of which a part waits here.

        Nobody else knows yet that it does. What waits goes on waiting: that it ended it will find
        in the store, where whose grant it is has still to be noted.
        """
        more: dict[TokenKey, Revocation] = {}
        left = [each for each in revocations if each.cascade and not each.replay]
        while left:
            revocation = left.pop()
            for held in self._held.values():
                issued = held.issued
                refresh_keys = _refresh_keys([issued])
                if revocation.key in refresh_keys and revocation.may_end(issued.client_id):
                    more.setdefault(
                        issued.key, Revocation(issued.key, revocation.since, cascade=False)
                    )
                    for key in refresh_keys - more.keys() - {each.key for each in revocations}:
                        more[key] = Revocation(key, revocation.since)
                        left.append(more[key])
        return list(more.values())

    async def _end(self, revocations: Sequence[Revocation]) -> None:
        keys = [revocation.key for revocation in revocations]
        cascading = [revocation.key for revocation in revocations if revocation.cascade]
        documents, grants = await asyncio.gather(
            self._store.get_many(keys), self._grants.find(cascading)
        )
        grant_of = dict(zip(cascading, grants, strict=True))
        doomed: dict[TokenKey, float] = {}
        since: dict[TokenKey, float] = {}
        for revocation, document in zip(revocations, documents, strict=True):
            grant = grant_of.get(revocation.key, Grant())
            ended = await self._judge(revocation, _said(document), grant)
            if ended is not None:
                doomed |= ended
                since |= dict.fromkeys([revocation.key, *ended], revocation.since)
        await self._finish(doomed, since)

    async def _judge(
        self, revocation: Revocation, document: Mapping[str, Any] | None, grant: Grant
    ) -> Mapping[TokenKey, float] | None:
        """Mark the grant of a refresh token that is revoked.

        Return the access tokens that end, with when each expires; ``None`` where nothing is to end.
        """
        client_id = grant.client_id if document is None else document.get("client_id")
        if revocation.replay:
            if not (grant.was_replaced and revocation.may_end(client_id)):
                return None
        elif not revocation.may_end(client_id) or self._waits_for_another(revocation):
            self._metrics.foreign_revocation()
            log.warning(
                "token of another client than the one that revoked it: it stays",
                token_key=revocation.key.hex(),
            )
            return None
        ended: dict[TokenKey, float] = {}
        if document is not None or grant == Grant():
            exp = None if document is None else document.get("exp")
            ended[revocation.key] = exp if isinstance(exp, int | float) else float("inf")
        if revocation.cascade and (document is None or grant != Grant()):
            # Also where the grant isn't known: another gateway may hold what belongs to it.
            ended |= await self._grants.end(revocation.key, grant)
        return ended

    def _waits_for_another(self, revocation: Revocation) -> bool:
        """Whether what a client revokes waits here, issued to another."""
        return any(
            not revocation.may_end(held.issued.client_id)
            for held in (self._held.values() if revocation.by else ())
            if revocation.key == held.issued.key
            or (revocation.cascade and revocation.key in _refresh_keys([held.issued]))
        )

    async def _finish(
        self, doomed: Mapping[TokenKey, float], since: Mapping[TokenKey, float]
    ) -> None:
        now_at = self._clock.wall()
        ended = await self._store.end(
            {
                key: min(max(exp - now_at, SHORTEST_END_SECONDS), ENDED_SECONDS)
                for key, exp in doomed.items()
            }
        )
        for key, revoked in since.items():
            # In lapse mode cached facts stay until they lapse: that is the revocation window.
            self._known.revoke(key, since=revoked)
        self._metrics.tokens_revoked(ended)


def _said(document: bytes | None) -> Mapping[str, Any] | None:
    """Return the members of a document that is there, none if they make no sense."""
    if document is None:
        return None
    try:
        members = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _refresh_keys(tokens: Iterable[Issued]) -> set[TokenKey]:
    keys = {key for token in tokens for key in (token.refresh_key, token.used_refresh_key)}
    return {key for key in keys if key is not None}
