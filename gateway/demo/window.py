"""The revocation window as a client can see it, and whether it keeps its promise.

Pure. A client knows of each call when it was sent and when it was answered; the gateway looked
at its clock somewhere between. So each verdict is given only where it holds for every instant
between: a busy machine makes the measurement coarser, and never turns right into wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

MOST_POLLS_EACH_SECOND = 4
_MOST_POLLS = 240
_BEFORE_SECONDS = 0.1
_AFTER_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Span:
    """When a call was sent and when its answer came, in monotonic seconds."""

    sent: float
    answered: float


class Verdict(Enum):
    """What a call says of the promise."""

    KEPT = "kept"
    TOO_LATE = "accepted after max age"
    TOO_EARLY = "refused before max age"


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which facts may be relied on.

    ``validated`` is the call for which the gateway asked the store; the window lasts for
    ``max_age_seconds`` from some instant within it.
    """

    validated: Span
    max_age_seconds: float

    @property
    def earliest_lapse(self) -> float:
        """The first instant at which the facts can have lapsed."""
        return self.validated.sent + self.max_age_seconds

    @property
    def latest_lapse(self) -> float:
        """The first instant at which they must have lapsed."""
        return self.validated.answered + self.max_age_seconds

    def age(self, call: Span) -> float:
        """Return the age of the facts when a call was sent, in seconds, at least."""
        return max(0.0, call.sent - self.validated.answered)

    def judge(self, call: Span, *, accepted: bool) -> Verdict:
        """Return what the answer to a call with the revoked token says."""
        if accepted and call.sent >= self.latest_lapse:
            return Verdict.TOO_LATE
        if not accepted and call.answered < self.earliest_lapse:
            return Verdict.TOO_EARLY
        return Verdict.KEPT

    def measured(self, last_accepted: Span, first_refused: Span) -> tuple[float, float]:
        """Return the shortest and the longest that the window can have been, in seconds."""
        return (
            self.age(last_accepted),
            first_refused.answered - self.validated.sent,
        )

    def poll_instants(self, now: float) -> Iterator[float]:
        """Yield when to call after ``now``: modestly, then close to the lapse, before and after.

        Without end: of the calls after the lapse one is refused, or judged to be too late.
        """
        interval = max(1 / MOST_POLLS_EACH_SECOND, self.max_age_seconds / _MOST_POLLS)
        last = self.earliest_lapse - min(_BEFORE_SECONDS, self.max_age_seconds / 10)
        instant = now + interval
        while instant < last - interval / 2:
            yield instant
            instant += interval
        yield last
        instant = self.latest_lapse + _AFTER_SECONDS
        while True:
            yield instant
            instant += interval
