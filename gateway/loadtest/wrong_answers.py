"""Answers that a gateway should not have given: stale accepts and false refusals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gateway.loadtest.outcomes import Columns, Floats, Outcome
from gateway.loadtest.windows import Revocation


@dataclass(frozen=True, slots=True)
class StaleAccepts:
    """Probes that were accepted after their token's revocation, of all probes after it.

    ``accepted`` were sent after the revocation was answered, so they're surely stale;
    ``accepted_since_sent`` after it was sent, so that it may not have been carried out yet.
    """

    accepted: int
    probes: int
    accepted_since_sent: int
    probes_since_sent: int

    @property
    def rate(self) -> float:
        """Return the share of the probes after the answer that were accepted."""
        return self.accepted / self.probes if self.probes else 0.0

    @property
    def rate_since_sent(self) -> float:
        """Return the share of the probes after the sending that were accepted."""
        return self.accepted_since_sent / self.probes_since_sent if self.probes_since_sent else 0.0


@dataclass(frozen=True, slots=True)
class FalseRefusals:
    """Refusals of tokens that weren't revoked.

    ``before_revocation``: of tokens to be revoked, ended before the revocation was sent.
    ``background``: of tokens that are never revoked.
    """

    before_revocation: int
    background: int

    @property
    def total(self) -> int:
        """Return how many there were."""
        return self.before_revocation + self.background


def stale_accepts(probes: Columns, revoked: Mapping[int, Revocation]) -> StaleAccepts:
    """Count what was accepted of tokens whose revocation was confirmed."""
    confirmed = {token: found for token, found in revoked.items() if found.answered is not None}
    sent = _by_token(probes, {token: found.sent for token, found in confirmed.items()})
    answered = _by_token(
        probes, {token: found.answered or 0.0 for token, found in confirmed.items()}
    )
    accepted = probes.outcome == Outcome.ACCEPTED
    # An instant before which nothing is known compares as False: NaN.
    return StaleAccepts(
        accepted=int(np.count_nonzero(accepted & (probes.sent > answered))),
        probes=int(np.count_nonzero(probes.sent > answered)),
        accepted_since_sent=int(np.count_nonzero(accepted & (probes.sent > sent))),
        probes_since_sent=int(np.count_nonzero(probes.sent > sent)),
    )


def false_refusals(
    probes: Columns, background: Columns, revoked: Mapping[int, Revocation]
) -> FalseRefusals:
    """Count refusals of tokens that weren't revoked yet, or never were.

    After a revocation that failed nothing is counted: it may have been carried out.
    """
    sent = _by_token(probes, {token: found.sent for token, found in revoked.items()})
    refused = probes.outcome == Outcome.REFUSED
    good = np.isnan(sent) | (probes.finished < sent)
    return FalseRefusals(
        before_revocation=int(np.count_nonzero(refused & good)),
        background=int(np.count_nonzero(background.outcome == Outcome.REFUSED)),
    )


def _by_token(requests: Columns, instants: Mapping[int, float]) -> Floats:
    """Return each request's token's instant; NaN where there is none."""
    table = np.full(int(requests.token.max(initial=0)) + 1, np.nan)
    for token, instant in instants.items():
        if token < len(table):
            table[token] = instant
    found: Floats = table[requests.token]
    return found
