"""What is watched from outside: the Grafana dashboard and the alert rules."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from gateway.metrics import Metrics

CONFIG = Path(__file__).parents[1] / "config"
DASHBOARD: dict[str, Any] = json.loads((CONFIG / "grafana-dashboard.json").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((CONFIG / "alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(rule["expr"] for rule in RULES),
    *(variable.get("definition", "") for variable in DASHBOARD["templating"]["list"]),
]
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"]}


def exposed() -> dict[str, Metric]:
    """Return the metrics that a gateway has, by each name that their samples have."""
    metrics = Metrics()
    metrics.watch_cache("positive", lambda: 0, dict)
    metrics.watch_feed(lambda: (True, 0.0))
    return {
        family.name + suffix: family
        for family in metrics.families()
        for suffix in SUFFIXES.get(family.type, [""])
    }


def test_every_metric_that_is_watched_exists() -> None:
    """By the very name, suffix included."""
    named = {name for text in EXPRESSIONS for name in re.findall(r"\bgateway_\w+", text)}
    assert named - set(exposed()) == set()


def test_counters_are_watched_as_rates() -> None:
    """The total since some start says nothing."""
    bare = [
        expression
        for expression in EXPRESSIONS
        if re.search(r"(?<![\w(])\w+_total\b(?!.*\[)|\w+_bucket\b(?!.*\[)", expression)
        and not expression.startswith("label_values")
    ]
    assert bare == []


def test_labels_exist() -> None:
    """Those by which the dashboard and the rules select and group."""
    by_prometheus = {"instance", "job", "le"}
    known = {"route", "outcome", "cache", "cause", "result", "command", "reason", "member"}
    grouped = {
        label.strip()
        for text in EXPRESSIONS
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", text)
        for label in labels.split(",")
    }
    selected = {
        label
        for text in EXPRESSIONS
        for matchers in re.findall(r"\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)\s*[=!]", matchers)
    }
    assert (grouped | selected) - by_prometheus - known == set()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_brackets_match(expression: str) -> None:
    """A first look; promtool has the last."""
    closing = {")": "(", "]": "[", "}": "{"}
    stack: list[str] = []
    for character in re.sub(r'"[^"]*"', "", expression):
        if character in "([{":
            stack.append(character)
        elif character in closing:
            assert stack.pop() == closing[character]
    assert stack == []


def test_rules_have_what_prometheus_takes_and_people_need() -> None:
    """A name of their own, an expression, a severity, and what is the matter."""
    assert list(ALERTS) == ["groups"]
    assert {key for group in ALERTS["groups"] for key in group} == {"name", "rules"}
    names = Counter(rule["alert"] for rule in RULES)
    assert [name for name, count in names.items() if count > 1] == []
    for rule in RULES:
        assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_the_dashboard_can_be_imported() -> None:
    """No id of an instance, a data source to choose, and a schema version."""
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 36
    [source] = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "datasource"]
    used = {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert used == {f"${{{source['name']}}}"}


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    """On Grafana's grid of 24 columns."""
    ids = Counter(panel["id"] for panel in DASHBOARD["panels"])
    titles = Counter(panel["title"] for panel in PANELS)
    assert max(ids.values()) == max(titles.values()) == 1
    taken: Counter[tuple[int, int]] = Counter(cells(DASHBOARD["panels"]))
    assert max(taken.values()) == 1
    assert max(column for column, _ in taken) < 24


def cells(panels: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    for panel in panels:
        grid = panel["gridPos"]
        for column in range(grid["x"], grid["x"] + grid["w"]):
            for line in range(grid["y"], grid["y"] + grid["h"]):
                yield column, line


def test_variables_that_panels_use_exist() -> None:
    """Grafana's own begin with two underscores."""
    named = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = {name for text in EXPRESSIONS for name in re.findall(r"\$(\w+)", text)}
    assert {name for name in used if not name.startswith("__")} - named == set()
