"""The rows of a record, version 1: what each says, and how it's written as a line.

All instants are seconds on a monotonic clock whose zero is the start of the run. A request has
three: when it was planned, when it was sent, when its answer had been read (or was given up).
``status`` is None when there was no answer; ``error`` then says why, in a word.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What was run, without secrets. ``max_age_seconds`` is what the gateway promises, if known."""

    tool: str
    python: str
    started_at: str
    targets: tuple[str, ...]
    arguments: Mapping[str, Any]
    seed: int | None
    max_age_seconds: float | None
    probe_interval_seconds: float
    watch_seconds: float
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Issue:
    """A token was asked for (row type ``token``). ``digest`` is SHA-256 of the token, in hex."""

    token: int
    digest: str | None
    planned: float
    sent: float
    finished: float
    status: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A request with a token that is to be revoked."""

    token: int
    target: int
    planned: float
    sent: float
    finished: float
    status: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Revoke:
    """A token's revocation was asked for (RFC 7009 §2.1)."""

    token: int
    planned: float
    sent: float
    finished: float
    status: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Background:
    """A request with a token that is never revoked."""

    token: int
    target: int
    planned: float
    sent: float
    finished: float
    status: int | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Unsent:
    """A request that was planned and never sent; ``kind`` is the row type it would have been."""

    kind: str
    token: int | None
    target: int | None
    planned: float


@dataclass(frozen=True, slots=True)
class End:
    """The run ended in order at ``at``."""

    at: float
    reason: Literal["completed", "interrupted"]


Exchange = Issue | Probe | Revoke | Background
"""A request that was sent."""

Row = Header | Exchange | Unsent | End


def format_row(row: Row) -> str:
    """Write a row as its line, newline included; instants are rounded to a microsecond."""
    match row:
        # Thousands of these a second: formatted by hand, about a microsecond each.
        case Probe():
            head = f'"probe","token":{row.token},"target":{row.target}'
        case Background():
            head = f'"background","token":{row.token},"target":{row.target}'
        case Issue():
            head = f'"token","token":{row.token},"digest":{json.dumps(row.digest)}'
        case Revoke():
            head = f'"revoke","token":{row.token}'
        case Unsent():
            return _dump({"type": "unsent", **asdict(row), "planned": round(row.planned, 6)})
        case End():
            return _dump({"type": "end", "at": round(row.at, 6), "reason": row.reason})
        case Header():
            return _dump({"type": "header", "version": row.version, **asdict(row)})
    status = "null" if row.status is None else row.status
    error = "null" if row.error is None else json.dumps(row.error)
    return (
        f'{{"type":{head},"planned":{row.planned:.6f},"sent":{row.sent:.6f},'
        f'"finished":{row.finished:.6f},"status":{status},"error":{error}}}\n'
    )


def _dump(members: Mapping[str, Any]) -> str:
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
