"""Upstreams that say more than they are asked for.

What follows an answer may come just as the next request goes out on that connection, and pass for
its answer: no reader can tell. So an upstream that has done it once has little chance to again.
"""

from collections.abc import Callable

_SECONDS = 60.0
_MOST = 1024
_TIRED = (b"HTTP/1.1 408", b"HTTP/1.0 408")


class Suspects:
    """For a minute after an upstream said too much, no connection to it is used twice."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.until: dict[object, float] = {}
        """Until when each is suspected; nothing, nearly always."""

    def note(self, upstream: object, said: bytes = b"") -> bool:
        """Suspect an upstream for what it ``said``; return whether it is suspected.

        A server that tires of an idle connection may say 408 and close it (RFC 9110 §15.5.9).
        """
        if said.startswith(_TIRED):
            return False
        if len(self.until) >= _MOST:
            del self.until[next(iter(self.until))]
        self.until[upstream] = self._monotonic() + _SECONDS
        return True

    def __contains__(self, upstream: object) -> bool:
        until = self.until.get(upstream)
        if until is None:
            return False
        if self._monotonic() < until:
            return True
        del self.until[upstream]
        return False
