"""What a run is held to, such as ``p99<=2s``, and the exit code that comes of it.

    slo      = metric op bound
    metric   = "p" percent | "max" | "stale_accepts" | "false_refusals"
    op       = "<" | "<=" | "=="
    bound    = a duration such as "2s" or "250ms" for percentiles and max,
               a whole number for the counts

Percentiles and the maximum are of the windows' upper ends (the end of the first refusal that
lasted), counted from the sending of the revocation: whatever the run leaves open is held
against the gateway. A percentile that the run doesn't show, as too many windows were never seen
to end, breaks its SLO. ``stale_accepts`` counts acceptances of probes sent after the revocation
was answered; ``false_refusals`` those of tokens not revoked.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.settings.types import parse_duration

if TYPE_CHECKING:  # SLOs are parsed where the command line is, without scipy
    from gateway.loadtest.figures import Analysis
    from gateway.loadtest.survival import Percentile

KEPT = 0
BROKEN = 1
USAGE = 2
INVALID = 3

_SLO = re.compile(r"\s*([a-z_]+|p[0-9]{1,2}(?:\.[0-9]{1,3})?)\s*(<=|<|==)\s*([^\s<=]\S*)\s*")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}
_COUNTS: Mapping[str, Callable[["Analysis"], int]] = {
    "stale_accepts": lambda analysis: analysis.stale_accepts.accepted,
    "false_refusals": lambda analysis: analysis.false_refusals.total,
}


@dataclass(frozen=True, slots=True)
class Slo:
    """One SLO; ``bound`` is in seconds for percentiles and ``max``. ``text`` is as written."""

    metric: str
    op: str
    bound: float
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one SLO: whether it was kept, and what was measured, in words."""

    slo: Slo
    kept: bool
    measured: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The exit code of a run (KEPT, BROKEN or INVALID), and the line that says why."""

    exit_code: int
    line: str
    results: Sequence[Result] = ()


def parse_slo(text: str) -> Slo:
    """Read one SLO.

    Raises:
        ValueError: it isn't written as above; the message says what is allowed.
    """
    match = _SLO.fullmatch(text)
    if match is None:
        raise ValueError('an SLO such as "p99<=2s", "max<3s" or "stale_accepts<=10" is allowed')
    metric, op, bound = match.groups()
    if metric in _COUNTS:
        if not re.fullmatch(r"[0-9]{1,12}", bound):
            raise ValueError(f"a whole number is allowed for {metric}")
        return Slo(metric, op, float(bound), text.strip())
    if metric != "max" and not (metric[1:] and 0 < _percent(metric) < 100):
        known = ", ".join(["p50 (or another percentile)", "max", *_COUNTS])
        raise ValueError(f"{metric} isn't known; {known} are")
    return Slo(metric, op, parse_duration(bound).total_seconds(), text.strip())


def _percent(metric: str) -> float:
    try:
        return float(metric[1:])
    except ValueError:
        return 0.0


def judge(slos: Sequence[Slo], analysis: "Analysis") -> Verdict:
    """Judge a run: first whether it's valid, then each SLO."""
    results = [_judge(slo, analysis) for slo in slos]
    if not analysis.validity.valid:
        return Verdict(INVALID, f"invalid run: {'; '.join(analysis.validity.reasons)}", results)
    broken = [
        f"{result.slo.metric} is {result.measured}, not {result.slo.text}"
        for result in results
        if not result.kept
    ]
    if broken:
        return Verdict(BROKEN, f"broken: {'; '.join(broken)}", results)
    kept = [f"{result.slo.text} ({result.measured})" for result in results]
    return Verdict(KEPT, f"kept: {'; '.join(kept)}" if kept else "valid run, no SLO", results)


def _judge(slo: Slo, analysis: "Analysis") -> Result:
    compare = _COMPARE[slo.op]
    if slo.metric in _COUNTS:
        count = _COUNTS[slo.metric](analysis)
        return Result(slo, compare(count, slo.bound), f"{count:,}")
    ends = analysis.since_sent.upper
    longest = slo.metric == "max"
    found = ends.maximum() if longest else ends.percentile(_percent(slo.metric) / 100)
    if found is None:
        return Result(slo, kept=False, measured="not measured")
    kept = found.known and compare(found.seconds, slo.bound)
    return Result(slo, kept, _measured(found, slo.bound, "≥" if longest else ">"))


def _measured(found: "Percentile", bound: float, unknown: str) -> str:
    text = f"{found.seconds:.3f} s"
    if float(text[:-2]) == bound != found.seconds:  # "2.000 s, not p99<=2s" would say nothing
        text = f"{found.seconds:.6f} s"
    return text if found.known else f"{unknown} {text}"
