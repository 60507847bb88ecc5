"""What is due now, and how late it is. Pure.

Open loop: an instant is never moved because an answer is late, or because the generator is.
"""

import heapq
import math
from bisect import bisect_left
from itertools import accumulate
from typing import Generic, TypeVar

_T = TypeVar("_T")

_FINEST_SECONDS = 0.000_05
_PER_OCTAVE = 8
_BUCKETS = 200  # up to about half an hour


class Agenda(Generic[_T]):
    """Things to do, each at its instant; those of the same instant in the order they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _T]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_at(self) -> float:
        """When the next thing is due; infinity when there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def add(self, at: float, item: _T) -> None:
        """Plan a thing."""
        self._added += 1
        heapq.heappush(self._heap, (at, self._added, item))

    def pop(self) -> tuple[float, _T]:
        """Take the next thing, and when it was due.

        Raises:
            IndexError: there is none.
        """
        at, _, item = heapq.heappop(self._heap)
        return at, item


class LagMeter:
    """How late requests were sent, of all and of the last while; in buckets 9 % wide."""

    def __init__(self) -> None:
        self._all = [0] * _BUCKETS
        self._recent = [0] * _BUCKETS

    def add(self, seconds: float) -> None:
        """Take the lag of one request."""
        bucket = 0
        if seconds > _FINEST_SECONDS:
            octaves = math.log2(seconds / _FINEST_SECONDS)
            bucket = min(_BUCKETS - 1, math.ceil(octaves * _PER_OCTAVE))
        self._all[bucket] += 1
        self._recent[bucket] += 1

    def percentile(self, fraction: float) -> float:
        """Return the lag that this part of all requests stayed within, in seconds."""
        return _percentile(self._all, fraction)

    def recent(self, fraction: float) -> float:
        """Return the same of the requests since the last ``forget_recent``."""
        return _percentile(self._recent, fraction)

    def forget_recent(self) -> None:
        """Begin a new while."""
        self._recent = [0] * _BUCKETS


def _percentile(buckets: list[int], fraction: float) -> float:
    wanted = math.ceil(sum(buckets) * fraction)
    if not wanted:
        return 0.0
    bucket = bisect_left(list(accumulate(buckets)), wanted)
    return float(_FINEST_SECONDS * 2 ** (bucket / _PER_OCTAVE))
