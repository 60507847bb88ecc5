"""The token path of a gateway process; its store and its feed are in a test's hands."""

from collections.abc import Sequence
from typing import Any

from bound_redis import BoundRedis, Connection
from clocks import FakeClock
from scripted import CountingMetrics

from gateway.cache import FactsCache
from gateway.errors import StoreUnavailable
from gateway.feed import RevocationFeed
from gateway.issued import Issued
from gateway.recording import Recorder
from gateway.revocations import RevokedTokens
from gateway.settings import Settings
from gateway.store import TokenStore
from gateway.tokens import Found, TokenKey
from gateway.tracking import Tracking
from gateway.validator import Validator

NEGATIVE_SECONDS = 3.0


class Feed(RevocationFeed):
    """The feed, but for the connection."""

    connection: Connection

    def _tracking(self) -> Tracking:
        return self.connection  # type: ignore[return-value]


class Store(TokenStore):
    """The token store, but for the connections: a lookup's two commands are one."""

    async def find_many(self, keys: Sequence[TokenKey]) -> list[Found | None]:
        async with self._answering():
            redis: Any = self.client
            found: list[Found | None] = await redis.find(keys)
            return found


class TestedGateway:
    """The token path of one gateway process, without HTTP."""

    __test__ = False

    def __init__(self, redis: BoundRedis, clock: FakeClock, chosen: Settings, entries: int) -> None:
        self.redis = redis
        self.evicts = chosen.revocation.on_revoke == "evict"
        self.metrics = CountingMetrics()
        self.failed: dict[TokenKey, float] = {}
        self.issued: dict[TokenKey, int] = {}
        self.revoked: dict[TokenKey, int] = {}
        cache = chosen.cache
        self.store = Store(
            redis,  # type: ignore[arg-type]
            timeout_seconds=chosen.store.timeout.total_seconds(),
        )
        book = RevokedTokens(
            max_age_seconds=cache.max_age.total_seconds(), clock=clock, metrics=self.metrics
        )
        self.validator = Validator(
            self.find_many,
            cache=FactsCache(
                max_age_seconds=cache.max_age.total_seconds(),
                stale_seconds=cache.stale_if_error.total_seconds(),
                max_entries=entries,
                clock=clock,
                left=book.left,
            ),
            negative_cache=FactsCache(max_age_seconds=NEGATIVE_SECONDS, max_entries=2, clock=clock),
            clock=clock,
            metrics=self.metrics,
            timeout_seconds=self.store.timeout_seconds,
            max_batch=2,
            revoked=book,
            evicts=self.evicts,
        )
        self.recorder = Recorder(
            self.store,
            known=self.validator,
            metrics=_Uncounted(),
            clock=clock,
        )
        ping_seconds = chosen.revocation.feed_ping_interval.total_seconds()
        self.feed = Feed(
            self.store,
            self.validator,
            clock=clock,
            exposure=self.metrics.exposure,
            ping_interval_seconds=ping_seconds,
            down_max_age_seconds=chosen.revocation.feed_down_max_age.total_seconds(),
            max_batch=2,
        )
        self.connection = self.feed.connection = Connection(
            redis, self.feed, noticed_seconds=ping_seconds + self.store.timeout_seconds
        )

    async def find_many(self, keys: Sequence[TokenKey]) -> list[Found | None]:
        try:
            return await self.store.find_many(keys)
        except StoreUnavailable:
            self.failed |= dict.fromkeys(keys, self.redis.loop.time())
            raise

    async def start(self) -> None:
        self.feed.start()

    async def issue(self, issued: Issued) -> None:
        await self.recorder.record(issued)
        written = not self.recorder.holds(issued.key)  # the store may have failed
        if written and self.redis.is_good(issued.key):
            self.issued[issued.key] = self.redis.last_bad(issued.key)[0] + 1

    async def revoke(self, key: TokenKey) -> None:
        try:
            await self.recorder.revoke([key])
        except StoreUnavailable:
            return
        if self.evicts and not self.redis.is_good(key):
            self.revoked[key] = self.redis.last_good(key)[0] + 1

    async def stop(self) -> None:
        await self.feed.stop()
        await self.recorder.close()
        await self.validator.close()


class _Uncounted:
    def token_recorded(self, result: str) -> None: ...
    def tokens_revoked(self, count: int) -> None: ...
    def store_failure(self, command: str) -> None: ...
    def foreign_revocation(self) -> None: ...
