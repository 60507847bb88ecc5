"""When a worker that has ended is started again, and when not any more."""

_DELAYS_SECONDS = (0.0, 0.25, 0.5, 1.0, 2.0)
_STEADY_SECONDS = 30.0


class Restarts:
    """The restarts of one worker.

    The first comes at once, those after it later and later. A worker that has ended six times
    without running for half a minute in between isn't started again.
    """

    def __init__(self) -> None:
        self.count = 0
        self._in_a_row = 0

    def delay_after(self, ran_seconds: float) -> float | None:
        """Return how long to wait before the next start, ``None`` if there is none.

        ``ran_seconds`` is how long the worker that has ended was there.
        """
        if ran_seconds >= _STEADY_SECONDS:
            self._in_a_row = 0
        if self._in_a_row == len(_DELAYS_SECONDS):
            return None
        delay = _DELAYS_SECONDS[self._in_a_row]
        self._in_a_row += 1
        self.count += 1
        return delay
