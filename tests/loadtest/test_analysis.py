"""The whole analysis on runs whose truth is known, and on estimators that would be wrong."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gateway.loadtest.analysis import Analysis, analyse
from gateway.loadtest.figures import percentiles
from gateway.loadtest.record import Probe, Record, Revoke
from gateway.loadtest.theory import Promise
from loadtest.synthetic import NEVER, Scenario, always, mixed, uniform

LATE = always(0.35)

SCENARIOS = {
    "uniform": Scenario(),
    "instant": Scenario(window=always(0.0)),
    "never": Scenario(window=always(NEVER), tokens=60),
    "some never": Scenario(window=mixed(0.1, always(NEVER), uniform(3.0))),
    "two workers": Scenario(workers=2),
    "three targets": Scenario(targets=3, tokens=80),
    "late generator": Scenario(lag=LATE),
    "lost answers": Scenario(lost=0.2),
    "slow gateway": Scenario(round_trip=0.3),
    "false refusals": Scenario(false_refusals=0.1),
    "interrupted": Scenario(interrupted_at=6.0),
    "killed": Scenario(killed=True),
    "failing revocations": Scenario(failing_revocations=0.04),
    "one token": Scenario(tokens=1),
}


def share_within(seconds: np.ndarray, scenario: Scenario) -> np.ndarray:
    """Return the true share of windows that have ended by these times."""
    random_windows = np.array(sorted(replace(scenario, seed=99, tokens=4000, background=0).draws()))
    found: np.ndarray = np.searchsorted(random_windows, seconds, side="right") / len(random_windows)
    return found


def holds_every_window(analysis: Analysis, scenario: Scenario) -> bool:
    """Each window's true length lies between its bounds, or beyond what was seen of it."""
    truth = dict(
        zip(
            [(token, at) for token in range(scenario.tokens) for at in range(scenario.targets)],
            scenario.truth(),
            strict=True,
        )
    )
    return all(
        window.since_sent.lower <= truth[window.token, window.target]
        and (
            (upper := window.since_sent.upper) is None
            or truth[window.token, window.target] <= upper
        )
        for window in analysis.windows
    )


def counts_every_window(analysis: Analysis, scenario: Scenario) -> bool:
    """All pairs whose token was revoked have a window."""
    revoked = analysis.counts.tokens_revoked * scenario.targets
    return analysis.since_sent.upper.windows == revoked == len(analysis.windows)


def bands_hold_the_truth(analysis: Analysis, scenario: Scenario) -> bool:
    """The truth lies in the band from the upper ends' lower limit to the lower ends' upper."""
    times = np.array([0.3, 1.0, 1.5, 2.0, 2.7, 3.5])
    truth = share_within(times, scenario)
    _, low, _ = analysis.since_sent.upper.evaluate(times)
    _, _, high = analysis.since_sent.lower.evaluate(times)
    return bool(((low <= truth) & (truth <= high)).all())


def counts_the_waiting(analysis: Analysis, scenario: Scenario) -> bool:
    """Latency holds what the generator was late by."""
    late = min(sent.sent - sent.planned for sent in scenario.record().background)
    return analysis.latencies["background"].planned.p50 >= late


def accepts_nothing_after_a_window(analysis: Analysis, scenario: Scenario) -> bool:
    """No probe that was sent after a window's upper end was accepted."""
    ends = {(window.token, window.target): window.refused or NEVER for window in analysis.windows}
    return not any(
        row.status == 200 and row.sent > ends.get((row.token, row.target), NEVER)
        for row in scenario.record().probes
    )


CHECKS = (
    accepts_nothing_after_a_window,
    holds_every_window,
    counts_every_window,
    bands_hold_the_truth,
    counts_the_waiting,
)


def failing(
    scenario: Scenario, change: Callable[[Record], Record] = lambda record: record
) -> set[str]:
    analysis = analyse(change(scenario.record()))
    return {check.__name__ for check in CHECKS if not check(analysis, scenario)}


# A probe meets one worker: what another would have said to it, no black box can know.
UNKNOWABLE = {"two workers": {"holds_every_window", "bands_hold_the_truth"}}


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - {"one token"}))
def test_the_analysis_finds_the_truth(name: str) -> None:
    """Every window holds its truth, every one counts, and the bands hold the distribution."""
    assert failing(SCENARIOS[name]) <= UNKNOWABLE.get(name, set())


def _probes(record: Record, change: Callable[[Probe], Probe | None]) -> Record:
    return replace(record, probes=[new for row in record.probes if (new := change(row))])


def dropping_what_was_censored(record: Record) -> Record:
    """Leave out tokens that were never seen to be refused."""
    refused = {row.token for row in record.probes if row.status == 401}
    return replace(
        _probes(record, lambda row: row if row.token in refused else None),
        revokes=[row for row in record.revokes if row.token in refused],
    )


def hiding_what_was_censored(record: Record) -> Record:
    """Leave out the probes alone of tokens that were never seen to be refused."""
    refused = {row.token for row in record.probes if row.status == 401}
    return _probes(record, lambda row: row if row.token in refused else None)


def taking_censored_for_refused(record: Record) -> Record:
    """Take the last probe of each token for its refusal, whatever it said."""
    last = {row.token: row for row in sorted(record.probes, key=lambda row: row.sent)}
    return _probes(record, lambda row: replace(row, status=401) if last[row.token] is row else row)


def counting_from_planned(record: Record) -> Record:
    """Count windows from when the revocation was planned, not sent."""
    return replace(record, revokes=[replace(row, sent=row.planned) for row in record.revokes])


def counting_from_the_answer(record: Record) -> Record:
    """Count windows from the answer as if that were the sending."""
    return replace(record, revokes=[replace(row, sent=row.finished) for row in record.revokes])


def stopping_at_the_first_refusal(record: Record) -> Record:
    """Take the first refusal for the end, though the token is accepted again."""
    first: dict[tuple[int, int], float] = {}
    for row in record.probes:
        if row.status == 401:
            pair = row.token, row.target
            first[pair] = min(first.get(pair, NEVER), row.finished)
    return _probes(
        record, lambda row: row if row.sent <= first.get((row.token, row.target), NEVER) else None
    )


def taking_errors_for_refusals(record: Record) -> Record:
    """Take a lost answer for a refusal."""
    return _probes(record, lambda row: replace(row, status=401) if row.error else row)


def taking_errors_for_accepts(record: Record) -> Record:
    """Take a lost answer for an acceptance."""
    return _probes(record, lambda row: replace(row, status=200) if row.error else row)


def taking_the_answer_for_the_decision(record: Record) -> Record:
    """Take the end of an accepted probe for the instant of its decision."""
    return _probes(
        record, lambda row: replace(row, sent=row.finished) if row.status == 200 else row
    )


def taking_the_sending_for_the_decision(record: Record) -> Record:
    """Take the sending of a refused probe for the instant of its decision."""
    return _probes(
        record, lambda row: replace(row, finished=row.sent) if row.status == 401 else row
    )


def taking_planned_for_sent(record: Record) -> Record:
    """Believe that probes were sent when they were planned."""
    return _probes(
        record,
        lambda row: replace(row, sent=row.planned, finished=row.finished - row.sent + row.planned),
    )


def omitting_the_waiting(record: Record) -> Record:
    """Count latency from the sending: coordinated omission."""
    return replace(record, background=[replace(row, planned=row.sent) for row in record.background])


@pytest.mark.parametrize(
    ("wrong", "name", "caught_by"),
    [
        (dropping_what_was_censored, "some never", {"bands_hold_the_truth"}),
        (hiding_what_was_censored, "some never", {"counts_every_window", "bands_hold_the_truth"}),
        (
            taking_censored_for_refused,
            "some never",
            {"holds_every_window"},
        ),
        (counting_from_planned, "late generator", {"holds_every_window", "bands_hold_the_truth"}),
        (counting_from_the_answer, "slow gateway", {"holds_every_window"}),
        (stopping_at_the_first_refusal, "two workers", {"accepts_nothing_after_a_window"}),
        (taking_errors_for_refusals, "lost answers", {"holds_every_window"}),
        (taking_errors_for_accepts, "lost answers", {"holds_every_window"}),
        (taking_the_answer_for_the_decision, "slow gateway", {"holds_every_window"}),
        (taking_the_sending_for_the_decision, "slow gateway", {"holds_every_window"}),
        (taking_planned_for_sent, "late generator", {"holds_every_window"}),
        (omitting_the_waiting, "late generator", {"counts_the_waiting"}),
    ],
)
def test_a_wrong_estimator_would_be_caught(
    wrong: Callable[[Record], Record], name: str, caught_by: set[str]
) -> None:
    """The checks that the analysis passes fail for estimators with a known mistake."""
    assert failing(SCENARIOS[name], wrong) >= caught_by


def test_bands_with_probe_resolution_hold_the_truth_over_many_runs() -> None:
    """Over 40 runs with a tenth never refused, the bands hold the truth in 95 % or more."""
    times = np.array([0.3, 1.5, 2.7])
    held = 0
    for seed in range(40):
        scenario = replace(SCENARIOS["some never"], tokens=60, background=0, seed=seed)
        found = analyse(scenario.record()).since_sent
        truth = 0.9 * times / 3
        held += int(
            (
                (found.upper.evaluate(times)[1] <= truth)
                & (truth <= found.lower.evaluate(times)[2])
            ).sum()
        )
    assert held >= 0.95 * 40 * len(times)


def test_a_uniform_run_is_what_the_theory_says() -> None:
    """A cache of 3 s keeps its promise, agrees with the theory, and has no wrong refusals."""
    found = analyse(SCENARIOS["uniform"].record())
    assert found.theory is not None
    assert found.theory.fit is not None
    assert (found.theory.promise, found.theory.fit.agrees) == (Promise.KEPT, True)
    assert (found.false_refusals.total, found.flapping.windows, found.errors) == (0, 0, {})
    assert found.validity.valid
    assert found.stale_accepts.accepted > 1000


def test_an_evicting_gateway_has_a_window_of_one_probe_gap() -> None:
    """Windows of nothing are seen as no longer than the probe resolution."""
    found = analyse(SCENARIOS["instant"].record())
    assert found.since_sent.lower.longest == 0.0
    assert 0.0 < found.since_sent.upper.longest <= found.resolution.widest
    assert (found.stale_accepts.accepted, found.stale_accepts.probes > 500) == (0, True)


def test_tokens_that_are_never_refused_are_censored_not_dropped() -> None:
    """Without any refusal every percentile is larger than the watch."""
    found = analyse(SCENARIOS["never"].record())
    assert (found.counts.windows, found.counts.censored) == (60, 60)
    assert all(p is not None and not p.known for p in percentiles(found.since_sent.upper).values())
    assert found.theory is not None
    assert (found.theory.promise, len(found.theory.outlived)) == (Promise.BROKEN, 60)
    assert found.since_sent.upper.longest == pytest.approx(10.0, abs=0.3)


def test_two_workers_that_disagree_flap() -> None:
    """Tokens accepted again after a refusal are seen, and their windows end with the last."""
    found = analyse(SCENARIOS["two workers"].record())
    assert found.flapping.windows > 60
    assert found.flapping.flaps >= found.flapping.windows
    assert 1.0 < found.flapping.longest < 3.0


def test_targets_are_told_apart_and_together() -> None:
    """Each target by itself, how far apart they are, and when a token is refused everywhere."""
    found = analyse(SCENARIOS["three targets"].record())
    assert [figures.since_sent.upper.windows for figures in found.by_target] == [80, 80, 80]
    assert sum(figures.stale_accepts.accepted for figures in found.by_target) == (
        found.stale_accepts.accepted
    )
    assert found.disagreement is not None
    assert found.everywhere is not None
    assert (found.disagreement.tokens, found.everywhere.upper.windows) == (80, 80)
    everywhere, anywhere = found.everywhere.upper, found.since_sent.upper
    assert everywhere.evaluate(np.array([1.5]))[0] < anywhere.evaluate(np.array([1.5]))[0]


def test_one_target_has_no_everywhere() -> None:
    """With one target, refused there is refused everywhere."""
    found = analyse(SCENARIOS["uniform"].record())
    assert (found.everywhere, found.disagreement, len(found.by_target)) == (None, None, 1)


def test_a_late_generator_is_said_and_its_run_not_valid() -> None:
    """Lag is measured; the windows still hold, as they count from what was sent."""
    found = analyse(SCENARIOS["late generator"].record())
    assert found.lag.p50 == pytest.approx(0.35, rel=2e-3)
    assert [reason.partition(":")[0] for reason in found.validity.reasons] == [
        "the generator lagged"
    ]


def test_lost_answers_are_errors_and_widen_what_is_known() -> None:
    """Errors are counted by kind, and the resolution is that of the probes that were answered."""
    found = analyse(SCENARIOS["lost answers"].record())
    lost = sum(row.status is None for row in SCENARIOS["lost answers"].record().probes)
    assert found.errors == {("probe", "timeout"): lost}
    assert found.resolution.finest > 0.59
    assert not found.validity.valid


def test_false_refusals_in_the_background_are_counted() -> None:
    """Refusals of tokens that are never revoked."""
    scenario = SCENARIOS["false refusals"]
    refused = sum(row.status == 401 for row in scenario.record().background)
    found = analyse(scenario.record())
    assert (found.false_refusals.background, found.false_refusals.before_revocation) == (refused, 0)


def test_an_interrupted_run_keeps_what_it_measured() -> None:
    """Open windows are censored, tokens not yet revoked counted, and the run is still valid."""
    found = analyse(SCENARIOS["interrupted"].record())
    assert (found.ended, found.validity.valid, found.seconds) == ("interrupted", True, 6.0)
    assert 0 < found.counts.censored < found.counts.windows
    assert found.counts.never_revoked > 0
    assert found.counts.unsent > 0


def test_what_was_due_after_the_end_is_no_overload() -> None:
    """Requests planned after the end were never due; those before it were."""
    record = SCENARIOS["interrupted"].record()
    early = [replace(row, planned=1.0) for row in record.unsent]
    found = analyse(replace(record, unsent=early))
    assert [reason.partition(" of ")[2][:24] for reason in found.validity.reasons] == [
        "requests due were never "
    ]


def test_a_run_without_its_end_is_read_as_far_as_it_goes() -> None:
    """A killed run ends with its last answer."""
    record = SCENARIOS["killed"].record()
    found = analyse(record)
    last = max(row.finished for row in record.probes)
    assert (found.ended, found.seconds, found.counts.windows) == ("cut off", last, 200)


def test_a_failed_revocation_has_no_window_and_is_counted() -> None:
    """Tokens whose revocation failed are left out of the windows, not out of the counts."""
    found = analyse(SCENARIOS["failing revocations"].record())
    failed = found.counts.revocations_failed
    assert failed > 0
    assert found.counts.windows == found.counts.tokens_revoked == 200 - failed
    assert found.errors == {("revoke", "status 503"): failed}
    assert found.false_refusals.total == 0


def test_one_token_is_analysed() -> None:
    """One token has a window, and is too few for a valid run."""
    found = analyse(SCENARIOS["one token"].record())
    assert (found.counts.windows, found.validity.valid) == (1, False)
    assert holds_every_window(found, SCENARIOS["one token"])


def test_a_run_of_nothing_is_analysed() -> None:
    """A run that was stopped before its first request has no figures, and isn't valid."""
    found = analyse(Record("empty", Scenario().header()))
    assert (found.counts.windows, found.seconds, found.validity.valid) == (0, 0.0, False)
    assert percentiles(found.since_sent.upper) == dict.fromkeys(["p50", "p90", "p95", "p99", "max"])


def test_without_a_promise_there_is_no_theory() -> None:
    """A gateway of which nothing is promised isn't compared."""
    assert analyse(Scenario(tokens=10, max_age=None).record()).theory is None


def test_digests_name_the_tokens() -> None:
    """Tokens are known by digest."""
    scenario = Scenario(tokens=3)
    found = analyse(scenario.record())
    assert list(found.digests) == [0, 1, 2]
    assert all(len(digest) == 64 for digest in found.digests.values())


def test_a_token_request_that_failed_is_counted() -> None:
    """Token requests that failed are errors and no tokens."""
    record = Scenario(tokens=20).record()
    failed = replace(record.issues[0], status=None, error="reset")
    found = analyse(replace(record, issues=[failed, *record.issues[1:]]))
    assert (found.counts.tokens_issued, found.counts.tokens_failed) == (19, 1)
    assert found.errors == {("token", "reset"): 1}
    assert found.latencies["token"].planned.count == 19


def test_the_same_record_gives_the_same_analysis() -> None:
    """Nothing in the analysis is left to chance."""
    record = SCENARIOS["some never"].record()
    first, second = analyse(record), analyse(record)
    assert (first.windows, first.theory, first.latencies) == (
        second.windows,
        second.theory,
        second.latencies,
    )


def test_a_second_revocation_does_not_shorten_the_window() -> None:
    """Windows count from the first sending, were it tried again."""
    record = Scenario(tokens=20).record()
    again = [
        Revoke(row.token, row.planned + 0.5, row.sent + 0.5, row.finished + 0.5, 200)
        for row in record.revokes
    ]
    assert analyse(replace(record, revokes=[*record.revokes, *again])).windows == (
        analyse(record).windows
    )
