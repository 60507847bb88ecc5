"""The promise, and the spread that a fixed lifetime gives."""

from random import Random

import pytest

from gateway.loadtest.theory import Promise, compare, fit_uniform
from gateway.loadtest.windows import Window

REVOKE_SENT, REVOKE_ANSWERED = 100.0, 100.1


def window(lower: float, upper: float | None, token: int = 0) -> Window:
    """A window from ``lower`` to ``upper`` seconds after its revocation was sent."""
    refused = None if upper is None else REVOKE_SENT + upper
    return Window(
        token=token,
        target=0,
        revoke_sent=REVOKE_SENT,
        revoke_answered=REVOKE_ANSWERED,
        first_accepted=90.0,
        last_accepted=REVOKE_SENT + lower,
        refused=refused,
        first_refused=refused,
        flaps=0,
    )


@pytest.mark.parametrize(
    ("lower", "upper", "promise"),
    [
        pytest.param(2.8, 3.0, Promise.KEPT, id="well within"),
        pytest.param(2.9, 3.19, Promise.KEPT, id="refused within the resolution"),
        pytest.param(2.9, 3.21, Promise.UNCLEAR, id="a gap where it mattered"),
        pytest.param(3.09, 3.19, Promise.KEPT, id="over since sent, not since answered"),
        pytest.param(3.11, 3.2, Promise.BROKEN, id="accepted too late, since answered"),
        pytest.param(3.11, None, Promise.BROKEN, id="and never seen to end"),
        pytest.param(2.0, None, Promise.UNCLEAR, id="never seen to end, below max age"),
    ],
)
def test_a_window_keeps_the_promise_or_not(
    lower: float, upper: float | None, promise: Promise
) -> None:
    """Surely broken by what was accepted after the answer; unclear by what wasn't seen."""
    found = compare([window(lower, upper)], 3.0, resolution=0.2, seed=7)
    assert (found.promise, len(found.outlived), len(found.unclear)) == (
        promise,
        promise is Promise.BROKEN,
        promise is Promise.UNCLEAR,
    )


def test_the_windows_that_outlived_it_are_named() -> None:
    """One token over makes the promise broken, and it's known which."""
    windows = [window(1.0, 1.2, 0), window(4.0, 4.2, 1), window(2.0, None, 2)]
    found = compare(windows, 3.0, resolution=0.2, seed=7)
    assert (found.promise, [w.token for w in found.outlived], [w.token for w in found.unclear]) == (
        Promise.BROKEN,
        [1],
        [2],
    )


@pytest.mark.parametrize(
    ("count", "max_age", "resolution", "reason"),
    [
        (0, 3.0, 0.0, "no window was measured"),
        (7, 3.0, 0.2, "fewer than 8 windows"),
        (20, 0.0, 0.2, "max age is zero"),
        (20, 3.0, 1.6, "the probe resolution is more than half of max age"),
        (20, 3.0, 1.5, None),
    ],
)
def test_a_test_that_would_say_nothing_is_not_made(
    count: int, max_age: float, resolution: float, reason: str | None
) -> None:
    """Too few windows, none to spread, or probes too far apart."""
    found = compare([window(1.0, 1.2)] * count, max_age, resolution=resolution, seed=7)
    assert (found.no_fit, found.fit is None) == (reason, reason is not None)


def test_without_windows_the_promise_is_unclear() -> None:
    """Nothing measured is no promise kept."""
    assert compare([], 3.0, resolution=0.0, seed=7).promise is Promise.UNCLEAR


def _uniform(seed: int, watch: float, *, size: int = 100, width: float = 0.05) -> list[Window]:
    """Windows of Uniform(0, 3), seen through probes ``width`` apart, for ``watch`` seconds."""
    random = Random(seed)
    found = []
    for _ in range(size):
        length = random.uniform(0, 3)
        lower = max(0.0, length - random.uniform(0, width))
        found.append(window(min(lower, watch), lower + width if length < watch else None))
    return found


@pytest.mark.parametrize("watch", [9.0, 2.0, 0.5])
def test_the_theory_is_refused_as_seldom_as_it_should(watch: float) -> None:
    """Of 300 runs that follow the theory about 1 % are said to differ, censored or not."""
    fits = [fit_uniform(_uniform(seed, watch), 3.0, seed=seed) for seed in range(300)]
    assert sum(not fit.agrees for fit in fits) <= 9
    assert (sum(fit.drawn for fit in fits) > 0) == (watch < 3)


@pytest.mark.parametrize(
    ("windows", "what"),
    [
        ([window(0.0, 0.05)] * 100, "evicted at once"),
        ([window(9.0, None)] * 100, "never refused"),
        ([window(2.0, None)] * 100, "never refused, watched for less than max age"),
        ([window(3.0 - 0.05 * (k % 10), 3.0) for k in range(100)], "the cache filled just before"),
        ([window(k * 0.04, k * 0.04 + 0.05) for k in range(100)], "a lifetime of 4 s"),
    ],
)
def test_what_is_not_the_theory_differs(windows: list[Window], what: str) -> None:
    """Other gateways don't look like a fixed lifetime."""
    assert not fit_uniform(windows, 3.0, seed=7).agrees, what


def test_the_same_seed_draws_the_same() -> None:
    """A report made twice from one record says the same."""
    windows = _uniform(1, 1.0)
    assert fit_uniform(windows, 3.0, seed=4) == fit_uniform(windows, 3.0, seed=4)
