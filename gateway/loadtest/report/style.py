"""What all charts share: matplotlib's style, the unit of an axis, the mark of a promise."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

from gateway.loadtest.figures import Analysis
from gateway.loadtest.report import palette
from gateway.loadtest.words import bound

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": palette.INK,
    "axes.edgecolor": palette.MUTED,
    "axes.labelcolor": palette.INK,
    "axes.facecolor": palette.SURFACE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": palette.SURFACE,
    "grid.color": palette.GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": True,
    "legend.edgecolor": "none",
    "legend.facecolor": palette.SURFACE,
    "legend.framealpha": 0.85,
    "legend.fontsize": 9,
    "xtick.color": palette.MUTED,
    "ytick.color": palette.MUTED,
    "xtick.labelcolor": palette.INK,
    "ytick.labelcolor": palette.INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "revocation",
    "text.parse_math": False,
}
"""What is set over matplotlib's own defaults."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this module's style, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def unit_of(seconds: float) -> tuple[float, str]:
    """Return what seconds are multiplied by to be read on an axis up to there, and the unit."""
    if seconds < 1:
        return 1e3, "ms"
    return (1.0, "s") if seconds < 300 else (1 / 60, "min")


def legible(name: str) -> str:
    """Return a run's name as a label: matplotlib leaves out those that begin with ``_``."""
    return f" {name}" if name.startswith("_") else name


def furthest(analyses: Sequence[Analysis]) -> float:
    """Return the seconds up to which windows, and what was promised of them, are drawn."""
    ends = [analysis.since_sent.upper.longest for analysis in analyses]
    promised = [a.theory.max_age for a in analyses if a.theory is not None]
    # A promise far beyond what was seen (evicted at once, 15 min promised) would hide it all.
    longest = max([*ends, 0.001])
    return max([longest, *(age for age in promised if age < 6 * longest)]) * 1.04


def draw_promises(
    axes: Axes, analyses: Sequence[Analysis], end: float, factor: float, *, theory: bool
) -> None:
    """Mark each max age that was promised, and draw what theory makes of it."""
    ages = sorted({a.theory.max_age for a in analyses if a.theory is not None})
    for age in ages:
        if age > end:
            axes.annotate(
                f"max age {bound(age)} →",
                (1.0, 1.0),
                xycoords="axes fraction",
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                fontsize=9,
                color=palette.MUTED,
            )
            continue
        if theory and age > 0:
            axes.plot(
                [0, age * factor],
                [0, 1],
                color=palette.THEORY,
                linewidth=1.2,
                linestyle=(0, (4, 3)),
                label=f"theory: uniform up to {bound(age)}",
            )
        axes.axvline(age * factor, color=palette.INK, linewidth=1, linestyle=":")
        axes.annotate(
            f"max age {bound(age)}",
            (age * factor, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right" if age > end / 4 else "left",
            fontsize=9,
            color=palette.INK,
        )
