"""Percentiles of windows of which some were never seen to end: Kaplan and Meier's estimate.

Each window counts: one that was seen to end as an event, one that wasn't as right-censored, so
that it weighs on every percentile above what was seen of it. A percentile that the estimate
never reaches isn't known, only that it's larger than all that was seen.

The bands are pointwise, by the exponential Greenwood formula (log-log). The plain one is
symmetric: it leaves [0, 1] and covers too little just where p99 is read, near 1. Where the
formula is undefined, before the first event and once all have ended, the bands are those of
the binomial: no event among n has the upper bound ``1 - (alpha/2)**(1/n)``, and the lower one
stays where it was. Windows of one token at several targets aren't independent: with several
targets the bands are somewhat too narrow.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

from gateway.loadtest.outcomes import Floats
from gateway.loadtest.windows import Interval

CONFIDENCE = 0.95

_EXACT = 1e-9  # probabilities are sums of 1/n: compared with what rounding leaves of them


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile in seconds, with its confidence limits.

    When ``known`` is False the run doesn't show it: it's larger than ``seconds``. ``high`` is
    None when the run is too short of tokens to limit it from above.
    """

    seconds: float
    known: bool
    low: float
    high: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """The share of windows that had ended by each time, a step at each, with its band.

    ``seconds`` ascends; ``share``, ``low`` and ``high`` hold from their time to the next.
    ``longest`` is the longest that was seen of any window, ended or not.
    """

    seconds: Floats
    share: Floats
    low: Floats
    high: Floats
    windows: int
    censored: int
    longest: float

    def percentile(self, share: float) -> Percentile | None:
        """Return the time by which this share of windows had ended; None without windows.

        Its limits are where the band crosses the share (Brookmeyer and Crowley, 1982).
        """
        if not self.windows:
            return None
        at, low, high = (
            _first(self.seconds, values, share) for values in (self.share, self.high, self.low)
        )
        return Percentile(
            seconds=self.longest if at is None else at,
            known=at is not None,
            low=self.longest if low is None else low,
            high=high,
        )

    def maximum(self) -> Percentile | None:
        """Return the longest window seen; not known when any was never seen to end."""
        if not self.windows:
            return None
        return Percentile(self.longest, self.censored == 0, low=self.longest, high=None)

    def evaluate(self, seconds: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the share that had ended by each of these times, and its band: low, high.

        After the longest window nothing is known of those that weren't seen to end, so that
        all may have ended by then.
        """
        index = np.searchsorted(self.seconds, seconds, side="right")
        high = np.concatenate([[_none_ended(self.windows)], self.high])[index]
        return (
            np.concatenate([[0.0], self.share])[index],
            np.concatenate([[0.0], self.low])[index],
            np.where(seconds > self.longest, 1.0, high),
        )


def _first(seconds: Floats, shares: Floats, share: float) -> float | None:
    reached = np.flatnonzero(shares >= share - _EXACT)
    return float(seconds[reached[0]]) if len(reached) else None


def _none_ended(windows: int) -> float:
    return float(1 - ((1 - CONFIDENCE) / 2) ** (1 / windows)) if windows else 1.0


def curve(ended: Sequence[float], censored: Sequence[float]) -> Curve:
    """Estimate the distribution of windows that ended, or had not ended, after these seconds."""
    windows = len(ended) + len(censored)
    if not windows:
        nothing = np.empty(0)
        return Curve(nothing, nothing, nothing, nothing, 0, 0, 0.0)
    estimate = stats.ecdf(stats.CensoredData(uncensored=list(ended), right=list(censored))).cdf
    share = np.asarray(estimate.probabilities)
    low, high = _band(estimate, share, windows)
    return Curve(
        seconds=np.asarray(estimate.quantiles),
        share=share,
        low=low,
        high=high,
        windows=windows,
        censored=len(censored),
        longest=max([*ended, *censored]),
    )


def _band(estimate: Any, share: Floats, windows: int) -> tuple[Floats, Floats]:
    inside = (share > _EXACT) & (share < 1 - _EXACT)
    low, high = np.zeros_like(share), np.full_like(share, _none_ended(windows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined outside: see above
        band = estimate.confidence_interval(CONFIDENCE, method="log-log")
    low[inside] = band.low.probabilities[inside]
    high[inside] = band.high.probabilities[inside]
    high[share >= 1 - _EXACT] = 1.0
    # The estimate never falls, so neither does what is known of its bounds.
    return np.maximum.accumulate(low), np.maximum.accumulate(high)


def upper_ends(intervals: Sequence[Interval]) -> Curve:
    """The conservative curve: each window ended when its refusal did."""
    return _curve([(interval.upper, interval.lower) for interval in intervals])


def lower_ends(intervals: Sequence[Interval]) -> Curve:
    """The most favourable curve: each window ended with its last acceptance."""
    return _curve([(None if i.upper is None else i.lower, i.lower) for i in intervals])


def middles(intervals: Sequence[Interval]) -> Curve:
    """The curve of the middles, the least biased: each window ended halfway between both."""
    return _curve([(interval.middle, interval.lower) for interval in intervals])


def _curve(ends: Sequence[tuple[float | None, float]]) -> Curve:
    return curve(
        [end for end, _ in ends if end is not None],
        [seen for end, seen in ends if end is None],
    )
