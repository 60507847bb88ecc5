"""Lookups in the token store: one for each token at a time, and many to a command.

A lookup is shared by all who ask for the same token while it is under way, and what is
asked for together goes to the store together: from Python a command costs Redis's client some
120 µs of CPU, and a key of it one or two.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import StoreUnavailable
from gateway.patience import Patience
from gateway.tokens import INACTIVE, Facts, Found, MalformedFacts, TokenKey, parse_facts

log = structlog.stdlib.get_logger(__name__)

Told = Callable[[Facts | None], None]
"""Is told the facts of a token, or ``None`` because the store is unavailable."""

FindMany = Callable[[Sequence[TokenKey]], Awaitable[list[Found | None]]]
"""``TokenStore.find_many``: what there is of tokens, in order, ``None`` where there is nothing."""

BATCHES_AT_ONCE = 2
"""Commands under way at a time: a second one only if the first is full, or slow to be answered.
While one is under way what is asked for gathers: a command for ten costs little more than for one.
"""
SECOND_AFTER_SECONDS = 0.005
"""What has gathered for so long doesn't wait for the first command's answer."""
MOST_READ_AT_ONCE = 64 * 1024
"""Bytes of documents read before others have their turn: a millisecond's work, or less."""


class LookupMetrics(Protocol):
    """What is counted of lookups."""

    def store_batch(self, size: int, seconds: float) -> None:
        """A command brought ``size`` answers in ``seconds``."""
        ...

    def store_failure(self) -> None:
        """A command failed."""
        ...

    def malformed_document(self) -> None:
        """A value in the store isn't an introspection document."""
        ...


class Lookup:
    """One token's lookup under way, shared by everyone who asked for it meanwhile.

    ``sent`` is the monotonic instant at which its command left, ``None`` while it waits for one.
    ``callers`` are those who still wait, in the order in which they came.
    """

    __slots__ = ("callers", "detached", "key", "outdated", "sent")

    def __init__(self, key: TokenKey) -> None:
        self.key = key
        self.callers: dict[Told, None] = {}
        self.detached = False
        self.outdated = False
        self.sent: float | None = None


class Lookups:
    """Looks tokens up: shared while under way, batched, each waiter with a time-out of its own.

    ``keep`` is called with what was learned, the monotonic instant at which the command was sent,
    and for how long from then on the store keeps the token, unless the lookup was detached before
    it ended. What is asked for while a command is
    under way goes with the next one: when the first has its answer, when ``max_batch`` tokens
    are waiting, or after ``second_after_seconds``, whichever comes first.

    ``is_held`` tells of a token that is good and not in the store yet: that the store doesn't know
    it says nothing.
    """

    def __init__(
        self,
        find_many: FindMany,
        *,
        keep: Callable[[TokenKey, Facts, float, float], None],
        clock: Clock,
        metrics: LookupMetrics,
        timeout_seconds: float,
        max_batch: int,
        second_after_seconds: float = SECOND_AFTER_SECONDS,
    ) -> None:
        self.is_held: Callable[[TokenKey], bool] = lambda _: False
        self._find_many = find_many
        self._keep = keep
        self._clock = clock
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self._max_batch = max_batch
        self._second_after_seconds = second_after_seconds
        self._under_way: dict[TokenKey, Lookup] = {}
        self._waiting: dict[Lookup, None] = {}  # in order, and quick to leave
        self._batches: set[asyncio.Task[None]] = set()
        self._overdue: asyncio.TimerHandle | None = None

    async def find(self, key: TokenKey, max_age_seconds: float) -> Facts:
        """Return the facts of a token as the store has them.

        A lookup under way is shared unless its command left ``max_age_seconds`` ago or longer:
        the store may have answered it at once, so its facts may be that old already.

        Raises:
            StoreUnavailable: the store failed, or this caller has waited ``timeout_seconds``.
        """
        # Its own: a caller that goes away takes nobody else's answer with it.
        answer: asyncio.Future[Facts | None] = asyncio.get_running_loop().create_future()

        def told(facts: Facts | None) -> None:
            if not answer.done():
                answer.set_result(facts)

        lookup = self.join(key, max_age_seconds, told)
        try:
            async with Patience(self._timeout_seconds):
                facts = await answer
        except TimeoutError:
            raise StoreUnavailable from None
        finally:
            self.leave(lookup, told)
        if facts is None:
            raise StoreUnavailable
        return facts

    def join(self, key: TokenKey, max_age_seconds: float, told: Told) -> Lookup:
        """Return the lookup of a token that ``find`` waits for, one caller more of it.

        For those who don't wait in a task: they are ``told`` its facts, once, and keep the time-out
        themselves. Who won't wait any longer must ``leave`` it.
        """
        lookup = self._under_way.get(key)
        if lookup is None or not self._young(lookup, max_age_seconds):
            self.detach(key)  # two answers for one token: only the later may be kept
            lookup = Lookup(key)
            self._under_way[key] = lookup
            self._waiting[lookup] = None
            if not self._batches or len(self._waiting) >= self._max_batch:
                # The batch starts with the loop's next turn, and takes all that misses in this one.
                self._start_batch()
            elif self._overdue is None:
                self._overdue = asyncio.get_running_loop().call_later(
                    self._second_after_seconds, self._start_batch
                )
        lookup.callers[told] = None
        return lookup

    def leave(self, lookup: Lookup, told: Told) -> None:
        """Wait no more for a lookup, whether it has an answer or not."""
        lookup.callers.pop(told, None)
        if not lookup.callers and lookup in self._waiting:
            # Nobody is left to answer. While the store is down such lookups would pile up,
            # and those who come when it is back would have to wait for all of them.
            del self._waiting[lookup]
            self._end(lookup, None)

    def _young(self, lookup: Lookup, max_age_seconds: float) -> bool:
        return lookup.sent is None or self._clock.monotonic() < lookup.sent + max_age_seconds

    def detach(self, key: TokenKey) -> None:
        """Let a lookup under way answer those who wait, but nobody after, and not be kept."""
        lookup = self._under_way.pop(key, None)
        if lookup is not None:
            lookup.detached = True

    def outdate(self, key: TokenKey) -> bool:
        """Don't keep it if a lookup under way finds the token unknown; return if there is one."""
        lookup = self._under_way.get(key)
        if lookup is None:
            return False
        lookup.outdated = True
        return True

    def detach_all(self) -> None:
        """Let every lookup under way answer those who wait, but nobody after, and not be kept."""
        for key in list(self._under_way):
            self.detach(key)

    async def close(self) -> None:
        """Cancel what is under way; whoever waits is told that the store is unavailable."""
        self._forget_overdue()
        for batch in self._batches:
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        self._fail_waiting()  # also for a batch that was cancelled before it began

    def _start_batch(self) -> None:
        self._forget_overdue()
        if len(self._batches) >= BATCHES_AT_ONCE:
            return  # one of them takes what waits, when it has its answer
        batch = asyncio.create_task(self._send_waiting())
        self._batches.add(batch)
        batch.add_done_callback(self._batches.discard)

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                self._forget_overdue()  # all go now, or so many that a second batch has begun
                batch = list(islice(self._waiting, self._max_batch))
                for lookup in batch:
                    del self._waiting[lookup]
                await self._send(batch)
        except BaseException:
            self._fail_waiting()  # nobody would send these
            raise
        finally:
            # At once: a done callback has to wait for its turn, and who asks before that, with no
            # other batch left under way, would take this one for the one that will serve him.
            self._batches.discard(asyncio.current_task())

    def _forget_overdue(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    async def _send(self, batch: list[Lookup]) -> None:
        sent = self._clock.monotonic()
        for lookup in batch:
            lookup.sent = sent
        try:
            answers = await self._find_many([lookup.key for lookup in batch])
            self._metrics.store_batch(len(batch), self._clock.monotonic() - sent)
            read = 0
            for lookup, found in zip(batch, answers, strict=True):
                facts, life_seconds = INACTIVE, float("inf")
                if found is None and self.is_held(lookup.key):
                    self._end(lookup, None)
                    continue
                if found is not None:
                    read += len(found.document)
                    if read > MOST_READ_AT_ONCE:
                        read = 0
                        await asyncio.sleep(0)
                    facts, life_seconds = self._read(lookup.key, found.document), found.life_seconds
                if not lookup.detached:
                    # What was unknown may be known since: that replaces facts, but isn't relied on.
                    kept = facts.active or not lookup.outdated
                    self._keep(lookup.key, facts, sent if kept else float("-inf"), life_seconds)
                self._end(lookup, facts)
        except StoreUnavailable:
            self._metrics.store_failure()
            self._fail(batch)
        except Exception:
            # A fault of ours: nobody is left waiting, nobody is let in, and the next batch goes.
            log.exception("lookup failed")
            self._metrics.store_failure()
            self._fail(batch)
        except BaseException:  # the gateway stops
            self._fail(batch)
            raise

    def _read(self, key: TokenKey, document: bytes) -> Facts:
        try:
            return parse_facts(document, now_at=self._clock.wall())
        except MalformedFacts as fault:
            self._metrics.malformed_document()
            log.warning("malformed document in the store", token_key=key.hex(), fault=str(fault))
            return INACTIVE

    def _fail_waiting(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        self._fail(waiting)

    def _fail(self, batch: list[Lookup]) -> None:
        for lookup in batch:
            self._end(lookup, None)

    def _end(self, lookup: Lookup, facts: Facts | None) -> None:
        if self._under_way.get(lookup.key) is lookup:
            del self._under_way[lookup.key]
        callers = lookup.callers
        for told in list(callers):
            if told not in callers:
                continue  # it has left, because of what another did when it was told
            del callers[told]
            try:
                told(facts)
            except Exception:  # its own fault, and nobody else's
                log.exception("a lookup's caller failed")
