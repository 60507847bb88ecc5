"""A run from its announcement to its exit code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.loadtest.record import RecordError
from gateway.loadtest.rows import Row, format_row
from gateway.loadtest.runs import Reports, announce, conclude
from gateway.loadtest.slo import parse_slo
from loadtest.synthetic import Scenario, uniform
from loadtest.told import options


def test_the_announcement() -> None:
    """What is planned is said beforehand: tokens, targets, seed, load and time."""
    assert announce(options(max_age=3.0, tokens=200, background_rps=300.0)) == (
        "200 tokens at 1 target, seed 7; at most 778 probes/s, each token every 189 ms; "
        "300 background requests/s; at most 37 s"
    )


def test_more_than_one_process_can() -> None:
    """A load that is more than was shown to work is warned of."""
    told = options(tokens=20_000, revoke_rate=100.0, targets=("http://h/a", "http://h/b"))
    said = announce(told)
    assert "20,000 tokens at 2 targets" in said
    assert "warning: 45,850 requests/s are more than the 5,000 that one process" in said


def write(path: Path, scenario: Scenario, **arguments: Any) -> Path:
    """Write the record of a scenario, as a run that was told these arguments would."""
    record = scenario.record()
    header = replace(record.header, arguments={**record.header.arguments, **arguments})
    rows: list[Row] = [header, *record.issues, *record.probes, *record.revokes, *record.background]
    assert record.end is not None
    path.write_text("".join(map(format_row, [*rows, record.end])))
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Give the record of a gateway whose windows are at most two seconds."""
    return write(tmp_path / "kept.jsonl", Scenario(window=uniform(2.0), tokens=40))


@pytest.mark.parametrize(
    ("slos", "code", "line"),
    [
        ((), 0, "valid run, no SLO"),
        (("max<=3s",), 0, "kept: max<=3s"),
        (("max<=1s",), 1, "broken: max is"),
        (("max<=3s", "stale_accepts==0"), 1, "broken: stale_accepts is"),
    ],
)
def test_the_verdict(
    kept: Path, slos: tuple[str, ...], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SLOs give the exit code, and one line says why."""
    assert code == conclude([kept], tuple(map(parse_slo, slos)), Reports(), quiet=True)
    said = capsys.readouterr().out
    assert (said.count("\n"), said[: len(line)]) == (1, line)


def test_a_run_that_isn_t_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that measured too little is worth nothing, whatever its SLOs."""
    path = write(tmp_path / "few.jsonl", Scenario(tokens=3))
    assert conclude([path], (parse_slo("max<=1h"),), Reports(), quiet=True) == 3
    assert capsys.readouterr().out.startswith("invalid run: too few windows")


def test_slos_that_the_run_was_told(tmp_path: Path, kept: Path) -> None:
    """A report without SLOs of its own judges by those of each run; the worst code counts."""
    told = write(tmp_path / "told.jsonl", Scenario(tokens=40), slo=["max<=1s"])
    codes = [conclude(runs, None, Reports(), quiet=True) for runs in ([kept], [told], [told, kept])]
    assert codes == [0, 1, 1]


def test_max_age_told_afterwards(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the gateway promises can be said when reporting."""
    conclude([kept], None, Reports(), max_age=1.0)
    assert "Max age 1" in capsys.readouterr().out


def test_reports(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each report that is asked for is written, beside the terminal's."""
    files = [tmp_path / name for name in ("report.html", "report.json", "report.png")]
    conclude([kept], (), Reports(*files))
    assert "Revocation window" in capsys.readouterr().out
    assert files[0].read_text().startswith("<!DOCTYPE html>")
    assert json.loads(files[1].read_text())
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_a_file_that_is_no_record(tmp_path: Path) -> None:
    """The path and the line are said."""
    path = tmp_path / "other.jsonl"
    path.write_text("{}\n")
    with pytest.raises(RecordError, match=r"other.jsonl: line 1: the header is missing"):
        conclude([path], None, Reports())
