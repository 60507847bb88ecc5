"""Several workers' files made one record."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.loadtest.merge import merge_files, merge_lines
from gateway.loadtest.record import RecordError, load_record, read_record
from gateway.loadtest.rows import End, Header, Probe, Row, Unsent, format_row


def header(second: int = 0, **changes: Any) -> Header:
    given: dict[str, Any] = {
        "tool": "revocation-gateway 1",
        "python": "3.11.7",
        "started_at": f"2026-01-02T00:00:{second:02}.500000Z",
        "targets": ("http://h/a",),
        "arguments": {"tokens": 4, "worker": second, "planned": {}, "loop": "gevent"},
        "seed": 7,
        "max_age_seconds": None,
        "probe_interval_seconds": 0.2,
        "watch_seconds": 9.0,
    }
    return Header(**{**given, **changes})


def probe(token: int, finished: float) -> Probe:
    return Probe(token, 0, finished - 0.2, finished - 0.1, finished, 200)


def text(*rows: Row) -> str:
    return "".join(map(format_row, rows))


def merged(*files: str) -> list[str]:
    names = [f"file {number}" for number in range(len(files))]
    return list(merge_lines([io.StringIO(file) for file in files], names))


def test_clocks_are_laid_side_by_side() -> None:
    """Instants are counted from the worker that began first, and rows are in order."""
    late = text(header(3), probe(1, 1.0), Unsent("probe", 1, 0, 2.0), End(4.0, "completed"))
    early = text(header(1), probe(0, 1.0), probe(0, 3.5), End(5.0, "completed"))
    record = read_record(merged(late, early))
    assert record.header.started_at == "2026-01-02T00:00:01.500000Z"
    assert record.header.arguments == {"tokens": 4, "workers": 2}
    assert [(row.token, row.finished) for row in record.probes] == [(0, 1.0), (1, 3.0), (0, 3.5)]
    assert record.unsent == [Unsent("probe", 1, 0, 4.0)]
    assert record.end == End(6.0, "completed")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (("completed", "completed"), "completed"),
        (("completed", "interrupted"), "interrupted"),
        (("completed", None), None),
    ],
)
def test_how_the_run_ended(ends: tuple[str, ...], expected: str | None) -> None:
    """A run is as whole as its workers: interrupted with one, cut off with one."""
    files = [
        text(header(), probe(0, 1.0), *([End(2.0, end)] if end else []))  # type: ignore[arg-type]
        for end in ends
    ]
    record = read_record(merged(*files))
    assert (record.end.reason if record.end else None) == expected


def test_a_line_that_was_cut_off() -> None:
    """The last line of a worker that was killed is left out."""
    record = read_record(merged(text(header(), probe(0, 1.0)) + '{"type":"pro'))
    assert len(record.probes) == 1


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ("", "file 1: line 1: not the header of a record of version 1"),
        ("{}\n", "file 1: line 1: not the header of a record of version 1"),
        (text(header(seed=8)), "file 1: not of the same run as file 0"),
        (text(header(arguments={"tokens": 5})), "file 1: not of the same run as file 0"),
        (text(header()) + "nonsense\n", "file 1: line 2: not JSON"),
    ],
)
def test_files_that_can_t_be_merged(second: str, fault: str) -> None:
    """Only records of one run are merged, and a fault says where it is."""
    with pytest.raises(RecordError) as caught:
        merged(text(header()), second)
    assert str(caught.value) == fault


def test_files(tmp_path: Path) -> None:
    """Files are merged to a file, row for row."""
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "all.jsonl")]
    for number, path in enumerate(paths[:2]):
        path.write_text(text(header(number), probe(number, 1.0), End(2.0, "completed")))
    merge_files(paths[:2], paths[2])
    assert len(load_record(paths[2]).probes) == 2
    assert json.loads(paths[2].read_text().splitlines()[0])["arguments"]["workers"] == 2
