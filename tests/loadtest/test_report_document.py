"""The JSON report: its members are a promise to those who read it."""

import json
from typing import Any

import pytest

from gateway.loadtest.report.document import render_json
from gateway.loadtest.slo import judge, parse_slo
from loadtest.reported import ALL, analysed


def run(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render_json([analysed(name)]))["runs"][0]
    return document


def shape(value: Any) -> Any:
    """Return the members of a document, without its values; of lists, the first item's."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


PERCENTILE = {"seconds": None, "known": None, "low": None, "high": None}
DISTRIBUTION = {
    "windows": None,
    "censored": None,
    "p50": PERCENTILE,
    "p90": PERCENTILE,
    "p95": PERCENTILE,
    "p99": PERCENTILE,
    "max": PERCENTILE,
}
EXPOSURE = dict.fromkeys(["refused_by", "accepted_until", "middle"], DISTRIBUTION)
SUMMARY = {"count": None, "p50": None, "p90": None, "p99": None, "max": None}
LATENCY = {"planned": SUMMARY, "service": SUMMARY}
STALE = {
    "accepted": None,
    "probes": None,
    "accepted_since_sent": None,
    "probes_since_sent": None,
}
REFUSALS = {"before_revocation": None, "background": None}
FLAPPING = {"windows": None, "flaps": None, "longest": None}
BOUNDS = {"lower": None, "upper": None}
SHAPE: dict[str, Any] = {
    "name": None,
    "ended": None,
    "seconds": None,
    "header": {
        "tool": None,
        "python": None,
        "started_at": None,
        "targets": [None],
        "arguments": {"refused_status": [None]},
        "seed": None,
        "max_age_seconds": None,
        "probe_interval_seconds": None,
        "watch_seconds": None,
    },
    "valid": None,
    "reasons": [],
    "notes": [None],
    "slo": None,
    "counts": dict.fromkeys(
        [
            "tokens_issued",
            "tokens_failed",
            "tokens_revoked",
            "revocations_failed",
            "never_revoked",
            "background_tokens",
            "probes",
            "background",
            "unsent",
            "windows",
            "censored",
            "never_accepted",
            "refused_early",
        ]
    ),
    "window": {"since_sent": EXPOSURE, "since_answered": EXPOSURE, "everywhere": DISTRIBUTION},
    "targets": [
        {
            "url": None,
            "window": EXPOSURE,
            "stale_accepts": STALE,
            "false_refusals": REFUSALS,
            "flapping": FLAPPING,
        }
    ],
    "resolution": {"typical": None, "finest": None, "widest": None, "gaps": None},
    "stale_accepts": {**STALE, "rate": None, "rate_since_sent": None},
    "false_refusals": {**REFUSALS, "total": None},
    "flapping": FLAPPING,
    "disagreement": {"tokens": None, "surely": None, "apart": DISTRIBUTION},
    "latency": dict.fromkeys(["accepted", "refused", "background", "token", "revoke"], LATENCY),
    "background_over_time": [
        {"start": None, "seconds": None, "count": None, "p50": None, "p99": None}
    ],
    "errors": [],
    "lag": SUMMARY,
    "theory": {
        "max_age": None,
        "promise": None,
        "outlived": [],
        "unclear": [],
        "fit": {
            "statistic": None,
            "p_value": None,
            "windows": None,
            "drawn": None,
            "agrees": None,
        },
        "no_fit": None,
    },
    "windows": [
        {
            "token": None,
            "digest": None,
            "target": None,
            "revoke_sent": None,
            "revoke_answered": None,
            "last_accepted": None,
            "refused": None,
            "flaps": None,
            "since_sent": BOUNDS,
            "since_answered": BOUNDS,
        }
    ],
}


def test_the_members_are_those_of_version_1() -> None:
    """A member that goes, comes or changes its name is a change that readers must know of."""
    document = json.loads(render_json([analysed("three targets")]))
    assert (document["format"], document["version"]) == ("revocation-loadtest-report", 1)
    assert shape(document["runs"]) == [SHAPE]


@pytest.mark.parametrize("name", ALL)
def test_every_run_is_json(name: str) -> None:
    """Whatever was measured is JSON without NaN or Infinity, under the same members."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(render_json([analysed(name)]), parse_constant=refuse)
    assert set(document["runs"][0]) == set(SHAPE)


def test_figures_are_those_of_the_analysis() -> None:
    """Percentiles, counts and windows are said as they were measured."""
    found, analysis = run("uniform"), analysed("uniform")
    p50 = analysis.since_sent.upper.percentile(0.5)
    assert p50 is not None
    assert found["window"]["since_sent"]["refused_by"]["p50"]["seconds"] == round(p50.seconds, 6)
    assert len(found["windows"]) == analysis.counts.windows == found["counts"]["windows"]
    assert found["theory"]["promise"] == "kept"


def test_what_is_not_known_is_said() -> None:
    """A percentile beyond the watch is marked, and a window never seen to end has no upper end."""
    found = run("never")
    assert found["window"]["since_sent"]["refused_by"]["p99"]["known"] is False
    assert {window["since_sent"]["upper"] for window in found["windows"]} == {None}
    assert found["theory"]["outlived"][0] == {"token": 0, "target": 0}


def test_nothing_measured_is_null() -> None:
    """Without windows percentiles are null."""
    assert run("empty")["window"]["since_sent"]["refused_by"]["p99"] is None


def test_the_verdict_is_in_it() -> None:
    """SLOs, their results and the exit code."""
    analysis = analysed("uniform")
    verdict = judge([parse_slo("p50<=1s"), parse_slo("max<=9s")], analysis)
    found = json.loads(render_json([analysis], [verdict]))["runs"][0]["slo"]
    assert found == {
        "exit_code": 1,
        "line": "broken: p50 is 1.748 s, not p50<=1s",
        "results": [
            {"slo": "p50<=1s", "kept": False, "measured": "1.748 s"},
            {"slo": "max<=9s", "kept": True, "measured": "3.097 s"},
        ],
    }


def test_a_small_p_value_is_not_rounded_to_zero() -> None:
    """Digits are counted from the first that isn't zero."""
    assert 0 < run("over")["theory"]["fit"]["p_value"] < 1e-3


def test_several_runs_have_names_of_their_own() -> None:
    """Runs are in the order given."""
    document = json.loads(render_json([analysed("uniform"), analysed("uniform")]))
    assert [found["name"] for found in document["runs"]] == ["uniform", "uniform (2)"]
