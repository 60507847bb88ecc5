"""What an answer says of its token."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.loadtest.outcomes import Outcome, columns, error_word, refused_status, succeeded
from gateway.loadtest.record import Probe, Revoke
from loadtest.synthetic import Scenario

ACCEPTED, REFUSED, ERROR = Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ERROR


def probe(status: int | None, error: str | None = None) -> Probe:
    return Probe(0, 0, 0.0, 0.0, 1.0, status, error)


@pytest.mark.parametrize(
    ("status", "refused", "outcome"),
    [
        (200, (401, 403), ACCEPTED),
        (204, (401, 403), ACCEPTED),
        (302, (401, 403), ACCEPTED),
        (401, (401, 403), REFUSED),
        (403, (401, 403), REFUSED),
        (404, (401, 403), ERROR),
        (429, (401, 403), ERROR),
        (500, (401, 403), ERROR),
        (None, (401, 403), ERROR),
        (302, (302,), REFUSED),
        (401, (302,), ERROR),
    ],
)
def test_an_answer_accepts_refuses_or_says_nothing(
    status: int | None, refused: tuple[int, ...], outcome: Outcome
) -> None:
    """Below 400 accepts, the refusing statuses refuse, and all else says nothing."""
    assert columns([probe(status)], refused).outcome.tolist() == [outcome]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (401, 403)),
        ({"refused_status": [302]}, (302,)),
        ({"refused_status": 401}, (401,)),
        ({"refused_status": []}, (401, 403)),
        ({"refused_status": None}, (401, 403)),
    ],
)
def test_the_run_says_what_refuses(arguments: Mapping[str, Any], expected: tuple[int, ...]) -> None:
    """The statuses that refuse are those the run was told."""
    assert refused_status(replace(Scenario().header(), arguments=arguments)) == expected


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (probe(None, "timeout"), "timeout"),
        (probe(503), "status 503"),
        (probe(None), "no answer"),
    ],
)
def test_an_error_has_a_word(row: Probe, word: str) -> None:
    """Errors are counted by what went wrong."""
    assert error_word(row) == word


@pytest.mark.parametrize(
    ("status", "expected"), [(200, True), (204, True), (302, False), (400, False), (None, False)]
)
def test_a_revocation_succeeds_with_2xx(status: int | None, *, expected: bool) -> None:
    """Only a 2xx says that an OAuth endpoint did it."""
    assert succeeded(Revoke(0, 0.0, 0.0, 1.0, status)) is expected
