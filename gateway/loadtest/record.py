"""The record of a run: JSON Lines, one row for each thing that happened.

Everything a report says is derived from this file, at any later time. Its first row is the
header; the last one, when the run ended in order, is the end. ``rows`` says what each means.
The reader parses many lines at a time, and looks at single ones only to say which is wrong.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from gateway.clock import Clock, SystemClock
from gateway.loadtest.rows import (
    VERSION,
    Background,
    End,
    Exchange,
    Header,
    Issue,
    Probe,
    Revoke,
    Row,
    Unsent,
    format_row,
)

__all__ = [
    "Background",
    "End",
    "Exchange",
    "Header",
    "Issue",
    "NewRecord",
    "Probe",
    "Record",
    "RecordError",
    "RecordWriter",
    "Revoke",
    "Row",
    "Unsent",
    "format_row",
    "load_record",
    "read_record",
]

_CHUNK_LINES = 2000
_FLUSH_SECONDS = 1.0
_LATEST = 1e9  # seconds, some thirty years: what is later is no instant of a run


class RecordError(Exception):
    """A record that can't be read; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A run's rows, by type, each in the order of the file.

    ``name`` is what reports call it. ``end`` is None when the run didn't end in order;
    ``truncated`` says that its last line was cut off (and left out).
    """

    name: str
    header: Header
    issues: Sequence[Issue] = ()
    probes: Sequence[Probe] = ()
    revokes: Sequence[Revoke] = ()
    background: Sequence[Background] = ()
    unsent: Sequence[Unsent] = ()
    end: End | None = None
    truncated: bool = False


class RecordWriter:
    """Writes rows to a text stream, about a second's worth at a time and always whole lines.

    What is buffered goes out with the first row that comes a second after the last flush, on
    ``flush`` and on ``close``. Whoever opened the stream closes it.
    """

    def __init__(self, stream: TextIO, *, clock: Clock | None = None) -> None:
        self._stream = stream
        self._monotonic = (clock or SystemClock()).monotonic
        self._lines: list[str] = []
        self._flush_at = self._monotonic() + _FLUSH_SECONDS

    def write(self, row: Row) -> None:
        """Take a row; raises what the stream raises, when the buffer is due."""
        self._lines.append(format_row(row))
        if self._monotonic() >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Hand all rows so far to the system."""
        lines, self._lines = self._lines, []
        self._stream.write("".join(lines))
        self._stream.flush()
        self._flush_at = self._monotonic() + _FLUSH_SECONDS

    def close(self) -> None:
        """Flush; nothing may be written after it."""
        self.flush()


class NewRecord(RecordWriter):
    """The record of a run that may fail before it begins: what the file had stays until then.

    A run has begun with the first row that isn't the header, what wasn't sent, a token that wasn't
    issued, or the end. Rows are held until then, and forgotten by ``close`` if there was none.

    Raises:
        OSError: the file can't be written, which is known at once.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.begun = False
        self._path = path
        self._is_new = not path.exists()
        self._file = path.open("a", encoding="utf-8", newline="\n")
        super().__init__(self._file, clock=clock)

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._file.closed

    def write(self, row: Row) -> None:
        """Take a row."""
        nothing = isinstance(row, Header | Unsent | End)
        if not self.begun and not nothing and not (isinstance(row, Issue) and row.digest is None):
            self.begun = True
            if self._path.is_file():  # a pipe or a device has nothing to be replaced
                self._file.truncate(0)
        super().write(row)

    def flush(self) -> None:
        """Hand all rows so far to the system, once the run has begun."""
        if self.begun:
            super().flush()

    def close(self) -> None:
        """Flush, and close the file; remove it if the run made it and never began."""
        try:
            super().close()
        finally:
            self._file.close()
            if not self.begun and self._is_new:
                self._path.unlink(missing_ok=True)


def load_record(path: Path | str, *, name: str | None = None) -> Record:
    """Read a record's file; it's called by the file's stem unless ``name`` says otherwise.

    Raises:
        OSError: the file can't be read.
        RecordError: it isn't a record of this version, or a line in it is wrong.
    """
    with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as stream:
        return read_record(stream, name=Path(path).stem if name is None else name)


def read_record(lines: Iterable[str], *, name: str = "run") -> Record:
    """Read a record from its lines.

    A last line without newline that can't be parsed was cut off: it's left out, and the record
    says so. Rows of an unknown type are skipped: a later tool of this version may write more.

    Raises:
        RecordError: it isn't a record of this version, or a line in it is wrong.
    """
    rows: dict[str, list[Any]] = {kind: [] for kind in _READERS}
    end: End | None = None
    source = iter(lines)
    values, truncated = _parse(list(islice(source, 1)), 1)
    number = 1
    try:
        header = _read_header(values[0] if values else {})
        while chunk := list(islice(source, _CHUNK_LINES)):
            values, truncated = _parse(chunk, number + 1)
            for members in values:
                number += 1
                kind = members["type"]
                if end is not None:
                    raise ValueError("a row after the end")  # noqa: TRY301 (located below)
                if kind in _READERS:
                    rows[kind].append(_READERS[kind](members, len(header.targets)))
                elif kind == "end":
                    end = _read_end(members)
    except KeyError as error:
        raise RecordError(f"line {number}: {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise RecordError(f"line {number}: {error}") from None
    return Record(
        name=name,
        header=header,
        issues=rows["token"],
        probes=rows["probe"],
        revokes=rows["revoke"],
        background=rows["background"],
        unsent=rows["unsent"],
        end=end,
        truncated=truncated,
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON (RFC 8259 §6)")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _parse(chunk: Sequence[str], number: int) -> tuple[list[Any], bool]:
    """Return the objects on these lines, and whether the last line was cut off (left out)."""
    try:
        # As one array: half the time of a call for each line.
        values = _decode(f"[{','.join(chunk)}]")
        if len(values) == len(chunk) and all(type(value) is dict for value in values):
            return values, False
    except ValueError:
        pass
    values = []
    for line in chunk:
        try:
            value = _decode(line)
        except ValueError as error:
            if not line.endswith("\n"):
                return values, True
            raise RecordError(f"line {number + len(values)}: not JSON: {error}") from None
        if type(value) is not dict:
            raise RecordError(f"line {number + len(values)}: not a JSON object")
        values.append(value)
    return values, False


def _read_header(members: Mapping[str, Any]) -> Header:
    if members.get("type") != "header":
        raise ValueError("the header is missing")
    if members["version"] != VERSION:
        raise ValueError(f"version {members['version']!r}; this reads version {VERSION}")
    max_age = members["max_age_seconds"]
    header = Header(
        tool=str(members["tool"]),
        python=str(members["python"]),
        started_at=str(members["started_at"]),
        targets=tuple(map(str, members["targets"])),
        arguments=dict(members["arguments"]),
        seed=members["seed"],
        max_age_seconds=None if max_age is None else float(max_age),
        probe_interval_seconds=float(members["probe_interval_seconds"]),
        watch_seconds=float(members["watch_seconds"]),
    )
    if not header.targets:
        raise ValueError("no targets")
    return header


def _read_end(members: Mapping[str, Any]) -> End:
    if members["reason"] not in {"completed", "interrupted"}:
        raise ValueError(f"reason {members['reason']!r} isn't known")
    return End(float(members["at"]), members["reason"])


def _read_unsent(members: Mapping[str, Any], _: int) -> Unsent:
    kind, token, planned = itemgetter("kind", "token", "planned")(members)
    return Unsent(str(kind), token, members.get("target"), float(planned))


def _reader(row: type[Exchange]) -> Callable[[Mapping[str, Any], int], Exchange]:
    names = [field.name for field in fields(row)]
    values = itemgetter(*names)
    exchange = itemgetter("token", "planned", "sent", "finished", "status")
    targeted = "target" in names

    def read(members: Mapping[str, Any], targets: int) -> Exchange:
        token, planned, sent, finished, status = exchange(members)
        # A comparison with what is no number raises TypeError: as good as a check, and faster.
        if not -_LATEST < planned < _LATEST or not -_LATEST < sent <= finished < _LATEST:
            raise ValueError("finished before it was sent, or no instant of a run")
        if type(token) is not int or token < 0:
            raise ValueError(f"token {token!r} is no index")
        if status is not None and type(status) is not int:
            raise ValueError(f"status {status!r} is no status")
        if targeted and members["target"] not in range(targets):
            raise ValueError(f"target {members['target']!r} isn't in the header")
        return row(*values(members))

    return read


_READERS: Mapping[str, Callable[[Mapping[str, Any], int], Any]] = {
    "token": _reader(Issue),
    "probe": _reader(Probe),
    "revoke": _reader(Revoke),
    "background": _reader(Background),
    "unsent": _read_unsent,
}
