"""One picture of one or several runs: the headline, the distribution, the timeline."""

from collections.abc import Sequence
from io import BytesIO
from textwrap import fill, shorten

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gateway.loadtest.figures import Analysis, percentiles
from gateway.loadtest.report import palette
from gateway.loadtest.report.charts import draw_distribution
from gateway.loadtest.report.findings import Tone, findings, headline
from gateway.loadtest.report.names import run_names
from gateway.loadtest.report.style import furthest, styled
from gateway.loadtest.report.timeline import draw_timeline, timeline_legend
from gateway.loadtest.slo import Verdict
from gateway.loadtest.words import bound, count_of, duration, percentile

_SIZE = (13.0, 8.2)  # inches; at 150 dots an inch, 1950 by 1230
_DPI = 150
_LEFT = 0.065
_LINES = 60
_TIMELINES = 3
_TOLD = 4
_WIDE = 46
_SIGNS = {Tone.GOOD: "✓", Tone.BAD: "✗", Tone.UNSURE: "?", Tone.PLAIN: "•"}
_TITLE = "How long does a revoked token live?"


def render_png(analyses: Sequence[Analysis], verdicts: Sequence[Verdict] = ()) -> bytes:
    """Return the picture as PNG; of many runs, the first three have a timeline."""
    names = run_names(analyses)
    with styled():
        figure = Figure(figsize=_SIZE, dpi=_DPI)
        FigureCanvasAgg(figure)
        figure.text(_LEFT, 0.95, _TITLE, fontsize=17, fontweight="bold", va="center")
        if len(analyses) == 1:
            _head(figure, analyses[0], verdicts[0] if verdicts else None)
        else:
            _heads(figure, analyses, names)
        if any(analysis.windows for analysis in analyses):
            _distribution(figure, analyses, names)
            _timelines(figure, analyses, names)
        else:
            figure.text(_LEFT, 0.5, headline(analyses[0]), fontsize=14)
        stream = BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _head(figure: Figure, analysis: Analysis, verdict: Verdict | None) -> None:
    figure.text(_LEFT, 0.022, _about(analysis), fontsize=9, color=palette.MUTED, va="center")
    found = percentiles(analysis.since_sent.upper)
    texts = [percentile(found[name], longest=name == "max") for name in ("p50", "p99", "max")]
    size = 24 if max(map(len, texts)) < 7 else 20
    labels = ("half refused by", "99 % refused by", "longest window")
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        x = _LEFT + 0.135 * index
        ink = palette.INK if analysis.validity.valid else palette.MUTED
        figure.text(x, 0.873, text, fontsize=size, fontweight="bold", va="center", color=ink)
        figure.text(x, 0.824, label, fontsize=10, color=palette.MUTED, va="center")
    told = findings(analysis, verdict)
    if analysis.validity.valid:
        told = told[1:]
    for index, finding in enumerate(told[:_TOLD]):
        x, y = 0.50 + 0.245 * (index % 2), 0.95 - 0.085 * (index // 2)
        figure.text(x, y, _SIGNS[finding.tone], fontsize=11, va="center", fontweight="bold")
        title = f"{finding.subject}: {finding.verdict}"
        figure.text(x + 0.014, y, title, fontsize=10.5, va="center", fontweight="bold")
        text = shorten(finding.sentence, 2 * _WIDE, placeholder=" …")
        figure.text(
            x + 0.014, y - 0.018, fill(text, _WIDE), fontsize=8.6, va="top", linespacing=1.3
        )


def _about(analysis: Analysis) -> str:
    counts = analysis.counts
    targets = analysis.header.targets
    where = targets[0] if len(targets) == 1 else f"{targets[0]} and {len(targets) - 1} more"
    parts = (
        where,
        f"{count_of(counts.tokens_revoked, 'token')} revoked",
        f"{counts.probes + counts.background:,} requests in {duration(analysis.seconds)}",
        f"probe resolution {duration(analysis.resolution.finest)}",
        analysis.header.started_at[:10],
    )
    return "   ·   ".join(parts)


def _heads(figure: Figure, analyses: Sequence[Analysis], names: Sequence[str]) -> None:
    columns = (0.0, 0.26, 0.36, 0.46, 0.57, 0.70, 0.81)
    rows = [("", "p50", "p99", "longest", "max age", "resolution", "the run")]
    for analysis, name in zip(analyses, names, strict=True):
        found = percentiles(analysis.since_sent.upper)
        promise = "-"
        if analysis.theory is not None:
            promise = f"{bound(analysis.theory.max_age)}: {analysis.theory.promise.value}"
        rows.append(
            (
                shorten(name, 36, placeholder="…"),
                percentile(found["p50"]),
                percentile(found["p99"]),
                percentile(found["max"], longest=True),
                promise,
                duration(analysis.resolution.finest),
                "valid" if analysis.validity.valid else "NOT VALID",
            )
        )
    step = min(0.034, 0.13 / len(rows))
    for index, row in enumerate(rows):
        for x, text in zip(columns, row, strict=True):
            figure.text(
                _LEFT + x,
                0.91 - step * index,
                text,
                fontsize=min(11, 11 * step / 0.026),
                va="center",
                color=palette.INK if index else palette.MUTED,
                fontweight="bold" if index and not x else "normal",
            )


def _distribution(figure: Figure, analyses: Sequence[Analysis], names: Sequence[str]) -> None:
    axes = figure.add_axes((_LEFT, 0.115, 0.405, 0.595))
    axes.set_title("Share of revoked tokens refused", pad=18)
    draw_distribution(axes, analyses, names)


def _timelines(figure: Figure, analyses: Sequence[Analysis], names: Sequence[str]) -> None:
    shown = [(a, n) for a, n in zip(analyses, names, strict=True) if a.windows][:_TIMELINES]
    end = furthest([analysis for analysis, _ in shown])
    bottom, top, gap = 0.155, 0.71, 0.075
    height = (top - bottom + gap) / max(1, len(shown)) - gap
    for index, (analysis, name) in enumerate(shown):
        low = top - height - index * (height + gap)
        axes = figure.add_axes((0.535, low, 0.445, height))
        lines = draw_timeline(axes, analysis, lines=_LINES // len(shown), end=end)
        total = len(analysis.windows)
        part = f"{lines} of {total:,} shown" if lines < total else f"{total:,}"
        what = "token" if len(analysis.header.targets) == 1 else "token and target"
        title = f"each {what}, one line ({part})"
        title = f"{name}: {title}" if len(analyses) > 1 else f"E{title[1:]}"
        axes.set_title(title, pad=18)
        if index < len(shown) - 1:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
        else:
            windows = [window for analysis, _ in shown for window in analysis.windows]
            legend = timeline_legend(axes, windows)
            legend.set_bbox_to_anchor((0.535, 0.085), transform=figure.transFigure)
