"""When a run isn't to be believed, and what it says besides."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.loadtest.validity import Facts, judge_run, most_lag

GOOD = Facts(
    lag_p99=0.004,
    probe_interval=0.2,
    due=10_000,
    unsent=0,
    requests=10_000,
    errors=0,
    issues=200,
    issues_failed=0,
    revokes=200,
    revokes_failed=0,
    windows=200,
    censored=0,
    flapped=0,
    targets=1,
    ended="completed",
)


def test_a_good_run_is_valid_and_needs_no_words() -> None:
    """No reason against it and nothing to note."""
    found = judge_run(GOOD)
    assert (found.valid, list(found.reasons), list(found.notes)) == (True, [], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"lag_p99": 0.101},
            "the generator lagged: 101 ms at the 99th percentile, over 100 ms",
        ),
        ({"unsent": 101}, "1.01 % of requests due were never sent (101 of 10,000), over 1 %"),
        (
            {"errors": 101},
            "1.01 % of requests were neither accepted nor refused (101 of 10,000), over 1 %",
        ),
        ({"issues_failed": 11}, "5.5 % of token requests failed (11 of 200), over 5 %"),
        ({"revokes_failed": 11}, "5.5 % of revocations failed (11 of 200), over 5 %"),
        ({"windows": 9}, "too few windows: 9 measured, 10 are needed"),
    ],
)
def test_a_run_over_a_bound_is_not_valid(change: dict[str, Any], reason: str) -> None:
    """Each bound has its reason, with the figures."""
    assert list(judge_run(replace(GOOD, **change)).reasons) == [reason]


@pytest.mark.parametrize(
    "change",
    [
        {"lag_p99": 0.1},
        {"unsent": 100},
        {"errors": 100},
        {"issues_failed": 10},
        {"revokes_failed": 10},
        {"windows": 10},
        {"issues": 0, "revokes": 0},
        {"ended": "interrupted"},
    ],
)
def test_a_run_at_a_bound_is_valid(change: dict[str, Any]) -> None:
    """A bound itself is allowed; an interrupted run is valid as far as it came."""
    assert judge_run(replace(GOOD, **change)).valid


@pytest.mark.parametrize(
    ("interval", "seconds"), [(0.001, 0.010), (0.02, 0.010), (0.1, 0.05), (0.2, 0.1), (9.0, 0.1)]
)
def test_the_lag_allowed_follows_the_probe_interval(interval: float, seconds: float) -> None:
    """Half a probe interval, between 10 and 100 ms."""
    assert most_lag(interval) == seconds


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"ended": "interrupted"}, "The run was interrupted"),
        ({"ended": "cut off"}, "The record has no end"),
        ({"censored": 1}, "1 window never seen to end"),
        ({"revokes_failed": 2}, "2 revocations failed"),
        ({"windows": 50}, "With 50 windows, p99 is the longest of them."),
        ({"flapped": 1}, "Where tokens were accepted again after a refusal"),
        ({"targets": 2}, "Windows of one token at several targets aren't independent"),
    ],
)
def test_what_a_reader_should_know_is_noted(change: dict[str, Any], note: str) -> None:
    """Notes don't make a run invalid."""
    found = judge_run(replace(GOOD, **change))
    assert found.valid
    assert [text.startswith(note) for text in found.notes] == [True]
