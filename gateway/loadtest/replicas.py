"""Where answers to the same token differ: at one target, over time, and between targets."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.loadtest.survival import Curve, curve
from gateway.loadtest.windows import Interval, Window


@dataclass(frozen=True, slots=True)
class Flapping:
    """Tokens that a target accepted again after it had refused them, revoked as they were.

    Behind one address there are then replicas or workers that don't share what they know.
    ``windows`` did so, ``flaps`` times in all; ``longest`` is the most seconds from a first
    refusal to the last acceptance after it.
    """

    windows: int
    flaps: int
    longest: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How far apart the targets were in refusing a token for good, over the tokens.

    ``curve`` has the seconds from the first refusal that lasted to the last target's; tokens
    that some target refused and another never did are censored. ``surely`` counts tokens that
    one target still accepted after another had refused for good.
    """

    tokens: int
    surely: int
    curve: Curve


def flapping(windows: Sequence[Window]) -> Flapping:
    """Count tokens that were accepted again."""
    flapped = [window for window in windows if window.flaps]
    return Flapping(
        windows=len(flapped),
        flaps=sum(window.flaps for window in flapped),
        longest=max((window.flapped_seconds for window in flapped), default=0.0),
    )


def disagreement(windows: Sequence[Window]) -> Disagreement | None:
    """Compare the targets, over tokens seen at two or more; None when there are none."""
    apart: list[float] = []
    at_least: list[float] = []
    surely = tokens = 0
    for group in _by_token(windows):
        refused = [window.refused for window in group if window.refused is not None]
        if len(group) < 2:
            continue
        tokens += 1
        if not refused:
            continue
        last_accepted = max(window.last_accepted for window in group)
        surely += last_accepted > min(refused)
        if len(refused) == len(group):
            apart.append(max(refused) - min(refused))
        else:
            at_least.append(max(0.0, last_accepted - min(refused)))
    return Disagreement(tokens, surely, curve(apart, at_least)) if tokens else None


def everywhere(windows: Sequence[Window]) -> list[Interval]:
    """Return, for each token, the window until the last of its targets refused it.

    Counted from the sending of the revocation.
    """
    found = []
    for group in _by_token(windows):
        intervals = [window.since_sent for window in group]
        uppers = [interval.upper for interval in intervals if interval.upper is not None]
        found.append(
            Interval(
                lower=max(interval.lower for interval in intervals),
                upper=max(uppers) if len(uppers) == len(intervals) else None,
            )
        )
    return found


def _by_token(windows: Sequence[Window]) -> list[list[Window]]:
    groups: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        groups[window.token].append(window)
    return list(groups.values())
