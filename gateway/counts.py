"""Counters, gauges and histograms as plain numbers, for what is counted on every request.

prometheus_client's own values are found by their labels under one lock and changed under
another, which costs microseconds a request. Here only the event loop's thread counts, so a
number is enough; when metrics are read, it is shown sample for sample as prometheus_client's
classes would show it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Count:
    """A number of events that only goes up, first shown at ``created_at`` (epoch seconds)."""

    __slots__ = ("created_at", "value")

    def __init__(self, created_at: float) -> None:
        self.created_at = created_at
        self.value = 0


class Distribution:
    """How many observations lie up to each bound, and their sum.

    ``counts`` has one number for each bound, of observations up to it and beyond the bound
    before, and one more for those beyond the last.
    """

    __slots__ = ("_bounds", "counts", "created_at", "total")

    def __init__(self, bounds: Sequence[float], created_at: float) -> None:
        self._bounds = bounds
        self.created_at = created_at
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Counts(Collector):
    """A counter, by labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        wall: Callable[[], float],
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._wall = wall
        self._counts: dict[tuple[str, ...], Count] = {}

    def at(self, *values: str) -> Count:
        """Return the number for these label values; it is shown from now on."""
        if values not in self._counts:
            self._counts[values] = Count(self._wall())
        return self._counts[values]

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Show the numbers as they are."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        created = _created_is_shown()
        for values, count in self._counts.items():
            family.add_metric(values, count.value, count.created_at if created else None)
        yield family


class Level(Collector):
    """A gauge: whoever counts changes ``value``."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name = name
        self._documentation = documentation
        self.value = 0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Show the number as it is."""
        yield GaugeMetricFamily(self._name, self._documentation, value=self.value)


class Distributions(Collector):
    """A histogram, by labels; ``bounds`` rise, are below a million and leave infinity out."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        bounds: Sequence[float],
        wall: Callable[[], float],
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._bounds = bounds
        self._le = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._wall = wall
        self._distributions: dict[tuple[str, ...], Distribution] = {}

    def at(self, *values: str) -> Distribution:
        """Return the distribution for these label values; it is shown from now on."""
        if values not in self._distributions:
            self._distributions[values] = Distribution(self._bounds, self._wall())
        return self._distributions[values]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Show the distributions as they are."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        created = _created_is_shown()
        for values, distribution in self._distributions.items():
            up_to = 0.0
            buckets = []
            for le, count in zip(self._le, distribution.counts, strict=True):
                up_to += count
                buckets.append((le, up_to))
            family.add_metric(values, buckets, distribution.total)
            if created:
                labels = dict(zip(self._labels, values, strict=True))
                family.add_sample(f"{self._name}_created", labels, distribution.created_at)
        yield family


def _created_is_shown() -> bool:
    """Whether prometheus_client's own counters show it: there is a setting for that."""
    families = Counter("probe", "Never shown.", registry=None).collect()
    return any(sample.name == "probe_created" for one in families for sample in one.samples)
