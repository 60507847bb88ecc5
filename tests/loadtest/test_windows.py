"""Windows from hand-made transcripts: what surely was, and what surely was over."""

from typing import NamedTuple

import pytest

from gateway.loadtest.outcomes import columns
from gateway.loadtest.record import Probe, Revoke
from gateway.loadtest.windows import Interval, Revocation, Windows, find_windows, revocations

# Of each probe: when it was sent and finished, and A(ccepted), R(efused) or E(rror).
Transcript = list[tuple[float, float, str]]

STATUS = {"A": 200, "R": 401, "E": None}
REVOKED = {0: Revocation(sent=10.0, answered=10.5)}


def find(transcript: Transcript, revoked: dict[int, Revocation] = REVOKED) -> Windows:
    rows = [Probe(0, 0, sent, sent, finished, STATUS[what]) for sent, finished, what in transcript]
    return find_windows(columns(rows), revoked)


def rounded(interval: Interval) -> Interval:
    upper = interval.upper
    return Interval(round(interval.lower, 6), None if upper is None else round(upper, 6))


class Expected(NamedTuple):
    since_sent: Interval
    since_answered: Interval
    flaps: int = 0


@pytest.mark.parametrize(
    ("transcript", "expected"),
    [
        pytest.param(
            [(9, 9.1, "A"), (11, 11.1, "A"), (12, 12.2, "R"), (13, 13.1, "R")],
            Expected(Interval(1.0, 2.2), Interval(0.5, 1.7)),
            id="from the sending of the last accepted to the end of the first refusal",
        ),
        pytest.param(
            [(9, 9.1, "A"), (10.2, 10.3, "R")],
            Expected(Interval(0.0, 0.3), Interval(0.0, 0.0)),
            id="refused before the answer: no window is below zero",
        ),
        pytest.param(
            [(9, 9.1, "A"), (11, 11.1, "A"), (12, 12.1, "E"), (13, 13.1, "R")],
            Expected(Interval(1.0, 3.1), Interval(0.5, 2.6)),
            id="an error widens the interval",
        ),
        pytest.param(
            [(9, 9.1, "A"), (11, 11.1, "R"), (12, 12.1, "A"), (13, 13.1, "R")],
            Expected(Interval(2.0, 3.1), Interval(1.5, 2.6), flaps=1),
            id="a refusal that didn't last is none",
        ),
        pytest.param(
            [
                (9, 9, "A"),
                (11, 11, "R"),
                (12, 12, "A"),
                (13, 13, "A"),
                (14, 14, "R"),
                (15, 15, "A"),
            ],
            Expected(Interval(5.0, None), Interval(4.5, None), flaps=2),
            id="accepted at last: never seen to end",
        ),
        pytest.param(
            [(9, 9.1, "A"), (11, 11.1, "A"), (12, 12.1, "A")],
            Expected(Interval(2.0, None), Interval(1.5, None)),
            id="never refused: never seen to end",
        ),
        pytest.param(
            [(9, 9.1, "A"), (11, 11.1, "E"), (12, 12.1, "E")],
            Expected(Interval(0.0, None), Interval(0.0, None)),
            id="nothing known after the revocation",
        ),
        pytest.param(
            [(9, 9.1, "A"), (11, 14.0, "A"), (11.5, 12.0, "R"), (13, 13.1, "R")],
            Expected(Interval(1.0, 2.0), Interval(0.5, 1.5)),
            id="an accepted probe that overlaps a refusal doesn't undo it",
        ),
        pytest.param(
            [(9, 9.1, "A"), (11, 15.0, "R"), (12, 12.1, "R")],
            Expected(Interval(0.0, 2.1), Interval(0.0, 1.6)),
            id="the refusal that ended first, not the one that was sent first",
        ),
        pytest.param(
            [(13, 13.1, "R"), (11, 11.1, "A"), (12, 12.2, "R"), (9, 9.1, "A")],
            Expected(Interval(1.0, 2.2), Interval(0.5, 1.7)),
            id="the order of rows doesn't matter",
        ),
        pytest.param(
            [(8, 8.1, "R"), (9, 9.1, "A"), (11, 11.1, "A"), (12, 12.1, "R")],
            Expected(Interval(1.0, 2.1), Interval(0.5, 1.6)),
            id="a refusal before the revocation is no flapping",
        ),
        pytest.param(
            [(11, 11.1, "A"), (12, 12.1, "R")],
            Expected(Interval(1.0, 2.1), Interval(0.5, 1.6)),
            id="first accepted after the revocation: exposed all the same",
        ),
    ],
)
def test_a_transcript_has_a_window(transcript: Transcript, expected: Expected) -> None:
    """A window lies between what was surely accepted and what was surely refused for good."""
    (window,) = find(transcript).found
    assert (
        Expected(rounded(window.since_sent), rounded(window.since_answered), window.flaps)
        == expected
    )


@pytest.mark.parametrize(
    ("transcript", "never_accepted", "refused_early"),
    [
        ([(9, 9.1, "R"), (11, 11.1, "R")], 1, 0),
        ([(9, 9.1, "E"), (11, 11.1, "E")], 1, 0),
        ([(8, 8.1, "A"), (9, 9.1, "R"), (11, 11.1, "R")], 0, 1),
    ],
)
def test_a_pair_without_a_window_is_counted(
    transcript: Transcript, never_accepted: int, refused_early: int
) -> None:
    """Tokens that never worked, or were dead before their revocation, are counted apart."""
    found = find(transcript)
    assert (found.found, found.never_accepted, found.refused_early) == (
        [],
        never_accepted,
        refused_early,
    )


@pytest.mark.parametrize("revoked", [{}, {0: Revocation(10.0, None)}])
def test_a_token_that_was_not_surely_revoked_has_no_window(
    revoked: dict[int, Revocation],
) -> None:
    """Without a confirmed revocation there's nothing to measure."""
    found = find([(9, 9.1, "A"), (12, 12.1, "R")], revoked)
    assert (found.found, found.never_accepted) == ([], 0)


def test_each_token_has_a_window_at_each_target() -> None:
    """Targets are measured apart."""
    rows = [
        Probe(token, target, at, at, at, 200 if at < 11 + target else 401)
        for token in (0, 1)
        for target in (0, 1)
        for at in (9.0, 11.0, 12.0, 13.0)
    ]
    found = find_windows(columns(rows), {0: Revocation(10, 10), 1: Revocation(10, 10)}).found
    assert [(w.token, w.target, w.since_sent) for w in found] == [
        (0, 0, Interval(0.0, 1.0)),
        (0, 1, Interval(1.0, 2.0)),
        (1, 0, Interval(0.0, 1.0)),
        (1, 1, Interval(1.0, 2.0)),
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([Revoke(0, 1, 1, 2, 200)], {0: Revocation(1, 2)}),
        ([Revoke(0, 1, 1, 2, 503)], {0: Revocation(1, None)}),
        ([Revoke(0, 1, 1, 2, None, "timeout")], {0: Revocation(1, None)}),
        ([Revoke(0, 1, 1, 2, 503), Revoke(0, 3, 3, 4, 200)], {0: Revocation(1, 4)}),
        ([Revoke(0, 1, 1, 2, 200), Revoke(0, 3, 3, 4, 200)], {0: Revocation(1, 2)}),
    ],
)
def test_a_revocation_counts_from_its_first_sending(
    rows: list[Revoke], expected: dict[int, Revocation]
) -> None:
    """A failed attempt may have worked: windows count from the first, answers from a success."""
    assert revocations(rows) == expected


def test_the_gaps_are_those_in_which_something_could_hide() -> None:
    """Gaps count from the revocation to the refusal, over errors, and not before or after."""
    transcript: Transcript = [
        (7, 7.1, "A"),
        (9, 9.1, "A"),
        (11, 11.1, "A"),
        (12, 12.1, "E"),
        (13, 13.5, "R"),
        (19, 19.1, "R"),
    ]
    assert find(transcript).gaps_seconds.round(6).tolist() == [2.1, 2.5]


def test_flapping_is_counted_from_the_first_refusal() -> None:
    """How long a token flapped is from its first refusal to its last acceptance."""
    (window,) = find([(9, 9, "A"), (11, 11, "R"), (12, 12, "A"), (13, 13, "R")]).found
    assert (window.first_refused, window.flapped_seconds) == (11.0, 1.0)
