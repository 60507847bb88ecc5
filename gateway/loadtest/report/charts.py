"""The charts of distributions and of latency, drawn by matplotlib onto axes.

The page and the picture show the same ones. All is drawn within ``style.styled()``.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gateway.loadtest.figures import Analysis
from gateway.loadtest.outcomes import Floats, Integers
from gateway.loadtest.report import palette
from gateway.loadtest.report.style import draw_promises, furthest, legible, unit_of
from gateway.loadtest.survival import Curve
from gateway.loadtest.words import bound

_STEPS = 400  # of a curve: more than a screen shows, fewer than a file should have


def draw_distribution(axes: Axes, analyses: Sequence[Analysis], names: Sequence[str]) -> None:
    """Draw the share of windows that had ended by each time, with bands and the theory."""
    end = furthest(analyses)
    factor, unit = unit_of(end)
    many = len(analyses) > 1
    for index, (analysis, name) in enumerate(zip(analyses, names, strict=True)):
        if not analysis.since_sent.upper.windows:
            continue
        colour = palette.RUNS[index % len(palette.RUNS)]
        upper, lower = analysis.since_sent.upper, analysis.since_sent.lower
        grid = _grid([upper, lower], end)
        share, low, _ = upper.evaluate(grid)
        ended_at_most, _, high = lower.evaluate(grid)
        x = grid * factor
        axes.fill_between(
            x,
            low,
            high,
            step="post",
            color=colour,
            alpha=0.10 if many else 0.14,
            linewidth=0,
            label=None if many else "95 % confidence, with probe resolution",
        )
        if not many:
            axes.fill_between(
                x,
                share,
                ended_at_most,
                step="post",
                color=colour,
                alpha=0.26,
                linewidth=0,
                label="last accepted to first refused",
            )
        axes.step(
            x,
            share,
            where="post",
            color=colour,
            linewidth=2,
            linestyle=palette.DASHES[index % len(palette.DASHES)] if many else "-",
            label=legible(name) if many else "refused by then (measured)",
        )
    draw_promises(axes, analyses, end, factor, theory=True)
    axes.set_xlim(0, end * factor)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlabel(f"after the revocation was sent ({unit})")
    axes.set_ylabel("revoked tokens refused")
    axes.legend(loc="lower right")


def _grid(curves: Sequence[Curve], end: float) -> Floats:
    times = np.unique(np.concatenate([[0.0], *(curve.seconds for curve in curves), [end]]))
    if len(times) > _STEPS:
        times = times[np.unique(np.linspace(0, len(times) - 1, _STEPS).astype(int))]
    # Beyond the longest window nothing is known of those that weren't seen to end.
    longest = max(curve.longest for curve in curves)
    censored = any(curve.censored for curve in curves)
    grid: Floats = times[times <= longest] if censored else times
    return grid


def histogram(analysis: Analysis, end: float) -> tuple[Floats, Integers]:
    """Count the windows by their middles: the edges of the bins in seconds, and the counts.

    The bins have a round width: up to thirty, fewer for few windows, and none much finer than
    the probes see.
    """
    bins = min(30, max(8, len(analysis.windows) // 6))
    least = max(end / bins, analysis.resolution.typical / 2)
    power = 10.0 ** np.floor(np.log10(least))
    width = next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= least)
    edges = np.arange(0, end + width, width)
    middles = [i for w in analysis.windows if (i := w.since_sent.middle) is not None]
    return edges, np.histogram(middles, edges)[0]


def draw_histogram(axes: Axes, analysis: Analysis, *, end: float, colour: str) -> None:
    """Draw how many windows were how long, by their middles; those never seen to end apart."""
    factor, unit = unit_of(end)
    edges, counts = histogram(analysis, end)
    width = float(edges[1] - edges[0])
    axes.bar(
        edges[:-1] * factor,
        counts,
        width=width * factor,
        align="edge",
        color=colour,
        edgecolor=palette.SURFACE,
        linewidth=0.8,
    )
    right = end
    if censored := analysis.counts.censored:
        right = end + 3 * width
        axes.bar(
            (end + 1.5 * width) * factor,
            censored,
            width=1.5 * width * factor,
            facecolor=palette.SURFACE,
            edgecolor=palette.STALE,
            hatch="////",
            linewidth=1,
        )
        axes.annotate(
            f"never seen\nto end: {censored:,}",
            ((end + 1.5 * width) * factor, censored),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=palette.INK,
        )
    theory = analysis.theory
    if theory is not None and 0 < theory.max_age <= end:
        expected = analysis.counts.windows * width / theory.max_age
        axes.plot(
            [0, theory.max_age * factor],
            [expected, expected],
            color=palette.THEORY,
            linewidth=1.2,
            linestyle=(0, (4, 3)),
            label=f"theory: uniform up to {bound(theory.max_age)}",
        )
        axes.legend(loc="upper right", bbox_to_anchor=(1, 1.14))
    axes.margins(y=0.12)
    axes.set_xlim(0, right * factor)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"window, from the sending of the revocation ({unit})")
    axes.set_ylabel("windows")


def draw_latency(axes: Axes, analyses: Sequence[Analysis], names: Sequence[str]) -> None:
    """Draw the latency of accepted background requests over the run: p99 and p50."""
    many = len(analyses) > 1
    highest = max(
        (piece.p99 for analysis in analyses for piece in analysis.background_over_time),
        default=0.001,
    )
    factor, unit = unit_of(highest)
    for index, (analysis, name) in enumerate(zip(analyses, names, strict=True)):
        pieces = analysis.background_over_time
        colour = palette.RUNS[index % len(palette.RUNS)]
        x = [piece.start + piece.seconds / 2 for piece in pieces]
        for label, dash, width, values in (
            ("p99", palette.DASHES[1], 1.6, [piece.p99 * factor for piece in pieces]),
            ("p50", "-", 1.8, [piece.p50 * factor for piece in pieces]),
        ):
            axes.plot(
                x,
                values,
                color=colour,
                linestyle=dash,
                linewidth=width,
                marker="o" if len(x) == 1 else None,
                label=f"{legible(name)}, {label}" if many else label,
            )
    axes.set_ylim(0, highest * factor * 1.12)
    axes.set_xlim(left=0)
    axes.set_xlabel("since the start of the run (s)")
    axes.set_ylabel(f"latency from planned ({unit})")
    axes.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.14))
