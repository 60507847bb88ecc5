"""What the gateway knows of a token: from the cache, from a lookup under way, from the store."""

from typing import Protocol

from gateway.cache import FactsCache
from gateway.clock import Clock
from gateway.errors import StoreUnavailable
from gateway.lookups import GetMany, LookupMetrics, Lookups
from gateway.tokens import Facts, TokenKey


class ValidatorMetrics(LookupMetrics, Protocol):
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
    """

    def __init__(
        self,
        get_many: GetMany,
        *,
        cache: FactsCache,
        negative_cache: FactsCache,
        clock: Clock,
        metrics: ValidatorMetrics,
        timeout_seconds: float,
        max_batch: int = 128,
    ) -> None:
        self._cache = cache
        self._negative_cache = negative_cache
        self._metrics = metrics
        self._lookups = Lookups(
            get_many,
            keep=self._keep,
            clock=clock,
            metrics=metrics,
            timeout_seconds=timeout_seconds,
            max_batch=max_batch,
        )

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
        max_age_seconds = min(max_age_seconds, self._cache.max_age_seconds)
        try:
            return await self._lookups.find(key, max_age_seconds)
        except StoreUnavailable:
            facts = self._cache.stale(key, max_age_seconds)
            if facts is None:
                raise
            self._metrics.served_stale()
            return facts

    def detach(self, key: TokenKey) -> None:
        """Keep nothing of a lookup under way: the token was revoked meanwhile.

        Facts already cached stay until they lapse: that is the revocation window.
        """
        self._lookups.detach(key)

    def forget(self, key: TokenKey) -> None:
        """Drop all that is known of a token: it was just issued, or it is to be evicted."""
        self._lookups.detach(key)
        self._cache.remove(key)
        self._negative_cache.remove(key)

    def detach_all(self) -> None:
        """Keep nothing of any lookup under way."""
        self._lookups.detach_all()

    def cached_keys(self) -> list[TokenKey]:
        """Return the tokens of which anything is cached, good and bad, however old."""
        return self._cache.keys() + self._negative_cache.keys()

    def evict(self, key: TokenKey) -> bool:
        """Drop all that is known of a token because an operator says so; tell if anything was."""
        self._lookups.detach(key)
        was_good = self._cache.remove(key)
        return self._negative_cache.remove(key) or was_good

    def evict_all(self) -> int:
        """Drop all that is known; return of how many tokens anything was."""
        keys = self.cached_keys()
        self.detach_all()
        for key in keys:
            self.evict(key)
        return len(keys)

    def peek(self, key: TokenKey) -> Facts | None:
        """Return what is cached of a token however old it is, which no request may rely on."""
        return self._cache.peek(key) or self._negative_cache.peek(key)

    async def close(self) -> None:
        """Cancel the lookups under way."""
        await self._lookups.close()

    def _keep(self, key: TokenKey, facts: Facts, validated: float) -> None:
        if not facts.active:
            # The later answer counts: facts that were cached before it don't outlive it.
            self._cache.remove(key)
            self._negative_cache.put(key, facts, validated=validated)
        else:
            self._negative_cache.remove(key)
            self._cache.put(key, facts, validated=validated)
