"""The report as one HTML page: no script, nothing from the network, made for paper as well.

Its charts are SVG whose colours are CSS variables, so that they follow light and dark mode; on
paper they're light. Each has a title, a description, and a table with the same numbers.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from importlib.resources import files

from gateway.loadtest.figures import Analysis
from gateway.loadtest.report import palette
from gateway.loadtest.report.charts import draw_distribution, draw_histogram, draw_latency
from gateway.loadtest.report.figure_tables import (
    distribution_table,
    histogram_table,
    latency_table,
    timeline_table,
)
from gateway.loadtest.report.findings import findings, headline
from gateway.loadtest.report.glossary import GLOSSARY
from gateway.loadtest.report.markup import chart, finding_list, table
from gateway.loadtest.report.names import run_names
from gateway.loadtest.report.opening import key_figures, lead, warnings
from gateway.loadtest.report.sample import TELLING
from gateway.loadtest.report.style import furthest
from gateway.loadtest.report.svg import draw_svg
from gateway.loadtest.report.tables import tables
from gateway.loadtest.report.timeline import draw_timeline_with_legend
from gateway.loadtest.slo import Verdict
from gateway.loadtest.words import bound, duration

_TITLE = "How long does a revoked token live?"
_LINES = 80
_WIDE_TABLES = {"Latency", "By target", "Tokens that outlived max age"}

# Even if a name held markup that got past the escaping, it could load and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_html(analyses: Sequence[Analysis], verdicts: Sequence[Verdict] = ()) -> str:
    """Return the page for these runs, and their verdicts (none, or one for each)."""
    names = run_names(analyses)
    body = [
        f"<header><h1>{_TITLE}</h1>{lead(analyses, names)}</header><main>",
        warnings(analyses, names),
        key_figures(analyses),
        _findings(analyses, names, verdicts),
        _window_charts(analyses, names),
        _latency_chart(analyses, names),
        _tables(analyses, names),
        "<section><h2>Words</h2>",
        '<dl class="words">',
        *(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in GLOSSARY.items()),
        "</dl></section></main>",
        _footer(analyses, names),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(_title(names))}</title><style>{_style()}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _title(names: Sequence[str]) -> str:
    return f"Revocation load test: {', '.join(names)}"


def _style() -> str:
    sheet = files("gateway.loadtest.report").joinpath("page.css").read_text(encoding="utf-8")
    light = {name: colour for colour, name in palette.VARIABLES.items()}
    return (
        f":root{{{_variables(light)}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(palette.DARK)}}}}}"
        f"\n{sheet}"
    )


def _variables(colours: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


def _findings(
    analyses: Sequence[Analysis], names: Sequence[str], verdicts: Sequence[Verdict]
) -> str:
    parts = ["<section><h2>Findings</h2>"]
    for index, (analysis, name) in enumerate(zip(analyses, names, strict=True)):
        if len(analyses) > 1:
            parts.append(f"<h3>{escape(name)}</h3>")
        parts.append(finding_list(findings(analysis, verdicts[index] if verdicts else None)))
        parts += [f'<p class="note">{escape(note)}</p>' for note in analysis.validity.notes]
    return "".join([*parts, "</section>"])


def _window_charts(analyses: Sequence[Analysis], names: Sequence[str]) -> str:
    measured = [(a, n) for a, n in zip(analyses, names, strict=True) if a.windows]
    if not measured:
        return ""
    shown, called = [a for a, _ in measured], [n for _, n in measured]
    parts = ["<section><h2>Revocation window</h2>"]
    parts.append(
        chart(
            draw_svg(
                partial(draw_distribution, analyses=shown, names=called),
                name="distribution",
                title="Share of revoked tokens refused by each time",
                description=" ".join(f"{n}: {headline(a)}" for a, n in measured),
                size=(11.4, 5.0),
            ),
            "Share of revoked tokens refused by each time after the revocation was sent. "
            "The line takes the end of the first refusal that lasted; the shade reaches from "
            "there to the last acceptance, and on to the 95 % confidence limits.",
            distribution_table(shown, called),
        )
    )
    for index, (analysis, name) in enumerate(measured):
        where = f", {name}" if len(measured) > 1 else ""
        parts.append(f'<div class="pair">{_timeline(analysis, index, where)}')
        parts.append(f"{_histogram(analysis, index, where)}</div>")
    return "".join([*parts, "</section>"])


def _timeline(analysis: Analysis, index: int, where: str) -> str:
    total = len(analysis.windows)
    lines = min(_LINES, total)
    which = (
        "A line for each token"
        if len(analysis.header.targets) == 1
        else ("A line for each token and target")
    )
    sampled = ""
    if lines < total:
        sampled = (
            f" {lines} of {total:,} are shown: {lines // TELLING} are the longest, never seen to "
            "end or accepted again; the others are spread evenly over the run."
        )
    return chart(
        draw_svg(
            partial(draw_timeline_with_legend, analysis=analysis, lines=_LINES),
            name=f"timeline{index}",
            title=f"Timeline of tokens{where}",
            description=f"{which}: accepted, revoked, refused. {headline(analysis)}",
            size=(5.7, 5.9),
        ),
        f"{which}{where}, aligned at its revocation, in order of revocation.{sampled}",
        timeline_table(analysis, _LINES),
    )


def _histogram(analysis: Analysis, index: int, where: str) -> str:
    end = furthest([analysis])
    return chart(
        draw_svg(
            partial(
                draw_histogram,
                analysis=analysis,
                end=end,
                colour=palette.RUNS[index % len(palette.RUNS)],
            ),
            name=f"histogram{index}",
            title=f"How many windows were how long{where}",
            description=headline(analysis),
            size=(5.7, 3.7),
        ),
        f"How many windows were how long{where}, by the middle between the last acceptance and "
        "the refusal.",
        histogram_table(analysis, end),
    )


def _latency_chart(analyses: Sequence[Analysis], names: Sequence[str]) -> str:
    measured = [(a, n) for a, n in zip(analyses, names, strict=True) if a.background_over_time]
    if not measured:
        return ""
    shown, called = [a for a, _ in measured], [n for _, n in measured]
    description = " ".join(
        f"{n}: p99 {duration(a.latencies['background'].planned.p99)} over the whole run."
        for a, n in measured
    )
    svg = draw_svg(
        partial(draw_latency, analyses=shown, names=called),
        name="latency",
        title="Latency of background requests over the run",
        description=description,
        size=(11.4, 3.6),
    )
    caption = (
        "Latency of accepted requests with tokens that are never revoked, from the instant each "
        "was planned for."
    )
    content = chart(svg, caption, latency_table(shown, called))
    return f"<section><h2>Background latency</h2>{content}</section>"


def _tables(analyses: Sequence[Analysis], names: Sequence[str]) -> str:
    content = "".join(
        table(found, wide=found.title.partition(":")[0] in _WIDE_TABLES)
        for found in tables(analyses, names)
    )
    return f'<section><h2>All figures</h2><div class="tables">{content}</div></section>'


def _footer(analyses: Sequence[Analysis], names: Sequence[str]) -> str:
    lines = "".join(
        f"<p>{escape(name)}: {escape(analysis.header.tool)}, Python "
        f"{escape(analysis.header.python)}, seed {escape(str(analysis.header.seed))}, probe "
        f"interval {escape(bound(analysis.header.probe_interval_seconds))}, watch "
        f"{escape(bound(analysis.header.watch_seconds))}.</p>"
        for analysis, name in zip(analyses, names, strict=True)
    )
    return f"<footer>{lines}</footer>"
