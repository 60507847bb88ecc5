"""The terminal summary: 80 columns are enough, and colour only where it's shown."""

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from gateway.loadtest.figures import Analysis
from gateway.loadtest.report.findings import Finding, Tone, findings, headline
from gateway.loadtest.report.names import run_names
from gateway.loadtest.report.tables import Table, tables
from gateway.loadtest.slo import Verdict

_SIGNS = {
    Tone.GOOD: ("+", "green"),
    Tone.BAD: ("!", "bold red"),
    Tone.UNSURE: ("?", "yellow"),
    Tone.PLAIN: ("-", ""),
}


def render_terminal(
    analyses: Sequence[Analysis],
    verdicts: Sequence[Verdict] = (),
    *,
    width: int = 80,
    colour: bool = False,
) -> str:
    """Return the summary of these runs, and of their verdicts (none, or one for each)."""
    stream = StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    names = run_names(analyses)
    for index, (analysis, name) in enumerate(zip(analyses, names, strict=True)):
        verdict = verdicts[index] if verdicts else None
        title = f"{name}: {', '.join(analysis.header.targets)}"
        console.print(Text(title, style="bold"), soft_wrap=False)
        console.print(Text(headline(analysis)))
        console.print(_findings(findings(analysis, verdict)))
        for note in analysis.validity.notes:
            console.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
        console.print()
    for table in tables(analyses, names):
        _print_table(console, table)
    for index, verdict in enumerate(verdicts):
        prefix = f"{names[index]}: " if len(names) > 1 else ""
        console.print(Text(f"{prefix}{verdict.line}", style="bold"), soft_wrap=True)
    # Lines are padded to the width: nobody wants that in a file.
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _findings(found: Sequence[Finding]) -> RichTable:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for finding in found:
        sign, style = _SIGNS[finding.tone]
        grid.add_row(
            Text(f"{sign} {finding.subject}"),
            Text(finding.verdict, style=style),
            Text(finding.sentence),
        )
    return grid


def _print_table(console: Console, table: Table) -> None:
    console.print(Text(table.title, style="bold"))
    rich = RichTable(
        caption=table.note or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=any(table.head),
        pad_edge=False,
    )
    for index, name in enumerate(table.head):
        rich.add_column(Text(name), justify="right" if index else "left", overflow="fold")
    for row in table.rows:
        rich.add_row(*map(Text, row))
    console.print(rich)
    if table.note:
        console.print()
