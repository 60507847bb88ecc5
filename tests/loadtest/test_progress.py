"""What is shown while a run goes on."""

import io
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from gateway.loadtest.progress import (
    LiveProgress,
    NoProgress,
    PlainProgress,
    Snapshot,
    facts_of,
    progress_for,
    warning_of,
)
from gateway.loadtest.tally import Tally


def snapshot(at: float = 12.0, **changes: Any) -> Snapshot:
    tally = changes.pop("tally", None) or Tally(
        expected=200,
        issued=60,
        revoked=40,
        refused=30,
        requests=5000,
        longest=2.9,
        closed=[1.0, 1.5, 2.0],
    )
    given: dict[str, Any] = {
        "seconds": 40.0,
        "rps": 612.3,
        "lag": 0.0009,
        "lag_of_all": 0.0011,
        "late": False,
        "waiting": 0,
    }
    return Snapshot(at=at, tally=tally, **{**given, **changes})


def test_what_matters_now() -> None:
    """The facts are how far the run is, what tokens live, what was seen, and how late it is."""
    assert facts_of(snapshot()) == [
        ("time", "12 s of at most 40 s"),
        ("tokens issued", "60"),
        ("revoked", "40 of 200"),
        ("refused", "30"),
        ("still accepted", "10"),
        ("exposure so far", "longest 2.90 s, median 1.50 s"),
        ("requests", "612/s, 5,000 in all"),
        ("lag p99", "900 µs now, 1.10 ms in all"),
    ]


def test_what_went_wrong_is_added() -> None:
    """Failures, flapping and errors have lines once there are any."""
    tally = Tally(
        expected=9,
        not_issued=1,
        not_revoked=2,
        never_warm=3,
        flaps=4,
        errors=Counter({"timeout": 5, "status 503": 6}),
    )
    facts = dict(facts_of(snapshot(tally=tally)))
    assert facts["exposure so far"] == "longest none, median none"
    assert facts["failed"] == "1 to be issued, 2 to be revoked"
    assert facts["never accepted for long"] == "3, so not revoked"
    assert facts["accepted again"] == "4 times"
    assert facts["errors"] == "6 status 503, 5 timeout"


def test_refusals_before_the_answer_to_the_revocation() -> None:
    """A token may be refused before its revocation is answered: never less than none accepted."""
    facts = dict(facts_of(snapshot(tally=Tally(expected=9, revoked=1, refused=2))))
    assert facts["still accepted"] == "0"


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, None),
        ({"waiting": 5}, None),
        (
            {"late": True, "lag": 0.2},
            "the generator can't keep up: requests are sent 200 ms late (p99)",
        ),
        (
            {"late": True, "lag": 0.2, "waiting": 1234},
            (
                "the generator can't keep up: requests are sent 200 ms late (p99); "
                "1,234 wait for a connection (--connections)"
            ),
        ),
        (
            {"tally": Tally(expected=1, unsent=7)},
            "the generator can't keep up: 7 were never sent",
        ),
    ],
)
def test_a_generator_that_can_t_keep_up_says_so(
    changes: dict[str, Any], warning: str | None
) -> None:
    """The lag is said, with what causes it, and so is what was never sent."""
    assert warning == warning_of(snapshot(**changes))


def test_plain_lines() -> None:
    """Without a terminal there is a line every few seconds, and one at the end."""
    stream = io.StringIO()
    with PlainProgress(stream) as progress:
        for at in range(12):
            progress.show(snapshot(float(at), late=at == 5, ending=at == 11))
    lines = stream.getvalue().splitlines()
    assert [line.partition(" s of")[0] for line in lines] == [
        "time 0",
        "time 5",
        "time 10",
        "time 11",
    ]
    assert ["WARNING: the generator can't keep up" in line for line in lines] == [
        False,
        True,
        False,
        False,
    ]


def test_a_live_table() -> None:
    """On a terminal the table has the facts and the warning, and how to end."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=90, color_system=None)
    with LiveProgress(console) as progress:
        progress.show(snapshot(late=True))
        progress.show(snapshot(ending=True))
    shown = stream.getvalue()
    for text in ("tokens issued  60", "can't keep up", "Ctrl-C ends early", "the last answers"):
        assert text in shown


@pytest.mark.parametrize(
    ("terminal", "quiet", "kind"),
    [
        (True, False, LiveProgress),
        (False, False, PlainProgress),
        (True, True, NoProgress),
        (False, True, NoProgress),
    ],
)
def test_which_display(
    terminal: bool, quiet: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal gets the table, a pipe lines, and whoever wants it quiet nothing."""
    monkeypatch.setenv("TERM", "xterm")

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    stream = Stream()
    with progress_for(stream, quiet=quiet) as progress:
        assert type(progress) is kind
        progress.show(snapshot())
    assert bool(stream.getvalue()) is not quiet
