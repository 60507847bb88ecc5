"""What metrics say, summed up as the admin API tells it.

By the names under which Prometheus sees them, so that what the page shows is what a dashboard
shows, whoever counted it. A metric that isn't there counts as zero.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import Metric


@dataclass(slots=True)
class Tally:
    """Totals since the start of the process.

    ``exposure_counts`` has one number for each bound in ``exposure_le`` (seconds), of exposures
    up to it and beyond the bound before, and one more for those beyond the last.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    cache_results: Counter[str] = field(default_factory=Counter)
    cache_entries: Counter[str] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)
    bounds: dict[str, float] = field(default_factory=dict)
    feed_up: bool | None = None
    feed_lag_seconds: float | None = None
    exposure_le: list[float] = field(default_factory=list)
    exposure_counts: list[int] = field(default_factory=list)
    exposure_sum: float = 0.0

    @property
    def exposure_count(self) -> int:
        """How many exposures have been observed."""
        return sum(self.exposure_counts)


def tally(families: Iterable[Metric]) -> Tally:
    """Return what the metrics of a gateway say."""
    told = Tally()
    cumulative: Counter[float] = Counter()
    for family in families:
        for sample in family.samples:
            _take(told, cumulative, sample.name, sample.labels, sample.value)
    if cumulative:
        *told.exposure_le, _infinity = sorted(cumulative)
        below = 0
        for _, count in sorted(cumulative.items()):
            told.exposure_counts.append(count - below)
            below = count
    return told


def _take(
    told: Tally,
    cumulative: Counter[float],
    name: str,
    labels: Mapping[str, str],
    value: float,
) -> None:
    match name:
        case "gateway_requests_total":
            told.outcomes.setdefault(labels["route"], Counter())[labels["outcome"]] += int(value)
        case "gateway_cache_requests_total":
            told.cache_results[labels["result"]] += int(value)
        case "gateway_cache_entries":
            told.cache_entries[labels["cache"]] += int(value)
        case "gateway_cache_evictions_total":
            told.evictions[labels.get("cause", "size")] += int(value)
        case "gateway_revocation_bound_seconds":
            told.bounds[labels["route"]] = value
        case "gateway_revocation_feed_up":
            told.feed_up = bool(value)
        case "gateway_revocation_feed_lag_seconds":
            told.feed_lag_seconds = value
        case "gateway_exposure_seconds_bucket":
            cumulative[float(labels["le"])] += int(value)
        case "gateway_exposure_seconds_sum":
            told.exposure_sum += value
