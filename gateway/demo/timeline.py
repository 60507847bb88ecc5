"""The timeline on the terminal: what was done, when, what came of it, and what that means.

On a terminal that can, the row for what is under way is rewritten in place; elsewhere (a pipe, a
file) it is printed anew now and then.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.clock import Clock

_STEP_WIDTH = 14
_TEXT_COLUMN = 33
_BAR_WIDTH = 30
_LEAST_PAUSE_SECONDS = 1.0
_ROWS_WHILE_WAITING = 5


class Timeline:
    """Rows of time, step, HTTP status and a sentence; times are seconds since it was made."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._started = clock.monotonic()
        self._live: Live | None = None
        self._next_row = 0.0
        unicode = console.encoding.startswith("utf")
        self._good, self._bad, self._busy = "✓✗•" if unicode else "+!."

    @property
    def console(self) -> Console:
        """Where it is written."""
        return self._console

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the last row alive meanwhile, on a terminal that can."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def chapter(self, title: str) -> None:
        """Begin a new part."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def done(self, step: str, status: int | None, says: str) -> None:
        """Write a step that is as it should be."""
        style = "cyan" if status is None or status < 400 else "yellow"
        self._write(self._row(Text(self._good, style="green"), step, status, Text(says), style))

    def failed(self, step: str, status: int | None, says: str) -> None:
        """Write a step that isn't."""
        self._write(
            self._row(Text(self._bad, style="bold red"), step, status, Text(says), "bold red")
        )

    def waiting(self, step: str, status: int, says: str, *, elapsed: float, total: float) -> None:
        """Show how a wait of ``total`` seconds gets on."""
        row = self._row(
            Text(self._busy, style="dim"), step, status, Text(says, style="dim"), "cyan"
        )
        if self._live is not None:
            bar = ProgressBar(total=total, completed=min(elapsed, total), width=_BAR_WIDTH)
            self._live.update(Group(row, Padding(bar, (0, 0, 0, _TEXT_COLUMN))), refresh=True)
        elif self._clock.monotonic() >= self._next_row:
            pause = max(_LEAST_PAUSE_SECONDS, total / _ROWS_WHILE_WAITING)
            self._next_row = self._clock.monotonic() + pause
            self._print(row)

    def _write(self, row: RenderableType) -> None:
        if self._live is not None:
            self._live.update("")
        self._print(row)

    def _print(self, row: RenderableType) -> None:
        if self._console.is_terminal:
            self._console.print(row)
            return
        with self._console.capture() as captured:
            self._console.print(row)
        for line in captured.get().splitlines():  # which rich has filled up with spaces
            self._console.print(Text(line.rstrip()))

    def _row(
        self, mark: Text, step: str, status: int | None, says: Text, status_style: str
    ) -> Table:
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=7, justify="right", style="dim", no_wrap=True)
        row.add_column(width=1)
        row.add_column(width=_STEP_WIDTH, no_wrap=True)
        row.add_column(width=3, justify="right")
        row.add_column(ratio=1)
        row.add_row(
            f"{self._clock.monotonic() - self._started:.2f}s",
            mark,
            step,
            Text("" if status is None else str(status), style=status_style),
            says,
        )
        return row
