"""The property test finds faults: each of those named in ``docs/revocation.md``, planted here.

Each replaces one method by what a tired author might have written.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from bound_machine import BoundMachine
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from gateway.cache import FactsCache
from gateway.entries import Entry
from gateway.feed import RevocationFeed
from gateway.lookups import Lookups
from gateway.tokens import Facts, TokenKey
from gateway.validator import Validator

MOST_EXAMPLES = 2_000
"""Some ten are enough for most; which ones are tried depends on the version of hypothesis."""

LOOSE = float("inf")

_put, _entry = FactsCache.put, FactsCache.entry


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def put_as_of_now(
    cache: FactsCache, key: TokenKey, facts: Facts, *, validated: float, life_seconds: float = LOOSE
) -> None:
    # Of good tokens alone: that bad ones stay bad for longer is found sooner.
    if facts.active:
        life_seconds += validated - cache._clock.monotonic()
        validated = cache._clock.monotonic()
    _put(cache, key, facts, validated=validated, life_seconds=life_seconds)


def entry_beyond_exp(
    cache: FactsCache,
    key: TokenKey,
    max_age_seconds: float = LOOSE,
    *,
    more_seconds: float = 0.0,
    keep: bool = True,
) -> Entry | None:
    entry = cache._unpacked(key, keep=keep)
    if entry is None or entry.number <= cache._flushed:
        return None
    bound = min(max_age_seconds, cache.max_age_seconds, cache.cap_seconds) + more_seconds
    return entry if cache._clock.monotonic() < entry.validated + bound else None


def entry_by_the_clock_of_then(
    cache: FactsCache,
    key: TokenKey,
    max_age_seconds: float = LOOSE,
    *,
    more_seconds: float = 0.0,
    keep: bool = True,
) -> Entry | None:
    entry = entry_beyond_exp(cache, key, max_age_seconds, more_seconds=more_seconds, keep=keep)
    return entry if entry is not None and cache._clock.monotonic() < entry.expires else None


def put_for_good(
    cache: FactsCache,
    key: TokenKey,
    facts: Facts,
    *,
    validated: float,
    life_seconds: float = LOOSE,
) -> None:
    _put(cache, key, facts, validated=validated)


def detach_but_keep(lookups: Lookups, key: TokenKey) -> None:
    lookups._under_way.pop(key, None)


def up_without_flush(feed: RevocationFeed) -> None:
    feed.is_up, feed._was_down_since = True, None
    feed._cap_age()


def ignore(*_: Any, **__: Any) -> None:
    """Do nothing."""


def entry_that_slides(cache: FactsCache, *asked: Any, **more: Any) -> Entry | None:
    entry = _entry(cache, *asked, **more)
    if entry is not None:
        _put(cache, asked[0], entry.facts, validated=cache._clock.monotonic())
    return entry


FAULTS: dict[str, tuple[type, str, Callable[..., Any], str]] = {
    "age from the answer": (FactsCache, "put", put_as_of_now, "after its end"),
    "exp doesn't cap": (FactsCache, "entry", entry_beyond_exp, "beyond exp"),
    "a detached lookup is kept": (Lookups, "detach", detach_but_keep, "had been heard of"),
    "no flush on return": (
        RevocationFeed,
        "up",
        up_without_flush,
        "had been heard of|refused, good",
    ),
    "no cap while down": (Validator, "cap_age", ignore, "after its end"),
    "use prolongs": (
        FactsCache,
        "entry",
        entry_that_slides,
        "after its end|after its key had expired|refused, good",
    ),
    "a key's expiry is waited for": (
        FactsCache,
        "put",
        put_for_good,
        "after its key had expired|after its end",
    ),
    "exp by the clock of then": (FactsCache, "entry", entry_by_the_clock_of_then, "beyond exp"),
    "a swap is passed over": (
        RevocationFeed,
        "invalidated_all",
        ignore,
        "after its end|had been heard of",
    ),
    "an issued token stays unknown": (Validator, "forget", ignore, "refused, good"),
}


@pytest.mark.once("it is the test that is tested")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", FAULTS)
def test_finds_a_planted_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any one of them, some order of events breaks the promise in the way that one would."""
    where, method, instead, complaint = FAULTS[fault]
    monkeypatch.setattr(where, method, instead)
    machine = type("FaultyMachine", (BoundMachine,), {})
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=MOST_EXAMPLES,
                stateful_step_count=50,
                phases=[Phase.generate],
                deadline=None,
                database=None,
                derandomize=True,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
