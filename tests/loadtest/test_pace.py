"""What is due, and how late."""

import math

import pytest

from gateway.loadtest.pace import Agenda, LagMeter


def test_the_agenda_gives_in_order_of_time() -> None:
    """Things come by their instants, and those of one instant in the order they were added."""
    agenda = Agenda[str]()
    assert agenda.next_at == math.inf
    for at, item in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.5, "b")):
        agenda.add(at, item)
    assert agenda.next_at == 1.0
    taken = [agenda.pop() for _ in range(len(agenda))]
    assert taken == [(1.0, "a"), (1.5, "b"), (2.0, "c"), (2.0, "d")]
    assert agenda.next_at == math.inf
    with pytest.raises(IndexError):
        agenda.pop()


@pytest.mark.parametrize(
    ("lags", "fraction", "expected"),
    [
        ([], 0.99, 0.0),
        ([0.0], 0.99, 0.000_05),
        ([-0.001], 0.99, 0.000_05),
        ([0.001] * 99 + [1.0], 0.99, 0.001),
        ([0.001] * 98 + [1.0] * 2, 0.99, 1.0),
        ([0.001, 0.002, 0.003], 0.5, 0.002),
        ([1e9], 0.5, 1536.6),
    ],
)
def test_percentiles_of_lag(lags: list[float], fraction: float, expected: float) -> None:
    """A percentile is never below the lag that it stands for, and at most 9 % above."""
    meter = LagMeter()
    for lag in lags:
        meter.add(lag)
    assert expected <= meter.percentile(fraction) <= expected * 1.0906


def test_the_last_while() -> None:
    """The recent lag forgets, the lag of all doesn't."""
    meter = LagMeter()
    meter.add(1.0)
    meter.forget_recent()
    meter.add(0.001)
    assert meter.recent(0.99) < 0.0011
    assert meter.percentile(0.99) >= 1.0
