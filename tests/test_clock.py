"""SystemClock: the machine's own clocks."""

import time

from gateway.clock import SystemClock


def test_wall() -> None:
    """``wall`` is seconds since the Unix epoch."""
    before = time.time()
    assert before <= SystemClock().wall() <= time.time()


def test_monotonic() -> None:
    """``monotonic`` never goes back, and counts the time in which the machine was suspended."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= SystemClock().monotonic() <= time.clock_gettime(time.CLOCK_BOOTTIME)
