"""The picture, and the charts: that they're drawn for every run, and drawn the same again."""

from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gateway.loadtest.report.charts import draw_distribution, histogram
from gateway.loadtest.report.picture import render_png
from gateway.loadtest.report.style import furthest, styled, unit_of
from gateway.loadtest.report.timeline import draw_timeline
from gateway.loadtest.slo import judge, parse_slo
from loadtest.reported import ALL, analysed


@pytest.mark.parametrize("name", ALL)
def test_every_run_has_a_picture(name: str) -> None:
    """A picture of a size to show, with something on it, and nothing that runs over its edge."""
    pixels = np.asarray(Image.open(BytesIO(render_png([analysed(name)]))).convert("L"))
    assert pixels.shape == (1230, 1950)
    assert (pixels < 200).any()
    edges = (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:])
    assert all((edge == 255).all() for edge in edges)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_runs_are_one_picture(count: int) -> None:
    """Runs side by side."""
    names = ["uniform", "instant", "some never", "flapping", "three targets"][:count]
    pixels = np.asarray(Image.open(BytesIO(render_png([analysed(n) for n in names]))).convert("L"))
    assert all((edge == 255).all() for edge in (pixels[:, :4], pixels[:, -4:], pixels[-4:]))


def test_the_same_run_gives_the_same_picture() -> None:
    """Byte for byte, so that a picture in a document changes only when the run does."""
    run = analysed("uniform")
    verdict = judge([parse_slo("p50<=1s")], run)
    assert render_png([run], [verdict]) == render_png([run], [verdict])


def test_the_line_is_the_conservative_one() -> None:
    """The measured line goes through the upper ends' percentiles, the theory to max age."""
    run = analysed("uniform")
    with styled():
        axes = Figure().add_subplot()
        draw_distribution(axes, [run], ["uniform"])
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    measured, theory = lines["refused by then (measured)"], lines["theory: uniform up to 3 s"]
    x, y = map(np.asarray, measured.get_data())
    p50 = run.since_sent.upper.percentile(0.5)
    assert p50 is not None
    assert float(x[np.argmax(y >= 0.5)]) == pytest.approx(p50.seconds)
    assert np.asarray(theory.get_data()).tolist() == [[0, 3.0], [0, 1]]


def test_a_legend_names_every_run() -> None:
    """Also one whose name begins with an underscore, which matplotlib would leave out."""
    with styled():
        axes = Figure().add_subplot()
        draw_distribution(axes, [analysed("hostile"), analysed("uniform")], ["_a", "b"])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()][:2] == ["_a", "b"]


def test_an_axis_says_its_unit() -> None:
    """Milliseconds, seconds or minutes, and which."""
    assert [unit_of(end)[1] for end in (0.2, 3.0, 299.0, 900.0)] == ["ms", "s", "s", "min"]


def test_a_timeline_draws_as_many_lines_as_it_says() -> None:
    """One line a window, or as many as there's room for."""
    with styled():
        axes = Figure().add_subplot()
        drawn = [draw_timeline(axes, analysed(n), lines=40) for n in ("one token", "uniform")]
    assert drawn == [1, 40]


def test_the_histogram_holds_every_window_that_ended() -> None:
    """No window falls out of the bins, and those never seen to end aren't in them."""
    for name in ("uniform", "some never", "instant", "one token"):
        run = analysed(name)
        edges, counts = histogram(run, furthest([run]))
        assert counts.sum() == run.counts.windows - run.counts.censored
        assert len(edges) == len(counts) + 1 <= 36


def test_a_promise_far_beyond_what_was_seen_does_not_hide_it() -> None:
    """Evicted within milliseconds, promised 15 minutes: the axis ends with what was seen."""
    assert furthest([analysed("long promise")]) < 1
    assert furthest([analysed("uniform")]) > 3
