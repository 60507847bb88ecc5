"""Analysed runs that the tests of reports share; each is made once."""

from functools import cache

from gateway.loadtest.analysis import analyse
from gateway.loadtest.figures import Analysis
from gateway.loadtest.record import Record
from loadtest.synthetic import NEVER, Scenario, always, mixed, uniform

SCENARIOS = {
    "uniform": Scenario(name="uniform"),
    "instant": Scenario(name="instant", tokens=60, window=always(0.0)),
    "never": Scenario(name="never", tokens=30, window=always(NEVER)),
    "some never": Scenario(
        name="some never", tokens=60, window=mixed(0.1, always(NEVER), uniform(3.0))
    ),
    "over": Scenario(name="over", tokens=60, window=uniform(4.0)),
    "unclear": Scenario(name="unclear", tokens=60, interrupted_at=4.0),
    "flapping": Scenario(name="flapping", tokens=60, workers=2),
    "three targets": Scenario(name="three targets", tokens=30, targets=3),
    "lost": Scenario(name="lost", tokens=60, lost=0.1),
    "refusing": Scenario(name="refusing", tokens=60, false_refusals=0.2),
    "no promise": Scenario(name="no promise", tokens=60, max_age=None),
    "long promise": Scenario(name="long promise", tokens=60, window=always(0.0), max_age=900.0),
    "no background": Scenario(name="no background", tokens=20, background=0),
    "one token": Scenario(name="one token", tokens=1),
    "thousand": Scenario(
        name="thousand",
        tokens=1000,
        window=mixed(0.01, always(NEVER), uniform(3.0)),
        background=9000,
    ),
    "hostile": Scenario(name='_<b>"x"&$y$</b>', tokens=12),
}
EMPTY = "empty"


@cache
def analysed(name: str) -> Analysis:
    """Return the analysis of a scenario, by name."""
    if name == EMPTY:
        return analyse(Record(EMPTY, Scenario().header()))
    return analyse(SCENARIOS[name].record())


ALL = [*SCENARIOS, EMPTY]
