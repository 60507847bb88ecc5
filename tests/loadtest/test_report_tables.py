"""The tables that the terminal and the page share."""

import pytest

from gateway.loadtest.report.names import run_names
from gateway.loadtest.report.tables import Table, tables
from loadtest.reported import ALL, analysed


def titled(title: str, *names: str) -> Table:
    runs = [analysed(name) for name in names]
    (found,) = [table for table in tables(runs, run_names(runs)) if table.title == title]
    return found


@pytest.mark.parametrize("name", ALL)
def test_every_table_is_rectangular(name: str) -> None:
    """All rows of a table are as wide as its head."""
    for table in tables([analysed(name)], [name]):
        assert {len(row) for row in table.rows} == {len(table.head)}


def test_the_window_of_one_run_has_its_limits() -> None:
    """Percentiles with limits, both ends, and counted from the answer."""
    found = titled("Revocation window", "uniform")
    assert found.rows[0] == ["p50", "1.75 s", "1.51 s to 1.95 s", "1.55 s", "1.74 s"]


def test_runs_stand_side_by_side() -> None:
    """Several runs are columns of the same tables."""
    found = titled("Revocation window", "uniform", "instant", "some never")
    assert list(found.head) == ["", "uniform", "instant", "some never"]
    assert next(row for row in found.rows if row[0] == "max refused by")[3].startswith("≥ ")


def test_runs_of_the_same_name_are_told_apart() -> None:
    """Two files of one name are numbered."""
    assert run_names([analysed("uniform")] * 3) == ["uniform", "uniform (2)", "uniform (3)"]


def test_targets_have_a_table_where_there_are_several() -> None:
    """Each target, refused everywhere, and how far apart they are."""
    rows = [row[0] for row in titled("By target", "three targets").rows]
    assert rows == [
        "0: http://127.0.0.1:8080/orders",
        "1: http://127.0.0.1:8081/orders",
        "2: http://127.0.0.1:8082/orders",
        "refused everywhere",
        "first to last target",
    ]


def test_the_longest_of_those_that_outlived_max_age_are_listed() -> None:
    """Ten of them, the longest first; where to find the others is said."""
    found = titled("Tokens that outlived max age", "over")
    assert len(found.rows) == 10
    assert {row[2] for row in found.rows} == {"surely"}
    assert found.note.startswith("The longest of ")


@pytest.mark.parametrize(
    ("title", "name"),
    [("By target", "uniform"), ("Errors", "uniform"), ("Tokens that outlived max age", "uniform")],
)
def test_an_empty_table_is_left_out(title: str, name: str) -> None:
    """What there's nothing of has no table."""
    assert title not in [table.title for table in tables([analysed(name)], [name])]


def test_errors_are_listed_by_kind() -> None:
    """Which requests failed, and how."""
    ((kind, error, count),) = titled("Errors", "lost").rows
    assert (kind, error, int(count) > 50) == ("probe", "timeout", True)
