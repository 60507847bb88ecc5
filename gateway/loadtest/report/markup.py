"""Pieces of the page: findings, tables, charts. All text is escaped here."""

from collections.abc import Sequence
from html import escape

from gateway.loadtest.report.findings import Finding, Tone
from gateway.loadtest.report.tables import Table

_SIGNS = {Tone.GOOD: "✓", Tone.BAD: "✗", Tone.UNSURE: "?", Tone.PLAIN: "•"}


def finding_list(found: Sequence[Finding]) -> str:
    """Return findings as a list; each says its verdict in words, besides sign and colour."""
    items = "".join(
        f'<li class="{finding.tone.value}"><strong><span class="sign" aria-hidden="true">'
        f"{_SIGNS[finding.tone]}</span>{escape(finding.subject)}: "
        f'<span class="verdict">{escape(finding.verdict)}</span></strong> '
        f'<span class="why">{escape(finding.sentence)}</span></li>'
        for finding in found
    )
    return f'<ul class="findings">{items}</ul>'


def table(content: Table, *, wide: bool = False) -> str:
    """Return a table with its caption and its note."""
    head = ""
    if any(content.head):
        cells = "".join(
            f'<th scope="col">{escape(cell)}</th>' if cell else "<td></td>" for cell in content.head
        )
        head = f"<thead><tr>{cells}</tr></thead>"
    rows = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in content.rows
    )
    caption = f"<caption>{escape(content.title)}</caption>" if content.title else ""
    note = f'<p class="note">{escape(content.note)}</p>' if content.note else ""
    return (
        f'<div class="wide{" full" if wide else ""}"><table>{caption}{head}'
        f"<tbody>{rows}</tbody></table>{note}</div>"
    )


def chart(svg: str, caption: str, content: Table) -> str:
    """Return a chart with its caption, and the same numbers as a table to unfold."""
    return (
        f"<div><figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        f"<details><summary>The same as a table</summary>{table(content)}</details></div>"
    )
