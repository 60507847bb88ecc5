"""What a cache with a fixed lifetime would show, and whether this run shows it.

A gateway that keeps a validated token's facts for ``max_age`` seconds, and whose cache was
filled at a random time before the revocation, accepts the token for a time that is uniform
between 0 and ``max_age``. And no token may outlive ``max_age``, however it was cached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from scipy import stats  # type: ignore[import-untyped]

from gateway.loadtest.windows import Window

SIGNIFICANCE = 0.01
FEWEST = 8  # windows; with fewer, the test can't tell much from anything


class Promise(Enum):
    """Whether the windows kept within max age."""

    KEPT = "kept"
    UNCLEAR = "unclear"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Fit:
    """A Kolmogorov-Smirnov test of the middles against Uniform(0, max age).

    ``drawn`` windows were censored below max age, and drawn (see ``fit_uniform``).
    """

    statistic: float
    p_value: float
    windows: int
    drawn: int

    @property
    def agrees(self) -> bool:
        """Say whether nothing speaks against the theory, at a significance of 0.01."""
        return self.p_value > SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class Theory:
    """What the run says of the promise ``max_age``, in seconds.

    ``outlived``: windows that were surely longer, the token having been accepted more than max
    age after the revocation was *answered*. ``unclear``: windows that may have been longer, as
    their refusal ended more than max age and the probe resolution after the revocation was
    *sent*, or as they were never seen to end. ``fit`` is None where the test would say nothing,
    for the reason ``no_fit``.
    """

    max_age: float
    outlived: Sequence[Window]
    unclear: Sequence[Window]
    fit: Fit | None
    no_fit: str | None

    @property
    def promise(self) -> Promise:
        """Return the verdict; without any window, the promise is unclear."""
        if self.outlived:
            return Promise.BROKEN
        return Promise.UNCLEAR if self.unclear or self.no_fit == _NOTHING else Promise.KEPT


_NOTHING = "no window was measured"


def compare(
    windows: Sequence[Window], max_age: float, *, resolution: float, seed: int | None
) -> Theory:
    """Compare windows with what a promise of ``max_age`` seconds would give."""
    verdicts = [_judge(window, max_age, resolution) for window in windows]
    outlived, unclear = (
        [window for window, found in zip(windows, verdicts, strict=True) if found is verdict]
        for verdict in (Promise.BROKEN, Promise.UNCLEAR)
    )
    no_fit = _no_fit(len(windows), max_age, resolution)
    fit = None if no_fit else fit_uniform(windows, max_age, seed=seed)
    return Theory(max_age, outlived, unclear, fit, no_fit)


def _judge(window: Window, max_age: float, resolution: float) -> Promise:
    if window.since_answered.lower > max_age:
        return Promise.BROKEN
    upper = window.since_sent.upper
    if upper is None or upper > max_age + resolution:
        return Promise.UNCLEAR
    return Promise.KEPT


def _no_fit(windows: int, max_age: float, resolution: float) -> str | None:
    if not windows:
        return _NOTHING
    if not max_age:
        return "max age is zero"
    if windows < FEWEST:
        return f"fewer than {FEWEST} windows"
    if resolution > max_age / 2:
        return "the probe resolution is more than half of max age"
    return None


def fit_uniform(windows: Sequence[Window], max_age: float, *, seed: int | None) -> Fit:
    """Test the middles of the windows against Uniform(0, max age).

    A censored window that was seen for max age or longer counts with what was seen of it: the
    theory has nothing there, so where exactly makes no difference. One that was censored below
    is drawn from what the theory says of it, Uniform(what was seen, max age), so that the test
    keeps its significance; ``seed`` makes the draw repeatable.
    """
    random = Random(seed)  # noqa: S311 (statistics, no secret)
    sample: list[float] = []
    drawn = 0
    for interval in (window.since_sent for window in windows):
        middle = interval.middle
        if middle is None and interval.lower < max_age:
            drawn += 1
            middle = random.uniform(interval.lower, max_age)
        sample.append(interval.lower if middle is None else middle)
    result = stats.kstest(sample, stats.uniform(0, max_age).cdf)
    return Fit(float(result.statistic), float(result.pvalue), len(sample), drawn)
