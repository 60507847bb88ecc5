"""Show how a run goes: a live table on a terminal, plain lines elsewhere."""

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.loadtest.tally import Tally
from gateway.loadtest.words import duration

_LINE_SECONDS = 5.0
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment; seconds, and requests a second.

    ``lag`` is the 99th percentile of planned to sent since the last snapshot, ``late`` whether
    that is more than a valid run may have; ``waiting`` requests have no free connection.
    """

    at: float
    seconds: float
    tally: Tally
    rps: float
    lag: float
    lag_of_all: float
    late: bool
    waiting: int
    ending: bool = False


class Progress(Protocol):
    """Whatever shows snapshots, about two a second."""

    def show(self, snapshot: Snapshot) -> None:
        """Show one."""
        ...


def facts_of(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return what matters now, as names and values."""
    tally = snapshot.tally
    median = _NONE if tally.median is None else duration(tally.median)
    longest = duration(tally.longest) if tally.longest else _NONE
    failed = tally.not_issued + tally.not_revoked
    lag = f"{duration(snapshot.lag)} now, {duration(snapshot.lag_of_all)} in all"
    facts = [
        ("time", f"{snapshot.at:.0f} s of at most {snapshot.seconds:.0f} s"),
        ("tokens issued", f"{tally.issued:,}"),
        ("revoked", f"{tally.revoked:,} of {tally.expected:,}"),
        ("refused", f"{tally.refused:,}"),
        ("still accepted", f"{max(0, tally.still_accepted):,}"),
        ("exposure so far", f"longest {longest}, median {median}"),
        ("requests", f"{snapshot.rps:,.0f}/s, {tally.requests:,} in all"),
        ("lag p99", lag),
    ]
    if tally.flaps:
        facts.append(("accepted again", f"{tally.flaps:,} times"))
    if failed:
        facts.append(
            (
                "failed",
                f"{tally.not_issued:,} to be issued, {tally.not_revoked:,} to be revoked",
            )
        )
    if tally.never_warm:
        facts.append(("never accepted for long", f"{tally.never_warm:,}, so not revoked"))
    if tally.errors:
        worst = ", ".join(f"{count:,} {kind}" for kind, count in tally.errors.most_common(3))
        facts.append(("errors", worst))
    return facts


def warning_of(snapshot: Snapshot) -> str | None:
    """Say that the generator can't keep up, when it can't."""
    tally = snapshot.tally
    if not snapshot.late and not tally.unsent:
        return None
    parts = []
    if snapshot.late:
        parts.append(f"requests are sent {duration(snapshot.lag)} late (p99)")
    if snapshot.waiting:
        parts.append(f"{snapshot.waiting:,} wait for a connection (--connections)")
    if tally.unsent:
        parts.append(f"{tally.unsent:,} were never sent")
    return f"the generator can't keep up: {'; '.join(parts)}"


class PlainProgress:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, stream: TextIO, *, every_seconds: float = _LINE_SECONDS) -> None:
        self._stream = stream
        self._every = every_seconds
        self._next_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, snapshot: Snapshot) -> None:
        """Write a line, if the last was long enough ago."""
        if snapshot.at < self._next_at and not snapshot.ending:
            return
        self._next_at = snapshot.at + self._every
        line = "; ".join(f"{name} {value}" for name, value in facts_of(snapshot))
        if warning := warning_of(snapshot):
            line += f"; WARNING: {warning}"
        self._stream.write(line + "\n")
        self._stream.flush()


class LiveProgress:
    """A table that is drawn anew in its place.

    Drawn by the run's own loop, a few milliseconds twice a second: rich's thread would take
    the interpreter at moments that nobody chooses.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draw the table."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column()
        for name, value in facts_of(snapshot):
            late = name == "lag p99" and snapshot.late
            table.add_row(name, value, style="bold yellow" if late else None)
        if warning := warning_of(snapshot):
            table.add_row("", warning, style="bold yellow")
        hint = "ending: waiting for the last answers" if snapshot.ending else "Ctrl-C ends early"
        table.add_row("", hint, style="dim")
        self._live.update(table, refresh=True)


class NoProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, snapshot: Snapshot) -> None:
        """Show nothing."""


def progress_for(
    stream: TextIO | None = None, *, quiet: bool = False
) -> LiveProgress | PlainProgress | NoProgress:
    """Return what suits the stream, standard error unless told."""
    if quiet:
        return NoProgress()
    console = Console(file=stream or sys.stderr)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(stream or sys.stderr)
