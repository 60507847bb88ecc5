"""Validator while the store is down: what serves on, what is refused, and nothing remembered."""

import pytest
from clocks import FakeClock
from scripted import ACTIVE, ScriptedStore, ValidatorBench, found, keys

from gateway.errors import StoreUnavailable
from gateway.tokens import INACTIVE, Facts

A, B = keys(2)
LOOSE = float("inf")
FACTS = Facts(True, "a")


@pytest.fixture
def bench(clock: FakeClock) -> ValidatorBench:
    """A validator whose store has token ``A``."""
    return ValidatorBench(clock, {A: ACTIVE})


async def test_a_failure_is_not_cached(bench: ValidatorBench) -> None:
    """While the store is down, uncached tokens get 503 and cached ones pass; afterwards, all do."""
    await bench.validator.validate(A, LOOSE)
    bench.store.documents[B] = ACTIVE
    bench.store.failure = StoreUnavailable()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await bench.validator.validate(B, LOOSE)
        assert await bench.validator.validate(A, LOOSE) == FACTS
        with pytest.raises(StoreUnavailable):
            await bench.validator.validate(A, 0)
    assert bench.metrics.failures == 6
    bench.store.failure = None
    assert await bench.validator.validate(B, LOOSE) == FACTS
    assert await bench.validator.validate(A, 0) == FACTS


async def test_stale_if_error(bench: ValidatorBench) -> None:
    """While the store is down, lapsed facts serve on for the stale window, and no longer."""
    bench.make(stale_seconds=60.0)
    await bench.validator.validate(A, LOOSE)
    bench.store.failure = StoreUnavailable()
    bench.clock.advance(959)
    assert await bench.validator.validate(A, LOOSE) == FACTS
    assert bench.metrics.stale == 1
    bench.clock.advance(1)
    with pytest.raises(StoreUnavailable):
        await bench.validator.validate(A, LOOSE)
    bench.store.failure = None
    assert await bench.validator.validate(A, LOOSE) == FACTS


async def test_stale_if_error_is_only_for_errors(bench: ValidatorBench) -> None:
    """A store that answers is believed: the stale window never brings a revoked token back."""
    bench.make(stale_seconds=60.0)
    await bench.validator.validate(A, LOOSE)
    bench.store.documents.clear()
    bench.clock.advance(900)
    assert await bench.validator.validate(A, LOOSE) == INACTIVE
    bench.store.failure = StoreUnavailable()
    bench.clock.advance(1)
    with pytest.raises(StoreUnavailable):
        await bench.validator.validate(A, LOOSE)


@pytest.mark.parametrize("stale_seconds", [0.0, 60.0])
async def test_a_store_that_never_answers(bench: ValidatorBench, stale_seconds: float) -> None:
    """A time-out is a failure like any other: 503, or facts within the stale window."""
    validator = bench.make(stale_seconds=stale_seconds)
    await validator.validate(A, LOOSE)
    validator._lookups._find_many = found(ScriptedStore().get_many)
    validator._lookups._timeout_seconds = 0.01
    bench.clock.advance(900)
    if stale_seconds:
        assert await validator.validate(A, LOOSE) == FACTS
    else:
        with pytest.raises(StoreUnavailable):
            await validator.validate(A, LOOSE)
    await validator.close()
