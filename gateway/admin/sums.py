"""The metrics of several workers as those of one gateway."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_SUMMED = {"counter", "histogram"}
_Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class MetricsBook:
    """What each worker said last, and what those that have ended had counted.

    The sums of counters never go down, as a counter must not (a lower value would be taken for
    a restart and all of it counted again): what a worker has counted stays when it ends. Only
    what it counted after it was read last is lost.
    """

    def __init__(self) -> None:
        self._latest: dict[int, list[Metric]] = {}
        self._ended: list[Metric] = []

    def read(self, worker: int, exposition: str) -> None:
        """Note what a worker says, in the Prometheus text format."""
        self._latest[worker] = list(text_string_to_metric_families(exposition))

    def ended(self, worker: int) -> None:
        """Note that a worker is gone; another one of its number may follow."""
        last = self._latest.pop(worker, [])
        summed = [family for family in last if family.type in _SUMMED]
        self._ended = merge([self._ended, summed])

    def render(
        self, *, workers: int, started: int, restarts: int, own: Iterable[Metric] = ()
    ) -> bytes:
        """Return all of it in the Prometheus text format, with the supervisor's own."""
        workers_own = [
            GaugeMetricFamily("gateway_workers", "Workers that there should be.", workers),
            GaugeMetricFamily("gateway_workers_started", "Workers that serve.", started),
            CounterMetricFamily(
                "gateway_worker_restarts", "Workers started again.", value=restarts
            ),
        ]
        registry = CollectorRegistry()
        summed = merge([list(own), self._ended, *self._latest.values()])
        registry.register(_Families([*workers_own, *summed]))
        return generate_latest(registry)


def merge(expositions: Iterable[list[Metric]]) -> list[Metric]:
    """Return each family once, with one sample for each name and labels.

    Counters and histograms are summed, and gauges too, but for those where a sum makes no sense:
    of ``_up`` the least is taken, of ``_seconds`` (bounds, lags, ages) and ``_info`` the most.
    Times of creation are left out: a sum has none.
    """
    families: dict[str, Metric] = {}
    values: dict[str, _Samples] = {}
    for exposition in expositions:
        for family in exposition:
            if family.name.endswith("_created"):
                continue
            families.setdefault(family.name, family)
            samples = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                known = samples.get(key)
                value = float(sample.value)
                samples[key] = value if known is None else _together(family, known, value)
    merged = []
    for name, family in families.items():
        one = Metric(name, family.documentation, family.type)
        for (sample_name, labels), value in values[name].items():
            one.add_sample(sample_name, dict(labels), value)
        merged.append(one)
    return merged


def _together(family: Metric, one: float, other: float) -> float:
    if family.type not in _SUMMED:
        if family.name.endswith("_up"):
            return min(one, other)
        if family.name.endswith(("_seconds", "_info")):
            return max(one, other)
    return one + other


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
