"""SLOs: how they're written, and the exit code and the line that come of them."""

import re
from dataclasses import replace
from functools import cache

import pytest

from gateway.loadtest.analysis import Analysis, analyse
from gateway.loadtest.slo import BROKEN, INVALID, KEPT, Slo, judge, parse_slo
from gateway.loadtest.validity import Validity
from gateway.loadtest.wrong_answers import FalseRefusals
from loadtest.synthetic import NEVER, Scenario, always, mixed, uniform


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p99<=2s", Slo("p99", "<=", 2.0, "p99<=2s")),
        ("p50<250ms", Slo("p50", "<", 0.25, "p50<250ms")),
        ("p99.9<=1m30s", Slo("p99.9", "<=", 90.0, "p99.9<=1m30s")),
        ("p5==0s", Slo("p5", "==", 0.0, "p5==0s")),
        ("max<=3s", Slo("max", "<=", 3.0, "max<=3s")),
        ("stale_accepts<=10", Slo("stale_accepts", "<=", 10.0, "stale_accepts<=10")),
        ("false_refusals==0", Slo("false_refusals", "==", 0.0, "false_refusals==0")),
        (" p99 <= 2s ", Slo("p99", "<=", 2.0, "p99 <= 2s")),
    ],
)
def test_an_slo_is_a_metric_an_operator_and_a_bound(text: str, slo: Slo) -> None:
    """What is allowed is read."""
    assert parse_slo(text) == slo


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "an SLO such as"),
        ("p99", "an SLO such as"),
        ("p99<=", "an SLO such as"),
        ("p99>=2s", "an SLO such as"),
        ("p99=2s", "an SLO such as"),
        ("p99!=2s", "an SLO such as"),
        ("p99<=2s and more", "an SLO such as"),
        ("p100<=2s", "an SLO such as"),
        ("p0<=2s", "p0 isn't known"),
        ("p<=2s", "p isn't known"),
        ("mean<=2s", "mean isn't known; p50 (or another percentile), max, stale_accepts, "),
        ("p99<=2", 'a duration such as "250ms"'),
        ("p99<=-2s", 'a duration such as "250ms"'),
        ("max<=2 s", "an SLO such as"),
        ("stale_accepts<=10s", "a whole number is allowed for stale_accepts"),
        ("stale_accepts<=1.5", "a whole number is allowed for stale_accepts"),
        ("false_refusals<=-1", "a whole number is allowed for false_refusals"),
    ],
)
def test_what_is_no_slo_is_said(text: str, fault: str) -> None:
    """A slip in an SLO is refused with what is allowed."""
    with pytest.raises(ValueError, match=f"^{re.escape(fault)}"):
        parse_slo(text)


@cache
def analysis(kind: str) -> Analysis:
    scenario = {
        "uniform": Scenario(tokens=120),
        "instant": Scenario(tokens=60, window=always(0.0)),
        "some never": Scenario(tokens=120, window=mixed(0.05, always(NEVER), uniform(3.0))),
        "one": Scenario(tokens=1),
    }[kind]
    return analyse(scenario.record())


@pytest.mark.parametrize(
    ("kind", "slos", "code", "line"),
    [
        ("uniform", [], KEPT, "valid run, no SLO"),
        ("uniform", ["p99<=3.2s", "max<4s"], KEPT, "kept: p99<=3.2s (3."),
        ("uniform", ["p99<=2s"], BROKEN, "broken: p99 is 3."),
        ("uniform", ["max<4s", "p50<=1s"], BROKEN, "broken: p50 is 1."),
        ("uniform", ["stale_accepts<=10"], BROKEN, "broken: stale_accepts is 9"),
        ("uniform", ["false_refusals==0"], KEPT, "kept: false_refusals==0 (0)"),
        ("instant", ["max<=205ms", "stale_accepts<=0"], KEPT, "kept: max<=205ms (0."),
        ("some never", ["p50<=2s"], KEPT, "kept: p50<=2s (1."),
        ("some never", ["p99<=3s"], BROKEN, "broken: p99 is > 9."),
        ("some never", ["p99<=1h"], BROKEN, "broken: p99 is > 9."),
        ("some never", ["max<=1h"], BROKEN, "broken: max is ≥ 9."),
        ("one", ["p99<=4s"], INVALID, "invalid run: too few windows: 1 measured, 10 are needed"),
        ("one", [], INVALID, "invalid run: too few windows: 1 measured, 10 are needed"),
    ],
)
def test_a_run_is_judged(kind: str, slos: list[str], code: int, line: str) -> None:
    """Kept, broken (also by what the run doesn't show), or not valid; with the reason."""
    verdict = judge([parse_slo(text) for text in slos], analysis(kind))
    assert (verdict.exit_code, verdict.line[: len(line)]) == (code, line)


def test_the_reason_is_one_line() -> None:
    """Several reasons, or several broken SLOs, are still one line."""
    run = replace(analysis("uniform"), validity=Validity(["lag", "errors"], []))
    broken = judge([parse_slo("p50<=1ms"), parse_slo("max<=1ms")], analysis("uniform"))
    assert judge([], run).line == "invalid run: lag; errors"
    assert (broken.line.count(";"), broken.line.count("\n")) == (1, 0)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("false_refusals<3", False),
        ("false_refusals<=3", True),
        ("false_refusals==3", True),
        ("false_refusals==4", False),
    ],
)
def test_operators_compare(text: str, *, kept: bool) -> None:
    """Below, at most, exactly."""
    run = replace(analysis("uniform"), false_refusals=FalseRefusals(1, 2))
    assert judge([parse_slo(text)], run).results[0].kept is kept


def test_a_measurement_just_over_its_bound_shows_the_difference() -> None:
    """What is said to break a bound never reads like the bound."""
    run = analysis("uniform")
    longest = run.since_sent.upper.longest
    bound = f"{int(longest * 1000)}ms"
    verdict = judge([parse_slo(f"max<={bound}")], run)
    assert f"max is {longest:.3f} s" in verdict.line or f"max is {longest:.6f} s" in verdict.line
