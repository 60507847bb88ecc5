"""Stale accepts and false refusals, from hand-made transcripts."""

import pytest

from gateway.loadtest.outcomes import Columns, columns
from gateway.loadtest.record import Background, Probe
from gateway.loadtest.windows import Revocation
from gateway.loadtest.wrong_answers import (
    FalseRefusals,
    StaleAccepts,
    false_refusals,
    stale_accepts,
)

REVOKED = {0: Revocation(10.0, 10.5), 1: Revocation(10.0, None)}


def probes(*rows: tuple[int, float, int | None]) -> Columns:
    return columns([Probe(token, 0, at, at, at + 0.1, status) for token, at, status in rows])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 9.0, 200)], StaleAccepts(0, 0, 0, 0)),
        ([(0, 10.2, 200)], StaleAccepts(0, 0, 1, 1)),
        ([(0, 10.2, 200), (0, 11.0, 200), (0, 12.0, 401)], StaleAccepts(1, 2, 2, 3)),
        ([(0, 11.0, None), (0, 12.0, 503)], StaleAccepts(0, 2, 0, 2)),
        ([(1, 11.0, 200), (7, 11.0, 200)], StaleAccepts(0, 0, 0, 0)),
        ([], StaleAccepts(0, 0, 0, 0)),
    ],
)
def test_an_accept_is_stale_when_it_was_sent_after_the_answer(
    rows: list[tuple[int, float, int | None]], expected: StaleAccepts
) -> None:
    """Counted after the answer and after the sending, and only where revocation was confirmed."""
    assert stale_accepts(probes(*rows), REVOKED) == expected


def test_the_rate_is_of_all_probes_after_the_revocation() -> None:
    """A rate without probes is zero, not an error."""
    assert (StaleAccepts(1, 4, 2, 5).rate, StaleAccepts(1, 4, 2, 5).rate_since_sent) == (0.25, 0.4)
    assert (StaleAccepts(0, 0, 0, 0).rate, StaleAccepts(0, 0, 0, 0).rate_since_sent) == (0, 0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 9.0, 401)], 1),
        ([(0, 9.95, 401)], 0),
        ([(0, 11.0, 401)], 0),
        ([(1, 9.0, 401)], 1),
        ([(1, 11.0, 401)], 0),
        ([(7, 11.0, 403)], 1),
        ([(7, 11.0, 503)], 0),
    ],
)
def test_a_refusal_is_false_when_it_ended_before_the_revocation(
    rows: list[tuple[int, float, int | None]], expected: int
) -> None:
    """Surely false is what ended before the sending; after a failed revocation nothing is sure."""
    found = false_refusals(probes(*rows), columns([]), REVOKED)
    assert found == FalseRefusals(before_revocation=expected, background=0)


def test_a_refusal_in_the_background_is_always_false() -> None:
    """Tokens of the background are never revoked."""
    rows = [Background(5, 0, at, at, at + 1, status) for at, status in ((1, 200), (2, 401))]
    found = false_refusals(probes((0, 9.0, 401)), columns(rows), REVOKED)
    assert (found.background, found.total) == (1, 2)
