"""What the gateway knows of a token: from the cache, from a lookup under way, from the store."""

from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.cache import FactsCache
from gateway.clock import Clock
from gateway.entries import Entry
from gateway.errors import StoreUnavailable
from gateway.lookups import FindMany, Lookup, LookupMetrics, Lookups, Told
from gateway.revocations import RevocationMetrics, RevokedTokens
from gateway.tokens import Facts, TokenKey

EXPIRY_SLACK_SECONDS = 1.0
"""A token that leaves the store so shortly before its end has expired: key managers and Redis
round, and their clocks are not the gateway's."""


class ValidatorMetrics(LookupMetrics, RevocationMetrics, Protocol):
    """What is counted of validations, besides their lookups."""

    def cache_hit(self) -> None:
        """Facts were found young enough."""
        ...

    def cache_negative_hit(self) -> None:
        """The token was known to be no good."""
        ...

    def cache_miss(self) -> None:
        """The store has to be asked."""
        ...

    def served_stale(self) -> None:
        """Facts older than max age were relied on, because the store is down."""
        ...


class Validator:
    """Finds the facts of a token that a request may rely on.

    Good and bad tokens are cached apart, so that random tokens can't push out good ones, and a
    failure of the store isn't cached at all.

    ``evicts`` says what a revocation does: remove what is cached, or only note in ``revoked``
    that it is stale. Whoever makes ``cache`` tells ``revoked`` of what leaves it.
    """

    def __init__(
        self,
        find_many: FindMany,
        *,
        cache: FactsCache,
        negative_cache: FactsCache,
        clock: Clock,
        metrics: ValidatorMetrics,
        timeout_seconds: float,
        max_batch: int = 128,
        revoked: RevokedTokens | None = None,
        evicts: bool = False,
    ) -> None:
        self.evicts = evicts
        self.revoked = (
            RevokedTokens(max_age_seconds=0.0, clock=clock, metrics=metrics)
            if revoked is None
            else revoked
        )
        self._cache = cache
        self._negative_cache = negative_cache
        self._clock = clock
        self._metrics = metrics
        self._lookups = Lookups(
            find_many,
            keep=self._keep,
            clock=clock,
            metrics=metrics,
            timeout_seconds=timeout_seconds,
            max_batch=max_batch,
        )

    def wait_for(self, is_held: Callable[[TokenKey], bool]) -> None:
        """Have nobody told that a token is unknown which the gateway itself has yet to record."""
        self._lookups.is_held = is_held

    def cached(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return the facts of a token if they are younger than ``max_age_seconds``.

        ``INACTIVE`` for a token lately found to be no good, ``None`` where the store must be asked.
        """
        facts = self._cache.fresh(key, max_age_seconds)
        if facts is not None:
            self._metrics.cache_hit()
            return facts
        facts = self._negative_cache.fresh(key, max_age_seconds)
        if facts is not None:
            self._metrics.cache_negative_hit()
        return facts

    async def validate(self, key: TokenKey, max_age_seconds: float) -> Facts:
        """Return the facts of a token, from the store where they aren't cached young enough.

        While the store is down, facts within ``cache.stale_if_error`` beyond their max age serve
        on (RFC 5861 §4).

        Raises:
            StoreUnavailable: the store failed and nothing cached may serve.
        """
        facts = self.cached(key, max_age_seconds)
        if facts is not None:
            return facts
        self._metrics.cache_miss()
        try:
            return await self._lookups.find(key, self._bounded(max_age_seconds))
        except StoreUnavailable:
            facts = self.stale(key, max_age_seconds)
            if facts is None:
                raise
            return facts

    def look_up(self, key: TokenKey, max_age_seconds: float, told: Told) -> Lookup:
        """Begin, or join, the lookup with which ``validate`` goes on where nothing is cached.

        For those who don't wait in a task (``Lookups.join``); where it fails they ask ``stale``.
        """
        self._metrics.cache_miss()
        return self._lookups.join(key, self._bounded(max_age_seconds), told)

    def leave(self, lookup: Lookup, told: Told) -> None:
        """Wait no more for a lookup, whether it has an answer or not."""
        self._lookups.leave(lookup, told)

    def stale(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return the facts that may serve because the store failed, if there are any."""
        facts = self._cache.stale(key, self._bounded(max_age_seconds))
        if facts is not None:
            self._metrics.served_stale()
        return facts

    def _bounded(self, max_age_seconds: float) -> float:
        return min(max_age_seconds, self._cache.max_age_seconds, self._cache.cap_seconds)

    def detach(self, key: TokenKey) -> None:
        """Keep nothing of a lookup under way: the token was revoked meanwhile.

        Facts already cached stay until they lapse: that is the revocation window.
        """
        self._lookups.detach(key)

    def accepted(self, key: TokenKey, route: str) -> None:
        """Note that a request was accepted by a token's facts, for what it says of revoked ones.

        Called in the same turn of the event loop in which the facts were found.
        """
        self.revoked.accepted(key, route)

    def entry(self, key: TokenKey) -> Entry | None:
        """Return the cached facts of a token, if they may still serve."""
        return self._cache.entry(key, keep=False)

    def held(self) -> list[TokenKey]:
        """Return the tokens that facts are cached of, lapsed ones among them."""
        return self._cache.keys()

    def held_parts(self) -> Iterator[list[TokenKey]]:
        """Yield the same a thousand at a time, as they are when they are asked for."""
        return self._cache.parts()

    def invalidate(self, key: TokenKey) -> bool:
        """What the store has of a token has changed; return whether that may be a revocation.

        It may where facts are cached that serve, unless the token was about to expire anyway. A
        token that was unknown may be known now.

        Where revocations evict, cached facts are removed, and what is under way is not kept: the
        next request asks the store. Elsewhere only what is not known is forgotten.
        """
        under_way = self._lookups.outdate(key)
        self._negative_cache.remove(key)
        entry = self._cache.entry(key, keep=False)
        if self.evicts:
            self._lookups.detach(key)
            self._cache.remove(key, "invalidated")
        elif entry is None:
            return under_way
        return entry is not None and not self._expires_anyway(entry)

    def revoking(self, key: TokenKey) -> None:
        """A token is about to leave the store: where revocations evict, its facts go at once."""
        if self.evicts:
            self.revoke(key)

    def revoke(self, key: TokenKey, *, since: float | None = None, of: Entry | None = None) -> None:
        """A token has left the store: evict its facts, or mark them as stale.

        It was revoked at ``since`` (monotonic seconds), or now. Where this is news ``of`` an
        entry, facts that have replaced it are newer.
        """
        if self.evicts or of is None:
            self._lookups.detach(key)
        # Else one under way may be finding out the same, which ends the facts for all.
        entry = self._cache.entry(key, keep=False)
        if entry is None or (of is not None and of != entry):
            return
        if self.evicts:
            self._cache.remove(key, "revoked")
            self._metrics.exposure(0.0)
        elif not self._expires_anyway(entry):
            now = self._clock.monotonic()
            self.revoked.mark(key, entry, revoked=now if since is None else since)

    def _expires_anyway(self, entry: Entry) -> bool:
        return (
            self._clock.monotonic() >= entry.expires - EXPIRY_SLACK_SECONDS
            or self._clock.wall() >= entry.ends_at - EXPIRY_SLACK_SECONDS
        )

    def unrevoke(self, key: TokenKey) -> None:
        """The store has a token again that was marked as revoked."""
        self.revoked.left(key)

    def flush(self) -> None:
        """Rely on nothing that was learned before, nor on what is under way."""
        self._lookups.detach_all()
        self._cache.flush()
        self._negative_cache.flush()
        self.revoked.clear()

    def cap_age(self, seconds: float) -> None:
        """Rely on cached facts for no longer than this, whatever their max age is."""
        self._cache.cap_seconds = seconds

    def forget(self, key: TokenKey) -> None:
        """Drop all that is known of a token: it was just issued, or it is to be evicted."""
        self._lookups.detach(key)
        self._cache.remove(key)
        self._negative_cache.remove(key)

    def detach_all(self) -> None:
        """Keep nothing of any lookup under way."""
        self._lookups.detach_all()

    def cached_parts(self) -> Iterator[list[TokenKey]]:
        """Yield the tokens of which anything is cached, good and bad, however old, in parts."""
        yield from self._cache.parts()
        yield from self._negative_cache.parts()

    def evict(self, key: TokenKey) -> bool:
        """Drop all that is known of a token because an operator says so; tell if anything was."""
        self._lookups.detach(key)
        was_good = self._cache.remove(key, "operator")
        return self._negative_cache.remove(key) or was_good

    def evict_all(self) -> int:
        """Drop all that is known; return of how many tokens anything was."""
        count = len(self._cache) + len(self._negative_cache)
        self.flush()
        return count

    def peek(self, key: TokenKey) -> Facts | None:
        """Return what is cached of a token however old it is, which no request may rely on."""
        return self._cache.peek(key) or self._negative_cache.peek(key)

    async def close(self) -> None:
        """Cancel the lookups under way."""
        await self._lookups.close()

    def _keep(self, key: TokenKey, facts: Facts, validated: float, life_seconds: float) -> None:
        if not facts.active:
            # The later answer counts: facts that were cached before it don't outlive it.
            self._cache.remove(key)
            self._negative_cache.put(key, facts, validated=validated)
        else:
            self._negative_cache.remove(key)
            self._cache.put(key, facts, validated=validated, life_seconds=life_seconds)
