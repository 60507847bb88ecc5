"""The timeline of tokens: a line each, aligned at its revocation, in order of revocation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from gateway.loadtest.figures import Analysis
from gateway.loadtest.report import palette
from gateway.loadtest.report.sample import pick
from gateway.loadtest.report.style import draw_promises, furthest, unit_of
from gateway.loadtest.windows import Window


@dataclass(frozen=True, slots=True)
class _Mark:
    """A mark of a timeline: where it stands (None: nowhere), and what it looks like."""

    at: Callable[[Window], float | None]
    label: str
    marker: str
    edge: str
    face: str

    def look(self) -> dict[str, Any]:
        return {
            "marker": self.marker,
            "markeredgecolor": self.edge,
            "markerfacecolor": self.face,
            "markeredgewidth": 0.8,
            "label": self.label,
        }


_MARKS = (
    _Mark(lambda w: w.since_sent.upper, "refused for good", "o", palette.INK, palette.INK),
    _Mark(
        lambda w: w.since_sent.lower if w.refused is None else None,
        "never seen to end",
        ">",
        palette.STALE,
        palette.STALE,
    ),
    _Mark(
        lambda w: w.first_refused - w.revoke_sent if w.flaps and w.first_refused else None,
        "refused, then accepted again",
        "D",
        palette.INK,
        palette.SURFACE,
    ),
)


def draw_timeline(axes: Axes, analysis: Analysis, *, lines: int, end: float | None = None) -> int:
    """Draw a line for each token and target, in order of revocation; return how many it drew.

    A line begins where the token was accepted, is thick while it was accepted although revoked,
    thin between the last acceptance and the refusal that lasted, and ends there with a dot; an
    arrow says that no such refusal was seen.
    """
    windows = pick(analysis.windows, lines)
    end = furthest([analysis]) if end is None else end
    factor, unit = unit_of(end)
    start = -0.12 * end

    def draw(spans: Sequence[tuple[int, float, float]], colour: str, width: float) -> None:
        axes.add_collection(
            LineCollection(
                [[(a * factor, row), (b * factor, row)] for row, a, b in spans],
                colors=colour,
                linewidths=width,
            )
        )

    pitch = _height_points(axes) / max(1, len(windows))
    thick = max(0.8, min(4.0, 0.5 * pitch))
    before, stale, unsure = [], [], []
    for row, window in enumerate(windows):
        accepted_from = max(start, window.first_accepted - window.revoke_sent)
        last = max(start, window.last_accepted - window.revoke_sent)
        before.append((row, accepted_from, min(0.0, last)))
        if last > 0:
            stale.append((row, 0.0, last))
        if (upper := window.since_sent.upper) is not None:
            unsure.append((row, last, upper))
    draw(before, palette.BEFORE, thick * 0.6)
    draw(unsure, palette.BEFORE, 0.8)
    draw(stale, palette.STALE, thick)
    _mark(axes, windows, factor, size=max(2.0, min(5.0, 0.75 * pitch)))
    axes.axvline(0, color=palette.INK, linewidth=1)
    draw_promises(axes, [analysis], end, factor, theory=False)
    axes.set_xlim(start * factor, end * factor)
    axes.set_ylim(len(windows) - 0.25, -0.75)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"after the revocation was sent ({unit})")
    axes.set_ylabel("revoked first → last")
    return len(windows)


def _height_points(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return axes.get_position().height * figure.get_figheight() * 72


def draw_timeline_with_legend(axes: Axes, analysis: Analysis, *, lines: int) -> None:
    """Draw the timeline of one run, with its legend below."""
    draw_timeline(axes, analysis, lines=lines)
    timeline_legend(axes, pick(analysis.windows, lines), columns=2)


def _mark(axes: Axes, windows: Sequence[Window], factor: float, size: float) -> None:
    for mark in _MARKS:
        points = [(at, row) for row, w in enumerate(windows) if (at := mark.at(w)) is not None]
        axes.plot(
            [at * factor for at, _ in points],
            [row for _, row in points],
            linestyle="none",
            markersize=size if mark.marker == "o" else size + 1.5,
            clip_on=False,
            zorder=3,
            **mark.look(),
        )


def timeline_legend(axes: Axes, windows: Sequence[Window], *, columns: int = 3) -> Legend:
    """Draw the legend of a timeline of these windows, below it: only what is to be seen."""
    handles = [Line2D([], [], color=palette.BEFORE, linewidth=2.4, label="accepted before")]
    if any(window.since_sent.lower for window in windows):
        stale = Line2D([], [], color=palette.STALE, linewidth=4, label="accepted although revoked")
        handles.append(stale)
    handles += [
        Line2D([], [], linestyle="none", markersize=5, **mark.look())
        for mark in _MARKS
        if any(mark.at(window) is not None for window in windows)
    ]
    return axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.14),
        ncols=columns,
        handlelength=1.4,
        columnspacing=1.2,
        borderaxespad=0,
    )
