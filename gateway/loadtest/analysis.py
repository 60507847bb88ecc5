"""From a record to all that the reports say. No I/O; the same record gives the same analysis."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.loadtest.figures import Analysis, Counts, Exposure, Resolution, TargetFigures
from gateway.loadtest.latency import Latency, latency, slices, summarise
from gateway.loadtest.outcomes import (
    Columns,
    Floats,
    Outcome,
    columns,
    error_word,
    refused_status,
    succeeded,
)
from gateway.loadtest.record import Exchange, Record
from gateway.loadtest.replicas import disagreement, everywhere, flapping
from gateway.loadtest.survival import lower_ends, middles, upper_ends
from gateway.loadtest.theory import compare
from gateway.loadtest.validity import Facts, judge_run
from gateway.loadtest.windows import (
    Interval,
    Revocation,
    Window,
    Windows,
    find_windows,
    revocations,
)
from gateway.loadtest.wrong_answers import false_refusals, stale_accepts

__all__ = ["Analysis", "analyse"]


@dataclass(frozen=True, slots=True)
class _Requests:
    """A record's requests, laid out as columns."""

    issues: Columns
    probes: Columns
    revokes: Columns
    background: Columns

    @property
    def all(self) -> tuple[Columns, ...]:
        return (self.issues, self.probes, self.revokes, self.background)


def analyse(record: Record) -> Analysis:
    """Analyse a run."""
    header = record.header
    refused = refused_status(header)
    requests = _Requests(
        *(
            columns(rows, refused)
            for rows in (record.issues, record.probes, record.revokes, record.background)
        )
    )
    revoked = revocations(record.revokes)
    found = find_windows(requests.probes, revoked)
    windows = found.found
    since_sent = _exposure([window.since_sent for window in windows])
    lag = summarise(np.concatenate([some.sent - some.planned for some in requests.all]))
    resolution = _resolution(found.gaps_seconds)
    seconds = _seconds(record, requests)
    counts = _counts(record, found, revoked, since_sent.upper.censored)
    ended = "cut off" if record.end is None else record.end.reason
    return Analysis(
        name=record.name,
        header=header,
        seconds=seconds,
        ended=ended,
        counts=counts,
        windows=windows,
        digests={row.token: row.digest for row in record.issues if row.digest is not None},
        since_sent=since_sent,
        since_answered=_exposure([window.since_answered for window in windows]),
        everywhere=_exposure(everywhere(windows)) if len(header.targets) > 1 else None,
        by_target=_by_target(header.targets, requests, windows, revoked),
        resolution=resolution,
        stale_accepts=stale_accepts(requests.probes, revoked),
        false_refusals=false_refusals(requests.probes, requests.background, revoked),
        flapping=flapping(windows),
        disagreement=disagreement(windows),
        latencies=_latencies(record, requests),
        background_over_time=slices(requests.background.having(Outcome.ACCEPTED)),
        errors=_errors(record, requests),
        lag=lag,
        theory=None
        if header.max_age_seconds is None
        else compare(
            windows, header.max_age_seconds, resolution=resolution.finest, seed=header.seed
        ),
        validity=judge_run(
            Facts(
                lag_p99=lag.p99,
                probe_interval=header.probe_interval_seconds,
                due=sum(map(len, requests.all)) + _due(record, seconds),
                unsent=_due(record, seconds),
                requests=len(requests.probes) + len(requests.background),
                errors=_undecided(requests.probes) + _undecided(requests.background),
                issues=len(record.issues),
                issues_failed=counts.tokens_failed,
                revokes=len(revoked),
                revokes_failed=counts.revocations_failed,
                windows=len(windows),
                censored=counts.censored,
                flapped=sum(bool(window.flaps) for window in windows),
                targets=len(header.targets),
                ended=ended,
            )
        ),
    )


def _exposure(intervals: Sequence[Interval]) -> Exposure:
    return Exposure(upper_ends(intervals), lower_ends(intervals), middles(intervals))


def _resolution(gaps: Floats) -> Resolution:
    if not len(gaps):
        return Resolution(0.0, 0.0, 0.0, 0)
    typical, finest, widest = np.percentile(gaps, [50, 99, 100])
    return Resolution(float(typical), float(finest), float(widest), len(gaps))


def _seconds(record: Record, requests: _Requests) -> float:
    if record.end is not None:
        return record.end.at
    return max((float(some.finished.max(initial=0.0)) for some in requests.all), default=0.0)


def _due(record: Record, seconds: float) -> int:
    """Count what was planned before the end and never sent."""
    return sum(row.planned < seconds for row in record.unsent)


def _undecided(requests: Columns) -> int:
    return int(np.count_nonzero(requests.outcome == Outcome.ERROR))


def _counts(
    record: Record, found: Windows, revoked: Mapping[int, Revocation], censored: int
) -> Counts:
    issued = sum(map(succeeded, record.issues))
    confirmed = sum(revocation.answered is not None for revocation in revoked.values())
    return Counts(
        tokens_issued=issued,
        tokens_failed=len(record.issues) - issued,
        tokens_revoked=confirmed,
        revocations_failed=len(revoked) - confirmed,
        never_revoked=len({probe.token for probe in record.probes} - set(revoked)),
        background_tokens=len({row.token for row in record.background}),
        probes=len(record.probes),
        background=len(record.background),
        unsent=len(record.unsent),
        windows=len(found.found),
        censored=censored,
        never_accepted=found.never_accepted,
        refused_early=found.refused_early,
    )


def _by_target(
    urls: Sequence[str],
    requests: _Requests,
    windows: Sequence[Window],
    revoked: Mapping[int, Revocation],
) -> list[TargetFigures]:
    figures = []
    for target, url in enumerate(urls):
        own = [window for window in windows if window.target == target]
        probes = requests.probes.where(requests.probes.target == target)
        background = requests.background.where(requests.background.target == target)
        figures.append(
            TargetFigures(
                url=url,
                since_sent=_exposure([window.since_sent for window in own]),
                since_answered=_exposure([window.since_answered for window in own]),
                stale_accepts=stale_accepts(probes, revoked),
                false_refusals=false_refusals(probes, background, revoked),
                flapping=flapping(own),
            )
        )
    return figures


def _latencies(record: Record, requests: _Requests) -> dict[str, Latency]:
    done = np.array([succeeded(row) for row in record.issues], dtype=bool)
    revoked = np.array([succeeded(row) for row in record.revokes], dtype=bool)
    return {
        "accepted": latency(requests.probes.having(Outcome.ACCEPTED)),
        "refused": latency(requests.probes.having(Outcome.REFUSED)),
        "background": latency(requests.background.having(Outcome.ACCEPTED)),
        "token": latency(requests.issues.where(done)),
        "revoke": latency(requests.revokes.where(revoked)),
    }


def _errors(record: Record, requests: _Requests) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    probed: tuple[tuple[str, Sequence[Exchange], Columns], ...] = (
        ("probe", record.probes, requests.probes),
        ("background", record.background, requests.background),
    )
    for kind, rows, laid_out in probed:
        wrong = np.flatnonzero(laid_out.outcome == Outcome.ERROR).tolist()
        found.update((kind, error_word(rows[at])) for at in wrong)
    called: tuple[tuple[str, Sequence[Exchange]], ...] = (
        ("token", record.issues),
        ("revoke", record.revokes),
    )
    for kind, rows in called:
        found.update((kind, error_word(row)) for row in rows if not succeeded(row))
    return dict(found.most_common())
