"""Latency in HDR histograms: to three digits, counted from the planned instant."""

from random import Random

import numpy as np
import pytest

from gateway.loadtest.latency import Slice, Summary, latency, slices, summarise
from gateway.loadtest.outcomes import Columns, columns
from gateway.loadtest.record import Background


def requests(*rows: tuple[float, float, float]) -> Columns:
    return columns([Background(0, 0, *row, 200) for row in rows])


@pytest.mark.parametrize("scale", [1e-5, 1e-3, 0.1, 10.0, 1000.0])
def test_percentiles_are_right_to_three_digits(scale: float) -> None:
    """A summary is within 0.1 % (or a microsecond) of the exact percentiles."""
    random = Random(3)
    values = np.array([random.expovariate(1 / scale) for _ in range(5000)])
    found = summarise(values)
    exact = np.percentile(values, [50, 90, 99], method="inverted_cdf")
    assert [found.p50, found.p90, found.p99] == pytest.approx(exact.tolist(), rel=2e-3, abs=1e-6)
    assert (found.count, found.max) == (5000, values.max())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Summary(0, 0.0, 0.0, 0.0, 0.0)),
        ([0.004], Summary(1, 0.004, 0.004, 0.004, 0.004)),
        ([-0.001, -0.002], Summary(2, 0.0, 0.0, 0.0, 0.0)),
        ([0.0, 0.0], Summary(2, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_few_values_have_a_summary(values: list[float], expected: Summary) -> None:
    """Nothing, one value and values below zero are summarised without surprise."""
    assert summarise(np.array(values)) == expected


def test_no_percentile_is_above_the_maximum() -> None:
    """A histogram's bucket reaches above its values; what is said of them doesn't."""
    found = summarise(np.array([1.2345678]))
    assert (found.p50, found.p99) == (1.2345678, 1.2345678)


def test_latency_counts_from_planned_and_service_from_sent() -> None:
    """A request sent 2 s late and answered in 1 s took 3 s."""
    found = latency(requests((1.0, 3.0, 4.0)))
    assert (found.planned.max, found.service.max) == (3.0, 1.0)


def test_slices_follow_the_planned_instants() -> None:
    """Requests are cut by when they were planned, in slices of a round width."""
    rows = [(at / 10, at / 10, at / 10 + (0.5 if at >= 300 else 0.1)) for at in range(600)]
    found = slices(requests(*rows))
    assert len(found) <= 61
    assert sum(piece.count for piece in found) == 600
    assert {piece.seconds for piece in found} == {2.0}
    assert {(piece.start >= 30, round(piece.p50, 6)) for piece in found} == {
        (False, 0.1),
        (True, 0.5),
    }


def test_one_request_is_one_slice() -> None:
    """A short run has at least a slice."""
    assert slices(requests((0.25, 0.25, 0.5))) == [Slice(0.2, 0.1, 1, 0.25, 0.25)]


def test_no_requests_have_no_slices() -> None:
    """Without background there's nothing to draw."""
    assert slices(requests()) == []
