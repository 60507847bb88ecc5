"""The feed of revocations: what the store says has changed, and what becomes of it here.

A change isn't a revocation yet: a token may have been rewritten, or have expired. Facts that are
held of it are compared with the store, many to a command. In lapse mode they are then marked and
serve on; in evict mode they are gone by then, because to ask the store again costs no more than to
find out whether it was necessary.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice

import structlog

from gateway.clock import Clock
from gateway.errors import StoreUnavailable
from gateway.lookups import MOST_READ_AT_ONCE
from gateway.store import TokenStore
from gateway.tokens import MalformedFacts, TokenKey, parse_facts
from gateway.tracking import Tracking, heed_cancellation
from gateway.validator import Validator

log = structlog.stdlib.get_logger(__name__)

POLL_SECONDS = 0.1
POLL_KEYS = 1024
"""A store in memory can't be listened to. It is asked instead, for so many tokens each time."""
RETRY_SECONDS = 1.0
KEYS_AT_ONCE = 256
"""Tokens taken up in one turn of the loop: a millisecond's work."""
_WEIGHT = 1024
"""What it costs to compare a token, in bytes of its document."""


class RevocationFeed:
    """Keeps the validator abreast of revocations that anyone makes.

    It knows that it is ``up``, and how far it is behind. While it is down in evict mode the
    validator relies on facts for ``down_max_age_seconds`` only; when it is up again, on none of
    those from before. In lapse mode only observation suffers.
    """

    def __init__(
        self,
        store: TokenStore,
        validator: Validator,
        *,
        clock: Clock,
        exposure: Callable[[float], None],
        ping_interval_seconds: float,
        down_max_age_seconds: float,
        max_batch: int = 128,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._validator = validator
        self._clock = clock
        self._exposure = exposure
        self._ping_interval_seconds = ping_interval_seconds
        self._down_max_age_seconds = down_max_age_seconds
        self._max_batch = max_batch
        self._sleep = sleep
        self.is_up = False
        self._complete_as_of = clock.monotonic()
        self._was_down_since: float | None = None
        self._pending: dict[TokenKey, None] = {}
        self._unchecked: Iterator[list[TokenKey]] = iter(())
        self._work = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._cap_age()

    @property
    def lag_seconds(self) -> float:
        """How long ago the feed was last known to be complete; it grows while it is down."""
        return max(0.0, self._clock.monotonic() - self._complete_as_of)

    def start(self) -> None:
        """Begin to listen."""
        listening = self._poll() if self._store.in_memory else self._tracking().run()
        self._tasks = [asyncio.create_task(listening), asyncio.create_task(self._check())]

    async def stop(self) -> None:
        """Listen no longer."""
        # Until Python 3.12, asyncio.wait_for, in redis-py and fakeredis, loses a cancellation that
        # comes together with what it waits for: a task may have to be told again.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            done, pending = await asyncio.wait(self._tasks, timeout=0.1)
            await asyncio.gather(*done, return_exceptions=True)
            self._tasks = list(pending)

    def _tracking(self) -> Tracking:
        return Tracking(
            self._store.client,
            self,
            key_prefix=self._store.key_prefix,
            ping_interval_seconds=self._ping_interval_seconds,
            timeout_seconds=self._store.timeout_seconds,
            clock=self._clock,
            sleep=self._sleep,
        )

    # What the listening tells (tracking.Listener)

    def up(self) -> None:
        """Every change is told from now on; what was missed before is made good."""
        if self._validator.evicts:
            self._validator.flush()
        else:
            self._check_all()
        self.is_up = True
        self._complete_as_of = self._clock.monotonic()
        self._was_down_since = None
        self._cap_age()
        log.info("revocation feed up")

    def down(self, why: str) -> None:
        """Changes may be missed."""
        if self._was_down_since is not None:
            return  # known, and logged, already
        self._was_down_since = self._clock.monotonic()
        self.is_up = False
        self._cap_age()
        consequence = "revocations aren't observed"
        if self._validator.evicts:
            consequence = "facts serve for revocation.feed_down_max_age only"
        log.warning("revocation feed down", why=why, consequence=consequence)

    def invalidated(self, keys: Sequence[TokenKey]) -> None:
        """These tokens have changed in the store."""
        self._note([key for key in keys if self._validator.invalidate(key)])

    def invalidated_all(self) -> None:
        """The store was emptied."""
        if self._validator.evicts:
            self._validator.flush()
        else:
            self._check_all()

    def complete(self, as_of: float) -> None:
        """All that changed before ``as_of`` (monotonic seconds) has been told."""
        self._complete_as_of = max(self._complete_as_of, as_of)

    def _cap_age(self) -> None:
        if self._validator.evicts:
            self._validator.cap_age(float("inf") if self.is_up else self._down_max_age_seconds)

    # What comes of it

    def _note(self, keys: Sequence[TokenKey]) -> None:
        if keys:
            self._pending |= dict.fromkeys(keys)
            self._work.set()

    def _check_all(self) -> None:
        # To take up a million tokens at once would stop the event loop for seconds.
        self._unchecked = self._validator.held_parts()
        self._work.set()

    async def _check(self) -> None:
        """Compare what has changed with the store, a batch at a time."""
        while True:
            heed_cancellation()
            await self._work.wait()
            if not self._pending:
                part = next(self._unchecked, None)
                if part is None:
                    self._work.clear()
                else:
                    await self._take_up(part)
                continue
            batch = list(islice(self._pending, self._max_batch))
            for key in batch:
                del self._pending[key]
            try:
                await self._compare(batch)
            except StoreUnavailable:
                if not self._validator.evicts:  # these are gone already
                    self._note(batch)
                    await self._sleep(RETRY_SECONDS)
            except Exception:
                log.exception("revocation feed: check failed")

    async def _take_up(self, keys: Sequence[TokenKey]) -> None:
        for start in range(0, len(keys), KEYS_AT_ONCE):
            self.invalidated(keys[start : start + KEYS_AT_ONCE])
            await asyncio.sleep(0)

    async def _compare(self, keys: Sequence[TokenKey], *, removed: bool | None = None) -> None:
        """Mark, evict or count those of ``keys`` that the store has no longer."""
        if removed is None:
            removed = self._validator.evicts
        known = [(self._validator.entry(key), key in self._validator.revoked) for key in keys]
        asked = self._clock.monotonic()
        documents = await self._store.get_many(keys)
        done = 0
        for key, (entry, marked), document in zip(keys, known, documents, strict=True):
            done += _WEIGHT + len(document or b"")
            if done > MOST_READ_AT_ONCE:
                done = 0
                await asyncio.sleep(0)
            if self._good(document):
                if marked:
                    self._validator.unrevoke(key)
            elif removed:
                self._exposure(0.0)
            else:
                # What was under way then may have brought facts meanwhile.
                entry = entry or self._validator.entry(key)  # noqa: PLW2901
                if entry is not None and entry.validated <= asked:
                    self._validator.revoke(key, of=entry)

    def _good(self, document: bytes | None) -> bool:
        if document is None:
            return False
        try:
            return parse_facts(document, now_at=self._clock.wall()).active
        except MalformedFacts:
            return False

    async def _poll(self) -> None:
        """Ask a store in memory for what is held, some of it at a time."""
        left: list[TokenKey] = []
        began = self._clock.monotonic()
        while True:
            heed_cancellation()
            if not left:
                if self.is_up:
                    self.complete(began)
                began = self._clock.monotonic()
                left = self._validator.held()
            batch, left = left[:POLL_KEYS], left[POLL_KEYS:]
            try:
                if batch:
                    await self._compare(batch, removed=False)
            except StoreUnavailable:
                self.down("the store in memory doesn't answer")
            except Exception:
                log.exception("revocation feed: check failed")
                self.down("a check failed")
            else:
                if not self.is_up:
                    self.up()
            await self._sleep(POLL_SECONDS)
