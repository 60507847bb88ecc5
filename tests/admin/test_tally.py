"""What metrics say, summed up."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gateway.admin.tally import Tally, tally
from gateway.metrics import Metrics


def test_what_was_counted_is_told() -> None:
    """By the gateway's own metrics."""
    metrics = Metrics()
    for route, outcome in [("a", "proxied"), ("a", "proxied"), ("b", "invalid_token")]:
        metrics.request_started()
        metrics.request_ended(route, outcome, 0.1)
    metrics.cache_hit()
    metrics.cache_miss()
    metrics.cache_negative_hit()
    told = tally(metrics.families())
    assert told.outcomes == {"a": Counter(proxied=2), "b": Counter(invalid_token=1)}
    assert told.cache_results == Counter(hit=1, miss=1, negative_hit=1)


def families() -> Iterator[Metric]:
    entries = GaugeMetricFamily("gateway_cache_entries", "x", labels=["cache"])
    entries.add_metric(["positive"], 5)
    yield entries
    evictions = CounterMetricFamily("gateway_cache_evictions", "x", labels=["cache", "cause"])
    evictions.add_metric(["positive", "size"], 2)
    evictions.add_metric(["negative", "size"], 3)
    evictions.add_metric(["positive", "revoked"], 4)
    yield evictions
    bounds = GaugeMetricFamily("gateway_revocation_bound_seconds", "x", labels=["route"])
    bounds.add_metric(["a"], 900.5)
    yield bounds
    yield GaugeMetricFamily("gateway_revocation_feed_up", "x", value=1)
    yield GaugeMetricFamily("gateway_revocation_feed_lag_seconds", "x", value=0.5)


def test_caches_bounds_and_the_feed_are_told() -> None:
    """Evictions by cause, of both caches."""
    assert tally(families()) == Tally(
        cache_entries=Counter(positive=5),
        evictions=Counter(size=5, revoked=4),
        bounds={"a": 900.5},
        feed_up=True,
        feed_lag_seconds=0.5,
    )


def test_exposures_are_told_by_bucket() -> None:
    """Each counted once, where Prometheus counts it in every bucket above too."""
    registry = CollectorRegistry()
    histogram = Histogram("gateway_exposure_seconds", "x", buckets=(0.5, 1, 10), registry=registry)
    for seconds in (0.1, 0.7, 0.8, 11):
        histogram.observe(seconds)
    told = tally(registry.collect())
    assert (told.exposure_le, told.exposure_counts) == ([0.5, 1.0, 10.0], [1, 2, 0, 1])
    assert (told.exposure_count, round(told.exposure_sum, 6)) == (4, 12.6)


def test_no_metrics_are_zeros() -> None:
    """A gateway without a feed has none of its metrics."""
    assert tally([]) == Tally()
