"""Figures of many rounds as one: the median, the spread, the ratio to ours. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What one round gave for one gateway in one case; a figure that there isn't is None.

    Microseconds of processor time are for each request: the gateway's own processes, and those
    with the authorizer's. ``fault`` says why the round doesn't count.
    """

    case: str
    peer: str
    round: int
    requests_a_second: float | None = None
    cpu: float | None = None
    cpu_with_authorizer: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    longest_ms: float | None = None
    memory_mib: float | None = None
    connection_kib: float | None = None
    redis_cpu: float | None = None
    backend_cpu: float | None = None
    requests: float | None = None
    fault: str | None = None

    def figure(self, name: str) -> float | None:
        """Return one of the figures by its name."""
        value: float | None = getattr(self, name)
        return value

    def members(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Figure:
    """A figure over all rounds, and the median of its ratios to ours, round by round."""

    median: float
    least: float
    most: float
    ratio: float | None


def by_round(samples: Iterable[Sample], case: str, peer: str, name: str) -> dict[int, float]:
    """Return a figure of each round that counts."""
    return {
        sample.round: value
        for sample in samples
        if (sample.case, sample.peer) == (case, peer)
        and sample.fault is None
        and (value := sample.figure(name)) is not None
    }


def figure(
    values: Mapping[int, float], reference: Mapping[int, float] | None = None
) -> Figure | None:
    """Return the median of the rounds with its spread; None where no round counts.

    The ratio is the median of each round's own, so that what slows the whole machine for a
    while slows both sides of it.
    """
    if not values:
        return None
    ratios = [
        value / reference[number]
        for number, value in values.items()
        if reference and reference.get(number)
    ]
    every = list(values.values())
    return Figure(median(every), min(every), max(every), median(ratios) if ratios else None)


def faults(samples: Sequence[Sample], case: str, peer: str) -> list[str]:
    """Return why rounds of a gateway in a case don't count, each reason once."""
    return list(
        dict.fromkeys(
            sample.fault
            for sample in samples
            if (sample.case, sample.peer) == (case, peer) and sample.fault
        )
    )
