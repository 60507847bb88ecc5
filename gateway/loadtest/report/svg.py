"""A chart as SVG to stand inside a page: its colours are the page's, its text is text."""

import re
from collections.abc import Callable
from html import escape
from io import StringIO

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from gateway.loadtest.report import palette
from gateway.loadtest.report.style import styled

Draw = Callable[[Axes], object]

_SIZE = re.compile(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', re.DOTALL)
_COLOUR = re.compile(r"(?<=: )#[0-9a-f]{6}\b")
_SHEET = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>|<metadata>.*?</metadata>", re.DOTALL)
_PATH = re.compile(r'(?<= d=")[^"]+')
_DECIMALS = re.compile(r"(\.[0-9]{2})[0-9]+")
_ID = re.compile(r'(?<=\bid=")|(?<=href="#)|(?<=url\(#)')


def draw_svg(
    draw: Draw, *, name: str, title: str, description: str, size: tuple[float, float] = (7.4, 4.0)
) -> str:
    """Return what ``draw`` draws as an ``svg`` element; ``size`` is in inches.

    ``name`` sets its ids apart from those of other charts on the page. The title and the
    description are what a screen reader says of it.
    """
    with styled():
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        stream = StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=metadata, transparent=True)
    drawn = stream.getvalue()
    match = _SIZE.search(drawn)
    assert match is not None
    body = drawn[match.end() :]
    body = _SHEET.sub("", body)  # what the page's own style sheet says
    body = _ID.sub(f"{name}-", body).replace("xlink:href", "href")
    body = _COLOUR.sub(_variable, body)
    body = _PATH.sub(lambda path: _DECIMALS.sub(r"\1", path[0]).replace(" \n", " "), body)
    body = re.sub(r"\n\s*", "\n", body)
    return (
        f'<svg viewBox="{match[1]}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{body}'
    )


def _variable(match: re.Match[str]) -> str:
    name = palette.VARIABLES.get(match[0])
    return match[0] if name is None else f"var(--{name})"
