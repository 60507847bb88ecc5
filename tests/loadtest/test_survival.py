"""Kaplan and Meier's estimate: textbook values, what isn't known, and how often bands hold."""

from math import ceil
from random import Random

import numpy as np
import pytest

from gateway.loadtest.survival import (
    Percentile,
    curve,
    lower_ends,
    middles,
    upper_ends,
)
from gateway.loadtest.windows import Interval

# Fan belts, from Conover, Practical Nonparametric Statistics (1999), page 91: in 1000 miles.
BROKEN = [77.0, 47.0, 81.0, 56.0, 80.0]
UNBROKEN = [62.0, 60.0, 43.0, 71.0, 37.0]


def test_the_estimate_is_the_textbooks() -> None:
    """The survival of fan belts is that of the textbook."""
    found = curve(BROKEN, UNBROKEN)
    assert dict(zip(found.seconds.tolist(), (1 - found.share).round(6).tolist(), strict=True)) == {
        37.0: 1.0,
        43.0: 1.0,
        47.0: 0.875,
        56.0: 0.75,
        60.0: 0.75,
        62.0: 0.75,
        71.0: 0.75,
        77.0: 0.5,
        80.0: 0.25,
        81.0: 0.0,
    }


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_without_censoring_a_percentile_is_an_order_statistic(count: int, share: float) -> None:
    """When all windows ended, a percentile is the usual one: the ceil(n p)-th."""
    ended = [Random(count).uniform(0, 3) for _ in range(count)]
    found = curve(ended, []).percentile(share)
    assert found is not None
    assert (found.seconds, found.known) == (sorted(ended)[ceil(count * share - 1e-9) - 1], True)


def test_a_percentile_that_is_reached_exactly_is_not_missed_by_rounding() -> None:
    """After a window that left at once, the estimate is a product; k of n is still k of n."""
    missed = []
    for count in range(2, 60):
        found = curve([float(at) for at in range(1, count + 1)], [0.5])
        for at in range(1, count + 1):
            percentile = found.percentile(at / count)
            assert percentile is not None
            if percentile.seconds != at:
                missed.append((count, at))
    assert missed == []


@pytest.mark.parametrize(
    ("ended", "censored", "share", "seconds", "known"),
    [
        ([1.0, 2.0, 3.0, 4.0], [], 0.5, 2.0, True),
        ([1.0, 2.0, 3.0], [9.0], 0.75, 3.0, True),
        ([1.0, 2.0, 3.0], [9.0], 0.76, 9.0, False),
        ([1.0, 2.0, 3.0], [0.5], 0.99, 3.0, True),
        ([1.0, 2.0, 3.0], [2.5], 0.5, 2.0, True),
        ([], [8.0, 9.0], 0.5, 9.0, False),
    ],
)
def test_a_percentile_beyond_the_censoring_is_not_known(
    ended: list[float], censored: list[float], share: float, seconds: float, *, known: bool
) -> None:
    """What the estimate never reaches is larger than all that was seen."""
    found = curve(ended, censored).percentile(share)
    assert found is not None
    assert (found.seconds, found.known) == (seconds, known)


@pytest.mark.parametrize(
    ("ended", "censored", "expected"),
    [
        ([1.0, 3.0], [], Percentile(3.0, known=True, low=3.0, high=None)),
        ([1.0, 3.0], [2.0], Percentile(3.0, known=False, low=3.0, high=None)),
        ([1.0, 3.0], [9.0], Percentile(9.0, known=False, low=9.0, high=None)),
        ([], [], None),
    ],
)
def test_the_maximum_is_known_only_when_every_window_ended(
    ended: list[float], censored: list[float], expected: Percentile | None
) -> None:
    """One window that was never seen to end may be the longest."""
    assert curve(ended, censored).maximum() == expected


def test_no_windows_have_no_percentiles() -> None:
    """Nothing measured is said as nothing."""
    assert curve([], []).percentile(0.5) is None


@pytest.mark.parametrize(
    ("ended", "censored"),
    [
        ([1.0], []),
        ([1.0] * 50, []),
        ([], [1.0]),
        ([0.0, 0.0, 1.0], [0.0]),
        ([Random(1).uniform(0, 3) for _ in range(100)], [1.0, 2.0, 10.0]),
    ],
)
def test_a_band_holds_its_curve(ended: list[float], censored: list[float]) -> None:
    """A band lies within [0, 1] around the estimate, and never falls."""
    found = curve(ended, censored)
    share, low, high = found.evaluate(np.linspace(-1, 12, 200))
    assert (low >= 0).all()
    assert (low <= share + 1e-12).all()
    assert (share <= high + 1e-12).all()
    assert (high <= 1).all()
    for values in (share, low, high):
        assert (np.diff(values) >= 0).all()


def test_before_the_first_event_the_band_is_the_binomials() -> None:
    """None of n ended: the share is at most 1 - 0.025**(1/n), and may be zero."""
    share, low, high = curve([1.0] * 10, []).evaluate(np.array([0.5]))
    assert (share[0], low[0], round(high[0], 6)) == (0.0, 0.0, round(1 - 0.025**0.1, 6))


def _sample(seed: int, size: int) -> tuple[list[float], list[float]]:
    """Uniform(0, 3), of which some were watched for less than they lasted."""
    random = Random(seed)
    ended, censored = [], []
    for _ in range(size):
        length, watched = random.uniform(0, 3), random.uniform(0, 9)
        if length <= watched:
            ended.append(length)
        else:
            censored.append(watched)
    return ended, censored


@pytest.mark.parametrize("size", [30, 200])
@pytest.mark.parametrize("seconds", [0.3, 1.5, 2.7])
def test_bands_hold_the_truth_as_often_as_they_say(size: int, seconds: float) -> None:
    """Over 400 samples with a sixth censored, 95 % bands hold the truth in 92 to 98 %."""
    # Three standard errors are 3.3 %; the wrong formula, or no censoring, is off by more.
    held = 0
    for seed in range(400):
        _, low, high = curve(*_sample(seed, size)).evaluate(np.array([seconds]))
        held += low[0] <= seconds / 3 <= high[0]
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize(("share", "least"), [(0.5, 0.92), (0.9, 0.92), (0.99, 0.95)])
def test_limits_hold_the_true_percentile_as_often_as_they_say(share: float, least: float) -> None:
    """Over 400 samples the 95 % limits of a percentile hold it as often as they say."""
    held = 0
    for seed in range(400):
        found = curve(*_sample(seed, 200)).percentile(share)
        assert found is not None
        held += found.low <= 3 * share <= (np.inf if found.high is None else found.high)
    assert least <= held / 400 <= 1.0


def test_dropping_what_was_censored_would_be_seen() -> None:
    """The same check fails for an estimate from the windows alone that were seen to end."""
    held = 0
    for seed in range(400):
        ended, _ = _sample(seed, 200)
        _, low, high = curve(ended, []).evaluate(np.array([1.5]))
        held += low[0] <= 0.5 <= high[0]
    assert held / 400 < 0.92


INTERVALS = [Interval(0.0, 1.0), Interval(1.0, 3.0), Interval(5.0, None)]


def test_a_curve_takes_one_end_of_each_interval() -> None:
    """Upper ends, lower ends and middles of the windows that ended; the others are censored."""
    found = [make(INTERVALS) for make in (upper_ends, lower_ends, middles)]
    assert [(c.seconds.tolist(), c.windows, c.censored, c.longest) for c in found] == [
        ([1.0, 3.0, 5.0], 3, 1, 5.0),
        ([0.0, 1.0, 5.0], 3, 1, 5.0),
        ([0.5, 2.0, 5.0], 3, 1, 5.0),
    ]
