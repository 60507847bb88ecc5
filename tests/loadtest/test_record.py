"""The record: what is written is read again, and what can't be read is said by its line."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from clocks import FakeClock

from gateway.loadtest.record import (
    Background,
    End,
    Header,
    Issue,
    NewRecord,
    Probe,
    Record,
    RecordError,
    RecordWriter,
    Revoke,
    Row,
    Unsent,
    format_row,
    load_record,
    read_record,
)
from loadtest.synthetic import Scenario

HEADER = Scenario(targets=2).header()
ISSUE = Issue(0, "ab" * 32, 0.0, 0.0001, 0.004, 200)
PROBE = Probe(0, 1, 1.0, 1.0002, 1.003, 200)
REVOKE = Revoke(0, 5.0, 5.0001, 5.004, 200)
BACKGROUND = Background(1, 0, 2.0, 2.0, 2.5, None, "timeout")
UNSENT = Unsent("probe", 0, 1, 6.0)
END = End(40.0, "completed")
ROWS: list[Row] = [HEADER, ISSUE, PROBE, REVOKE, BACKGROUND, UNSENT, END]


def lines(*rows: Row | str) -> list[str]:
    return [row if isinstance(row, str) else format_row(row) for row in rows]


def test_every_row_is_read_as_it_was_written() -> None:
    """A record of all row types comes back equal."""
    assert read_record(lines(*ROWS), name="x") == Record(
        "x", HEADER, [ISSUE], [PROBE], [REVOKE], [BACKGROUND], [UNSENT], END
    )


@pytest.mark.parametrize(
    ("row", "members"),
    [
        (
            PROBE,
            {
                "type": "probe",
                "token": 0,
                "target": 1,
                "planned": 1.0,
                "sent": 1.0002,
                "finished": 1.003,
                "status": 200,
                "error": None,
            },
        ),
        (UNSENT, {"type": "unsent", "kind": "probe", "token": 0, "target": 1, "planned": 6.0}),
        (END, {"type": "end", "at": 40.0, "reason": "completed"}),
    ],
)
def test_a_row_is_one_line_of_json(row: Row, members: dict[str, object]) -> None:
    """Each row is a JSON object on a line of its own, by the schema."""
    line = format_row(row)
    assert (json.loads(line), line.count("\n"), line[-1]) == (members, 1, "\n")


def test_instants_are_rounded_to_a_microsecond() -> None:
    """What a clock says below a microsecond isn't kept."""
    assert '"sent":1.123457' in format_row(Probe(0, 0, 1.0, 1.12345678, 2.0, 200))


def test_what_an_error_is_called_is_escaped() -> None:
    """An error's name can't break the line."""
    row = Probe(0, 0, 1.0, 1.0, 2.0, None, 'a "quoted"\nword')
    assert read_record(lines(HEADER, row)).probes == [row]


def test_rows_and_members_of_later_tools_are_skipped() -> None:
    """A later tool of the same version may add row types and members."""
    later = '{"type":"weather","at":1}\n'
    more = format_row(PROBE).replace('"probe"', '"probe","colour":"red"')
    assert read_record(lines(HEADER, later, more)).probes == [PROBE]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_last_line_that_was_cut_off_is_left_out(cut: int) -> None:
    """A killed run can be read up to its last whole line, and says so."""
    record = read_record(lines(HEADER, PROBE, format_row(REVOKE)[:cut]))
    assert (record.probes, record.revokes, record.truncated, record.end) == (
        [PROBE],
        [],
        True,
        None,
    )


def test_a_last_line_that_only_lacks_its_newline_counts() -> None:
    """A whole row is a row, with or without newline."""
    record = read_record(lines(HEADER, format_row(PROBE).rstrip("\n")))
    assert (record.probes, record.truncated) == ([PROBE], False)


def _with(member: str, value: object, row: Row = PROBE) -> str:
    members = json.loads(format_row(row))
    if value is KeyError:
        del members[member]
    else:
        members[member] = value
    return json.dumps(members) + "\n"


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([], "line 1: the header is missing"),
        ([format_row(PROBE)], "line 1: the header is missing"),
        (["hello\n"], "line 1: not JSON"),
        (["[]\n"], "line 1: not a JSON object"),
        ([_with("version", 2, HEADER)], "line 1: version 2; this reads version 1"),
        ([_with("targets", [], HEADER)], "line 1: no targets"),
        ([_with("seed", KeyError, HEADER)], "line 1: 'seed' is missing"),
        ([HEADER, PROBE, "{\n", PROBE], "line 3: not JSON"),
        ([HEADER, PROBE, '{"type":"probe"},{"type":"probe"}\n'], "line 3: not JSON"),
        ([HEADER, PROBE, "7\n"], "line 3: not a JSON object"),
        ([HEADER, "{}\n"], "line 2: 'type' is missing"),
        ([HEADER, PROBE, _with("status", KeyError)], "line 3: 'status' is missing"),
        ([HEADER, PROBE, _with("status", "200")], "line 3: status '200' is no status"),
        ([HEADER, _with("token", -1)], "line 2: token -1 is no index"),
        ([HEADER, _with("token", 1.0)], "line 2: token 1.0 is no index"),
        ([HEADER, _with("target", 2)], "line 2: target 2 isn't in the header"),
        ([HEADER, _with("finished", 0.5)], "line 2: finished before it was sent"),
        ([HEADER, _with("planned", "soon")], "line 2: '<' not supported"),
        ([HEADER, _with("sent", None)], "line 2: '<' not supported"),
        ([HEADER, format_row(PROBE).replace("1.003000", "NaN")], "line 2: not JSON: NaN"),
        ([HEADER, format_row(PROBE).replace("1.003000", "1e999")], "line 2: finished before"),
        ([HEADER, _with("reason", "bored", END)], "line 2: reason 'bored' isn't known"),
        ([HEADER, END, PROBE], "line 3: a row after the end"),
        ([HEADER, *[PROBE] * 4000, "{\n"], "line 4002: not JSON"),
    ],
)
def test_what_can_not_be_read_is_said_by_its_line(rows: list[Row | str], fault: str) -> None:
    """A broken record is refused with the number of the line and what is wrong in it."""
    with pytest.raises(RecordError) as caught:
        read_record(lines(*rows))
    assert str(caught.value).startswith(fault)


class Stream(StringIO):
    """A file that remembers each piece it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def test_the_writer_hands_over_each_second() -> None:
    """Rows are held back for less than a second, and go out as whole lines."""
    clock, stream = FakeClock(), Stream()
    writer = RecordWriter(stream, clock=clock)
    writer.write(HEADER)
    clock.advance(0.9)
    writer.write(PROBE)
    before = list(stream.pieces)
    clock.advance(0.1)
    writer.write(REVOKE)
    assert (before, stream.pieces) == ([], ["".join(lines(HEADER, PROBE, REVOKE))])


def test_closing_the_writer_leaves_nothing_behind() -> None:
    """After close all rows have been handed over, and the stream is still open."""
    stream = Stream()
    writer = RecordWriter(stream, clock=FakeClock())
    for row in ROWS:
        writer.write(row)
    writer.close()
    assert (stream.getvalue(), stream.closed) == ("".join(lines(*ROWS)), False)


def test_a_file_is_called_by_its_stem(tmp_path: Path) -> None:
    """Reports call a run by the name of its file, unless told otherwise."""
    path = tmp_path / "evict.jsonl"
    path.write_text("".join(lines(*ROWS)), encoding="utf-8")
    assert (load_record(path).name, load_record(path, name="b").name) == ("evict", "b")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are a fault of the record, not of this program."""
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\xff\xfe\n")
    with pytest.raises(RecordError, match="line 1: not JSON"):
        load_record(path)


def test_an_unsent_request_may_be_of_no_target() -> None:
    """A revocation that was never sent has a token and no target."""
    row = Unsent("revoke", 3, None, 6.0)
    assert read_record(lines(HEADER, row)).unsent == [row]


def test_the_header_has_no_members_but_its_own() -> None:
    """A header's members are those of the schema."""
    assert set(json.loads(format_row(HEADER))) == {
        "type",
        "version",
        "tool",
        "python",
        "started_at",
        "targets",
        "arguments",
        "seed",
        "max_age_seconds",
        "probe_interval_seconds",
        "watch_seconds",
    }
    assert isinstance(read_record([format_row(HEADER)]).header, Header)


def test_a_record_of_a_run_that_did_not_begin(tmp_path: Path) -> None:
    """What the file had stays, and a file that wasn't there isn't there."""
    earlier, new = tmp_path / "run.jsonl", tmp_path / "new.jsonl"
    earlier.write_text("an earlier run\n")
    for path in (earlier, new):
        record = NewRecord(path)
        for row in (HEADER, UNSENT, replace(ISSUE, digest=None, status=401), END):
            record.write(row)
        record.flush()
        record.close()
        assert (record.begun, record.closed) == (False, True)
    assert (earlier.read_text(), new.exists()) == ("an earlier run\n", False)


def test_a_record_of_a_run_that_began(tmp_path: Path) -> None:
    """It replaces what the file had, from the first token on; nothing before it is lost."""
    path = tmp_path / "run.jsonl"
    path.write_text("an earlier run\n" * 1000)
    record = NewRecord(path)
    for row in ROWS:
        record.write(row)
    record.close()
    assert path.read_text() == "".join(lines(*ROWS))


def test_a_record_that_is_no_file() -> None:
    """A device takes rows, and isn't replaced by a file."""
    record = NewRecord(Path("/dev/null"))
    for row in ROWS:
        record.write(row)
    record.close()
    assert not Path("/dev/null").is_file()


def test_a_record_that_can_t_be_written(tmp_path: Path) -> None:
    """It is said before the run."""
    with pytest.raises(OSError, match="no-such"):
        NewRecord(tmp_path / "no-such" / "run.jsonl")
