"""How long requests took, from the instant they were planned for, in HDR histograms.

Counting from the planned instant keeps the waiting of a late generator in, and so makes up for
coordinated omission; the service time, from the sending, stands beside it. Requests without an
answer have no latency: they're counted with the errors.
"""

from dataclasses import dataclass

import numpy as np
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from gateway.loadtest.outcomes import Columns, Floats, Integers

_HIGHEST = 86_400_000_000  # microseconds in a day
_DIGITS = 3
_SLICES = 60
_WIDTHS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of durations, in seconds, to three digits; the maximum is exact."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Durations of one kind of request: from the planned instant, and from the sending."""

    planned: Summary
    service: Summary


@dataclass(frozen=True, slots=True)
class Slice:
    """Latencies of the requests that were planned in one stretch of the run."""

    start: float
    seconds: float
    count: int
    p50: float
    p99: float


def summarise(seconds: Floats) -> Summary:
    """Summarise durations; what is below zero counts as zero."""
    if not len(seconds):
        return Summary(0, 0.0, 0.0, 0.0, 0.0)
    histogram = HdrHistogram(1, _HIGHEST, _DIGITS)
    micros = np.clip(np.rint(seconds * 1e6), 0, _HIGHEST).astype(np.int64)
    # Recording a value takes microseconds, so equivalent values are recorded together.
    for value, count in zip(*np.unique(_equivalent(micros), return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))
    found = histogram.get_percentile_to_value_dict([50, 90, 99])
    longest = max(0.0, float(seconds.max()))
    # A histogram answers with the highest value of a bucket, which may be above the maximum.
    p50, p90, p99 = (min(found[percent] / 1e6, longest) for percent in (50, 90, 99))
    return Summary(len(seconds), p50, p90, p99, longest)


def _equivalent(micros: Integers) -> Integers:
    """Return the lowest value that the histogram keeps in the same bucket as each."""
    magnitude = np.frexp(np.maximum(micros, 1).astype(np.float64))[1] - 1
    shift = np.maximum(magnitude - 10, 0)  # three digits: 2048 values to a power of two
    lowest: Integers = (micros >> shift) << shift
    return lowest


def latency(requests: Columns) -> Latency:
    """Return how long these requests took."""
    return Latency(
        planned=summarise(requests.finished - requests.planned),
        service=summarise(requests.finished - requests.sent),
    )


def slices(requests: Columns) -> list[Slice]:
    """Cut the requests, by planned instant, into at most 60 slices of a round width."""
    if not len(requests):
        return []
    first, last = float(requests.planned.min()), float(requests.planned.max())
    width = _round_width((last - first) / (_SLICES - 1))
    index = np.floor(requests.planned / width).astype(np.int64)
    took = requests.finished - requests.planned
    found = []
    for at in np.unique(index):
        p50, p99 = np.percentile(took[index == at], [50, 99])
        count = int(np.count_nonzero(index == at))
        found.append(Slice(float(at) * width, width, count, float(p50), float(p99)))
    return found


def _round_width(least: float) -> float:
    width = 0.1
    while True:
        for digit in _WIDTHS:
            if width * digit >= least:
                return width * digit
        width *= 10
