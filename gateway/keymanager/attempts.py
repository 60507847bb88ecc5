"""Slowing down whoever guesses passwords (RFC 6749 §2.3.1, §4.3.2). Pure; the clock is handed in.

Wrong passwords are counted for each name *at each address*: whoever guesses a user's password from
elsewhere doesn't delay the user at all, so nobody can lock another out for ever. Whoever shares
the user's address can, for a minute at a time; a try that has to wait isn't counted.
"""

import math
import threading
from dataclasses import dataclass
from hashlib import sha256

from gateway.clock import Clock

FREE = 5
"""Wrong passwords that cost nothing: people mistype."""
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
FORGOTTEN_SECONDS = 15 * 60.0
MOST_REMEMBERED = 10_000
"""Names at addresses; the one that failed the longest ago is forgotten for a new one."""


class TooManyAttempts(Exception):
    """A password that isn't even looked at; ``retry_after_seconds`` is a whole number."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too many wrong passwords")
        self.retry_after_seconds = retry_after_seconds


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0
    until: float = 0.0


class Attempts:
    """The wrong passwords of late. Threads may share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[bytes, _Failures] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def admit(self, *who: str) -> None:
        """Let a try through, or raise ``TooManyAttempts``."""
        now = self._clock.monotonic()
        with self._lock:
            known = self._failures.get(_key(who))
        if known is not None and now < known.until:
            raise TooManyAttempts(max(1, math.ceil(known.until - now)))

    def failed(self, *who: str) -> None:
        """Count a wrong password."""
        now, key = self._clock.monotonic(), _key(who)
        with self._lock:
            known = self._failures.pop(key, None)
            if known is None or now - known.last > FORGOTTEN_SECONDS:
                known = _Failures()
            known.count += 1
            known.last = now
            known.until = now + wait_seconds(known.count)
            if len(self._failures) >= MOST_REMEMBERED:
                del self._failures[next(iter(self._failures))]
            self._failures[key] = known  # the last to fail stands last

    def succeeded(self, *who: str) -> None:
        """Forget the wrong passwords: whoever mistyped knows it after all."""
        with self._lock:
            self._failures.pop(_key(who), None)


def wait_seconds(count: int) -> float:
    """Return how long to wait after so many wrong passwords in a row."""
    if count < FREE:
        return 0.0
    doublings = min(count - FREE, 30)
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * float(2**doublings))


def _key(who: tuple[str, ...]) -> bytes:
    # Digests are of one size, however long the name is that somebody sends.
    return sha256("\0".join(who).encode(errors="surrogatepass")).digest()
