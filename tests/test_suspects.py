"""Upstreams that say more than they are asked for, and for how long that is held against them."""

import pytest
from clocks import FakeClock

from gateway import suspects
from gateway.suspects import Suspects


def test_an_upstream_is_suspected_for_a_minute(clock: FakeClock) -> None:
    """From the last time that it said too much; others aren't."""
    suspected = Suspects(clock.monotonic)
    assert "a" not in suspected
    assert suspected.note("a")
    clock.advance(30)
    suspected.note("a", b"HTTP/1.1 200 OK\r\n")
    clock.advance(59)
    assert ("a" in suspected, "b" in suspected) == (True, False)
    clock.advance(1)
    assert "a" not in suspected


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_server_that_tires_is_no_suspect(clock: FakeClock, version: bytes) -> None:
    """It says 408 before it closes an idle connection (RFC 9110 §15.5.9)."""
    suspected = Suspects(clock.monotonic)
    assert not suspected.note("a", b"HTTP/" + version + b" 408 Request Timeout\r\n\r\n")
    assert "a" not in suspected


def test_what_is_remembered_is_bounded(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr(suspects, "_MOST", 2)
    suspected = Suspects(clock.monotonic)
    for upstream in "abc":
        suspected.note(upstream)
    assert [upstream for upstream in "abc" if upstream in suspected] == ["b", "c"]
