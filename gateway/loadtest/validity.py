"""Whether a run may be believed: its reasons when not, and notes on what it can't show.

A run is not valid when

- the generator lagged: planned to sent, 99th percentile, more than half a probe interval, but
  never judged below 10 ms nor let pass above 100 ms;
- more than 1 % of what was due before the end was never sent;
- more than 1 % of probes and background requests were neither accepted nor refused;
- more than 5 % of token requests, or of revocations, failed;
- fewer than 10 windows were measured.

An interrupted run stays valid: what it had not seen to its end is censored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.loadtest.words import count_of, duration, percent

LAG_SECONDS = (0.010, 0.100)
LAG_INTERVALS = 0.5
UNSENT_SHARE = 0.01
ERROR_SHARE = 0.01
FAILED_SHARE = 0.05
FEWEST_WINDOWS = 10


@dataclass(frozen=True, slots=True)
class Facts:
    """What validity is judged by: counts, and seconds."""

    lag_p99: float
    probe_interval: float
    due: int
    unsent: int
    requests: int
    errors: int
    issues: int
    issues_failed: int
    revokes: int
    revokes_failed: int
    windows: int
    censored: int
    flapped: int
    targets: int
    ended: str


@dataclass(frozen=True, slots=True)
class Validity:
    """Why a run is not valid (empty when it is), and what a reader should know besides."""

    reasons: Sequence[str]
    notes: Sequence[str]

    @property
    def valid(self) -> bool:
        """Say whether there is no reason against the run."""
        return not self.reasons


def most_lag(probe_interval: float) -> float:
    """Return the seconds of lag, at its 99th percentile, that a run may have."""
    least, most = LAG_SECONDS
    return min(most, max(least, LAG_INTERVALS * probe_interval))


def judge_run(facts: Facts) -> Validity:
    """Judge a run by the rules above."""
    return Validity(reasons=list(_reasons(facts)), notes=list(_notes(facts)))


def _reasons(facts: Facts) -> list[str]:
    reasons = []
    most = most_lag(facts.probe_interval)
    if facts.lag_p99 > most:
        reasons.append(
            f"the generator lagged: {duration(facts.lag_p99)} at the 99th percentile, "
            f"over {duration(most)}"
        )
    for what, part, whole, allowed in (
        ("requests due were never sent", facts.unsent, facts.due, UNSENT_SHARE),
        ("requests were neither accepted nor refused", facts.errors, facts.requests, ERROR_SHARE),
        ("token requests failed", facts.issues_failed, facts.issues, FAILED_SHARE),
        ("revocations failed", facts.revokes_failed, facts.revokes, FAILED_SHARE),
    ):
        if part > allowed * whole:
            reasons.append(
                f"{percent(part / whole)} of {what} ({part:,} of {whole:,}), "
                f"over {percent(allowed)}"
            )
    if facts.windows < FEWEST_WINDOWS:
        reasons.append(f"too few windows: {facts.windows} measured, {FEWEST_WINDOWS} are needed")
    return reasons


def _notes(facts: Facts) -> list[str]:
    notes = []
    if facts.ended != "completed":
        notes.append(
            "The run was interrupted; windows that were still open are censored."
            if facts.ended == "interrupted"
            else "The record has no end: the run was killed, or is still going on."
        )
    if facts.censored:
        notes.append(
            f"{count_of(facts.censored, 'window')} never seen to end: counted as longer than "
            "what was seen of them."
        )
    if facts.revokes_failed:
        notes.append(
            f"{count_of(facts.revokes_failed, 'revocation')} failed; their tokens have no window."
        )
    if 0 < facts.windows < 100 and not facts.censored:
        notes.append(f"With {count_of(facts.windows, 'window')}, p99 is the longest of them.")
    if facts.flapped:
        notes.append(
            "Where tokens were accepted again after a refusal, the slowest worker may accept for "
            "a little longer than the probes met, and windows may be longer than a single "
            "cache's: the last worker ends each."
        )
    if facts.targets > 1:
        notes.append(
            "Windows of one token at several targets aren't independent: "
            "the confidence bands are somewhat too narrow."
        )
    return notes
