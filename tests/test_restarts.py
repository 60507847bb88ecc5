"""When a worker is started again: soon at first, then later, then not at all."""

from gateway.restarts import Restarts


def test_restarts_come_later_and_later_and_end() -> None:
    """Of a worker that ends as soon as it starts, five in 3.75 s, then none."""
    restarts = Restarts()
    delays = [restarts.delay_after(1.0) for _ in range(7)]
    assert delays == [0.0, 0.25, 0.5, 1.0, 2.0, None, None]
    assert restarts.count == 5


def test_a_worker_that_ran_for_long_starts_over() -> None:
    """An end now and then is no crash loop, however many there are."""
    restarts = Restarts()
    assert [restarts.delay_after(30.0) for _ in range(20)] == [0.0] * 20
    assert [restarts.delay_after(29.9) for _ in range(5)] == [0.25, 0.5, 1.0, 2.0, None]
