"""Which windows a timeline shows."""

from gateway.loadtest.report.sample import pick
from loadtest.reported import analysed


def test_all_are_shown_when_they_fit() -> None:
    """As many lines as windows, in order of revocation."""
    windows = analysed("uniform").windows
    shown = pick(windows, len(windows))
    assert shown == sorted(windows, key=lambda window: window.revoke_sent)


def test_what_is_rare_is_shown() -> None:
    """Of many windows, those never seen to end are shown first of all."""
    windows = analysed("thousand").windows
    shown = pick(windows, 160)
    open_ended = [window for window in windows if window.refused is None]
    assert (len(shown), len(set(shown))) == (160, 160)
    assert 0 < len(open_ended) <= 20
    assert set(open_ended) <= set(shown)


def test_the_others_are_spread_over_the_run() -> None:
    """A quarter of the lines come from each quarter of the run, about."""
    windows = analysed("thousand").windows
    ordered = sorted(windows, key=lambda window: window.revoke_sent)
    shown = set(pick(windows, 160))
    quarters = [sum(w in shown for w in ordered[at : at + 250]) for at in range(0, 1000, 250)]
    assert min(quarters) >= 33
    assert max(quarters) <= 55


def test_lines_are_in_order_of_revocation() -> None:
    """Whatever is picked, the first revoked comes first."""
    shown = pick(analysed("thousand").windows, 40)
    assert [w.revoke_sent for w in shown] == sorted(w.revoke_sent for w in shown)
