"""Which windows a timeline shows when there are too many for a line each."""

from collections.abc import Sequence

from gateway.loadtest.windows import Window

TELLING = 8
"""One line in so many goes to the most telling windows."""


def pick(windows: Sequence[Window], most: int) -> list[Window]:
    """Return at most so many windows, in order of revocation.

    When not all fit: one in eight are the most telling (never seen to end, accepted again, the
    longest), so that what is rare is seen; the others are spread evenly over the run.
    """
    ordered = sorted(windows, key=lambda w: (w.revoke_sent, w.token, w.target))
    if len(ordered) <= most:
        return ordered
    telling = sorted(range(len(ordered)), key=lambda at: _interest(ordered[at]))[: most // TELLING]
    rest = [at for at in range(len(ordered)) if at not in set(telling)]
    spread = [rest[at * len(rest) // (most - len(telling))] for at in range(most - len(telling))]
    return [ordered[at] for at in sorted([*telling, *spread])]


def _interest(window: Window) -> tuple[bool, bool, float]:
    return (window.refused is not None, not window.flaps, -window.since_sent.lower)
