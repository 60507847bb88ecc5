"""Make one record of the files that the workers of one run wrote.

Each token is one worker's own, so its rows stay on one clock. The workers' clocks are laid side
by side by the time of day at which each began. Rows are copied as they are read, so a long run
costs no memory.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import merge
from pathlib import Path
from typing import Any, TextIO

from gateway.loadtest.record import RecordError

_INSTANTS = ("planned", "sent", "finished", "at")
_OWN = {"worker", "planned", "loop"}
"""The arguments in which workers of one run may differ."""


def merge_files(runs: Sequence[Path], out: Path) -> None:
    """Merge the workers' files into one record.

    Raises:
        OSError: a file can't be read or written.
        RecordError: a file isn't a record, or isn't of the same run.
    """
    streams = [path.open(encoding="utf-8") for path in runs]
    try:
        lines = merge_lines(streams, [str(path) for path in runs])
        with out.open("w", encoding="utf-8", newline="\n") as merged:
            merged.writelines(lines)
    finally:
        for stream in streams:
            stream.close()


def merge_lines(streams: Sequence[TextIO], names: Sequence[str]) -> Iterator[str]:
    """Give the lines of the one record, in the order in which things finished."""
    headers = [_header(stream, name) for stream, name in zip(streams, names, strict=True)]
    begun = [datetime.fromisoformat(header["started_at"]) for header in headers]
    first = min(range(len(headers)), key=begun.__getitem__)
    for header, name in zip(headers, names, strict=True):
        if _run_of(header) != _run_of(headers[first]):
            raise RecordError(f"{name}: not of the same run as {names[first]}")
    whole = headers[first]
    arguments = {key: value for key, value in whole["arguments"].items() if key not in _OWN}
    yield _line({**whole, "arguments": {**arguments, "workers": len(headers)}})
    ends = list[dict[str, Any]]()
    rows = [
        _rows(stream, name, (at - begun[first]).total_seconds(), ends)
        for stream, name, at in zip(streams, names, begun, strict=True)
    ]
    for _, line in merge(*rows, key=lambda row: row[0]):
        yield line
    if len(ends) == len(headers):  # else a worker was cut off, and so is the run
        completed = all(end["reason"] == "completed" for end in ends)
        reason = "completed" if completed else "interrupted"
        yield _line({"type": "end", "at": max(end["at"] for end in ends), "reason": reason})


def _header(stream: TextIO, name: str) -> dict[str, Any]:
    try:
        header = json.loads(stream.readline())
        if header["type"] == "header" and header["version"] == 1:
            datetime.fromisoformat(header["started_at"])
            return dict(header)
    except (ValueError, KeyError, TypeError):
        pass
    raise RecordError(f"{name}: line 1: not the header of a record of version 1")


def _run_of(header: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same in all workers of a run."""
    arguments = {k: v for k, v in header["arguments"].items() if k not in _OWN}
    return {**header, "arguments": arguments, "started_at": None, "python": None}


def _rows(
    stream: TextIO, name: str, shift: float, ends: list[dict[str, Any]]
) -> Iterator[tuple[float, str]]:
    """Give each row with its instant on the common clock; the end goes to ``ends``."""
    for number, text in enumerate(stream, 2):
        try:
            row = json.loads(text)
        except ValueError:
            if not text.endswith("\n"):
                return  # cut off
            raise RecordError(f"{name}: line {number}: not JSON") from None
        for key in _INSTANTS:
            if isinstance(row.get(key), int | float):
                row[key] = round(row[key] + shift, 6)
        if row["type"] == "end":
            ends.append(row)
        else:
            yield row.get("finished", row.get("planned", 0.0)), _line(row)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n"
