"""The first row of a record."""

from datetime import UTC, datetime

from gateway import __version__
from gateway.loadtest.header import header_of
from gateway.loadtest.plan import Plan
from loadtest.told import SECRET, options


def test_the_header() -> None:
    """It has the versions, the clock, the arguments in effect and the load that was planned."""
    told = options(max_age=3.0, targets=("http://h/a?key=1", "http://h/b"))
    header = header_of(told, datetime(2026, 1, 2, tzinfo=UTC), Plan(told).load(), loop="uvloop")
    assert header.tool == f"revocation-gateway {__version__}"
    assert header.started_at == "2026-01-02T00:00:00.000000Z"
    assert header.targets == ("http://h/a?…", "http://h/b")
    assert (header.seed, header.max_age_seconds, header.watch_seconds) == (7, 3.0, 10.0)
    assert header.probe_interval_seconds == told.probe_interval
    assert header.arguments["loop"] == "uvloop"
    assert set(header.arguments["planned"]) == {"probe_rps", "background_rps", "seconds"}
    assert SECRET not in repr(header)
