"""Plain numbers: shown as prometheus_client's own classes would show the same events."""

import re
from collections.abc import Iterator

import prometheus_client
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.counts import Counts, Distributions, Level
from gateway.metrics import Metrics

BOUNDS = (0.0, 0.0005, 1, 2.5, 30.0, 3600)
LABELS = ["orders", "", 'quo"ted\\\n', "größe"]
VALUES = [0, 0.0, 0.0005, 0.00051, 1, 1.0000001, 2.5, 29.9, 30.0, 3600.0, 3601, 1e9, 0.1, 0.2]


@pytest.fixture(params=[True, False])
def created(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether times of creation are shown, as the library's own setting says."""
    if not request.param:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    yield request.param
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]


def rendered(registry: CollectorRegistry) -> str:
    """Return what is shown, with every time of creation as 0."""
    return re.sub(r"(?m)^(\w+_created\S*) .*$", r"\1 0", generate_latest(registry).decode())


def ours() -> tuple[CollectorRegistry, Counts, Level, Distributions]:
    registry = CollectorRegistry()
    counts = Counts("events", "How many.", ["route", "outcome"], wall=lambda: 7.0)
    level = Level("level", "How high.")
    distributions = Distributions("long", "How long.", ["route"], bounds=BOUNDS, wall=lambda: 7.0)
    for collector in (counts, level, distributions):
        registry.register(collector)
    return registry, counts, level, distributions


def theirs() -> tuple[CollectorRegistry, Counter, Gauge, Histogram]:
    registry = CollectorRegistry()
    counter = Counter("events", "How many.", ["route", "outcome"], registry=registry)
    gauge = Gauge("level", "How high.", registry=registry)
    histogram = Histogram("long", "How long.", ["route"], buckets=BOUNDS, registry=registry)
    return registry, counter, gauge, histogram


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it stays as it is
@given(
    events=st.lists(
        st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS), st.sampled_from(VALUES))
    ),
)
def test_the_text_is_what_prometheus_client_shows(
    events: list[tuple[str, str, float]], created: bool
) -> None:
    """To the byte, families and samples in the same order, whatever is counted."""
    registry, counts, level, distributions = ours()
    expected, counter, gauge, histogram = theirs()
    for route, outcome, value in events:
        counts.at(route, outcome).value += 1
        counter.labels(route, outcome).inc()
        level.value += 1 if value else -1
        gauge.inc(1 if value else -1)
        distributions.at(route).observe(value)
        histogram.labels(route).observe(value)
    assert rendered(expected) == rendered(registry)
    assert ("_created" in rendered(registry)) == (created and bool(events))


def test_what_has_no_labels_is_shown_from_the_start() -> None:
    """As zero, once it has been asked for."""
    registry, expected = CollectorRegistry(), CollectorRegistry()
    counts = Counts("events", "How many.", wall=lambda: 7.0)
    sizes = Distributions("size", "How large.", bounds=(1, 2, 1024), wall=lambda: 7.0)
    registry.register(counts)
    registry.register(sizes)
    counts.at()
    sizes.at()
    Counter("events", "How many.", registry=expected)
    Histogram("size", "How large.", buckets=(1, 2, 1024), registry=expected)
    assert rendered(expected) == rendered(registry)


def test_the_time_of_creation_is_that_of_the_first_event() -> None:
    """In epoch seconds, by the clock that was handed in."""
    now = 100.5
    registry = CollectorRegistry()
    counts = Counts("events", "How many.", ["route"], wall=lambda: now)
    sizes = Distributions("size", "How large.", bounds=(1,), wall=lambda: now)
    registry.register(counts)
    registry.register(sizes)
    counts.at("a")
    now = 200.25
    counts.at("a").value += 1
    sizes.at().observe(1)
    text = generate_latest(registry).decode()
    assert 'events_created{route="a"} 100.5\n' in text
    assert "size_created 200.25\n" in text


def test_the_gateways_metrics_are_what_prometheus_client_would_show() -> None:
    """Names, help texts, labels, buckets and sample lines of what is counted on every request."""
    registry = CollectorRegistry()
    requests = Counter(
        "gateway_requests", "Requests by route and outcome.", ["route", "outcome"],
        registry=registry,
    )  # fmt: skip
    durations = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
    duration = Histogram(
        "gateway_request_duration_seconds", "From the header section to the end of the answer.",
        ["route"], buckets=durations, registry=registry,
    )  # fmt: skip
    in_progress = Gauge("gateway_requests_in_progress", "Requests under way.", registry=registry)
    connections = Gauge("gateway_connections", "Client connections open.", registry=registry)
    lookups = Counter(
        "gateway_cache_requests", "Validations by what the cache knew: hit, negative_hit or miss.",
        ["result"], registry=registry,
    )  # fmt: skip
    metrics = Metrics()
    results = (metrics.cache_hit, 3), (metrics.cache_negative_hit, 2), (metrics.cache_miss, 1)
    for result, count in results:
        for _ in range(count):
            result()
    lookups.labels("hit").inc(3)
    lookups.labels("negative_hit").inc(2)
    lookups.labels("miss").inc(1)
    for route, outcome, seconds in [
        ("orders", "proxied", 0.0012), ("", "bad_request", 0.0), ("orders", "client_gone", 31.0),
        ("a", "proxied", 0.1), ("orders", "proxied", 0.2), ("a", "proxied", 0.0005),
    ]:  # fmt: skip
        metrics.request_started()
        metrics.request_ended(route, outcome, seconds)
        requests.labels(route, outcome).inc()
        duration.labels(route).observe(seconds)
    metrics.request_started()
    in_progress.inc()
    for _ in range(3):
        metrics.connection_opened()
        connections.inc()
    metrics.connection_closed()
    connections.dec()
    shown = families(rendered(metrics._registry))
    expected = families(rendered(registry))
    assert expected == {name: shown[name] for name in expected}


def families(text: str) -> dict[str, str]:
    """Return what a scrape shows by the names of metrics."""
    return {block.split()[0]: block for block in text.split("# HELP ")[1:]}


def test_an_observation_on_a_bound_is_within_it() -> None:
    """As the label says: less or equal (the exposition format's ``le``)."""
    sizes = Distributions("size", "How large.", bounds=(1, 2), wall=lambda: 0.0)
    for value in (1, 1.5, 2, 2.5):
        sizes.at().observe(value)
    assert sizes.at().counts == [1, 2, 1]
    assert sizes.at().total == 7.0
