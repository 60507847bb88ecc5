"""FactsCache: how long facts serve, what makes room for what, and how much work a call does."""

import gc
from typing import Any

import pytest
from clocks import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from scripted import keys

from gateway.cache import (
    ENTRIES_AT_HAND,
    MOST_IN_PART,
    SHARD_ENTRIES,
    SHARDS_AT_SWEEP,
    SWEEP_AT_INSERT,
    FactsCache,
)
from gateway.tokens import Facts, TokenKey

A, B, C, D = keys(4)
LOOSE = float("inf")


def facts(exp: float | None = None, client_id: str = "app") -> Facts:
    return Facts(True, client_id, exp=exp)


def make(clock: FakeClock, **settings: Any) -> FactsCache:
    defaults: dict[str, Any] = {"max_age_seconds": 900.0, "max_entries": 100}
    return FactsCache(clock=clock, **defaults | settings)


def put(cache: FactsCache, clock: FakeClock, *tokens: TokenKey, exp: float | None = None) -> None:
    for key in tokens:
        cache.put(key, facts(exp), validated=clock.monotonic())


@pytest.mark.parametrize(
    ("exp_in", "max_age", "good_until"),
    [
        (None, LOOSE, 900.0),
        (None, 2_000.0, 900.0),
        (None, 60.0, 60.0),
        (None, 0.5, 0.5),
        (None, 0.0, 0.0),
        (100.0, LOOSE, 100.0),
        (100.0, 60.0, 60.0),
        (10_000.0, LOOSE, 900.0),
        (0.25, 60.0, 0.25),
        (0.0, LOOSE, 0.0),
        (-5.0, LOOSE, 0.0),
    ],
)
def test_lifetime(
    clock: FakeClock, exp_in: float | None, max_age: float, good_until: float
) -> None:
    """Facts serve until the cache's max age, the request's or ``exp``, whichever comes first."""
    cache = make(clock)
    put(cache, clock, A, exp=None if exp_in is None else clock.wall() + exp_in)
    assert (good_until > 0) == (cache.fresh(A, max_age) is not None)
    clock.advance(good_until)
    assert cache.fresh(A, max_age) is None
    if good_until:
        clock.advance(-0.125)
        assert cache.fresh(A, max_age) is not None


def test_use_never_extends(clock: FakeClock) -> None:
    """A token that is used all the time lapses when one that is never used does."""
    cache = make(clock)
    put(cache, clock, A, B)
    for _ in range(899):
        clock.advance(1)
        assert cache.fresh(A, LOOSE) == facts()
    clock.advance(1)
    assert (cache.fresh(A, LOOSE), cache.fresh(B, LOOSE)) == (None, None)


def test_age_counts_from_the_start_of_the_lookup(clock: FakeClock) -> None:
    """The time that the store took to answer is part of the facts' age."""
    cache = make(clock)
    began = clock.monotonic()
    clock.advance(100)
    cache.put(A, facts(), validated=began)
    clock.advance(799.5)
    assert cache.fresh(A, LOOSE) == facts()
    clock.advance(0.5)
    assert cache.fresh(A, LOOSE) is None


def test_facts_that_come_too_late_never_serve(clock: FakeClock) -> None:
    """Facts whose lookup began a max age ago are lapsed when they arrive."""
    cache = make(clock)
    cache.put(A, facts(), validated=clock.monotonic() - 900)
    assert cache.fresh(A, LOOSE) is None


def test_a_new_validation_starts_a_new_life(clock: FakeClock) -> None:
    """Facts put again are as old as their own validation."""
    cache = make(clock)
    put(cache, clock, A)
    clock.advance(800)
    cache.put(A, facts(client_id="other"), validated=clock.monotonic())
    clock.advance(800)
    assert facts(client_id="other") == cache.fresh(A, LOOSE)
    assert len(cache) == 1


def test_a_tighter_route_leaves_facts_to_a_looser_one(clock: FakeClock) -> None:
    """Facts too old for one route still serve another."""
    cache = make(clock)
    put(cache, clock, A)
    clock.advance(60)
    assert (None, facts()) == (cache.fresh(A, 60), cache.fresh(A, 61))


@pytest.mark.parametrize(
    ("step", "serves"), [(+1_000.0, 0.0), (+100.0, 0.0), (+40.0, 60.0), (-1_000.0, 100.0)]
)
def test_the_wall_clock_is_set_under_a_cached_token(
    clock: FakeClock, step: float, serves: float
) -> None:
    """Set forward, it ends a token whose ``exp`` it passes; set back, it prolongs no life."""
    cache = make(clock)
    put(cache, clock, A, exp=clock.wall() + 100)
    clock.wall_at += step
    if serves:
        clock.advance(serves - 0.5)
        assert cache.fresh(A, LOOSE) is not None
        clock.advance(0.5)
    assert (cache.fresh(A, LOOSE), cache.stale(A, LOOSE)) == (None, None)


def test_the_wall_clock_is_set_back_before_a_token_begins(clock: FakeClock) -> None:
    """A token whose ``nbf`` is yet to come, as the clock stands now, doesn't serve until then."""
    cache = make(clock)
    cache.put(A, Facts(True, nbf=clock.wall() - 10), validated=clock.monotonic())
    assert cache.fresh(A, LOOSE) is not None
    clock.wall_at -= 10.5
    assert cache.fresh(A, LOOSE) is None
    clock.advance(0.5)
    assert cache.fresh(A, LOOSE) is not None


@pytest.mark.parametrize("exp_in", [None, 1_000.0])
def test_facts_end_with_their_key_in_the_store(clock: FakeClock, exp_in: float | None) -> None:
    """A key that expires before ``exp``, or without one, takes the facts along unheard."""
    cache = make(clock, stale_seconds=30.0)
    exp = None if exp_in is None else clock.wall() + exp_in
    began = clock.monotonic()
    clock.advance(0.25)
    cache.put(A, facts(exp), validated=began, life_seconds=2.0)
    clock.advance(1.5)
    assert cache.fresh(A, LOOSE) == facts(exp)
    clock.advance(0.25)
    assert (cache.fresh(A, LOOSE), cache.stale(A, LOOSE)) == (None, None)


def test_a_clock_set_forward_ends_what_has_no_exp(clock: FakeClock) -> None:
    """Redis counts the lives of its keys by its own wall clock, which is often set with ours."""
    cache = make(clock)
    cache.put(A, facts(), validated=clock.monotonic(), life_seconds=2.0)
    clock.wall_at += 2
    assert cache.fresh(A, LOOSE) is None


def test_what_was_flushed_counts_no_more(clock: FakeClock) -> None:
    """From that instant, not when it is swept: neither as an entry, nor as one that is evicted."""
    cache = make(clock, max_entries=3)
    put(cache, clock, A, B, C)
    cache.flush()
    assert (len(cache), cache.evictions()) == (0, {"size": 0, "flushed": 3})
    assert cache.remove(A, "operator") is False
    put(cache, clock, B)
    assert len(cache) == 1
    cache.flush()
    put(cache, clock, *keys(6)[3:])
    assert (len(cache), cache.evictions()) == (3, {"size": 0, "flushed": 4})
    put(cache, clock, A)
    assert (len(cache), cache.evicted) == (3, 1)


def test_unknown_and_removed(clock: FakeClock) -> None:
    """What was never put or has been removed isn't there, and removal tells which it was."""
    cache = make(clock)
    put(cache, clock, A)
    assert (cache.fresh(B, LOOSE), cache.remove(B)) == (None, False)
    assert (cache.remove(A), cache.remove(A)) == (True, False)
    assert (cache.fresh(A, LOOSE), cache.stale(A, LOOSE), len(cache)) == (None, None, 0)


@pytest.mark.parametrize(
    ("age", "max_age", "served"),
    [
        (0.0, LOOSE, True),
        (900.0, LOOSE, True),
        (929.0, LOOSE, True),
        (930.0, LOOSE, False),
        (59.0, 60.0, True),
        (89.0, 60.0, True),
        (90.0, 60.0, False),
        (29.0, 0.0, True),
        (30.0, 0.0, False),
    ],
)
def test_stale_window(clock: FakeClock, age: float, max_age: float, served: bool) -> None:
    """While the store is down facts serve ``stale_seconds`` longer than they else would."""
    cache = make(clock, stale_seconds=30.0)
    put(cache, clock, A)
    clock.advance(age)
    assert served == (cache.stale(A, max_age) is not None)


def test_stale_never_goes_beyond_exp(clock: FakeClock) -> None:
    """An expired token doesn't serve, whatever the stale window."""
    cache = make(clock, stale_seconds=1e6)
    put(cache, clock, A, exp=clock.wall() + 100)
    clock.advance(99.5)
    assert cache.stale(A, LOOSE) is not None
    clock.advance(0.5)
    assert cache.stale(A, LOOSE) is None


def test_without_a_stale_window_stale_is_fresh(clock: FakeClock) -> None:
    """By default nothing serves beyond its max age."""
    cache = make(clock)
    put(cache, clock, A)
    clock.advance(60)
    assert (cache.fresh(A, 60), cache.stale(A, 60)) == (None, None)


def test_the_oldest_makes_room(clock: FakeClock) -> None:
    """A full cache gives up what was validated longest ago, used or not, and counts it."""
    cache = make(clock, max_entries=3)
    put(cache, clock, A, B, C)
    cache.fresh(A, LOOSE)
    put(cache, clock, D)
    assert [None, facts(), facts(), facts()] == [cache.fresh(key, LOOSE) for key in (A, B, C, D)]
    assert (len(cache), cache.evicted) == (3, 1)


def test_put_again_is_young_again(clock: FakeClock) -> None:
    """Facts validated anew go to the end of the queue, and push nothing out."""
    cache = make(clock, max_entries=3)
    put(cache, clock, A, B, C, A)
    assert (len(cache), cache.evicted) == (3, 0)
    put(cache, clock, D)
    assert cache.fresh(B, LOOSE) is None
    assert cache.fresh(A, LOOSE) == facts()


def test_removal_is_no_eviction(clock: FakeClock) -> None:
    """Only what had to make room is counted, not what was removed or swept."""
    cache = make(clock, max_entries=3)
    put(cache, clock, A, B)
    cache.remove(A)
    clock.advance(900)
    assert (cache.sweep(10), cache.evicted, len(cache)) == (1, 0, 0)


def test_sweep_does_no_more_than_asked(clock: FakeClock) -> None:
    """A sweep removes lapsed entries, oldest first, as many as it may and none that serve."""
    cache = make(clock)
    tokens = keys(10)
    put(cache, clock, *tokens[:6])
    clock.advance(500)
    put(cache, clock, *tokens[6:])
    assert (cache.sweep(100), len(cache)) == (0, 10)
    clock.advance(400)
    assert (cache.sweep(4), len(cache)) == (4, 6)
    assert (cache.sweep(100), len(cache)) == (2, 4)
    clock.advance(500)
    assert (cache.sweep(0), len(cache)) == (0, 4)
    assert (cache.sweep(100), len(cache)) == (4, 0)


def test_an_insert_sweeps_a_few(clock: FakeClock) -> None:
    """Each insert removes a bounded number of lapsed entries, so a million never go at once."""
    cache = make(clock)
    put(cache, clock, *keys(50))
    clock.advance(900)
    before = len(cache)
    cache.put(keys(51)[50], facts(), validated=clock.monotonic())
    assert before + 1 - SWEEP_AT_INSERT == len(cache)


def test_an_insert_sweeps_what_was_flushed(clock: FakeClock) -> None:
    """Also if an earlier insert has found that nothing there would lapse for long."""
    cache = make(clock)
    first, second, third = keys(3)
    put(cache, clock, first, second)
    cache.flush()
    put(cache, clock, third)
    assert (cache.keys(), cache.evictions()) == ([third], {"size": 0, "flushed": 2})


def test_what_may_be_stale_is_not_swept(clock: FakeClock) -> None:
    """Entries stay for as long as ``stale`` may want them."""
    cache = make(clock, stale_seconds=100.0)
    put(cache, clock, A)
    clock.advance(999)
    assert cache.sweep(10) == 0
    clock.advance(1)
    assert cache.sweep(10) == 1


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5))
def test_never_more_than_max_entries(inserted: list[int], most: int) -> None:
    """Whatever is put, the cache holds at most ``max_entries``, and every eviction is counted."""
    clock = FakeClock()
    cache = make(clock, max_entries=most)
    tokens = keys(10)
    for number in inserted:
        put(cache, clock, tokens[number])
        assert len(cache) <= most
    if inserted:
        assert cache.fresh(tokens[inserted[-1]], LOOSE) == facts()
    assert cache.evicted >= len(set(inserted)) - most


def test_a_flush_forgets_all_that_was_put_before(clock: FakeClock) -> None:
    """In the same tick of the clock too; what is put after it serves."""
    cache = make(clock, stale_seconds=100.0)
    put(cache, clock, A, B)
    cache.flush()
    put(cache, clock, B)
    assert [cache.fresh(key, LOOSE) for key in (A, B)] == [None, facts()]
    assert cache.stale(A, LOOSE) is None
    assert (cache.evictions(), cache.keys()) == ({"size": 0, "flushed": 2}, [B])


def test_a_cap_narrows_every_max_age(clock: FakeClock) -> None:
    """While it is set no facts serve for longer, whatever a caller allows."""
    cache = make(clock)
    put(cache, clock, A)
    clock.advance(10)
    cache.cap_seconds = 10
    assert cache.fresh(A, LOOSE) is None
    cache.cap_seconds = float("inf")
    assert cache.fresh(A, LOOSE) == facts()


def test_who_leaves_is_told(clock: FakeClock) -> None:
    """Each way out of the cache, replacement by later facts among them, and its cause."""
    left: list[TokenKey] = []
    cache = FactsCache(max_age_seconds=900.0, max_entries=2, clock=clock, left=left.append)
    tokens = keys(3)
    put(cache, clock, *tokens[:2])
    put(cache, clock, tokens[0])  # replaced
    put(cache, clock, tokens[2])  # pushes out the oldest
    cache.remove(tokens[0], "revoked")
    clock.advance(900)
    cache.sweep(10)
    assert left == [tokens[0], tokens[1], tokens[0], tokens[2]]
    assert cache.evictions() == {"size": 1, "revoked": 1}


def test_each_put_is_an_entry_of_its_own(clock: FakeClock) -> None:
    """Facts that were found anew aren't taken for those before, if all else is the same."""
    cache = make(clock)
    put(cache, clock, A)
    first = cache.entry(A)
    assert first == cache.entry(A)
    put(cache, clock, A)
    assert first != cache.entry(A)


MANY = keys(2 * SHARD_ENTRIES + 2000)
FEW = MANY[: SHARD_ENTRIES + 1000]


def test_of_many_the_oldest_make_room_too(clock: FakeClock) -> None:
    """No more than ``max_entries`` are there, and what went was among the oldest of all."""
    cache = make(clock, max_entries=2 * SHARD_ENTRIES)
    put(cache, clock, *MANY)
    left = [number for number, key in enumerate(MANY) if cache.fresh(key, LOOSE) is None]
    assert (len(cache), cache.evicted, len(left)) == (2 * SHARD_ENTRIES, 2000, 2000)
    assert max(left) < 2200


def test_the_bound_holds_where_a_shard_has_nothing_to_give(clock: FakeClock) -> None:
    """A token whose shard is empty pushes out another one's."""
    cache = make(clock, max_entries=2 * SHARD_ENTRIES)
    even = [key for key in keys(5 * SHARD_ENTRIES) if not key[0] % 2][: 2 * SHARD_ENTRIES]
    put(cache, clock, *even)
    put(cache, clock, next(key for key in MANY if key[0] % 2))
    assert (len(cache), cache.evicted) == (2 * SHARD_ENTRIES, 1)
    assert cache.fresh(even[0], LOOSE) is None


def test_sweeps_get_everywhere(clock: FakeClock) -> None:
    """Of a large cache each sweep sees a part, and the next one goes on from there."""
    cache = make(clock, max_entries=2 * SHARDS_AT_SWEEP * SHARD_ENTRIES)
    put(cache, clock, *FEW)
    clock.advance(900)
    assert cache.sweep(100) == 100
    first = cache.sweep(100_000)
    assert 0 < first < len(FEW) - 100
    assert (cache.sweep(100_000), len(cache)) == (len(FEW) - 100 - first, 0)


def test_all_keys_come_in_parts(clock: FakeClock) -> None:
    """Each token once, and no part is large."""
    cache = make(clock, max_entries=2 * SHARD_ENTRIES)
    put(cache, clock, *FEW)
    parts = list(cache.parts())
    assert sorted(FEW) == sorted(cache.keys()) == sorted(key for part in parts for key in part)
    assert max(map(len, parts)) <= MOST_IN_PART


def test_the_garbage_collector_has_nothing_to_look_through(clock: FakeClock) -> None:
    """However much is cached, only what was lately used is there as objects."""
    cache = make(clock, max_entries=2 * SHARD_ENTRIES)
    gc.collect()
    before = len(gc.get_objects())
    for key in FEW:
        cache.put(
            key, Facts(True, "app", key.hex(), exp=clock.wall() + 100), validated=clock.monotonic()
        )
    assert len(gc.get_objects()) - before < 100
    assert len(cache) == len(FEW)
    for key in FEW:
        cache.entry(key)
        assert 0 < len(cache._at_hand) <= ENTRIES_AT_HAND
