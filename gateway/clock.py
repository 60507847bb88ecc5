"""The two clocks of the gateway, handed to whatever needs one.

Nothing else in the package reads the time, so a test moves it by hand.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def wall(self) -> float:
        """Seconds since the Unix epoch: what ``exp`` and ``nbf`` are compared with."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that is never set back: what ages and deadlines are counted on."""
        ...


class SystemClock:
    """The machine's own clocks."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
