"""Several workers' metrics as one gateway's: what is added up, and what isn't."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.sums import MetricsBook
from gateway.metrics import Metrics


def counted(requests: int) -> str:
    """Return what a worker says that has answered as many requests in 10 ms each."""
    metrics = Metrics()
    for _ in range(requests):
        metrics.request_started()
        metrics.request_ended("orders", "proxied", 0.01)
    metrics.connection_opened()
    return metrics.render().decode()


def exposed(book: MetricsBook) -> dict[str, float]:
    """Return the sum of each sample name's values, as the book has them now."""
    found: dict[str, float] = {}
    text = book.render(workers=2, started=1, restarts=0).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_counters_histograms_and_gauges_are_summed() -> None:
    """Two workers' requests, times and connections are the gateway's."""
    book = MetricsBook()
    book.read(1, counted(3))
    book.read(2, counted(4))
    found = exposed(book)
    assert found["gateway_requests_total"] == 7
    assert found["gateway_request_duration_seconds_count"] == 7
    assert found["gateway_request_duration_seconds_sum"] == pytest.approx(0.07)
    assert found["gateway_connections"] == 2
    assert not [name for name in found if name.endswith("_created")]


@pytest.mark.parametrize(
    ("name", "one", "other", "together"),
    [
        ("gateway_build_info", 1, 1, 1),
        ("gateway_revocation_feed_up", 1, 0, 0),
        ("gateway_revocation_bound_seconds", 900, 900, 900),
        ("gateway_revocation_feed_lag_seconds", 0.25, 3, 3),
        ("gateway_revoked_tokens_cached", 2, 3, 5),
    ],
)
def test_gauges_that_a_sum_would_spoil(
    name: str, one: float, other: float, together: float
) -> None:
    """Of what is up the worst counts, of bounds and lags the longest."""
    book = MetricsBook()
    for worker, value in ((1, one), (2, other)):
        book.read(worker, f"# HELP {name} What.\n# TYPE {name} gauge\n{name} {value}\n")
    assert exposed(book)[name] == together


def test_what_a_worker_counted_outlives_it() -> None:
    """Else the sum would go down, and be taken for a restart of everything."""
    book = MetricsBook()
    book.read(1, counted(3))
    book.read(2, counted(4))
    book.ended(1)
    assert exposed(book)["gateway_requests_total"] == 7
    book.read(1, counted(1))
    found = exposed(book)
    assert found["gateway_requests_total"] == 8
    assert found["gateway_connections"] == 2  # those of the one that ended are closed
    book.ended(1)
    book.ended(1)
    assert exposed(book)["gateway_requests_total"] == 8


def test_labels_and_help_stay() -> None:
    """The sum reads like one worker's own."""
    book = MetricsBook()
    book.read(1, counted(1))
    text = book.render(workers=1, started=1, restarts=5).decode()
    assert 'gateway_requests_total{outcome="proxied",route="orders"} 1.0' in text
    assert "# HELP gateway_requests_total Requests by route and outcome." in text
    assert "# TYPE gateway_requests_total counter" in text
    assert "gateway_worker_restarts_total 5.0" in text
