"""Validator: the cache, then what is under way, then the store."""

import asyncio
from typing import Any

import pytest
from clocks import FakeClock
from scripted import ACTIVE, ScriptedStore, ValidatorBench, document, keys

from gateway.tokens import INACTIVE, Facts

A, B = keys(2)
LOOSE = float("inf")
FACTS = Facts(True, "a")


@pytest.fixture
def bench(clock: FakeClock) -> ValidatorBench:
    """A validator whose store has token ``A``."""
    return ValidatorBench(clock, {A: ACTIVE})


async def test_a_token_is_looked_up_once_per_max_age(bench: ValidatorBench) -> None:
    """A token in constant use costs one command in each max age."""
    for _ in range(2 * 900):
        assert await bench.validator.validate(A, LOOSE) == FACTS
        bench.clock.advance(1)
    assert (bench.commands, bench.metrics.misses, bench.metrics.hits) == (2, 2, 2 * 900 - 2)


async def test_a_revoked_token_lapses(bench: ValidatorBench) -> None:
    """A token that leaves the store is accepted until its facts are max age old, then refused."""
    await bench.validator.validate(A, LOOSE)
    bench.store.documents.clear()
    bench.clock.advance(899.5)
    assert await bench.validator.validate(A, LOOSE) == FACTS
    bench.clock.advance(0.5)
    assert await bench.validator.validate(A, LOOSE) == INACTIVE


@pytest.mark.parametrize("evicts", [False, True])
@pytest.mark.parametrize("exp_in", [None, 3_600])
async def test_a_key_that_expires_unheard(
    bench: ValidatorBench, evicts: bool, exp_in: int | None
) -> None:
    """Redis tells of it when it deletes the key, long after: the facts are gone in time."""
    exp = None if exp_in is None else bench.clock.wall() + exp_in
    bench.store.documents[A] = document(exp=exp)
    bench.store.lives[A] = 2.0
    validator = bench.make(evicts=evicts)
    await validator.validate(A, LOOSE)
    del bench.store.documents[A]
    bench.clock.advance(1.9375)
    assert (await validator.validate(A, LOOSE)).active
    bench.clock.advance(0.0625)
    assert await validator.validate(A, LOOSE) == INACTIVE
    assert (len(bench.revoked), bench.metrics.exposures) == (0, [])


async def test_a_clock_set_forward_expires_what_is_cached(bench: ValidatorBench) -> None:
    """A token whose ``exp`` is past, as the clock stands now, is refused; it wasn't revoked."""
    bench.store.documents[A] = document(exp=bench.clock.wall() + 100)
    assert (await bench.validator.validate(A, LOOSE)).active
    bench.clock.wall_at += 1_000
    assert not bench.validator.invalidate(A)
    assert await bench.validator.validate(A, LOOSE) == INACTIVE


async def test_a_route_tightens_the_window(bench: ValidatorBench) -> None:
    """A request with a max age of its own asks the store once its facts are that old."""
    await bench.validator.validate(A, LOOSE)
    bench.store.documents.clear()
    bench.clock.advance(59.5)
    assert await bench.validator.validate(A, 60) == FACTS
    bench.clock.advance(0.5)
    assert await bench.validator.validate(A, 60) == INACTIVE
    assert await bench.validator.validate(A, LOOSE) == INACTIVE


async def test_max_age_zero_asks_every_time(bench: ValidatorBench) -> None:
    """With max age 0 every validation is a command, and leaves facts to looser requests."""
    for _ in range(5):
        assert await bench.validator.validate(A, 0) == FACTS
    assert bench.commands == 5
    assert await bench.validator.validate(A, LOOSE) == FACTS
    assert bench.commands == 5
    bench.store.documents.clear()
    assert await bench.validator.validate(A, 0) == INACTIVE


async def test_the_bound_for_all_holds_for_lookups_too(bench: ValidatorBench) -> None:
    """With ``cache.max_age`` 0 no request shares a command that left before it came."""
    store = ScriptedStore()
    validator = bench.make(store.get_many, max_age_seconds=0.0)
    early = asyncio.create_task(validator.validate(A, LOOSE))
    (first := await store.sent.get()).keys  # noqa: B018
    late = asyncio.create_task(validator.validate(A, LOOSE))
    second = await store.sent.get()
    first.answer(ACTIVE)
    second.answer(None)
    assert (await early, await late) == (FACTS, INACTIVE)


async def test_an_unknown_token_is_remembered_for_a_second(bench: ValidatorBench) -> None:
    """An unknown token is asked for again after a second, and then may be known."""
    assert await bench.validator.validate(B, LOOSE) == INACTIVE
    bench.store.documents[B] = ACTIVE
    bench.clock.advance(0.5)
    assert await bench.validator.validate(B, LOOSE) == INACTIVE
    assert bench.validator.cached(B, LOOSE) == INACTIVE
    assert (bench.commands, bench.metrics.negative_hits) == (1, 2)
    bench.clock.advance(0.5)
    assert await bench.validator.validate(B, LOOSE) == FACTS
    assert bench.commands == 2


async def test_max_age_zero_asks_for_unknown_tokens_too(bench: ValidatorBench) -> None:
    """With max age 0 a token that was unknown a moment ago is asked for."""
    await bench.validator.validate(B, 0)
    bench.store.documents[B] = ACTIVE
    assert await bench.validator.validate(B, 0) == FACTS
    assert bench.validator.cached(B, LOOSE) == FACTS


async def test_unknown_tokens_push_out_no_good_one(bench: ValidatorBench) -> None:
    """However many random tokens come, the good ones stay cached."""
    bench.make(max_entries=1)
    await bench.validator.validate(A, LOOSE)
    for key in keys(102)[2:]:
        await bench.validator.validate(key, LOOSE)
    assert bench.validator.cached(A, LOOSE) == FACTS


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b"\xff", b'{"active": "yes"}', b'{"active": true, "exp": "soon"}'],
)
async def test_a_malformed_document_is_an_unknown_token(
    bench: ValidatorBench, value: bytes
) -> None:
    """What isn't an introspection document authorises nobody, and is counted."""
    bench.store.documents[A] = value
    assert await bench.validator.validate(A, LOOSE) == INACTIVE
    assert bench.metrics.malformed == 1


async def test_an_expired_document_is_refused_at_its_exp(bench: ValidatorBench) -> None:
    """Cached facts end with the token, although the store still has it."""
    bench.store.documents[A] = document(exp=bench.clock.wall() + 10)
    assert (await bench.validator.validate(A, LOOSE)).active
    bench.clock.advance(10)
    assert bench.validator.cached(A, LOOSE) is None
    assert await bench.validator.validate(A, LOOSE) == INACTIVE


async def test_concurrent_first_uses(bench: ValidatorBench) -> None:
    """35 first uses of a token and 1,000 of 1,000 others are one command, and 8 commands."""
    assert (
        await asyncio.gather(*(bench.validator.validate(A, LOOSE) for _ in range(35)))
        == [FACTS] * 35
    )
    assert bench.store.commands == [[A]]
    others = keys(1_001)[1:]
    found: list[Any] = await asyncio.gather(
        *(bench.validator.validate(key, LOOSE) for key in others)
    )
    assert found == [INACTIVE] * 1_000
    assert [len(command) for command in bench.store.commands[1:]] == [128] * 7 + [104]


async def test_detach_leaves_what_is_cached(bench: ValidatorBench) -> None:
    """A revocation in lapse mode leaves cached facts to their max age."""
    await bench.validator.validate(A, LOOSE)
    bench.validator.detach(A)
    assert bench.validator.cached(A, LOOSE) == FACTS


async def test_detach_keeps_a_lookup_out_of_the_cache(bench: ValidatorBench) -> None:
    """A revocation during a lookup: its answer is used once, and the next request asks again."""
    store = ScriptedStore()
    validator = bench.make(store.get_many)
    during = asyncio.create_task(validator.validate(A, LOOSE))
    command = await store.sent.get()
    validator.detach(A)
    command.answer(ACTIVE)
    assert await during == FACTS
    assert validator.cached(A, LOOSE) is None
    after = asyncio.create_task(validator.validate(A, LOOSE))
    (await store.sent.get()).answer(None)
    assert await after == INACTIVE


@pytest.mark.parametrize("known", [True, False])
async def test_forget_drops_all(bench: ValidatorBench, known: bool) -> None:
    """After ``forget`` the store is asked, whatever was known of the token."""
    key = A if known else B
    await bench.validator.validate(key, LOOSE)
    bench.validator.forget(key)
    assert bench.validator.cached(key, LOOSE) is None


async def test_a_token_used_just_before_it_is_issued(bench: ValidatorBench) -> None:
    """A lookup that left before a token was recorded can't make the new token unknown."""
    store = ScriptedStore()
    validator = bench.make(store.get_many)
    too_early = asyncio.create_task(validator.validate(B, LOOSE))
    command = await store.sent.get()
    validator.forget(B)
    command.answer(None)
    assert await too_early == INACTIVE
    assert validator.cached(B, LOOSE) is None


async def test_what_is_cached_costs_no_turn_of_the_loop(bench: ValidatorBench) -> None:
    """``cached`` answers at once, counts a hit, and counts nothing where it knows nothing."""
    assert bench.validator.cached(A, LOOSE) is None
    assert (bench.metrics.hits, bench.metrics.misses, bench.commands) == (0, 0, 0)
    await bench.validator.validate(A, LOOSE)
    assert bench.validator.cached(A, LOOSE) == FACTS
    assert (bench.metrics.hits, bench.metrics.misses) == (1, 1)


@pytest.mark.parametrize(("evicts", "left"), [(False, 1), (True, 0)])
async def test_a_revocation_through_this_gateway(
    bench: ValidatorBench, evicts: bool, left: int
) -> None:
    """Marked since the key manager said so, or evicted before the store is told."""
    validator = bench.make(evicts=evicts)
    await validator.validate(A, LOOSE)
    since = bench.clock.monotonic()
    validator.revoking(A)
    assert validator.cached(A, LOOSE) == (None if evicts else FACTS)
    await validator.validate(A, LOOSE)  # the store has it still
    bench.clock.advance(0.01)
    validator.revoke(A, since=since)
    assert validator.cached(A, LOOSE) == (None if evicts else FACTS)
    assert [token.revoked for token in validator.revoked] == [since] * left


async def test_a_flush_evicts_all(bench: ValidatorBench) -> None:
    """Cached, unknown, under way and marked: all is asked again."""
    await bench.validator.validate(A, LOOSE)
    await bench.validator.validate(B, LOOSE)
    bench.validator.revoke(A)
    bench.validator.flush()
    assert [bench.validator.cached(key, LOOSE) for key in (A, B)] == [None, None]
    assert (len(bench.revoked), bench.metrics.exposures) == (0, [0.0])
