"""What became of each request, in columns: half a million rows are analysed in a second or two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.loadtest.record import Background, Exchange, Header, Probe

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NO_ANSWER = -1
_REFUSED = (401, 403)


class Outcome(IntEnum):
    """What an answer says of the token: 429, 5xx and no answer at all say nothing."""

    ACCEPTED = 0
    REFUSED = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Columns:
    """Requests as columns of one length; instants in seconds since the start of the run."""

    token: Integers
    target: Integers
    planned: Floats
    sent: Floats
    finished: Floats
    outcome: Integers

    def __len__(self) -> int:
        return len(self.token)

    def where(self, mask: Mask | Integers | slice) -> "Columns":
        """Return the rows that a mask, an order or a slice picks."""
        return Columns(
            self.token[mask],
            self.target[mask],
            self.planned[mask],
            self.sent[mask],
            self.finished[mask],
            self.outcome[mask],
        )

    def having(self, outcome: Outcome) -> "Columns":
        """Return the rows with this outcome."""
        return self.where(self.outcome == outcome)


def refused_status(header: Header) -> tuple[int, ...]:
    """Return the statuses that refuse a token: what the run was told, or else 401 and 403."""
    told = header.arguments.get("refused_status")
    if isinstance(told, int):
        return (told,)
    if isinstance(told, Sequence) and not isinstance(told, str) and told:
        return tuple(int(status) for status in told)
    return _REFUSED


def columns(rows: Sequence[Exchange], refused: Sequence[int] = _REFUSED) -> Columns:
    """Lay out requests as columns; a row without a target has target 0.

    A refusing status refuses even below 400; else a status below 400 accepts (RFC 9110 §15).
    """
    status = _integers(rows, lambda row: _NO_ANSWER if row.status is None else row.status)
    outcome = np.full(len(rows), Outcome.ERROR, dtype=np.int64)
    outcome[(status >= 0) & (status < 400)] = Outcome.ACCEPTED
    outcome[np.isin(status, refused)] = Outcome.REFUSED
    targeted = bool(rows) and isinstance(rows[0], Probe | Background)
    return Columns(
        token=_integers(rows, lambda row: row.token),
        target=_integers(rows, lambda row: row.target)
        if targeted
        else np.zeros(len(rows), dtype=np.int64),
        planned=_floats(rows, lambda row: row.planned),
        sent=_floats(rows, lambda row: row.sent),
        finished=_floats(rows, lambda row: row.finished),
        outcome=outcome,
    )


def error_word(row: Exchange) -> str:
    """Return what went wrong with a request: ``"timeout"``, ``"status 503"``."""
    return row.error or ("no answer" if row.status is None else f"status {row.status}")


def succeeded(row: Exchange) -> bool:
    """Say whether an OAuth endpoint did what it was asked (RFC 6749 §5.1, RFC 7009 §2.2)."""
    return row.status is not None and 200 <= row.status < 300


def _floats(rows: Sequence[Any], value: Callable[[Any], float]) -> Floats:
    return np.fromiter(map(value, rows), np.float64, len(rows))


def _integers(rows: Sequence[Any], value: Callable[[Any], int]) -> Integers:
    return np.fromiter(map(value, rows), np.int64, len(rows))
