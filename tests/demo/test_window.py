"""Verdicts on the window, and when it is looked at."""

from itertools import islice, pairwise

import pytest

from gateway.demo.window import MOST_POLLS_EACH_SECOND, Span, Verdict, Window

# Validated somewhere between 100.0 and 100.5, so the facts lapse between 103.0 and 103.5.
WINDOW = Window(Span(100.0, 100.5), 3.0)


@pytest.mark.parametrize(
    ("sent", "answered", "accepted", "verdict"),
    [
        (102.0, 102.1, True, Verdict.KEPT),
        (103.4, 104.0, True, Verdict.KEPT),  # it may have been judged at 103.4
        (103.5, 103.6, True, Verdict.TOO_LATE),
        (103.5, 103.6, False, Verdict.KEPT),
        (102.0, 103.0, False, Verdict.KEPT),  # it may have been judged at 103.0
        (102.0, 102.9, False, Verdict.TOO_EARLY),
    ],
)
def test_verdicts(sent: float, answered: float, accepted: bool, verdict: Verdict) -> None:
    """A call breaks the promise only if it does whenever it was judged."""
    assert verdict == WINDOW.judge(Span(sent, answered), accepted=accepted)


def test_measured() -> None:
    """The window is at least as long as seen, and at most as long as can be."""
    assert WINDOW.measured(Span(102.5, 102.6), Span(103.5, 103.6)) == pytest.approx((2.0, 3.6))


@pytest.mark.parametrize(("sent", "age"), [(101.5, 1.0), (100.2, 0.0)])
def test_age(sent: float, age: float) -> None:
    """Facts are at least as old as since the validating call was answered."""
    assert age == WINDOW.age(Span(sent, sent))


@pytest.mark.parametrize(
    ("max_age_seconds", "now", "instants"),
    [
        (1.0, 100.0, [100.25, 100.5, 100.75, 100.9, 101.01, 101.26]),
        (0.2, 100.0, [100.18, 100.21, 100.46]),
        (1.0, 100.95, [100.9, 101.01, 101.26]),  # late already: called at once
    ],
)
def test_polls(max_age_seconds: float, now: float, instants: list[float]) -> None:
    """Calls go out at a pace, then shortly before the lapse and shortly after."""
    window = Window(Span(100.0, 100.0), max_age_seconds)
    assert list(islice(window.poll_instants(now), len(instants))) == pytest.approx(instants)


@pytest.mark.parametrize("max_age_seconds", [0.5, 3.0, 15.0, 900.0])
def test_pace(max_age_seconds: float) -> None:
    """While it waits it never calls more often than a person would allow, nor without end."""
    window = Window(Span(0.0, 0.0), max_age_seconds)
    waiting = [at for at in islice(window.poll_instants(0.0), 1000) if at < max_age_seconds]
    pauses = [later - earlier for earlier, later in pairwise(waiting[:-1])]
    assert all(pause >= 0.99 / MOST_POLLS_EACH_SECOND for pause in pauses)
    assert len(waiting) <= 241
