"""Log lines about what happens again and again: the first at once, then one in a while.

Pure: no I/O, no asyncio, no aiohttp.
"""

from collections.abc import Callable


class Seldom:
    """Tells when something is to be logged: not sooner than ``seconds`` after the last time.

    ``monotonic`` tells the time. What is asked about must be one of a few: each is remembered.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._next: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def due(self, what: str) -> bool:
        """Tell whether ``what`` is to be logged now; if not, it is counted."""
        now = self._monotonic()
        if now < self._next.get(what, now):
            self._held_back[what] = self._held_back.get(what, 0) + 1
            return False
        self._next[what] = now + self._seconds
        return True

    def held_back(self, what: str) -> int:
        """Return how often ``what`` wasn't logged since this was asked last."""
        return self._held_back.pop(what, 0)
