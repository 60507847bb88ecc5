"""What a run has come to so far, for the display and for its closing words. Pure."""

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts, and windows in seconds. ``expected`` tokens are to be revoked in the end.

    ``refused`` tokens are refused by every target, as far as was seen. ``longest`` counts open
    windows too; ``closed`` are the ends of those that closed and stayed so, in order.
    """

    expected: int
    issued: int = 0
    not_issued: int = 0
    revoked: int = 0
    not_revoked: int = 0
    never_warm: int = 0
    refused: int = 0
    flaps: int = 0
    requests: int = 0
    unsent: int = 0
    longest: float = 0.0
    closed: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def still_accepted(self) -> int:
        """Revoked tokens that some target hasn't refused yet."""
        return self.revoked - self.refused

    @property
    def median(self) -> float | None:
        """The median of the windows that closed; None while there is none."""
        return self.closed[len(self.closed) // 2] if self.closed else None

    def window_closed(self, seconds: float) -> None:
        """Take the length of a window, from the revocation's sending to the first refusal."""
        insort(self.closed, seconds)
        self.longest = max(self.longest, seconds)
