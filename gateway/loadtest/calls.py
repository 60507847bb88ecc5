"""A request on its way through the load tester: planned, sent, answered. Does no I/O.

One object from plan to record, because thousands a second are made: the conductor plans it,
a pool sends it and fills in the answer, the driver writes it down and lets it go.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a request is for; the record file has the same words as its row types."""

    TOKEN = "token"  # noqa: S105 (a kind of request)
    PROBE = "probe"
    REVOKE = "revoke"
    BACKGROUND = "background"


@dataclass(slots=True, eq=False)
class Call:
    """One request; all instants are seconds since the start of the run.

    ``target`` is None for calls of the token and the revocation endpoint. ``sent`` stays None
    when the request never left. ``status`` is None when there was no answer; ``error`` then
    says why in one word. ``request`` and ``body`` hold tokens, so neither is in the repr.
    """

    kind: Kind
    token: int
    target: int | None
    planned: float
    request: bytes = field(repr=False)
    sent: float | None = None
    finished: float | None = None
    status: int | None = None
    error: str | None = None
    body: bytes = field(default=b"", repr=False)

    @property
    def lag(self) -> float:
        """Seconds from planned to sent; how late the generator was."""
        return 0.0 if self.sent is None else self.sent - self.planned
