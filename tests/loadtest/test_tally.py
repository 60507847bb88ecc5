"""What a run has come to so far."""

from gateway.loadtest.tally import Tally


def test_windows_so_far() -> None:
    """The median is of windows that closed, the longest of open ones too."""
    tally = Tally(expected=3)
    assert (tally.median, tally.longest) == (None, 0.0)
    tally.longest = 0.5
    for seconds in (3.0, 1.0, 2.0):
        tally.window_closed(seconds)
    assert (tally.median, tally.longest, tally.closed) == (2.0, 3.0, [1.0, 2.0, 3.0])


def test_still_accepted() -> None:
    """Revoked and not yet refused everywhere."""
    assert Tally(expected=9, revoked=5, refused=2).still_accepted == 3
