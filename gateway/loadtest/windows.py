"""The revocation window of each token at each target: an interval, not a point.

A probe's decision fell somewhere between its sending and the end of its answer. So the window
surely lasted until the *sending* of the last accepted probe, and surely had ended by the *end*
of the first refusal that lasted: one after whose end no probe was sent that was accepted. A pair
of token and target that was never refused so is censored (its window was longer than what was
seen of it), which is counted and never dropped.

Behind one address may be several workers that don't share what they know, and a probe meets one
of them. A window then is what the probes met: the slowest worker may accept a little longer.

A window is counted from the sending of the revocation and from its answer. The first can only
be too long, the second only too short: the authorization server acted somewhere between them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gateway.loadtest.outcomes import Columns, Floats, Outcome, succeeded
from gateway.loadtest.record import Revoke


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds between which a window ended; ``upper`` is None when it was never seen to end."""

    lower: float
    upper: float | None

    @property
    def middle(self) -> float | None:
        """The middle of the interval; None when it has no upper end."""
        return None if self.upper is None else (self.lower + self.upper) / 2


@dataclass(frozen=True, slots=True)
class Revocation:
    """When a token's revocation was sent and answered; None when it failed or wasn't answered."""

    sent: float
    answered: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen of one token at one target; instants in seconds since the start of the run.

    ``first_accepted`` and ``last_accepted`` are sendings, ``refused`` is the end of the first
    refusal that lasted. ``first_refused`` is the end of the first refusal after the revocation
    was sent; ``flaps`` counts how often the token was accepted again after one.
    """

    token: int
    target: int
    revoke_sent: float
    revoke_answered: float
    first_accepted: float
    last_accepted: float
    refused: float | None
    first_refused: float | None
    flaps: int

    @property
    def since_sent(self) -> Interval:
        """The window, counted from the sending of the revocation."""
        return self._since(self.revoke_sent)

    @property
    def since_answered(self) -> Interval:
        """The window, counted from the answer to the revocation."""
        return self._since(self.revoke_answered)

    @property
    def flapped_seconds(self) -> float:
        """How long after its first refusal the token was last accepted; 0.0 for never."""
        if self.first_refused is None:
            return 0.0
        return max(0.0, self.last_accepted - self.first_refused)

    def _since(self, origin: float) -> Interval:
        lower = max(0.0, self.last_accepted - origin)
        return Interval(lower, None if self.refused is None else max(0.0, self.refused - origin))


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows of a run, and the pairs of token and target that have none.

    ``never_accepted``: no probe was ever accepted. ``refused_early``: refused for good before
    the revocation was sent. ``gaps_seconds``: from the sending of each probe that was answered
    to the end of the next one, from the revocation to the refusal: what could hide between them.
    """

    found: Sequence[Window]
    never_accepted: int
    refused_early: int
    gaps_seconds: Floats


def revocations(rows: Sequence[Revoke]) -> dict[int, Revocation]:
    """Return each token's revocation: its first sending, the first answer that confirms it."""
    found: dict[int, Revocation] = {}
    for row in rows:
        before = found.get(row.token, Revocation(row.sent, None))
        answers = [before.answered, row.finished if succeeded(row) else None]
        found[row.token] = Revocation(
            sent=min(before.sent, row.sent),
            answered=min((answer for answer in answers if answer is not None), default=None),
        )
    return found


def find_windows(probes: Columns, revoked: Mapping[int, Revocation]) -> Windows:
    """Find the window of each token whose revocation was confirmed, at each target."""
    decided = probes.where(probes.outcome != Outcome.ERROR)
    decided = decided.where(np.lexsort((decided.sent, decided.target, decided.token)))
    starts = np.flatnonzero(
        (np.diff(decided.token, prepend=-1) != 0) | (np.diff(decided.target, prepend=-1) != 0)
    )
    found: list[Window] = []
    gaps: list[Floats] = []
    seen: set[tuple[int, int]] = set()
    refused_early = 0
    for start, stop in pairwise([*starts, len(decided)]):
        pair = decided.where(slice(start, stop))
        token, target = int(pair.token[0]), int(pair.target[0])
        revocation = revoked.get(token)
        if revocation is None or revocation.answered is None:
            continue
        window = _window(pair, token, target, revocation.sent, revocation.answered)
        if window is None:
            continue
        seen.add((token, target))
        if window.refused is not None and window.refused < window.revoke_sent:
            refused_early += 1
            continue
        found.append(window)
        gaps.append(_gaps(pair, window))
    confirmed = [token for token, revocation in revoked.items() if revocation.answered is not None]
    probed = _pairs(probes.where(np.isin(probes.token, confirmed)))
    return Windows(
        found=found,
        never_accepted=probed - len(seen),
        refused_early=refused_early,
        gaps_seconds=np.concatenate(gaps) if gaps else np.empty(0),
    )


def _pairs(probes: Columns) -> int:
    return len(np.unique(probes.token * (probes.target.max(initial=0) + 1) + probes.target))


def _window(
    pair: Columns, token: int, target: int, revoke_sent: float, revoke_answered: float
) -> Window | None:
    accepted = pair.sent[pair.outcome == Outcome.ACCEPTED]
    refused = np.sort(pair.finished[pair.outcome == Outcome.REFUSED])
    if not len(accepted):
        return None
    last_accepted = float(accepted[-1])
    lasting = refused[refused >= last_accepted]
    after = refused[refused >= revoke_sent]
    # Refusals that had ended when each accepted probe was sent: more than at the one before
    # it means that the token had been refused in between.
    had_ended = np.searchsorted(after, accepted, side="left")
    return Window(
        token=token,
        target=target,
        revoke_sent=revoke_sent,
        revoke_answered=revoke_answered,
        first_accepted=float(accepted[0]),
        last_accepted=last_accepted,
        refused=float(lasting[0]) if len(lasting) else None,
        first_refused=float(after[0]) if len(after) else None,
        flaps=int(np.count_nonzero(np.diff(had_ended, prepend=0))),
    )


def _gaps(pair: Columns, window: Window) -> Floats:
    last = np.inf if window.refused is None else window.last_accepted
    counts = (pair.finished[1:] >= window.revoke_sent) & (pair.sent[:-1] <= last)
    gaps: Floats = (pair.finished[1:] - pair.sent[:-1])[counts]
    return gaps
