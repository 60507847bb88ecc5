"""The feed: what becomes of a change in the store, by mode; told by the test, not by Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import fakeredis
import pytest
from clocks import FakeClock
from scripted import ACTIVE, ScriptedStore, ValidatorBench, document, keys, turns

from gateway.errors import StoreUnavailable
from gateway.feed import POLL_SECONDS, RevocationFeed
from gateway.store import TokenStore
from gateway.tokens import INACTIVE, Facts, TokenKey, token_key

A, B = keys(2)
LOOSE = float("inf")
FACTS = Facts(True, "a")


class FeedBench(ValidatorBench):
    """A feed, its validator, and the store that both ask; the test tells what has changed."""

    def __init__(self, clock: FakeClock, *, evicts: bool) -> None:
        super().__init__(clock, {A: ACTIVE, B: ACTIVE})
        self.make(evicts=evicts)
        self.naps: list[float] = []
        self.feed = RevocationFeed(
            self.store,  # type: ignore[arg-type]
            self.validator,
            clock=clock,
            exposure=self.metrics.exposure,
            ping_interval_seconds=1.0,
            down_max_age_seconds=2.0,
            sleep=self.nap,
        )
        self.checking = asyncio.create_task(self.feed._check())
        self.feed.up()

    async def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        await asyncio.sleep(0)

    async def change(self, value: bytes | None, key: TokenKey = A) -> None:
        """Change a token in the store, as anyone may, and have the feed tell of it."""
        self.store.documents.pop(key, None)
        if value is not None:
            self.store.documents[key] = value
        self.feed.invalidated([key])
        await turns()


Make = Callable[..., FeedBench]


@pytest.fixture
async def make(clock: FakeClock) -> AsyncIterator[Make]:
    made: list[FeedBench] = []

    def make(*, evicts: bool) -> FeedBench:
        made.append(FeedBench(clock, evicts=evicts))
        return made[-1]

    yield make
    for bench in made:
        bench.checking.cancel()


@pytest.mark.parametrize("value", [None, b'{"active": false}', b"rubbish", document(exp=1)])
async def test_lapse_marks_what_the_store_no_longer_has(make: Make, value: bytes | None) -> None:
    """Removed, inactive, malformed or expired: the facts serve on, and each use is stale."""
    bench = make(evicts=False)
    await bench.validator.validate(A, LOOSE)
    await bench.change(value)
    assert bench.validator.cached(A, LOOSE) == FACTS
    bench.validator.accepted(A, "/orders")
    assert [token.key for token in bench.revoked] == [A]
    assert bench.metrics.stale_accepts == ["/orders"]


@pytest.mark.parametrize("value", [None, b'{"active": false}', b"rubbish"])
async def test_evict_removes_what_the_store_no_longer_has(make: Make, value: bytes | None) -> None:
    """The next request asks the store; the exposure was none."""
    bench = make(evicts=True)
    await bench.validator.validate(A, LOOSE)
    await bench.change(value)
    assert bench.validator.cached(A, LOOSE) is None
    assert await bench.validator.validate(A, LOOSE) == INACTIVE
    assert bench.metrics.exposures == [0.0]


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_rewritten_token_is_no_revocation(make: Make, evicts: bool) -> None:
    """It stays good; where revocations evict, the next request has what was written."""
    bench = make(evicts=evicts)
    await bench.validator.validate(A, LOOSE)
    await bench.change(document(client_id="b"))
    found = await bench.validator.validate(A, LOOSE)
    assert found.client_id == ("b" if evicts else "a")
    assert (len(bench.revoked), bench.metrics.exposures) == (0, [])


async def test_a_token_that_comes_back_is_good_again(make: Make) -> None:
    """What was marked and is in the store again is stale no longer."""
    bench = make(evicts=False)
    await bench.validator.validate(A, LOOSE)
    await bench.change(None)
    bench.clock.advance(5)
    bench.validator.accepted(A, "/orders")
    await bench.change(ACTIVE)
    bench.validator.accepted(A, "/orders")
    assert bench.metrics.stale_accepts == ["/orders"]
    assert bench.metrics.exposures == [5.0]


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_token_that_expires_is_no_revocation(make: Make, evicts: bool) -> None:
    """Redis forgets it at the end of its life, give or take what clocks differ."""
    bench = make(evicts=evicts)
    bench.store.documents[A] = document(exp=bench.clock.wall() + 60)
    await bench.validator.validate(A, LOOSE)
    bench.clock.advance(59.5)
    await bench.change(None)
    assert (len(bench.revoked), bench.metrics.exposures, bench.commands) == (0, [], 1)


@pytest.mark.parametrize("evicts", [False, True])
async def test_what_nobody_holds_is_not_asked_for(make: Make, evicts: bool) -> None:
    """Tokens are issued all the time: those that this gateway never saw cost no lookup."""
    bench = make(evicts=evicts)
    await bench.change(ACTIVE)
    assert bench.commands == 0


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_token_that_was_unknown_is_asked_for_again(make: Make, evicts: bool) -> None:
    """One that another gateway has just recorded isn't refused for having come too early."""
    bench = make(evicts=evicts)
    del bench.store.documents[A]
    assert await bench.validator.validate(A, LOOSE) == INACTIVE
    await bench.change(ACTIVE)
    assert await bench.validator.validate(A, LOOSE) == FACTS


@pytest.mark.parametrize("evicts", [False, True])
async def test_what_is_held_is_compared_in_batches(make: Make, evicts: bool) -> None:
    """A thousand revocations at once are eight commands."""
    bench = make(evicts=evicts)
    many = keys(1000)
    bench.store.documents |= dict.fromkeys(many, ACTIVE)
    bench.make(max_entries=2000, evicts=evicts)
    bench.feed._validator = bench.validator
    await asyncio.gather(*(bench.validator.validate(key, LOOSE) for key in many))
    before = bench.commands
    bench.store.documents.clear()
    bench.feed.invalidated(many)
    await turns(100)
    assert [len(command) for command in bench.store.commands[before:]] == [128] * 7 + [104]
    assert len(bench.revoked) == (0 if evicts else 1000)


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_revocation_during_a_lookup(make: Make, evicts: bool) -> None:
    """What the lookup brings answers those who wait; it isn't kept, or is marked as stale."""
    bench = make(evicts=evicts)
    store = ScriptedStore()
    bench.feed._validator = validator = bench.make(store.get_many, evicts=evicts)
    during = asyncio.create_task(validator.validate(A, LOOSE))
    command = await store.sent.get()
    del bench.store.documents[A]
    bench.feed.invalidated([A])
    command.answer(ACTIVE)
    assert await during == FACTS
    await turns()
    assert validator.cached(A, LOOSE) == (None if evicts else FACTS)
    assert [token.key for token in bench.revoked] == ([] if evicts else [A])


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_revocation_that_a_stricter_request_finds(make: Make, evicts: bool) -> None:
    """It ends the facts for all, also when the feed tells of it before the answer is here."""
    bench = make(evicts=evicts)
    store = ScriptedStore()
    bench.feed._validator = validator = bench.make(store.get_many, evicts=evicts)
    first = asyncio.create_task(validator.validate(A, LOOSE))
    (await store.sent.get()).answer(ACTIVE)
    assert await first == FACTS
    strict = asyncio.create_task(validator.validate(A, 0))
    command = await store.sent.get()
    await bench.change(None)  # told, and compared with the store, meanwhile
    command.answer(None)
    assert await strict == INACTIVE
    assert validator.cached(A, LOOSE) is None


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_token_issued_during_a_lookup(make: Make, evicts: bool) -> None:
    """That it was unknown a moment ago is not remembered."""
    bench = make(evicts=evicts)
    store = ScriptedStore()
    bench.feed._validator = validator = bench.make(store.get_many, evicts=evicts)
    during = asyncio.create_task(validator.validate(A, LOOSE))
    command = await store.sent.get()
    bench.feed.invalidated([A])
    command.answer(None)
    assert await during == INACTIVE
    assert validator.cached(A, LOOSE) is None


async def test_evict_relies_on_nothing_from_before_a_connection(make: Make) -> None:
    """What was revoked meanwhile was told to nobody: cached or under way, all is asked again."""
    bench = make(evicts=True)
    await bench.validator.validate(A, LOOSE)
    bench.feed.down("lost")
    del bench.store.documents[A]
    assert bench.validator.cached(A, LOOSE) == FACTS
    bench.feed.up()
    assert bench.validator.cached(A, LOOSE) is None
    assert await bench.validator.validate(A, LOOSE) == INACTIVE


async def test_evict_relies_on_young_facts_only_while_down(make: Make) -> None:
    """At most ``feed_down_max_age`` old; all that the cache allows once it is up again."""
    bench = make(evicts=True)
    await bench.validator.validate(A, LOOSE)
    bench.feed.down("lost")
    bench.clock.advance(1.5)
    assert bench.validator.cached(A, LOOSE) == FACTS
    bench.clock.advance(0.5)
    assert bench.validator.cached(A, LOOSE) is None
    bench.feed.up()
    await bench.validator.validate(A, LOOSE)
    bench.clock.advance(899)
    assert bench.validator.cached(A, LOOSE) == FACTS


async def test_lapse_loses_observation_only(make: Make) -> None:
    """Facts serve as before; what was missed is found out when the feed is up again."""
    bench = make(evicts=False)
    await bench.validator.validate(A, LOOSE)
    await bench.validator.validate(B, LOOSE)
    bench.feed.down("lost")
    del bench.store.documents[A]
    bench.clock.advance(100)
    assert bench.validator.cached(A, LOOSE) == FACTS
    bench.feed.up()
    await turns()
    assert [token.key for token in bench.revoked] == [A]


@pytest.mark.parametrize("evicts", [False, True])
async def test_an_emptied_store(make: Make, evicts: bool) -> None:
    """FLUSHALL revokes everything."""
    bench = make(evicts=evicts)
    await bench.validator.validate(A, LOOSE)
    bench.store.documents.clear()
    bench.feed.invalidated_all()
    await turns()
    assert bench.validator.cached(A, LOOSE) == (None if evicts else FACTS)
    assert len(bench.revoked) == (0 if evicts else 1)


async def test_what_an_emptied_store_revokes_is_marked_little_by_little(make: Make) -> None:
    """In lapse mode FLUSHALL marks every cached token: some of them in each turn of the loop."""
    bench = make(evicts=False)
    many = keys(100)
    bench.store.documents |= dict.fromkeys(many, ACTIVE)
    await asyncio.gather(*(bench.validator.validate(key, LOOSE) for key in many))
    bench.store.documents.clear()
    bench.feed.invalidated_all()
    marked = [0]
    while marked[-1] < len(many):
        await asyncio.sleep(0)
        marked.append(len(bench.revoked))
    assert max(after - before for before, after in pairwise(marked)) <= 64


async def test_all_that_is_held_is_taken_up_little_by_little(make: Make) -> None:
    """In lapse mode: a million tokens at once would hold up every request."""
    bench = make(evicts=False)
    many = keys(20)
    bench.store.documents |= dict.fromkeys(many, ACTIVE)
    await asyncio.gather(*(bench.validator.validate(key, LOOSE) for key in many))
    before = bench.commands
    bench.store.documents.clear()
    with patch("gateway.cache.MOST_IN_PART", 8):
        bench.feed.invalidated_all()
        await turns(20)
    assert [len(command) for command in bench.store.commands[before:]] == [8, 8, 4]
    assert len(bench.revoked) == 20


async def test_a_store_that_fails_is_asked_again(make: Make) -> None:
    """In lapse mode; in evict mode the facts are gone and there is nothing to find out."""
    for evicts, expected in ((False, [A]), (True, [])):
        bench = make(evicts=evicts)
        await bench.validator.validate(A, LOOSE)
        bench.store.failure = StoreUnavailable()
        await bench.change(None)
        assert bench.validator.cached(A, LOOSE) == (None if evicts else FACTS)
        bench.store.failure = None
        await turns(10)
        assert [token.key for token in bench.revoked] == expected


async def test_lag_counts_from_what_is_known_to_be_complete(make: Make) -> None:
    """It grows until a ping is answered, and while the feed is down."""
    bench = make(evicts=True)
    began = bench.clock.monotonic()
    bench.clock.advance(3)
    assert bench.feed.lag_seconds == 3
    bench.feed.complete(began + 2)
    assert bench.feed.lag_seconds == 1
    bench.feed.down("lost")
    bench.clock.advance(3)
    assert (bench.feed.is_up, bench.feed.lag_seconds) == (False, 4)


@pytest.mark.parametrize("evicts", [False, True])
async def test_a_store_in_memory_is_asked_instead(clock: FakeClock, evicts: bool) -> None:
    """Whoever writes it, and by whatever client: within a tenth of a second it is known."""
    bench = ValidatorBench(clock, {})
    server = fakeredis.FakeServer()
    store = TokenStore(fakeredis.FakeAsyncRedis(server=server), in_memory=True)
    validator = bench.make(store.get_many, evicts=evicts)
    naps: asyncio.Queue[float] = asyncio.Queue()
    wake = asyncio.Event()

    async def nap(seconds: float) -> None:
        naps.put_nowait(seconds)
        await wake.wait()
        wake.clear()

    feed = RevocationFeed(
        store,
        validator,
        clock=clock,
        exposure=bench.metrics.exposure,
        ping_interval_seconds=1.0,
        down_max_age_seconds=1.0,
        sleep=nap,
    )
    feed.start()
    async with asyncio.timeout(5):
        assert await naps.get() == POLL_SECONDS
        key = token_key("tok")
        document_: dict[str, Any] = {"active": True, "client_id": "a"}
        await store.put(key, document_, expires_in_seconds=60)
        await validator.validate(key, LOOSE)
        fakeredis.FakeRedis(server=server).delete(store.name(key))
        for _ in range(2):
            wake.set()
            await naps.get()
    assert feed.is_up
    assert validator.cached(key, LOOSE) == (None if evicts else FACTS)
    assert len(bench.revoked) == (0 if evicts else 1)
    await feed.stop()
    await store.close()
