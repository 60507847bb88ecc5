"""The terminal summary."""

import pytest

from gateway.loadtest.report.summary import render_terminal
from gateway.loadtest.slo import judge, parse_slo
from loadtest.reported import ALL, analysed


@pytest.mark.parametrize("name", ALL)
def test_eighty_columns_are_enough(name: str) -> None:
    """No line is wider than the terminal, and none ends with spaces."""
    lines = render_terminal([analysed(name)]).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line != line.rstrip()] == []


def test_three_runs_fit_side_by_side() -> None:
    """Eighty columns are enough for three runs."""
    runs = [analysed(name) for name in ("uniform", "instant", "some never")]
    assert max(map(len, render_terminal(runs).splitlines())) <= 80


def test_the_summary_says_the_headline_and_ends_with_the_verdict() -> None:
    """First what was measured, last what it means for the exit code."""
    run = analysed("uniform")
    lines = render_terminal([run], [judge([parse_slo("p50<=1s")], run)]).splitlines()
    assert lines[0] == "uniform: http://127.0.0.1:8080/orders"
    assert lines[1].startswith("Half of the revoked tokens were refused within 1.75 s")
    assert lines[-1] == "broken: p50 is 1.748 s, not p50<=1s"


def test_a_run_that_is_not_valid_says_so_first() -> None:
    """The first finding says whether the run may be believed."""
    lines = render_terminal([analysed("lost")]).splitlines()
    finding = next(line for line in lines if "The run" in line)
    assert "not valid" in finding
    assert lines.index(finding) <= 3


@pytest.mark.parametrize("colour", [False, True])
def test_colour_is_only_where_it_is_shown(*, colour: bool) -> None:
    """Without a terminal there are no escape sequences."""
    assert ("\x1b[" in render_terminal([analysed("uniform")], colour=colour)) is colour


def test_names_are_not_taken_for_markup() -> None:
    """Brackets in what a user named are text."""
    text = render_terminal([analysed("hostile")])
    assert text.startswith('_<b>"x"&$y$</b>: http://')


def test_each_run_has_its_verdict() -> None:
    """Several runs' verdicts are told apart by name."""
    runs = [analysed("uniform"), analysed("instant")]
    verdicts = [judge([parse_slo("max<=1s")], run) for run in runs]
    last = render_terminal(runs, verdicts).splitlines()[-2:]
    assert [line.partition(" is ")[0].partition(" (")[0] for line in last] == [
        "uniform: broken: max",
        "instant: kept: max<=1s",
    ]
