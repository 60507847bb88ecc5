"""The report as JSON, for machines: version 1, whose members keep their names and meaning.

    format                  "revocation-loadtest-report"
    version                 1; a change that a reader would stumble over makes it 2
    runs[]                  one for each run
      name, ended           as in the other reports; ended: completed | interrupted | cut off
      seconds               how long the run took
      header                what was run: tool, python, started_at, targets, arguments, seed,
                            max_age_seconds, probe_interval_seconds, watch_seconds
      valid, reasons[], notes[]
      slo                   null, or {exit_code, line, results[]: {slo, kept, measured}}
      counts                tokens_issued, tokens_failed, tokens_revoked, revocations_failed,
                            never_revoked, background_tokens, probes, background, unsent,
                            windows, censored, never_accepted, refused_early
      window                since_sent, since_answered: {refused_by, accepted_until, middle},
                            each a distribution; everywhere: null, or such a distribution
      targets[]             url, window (since_sent alone), stale_accepts, false_refusals, flapping
      resolution            typical, finest, widest (seconds), gaps
      stale_accepts         accepted, probes, rate, and the same with _since_sent
      false_refusals        before_revocation, background, total
      flapping              windows, flaps, longest
      disagreement          null, or {tokens, surely, apart: a distribution}
      latency               by kind (accepted, refused, background, token, revoke):
                            {planned, service}, each a summary
      background_over_time[]  start, seconds, count, p50, p99
      errors[]              kind, error, count
      lag                   a summary
      theory                null, or {max_age, promise: kept | unclear | broken, outlived[],
                            unclear[]: {token, target}, fit: null or {statistic, p_value,
                            windows, drawn, agrees}, no_fit: null or why there is no fit}
      windows[]             one for each token and target: token, digest, target, revoke_sent,
                            revoke_answered, last_accepted, refused (null: never seen), flaps,
                            since_sent and since_answered: {lower, upper (null: never seen)}

A distribution is {windows, censored, p50, p90, p95, p99, max}; each percentile is null, or
{seconds, known, low, high}: when ``known`` is false it's larger than ``seconds`` (the maximum: at
least ``seconds``); ``low`` and ``high`` are the 95 % limits, ``high`` null when there is none. A
summary is {count, p50, p90, p99, max}. All durations and instants are seconds, instants since
the start of the run. Numbers are as measured, not rounded but to a microsecond.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gateway.loadtest.figures import Analysis, Exposure, TargetFigures, percentiles
from gateway.loadtest.report.names import run_names
from gateway.loadtest.slo import Verdict
from gateway.loadtest.survival import Curve, Percentile
from gateway.loadtest.theory import Theory
from gateway.loadtest.windows import Interval, Window

FORMAT = "revocation-loadtest-report"
VERSION = 1


def render_json(analyses: Sequence[Analysis], verdicts: Sequence[Verdict] = ()) -> str:
    """Return the document of these runs, and of their verdicts (none, or one for each)."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "runs": [
            {"name": name, **_run(analysis, verdicts[index] if verdicts else None)}
            for index, (analysis, name) in enumerate(
                zip(analyses, run_names(analyses), strict=True)
            )
        ],
    }
    return json.dumps(_rounded(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _run(analysis: Analysis, verdict: Verdict | None) -> dict[str, Any]:
    header = {k: v for k, v in asdict(analysis.header).items() if k != "version"}
    stale = analysis.stale_accepts
    return {
        "ended": analysis.ended,
        "seconds": analysis.seconds,
        "header": header,
        "valid": analysis.validity.valid,
        "reasons": list(analysis.validity.reasons),
        "notes": list(analysis.validity.notes),
        "slo": None if verdict is None else _verdict(verdict),
        "counts": asdict(analysis.counts),
        "window": {
            "since_sent": _exposure(analysis.since_sent),
            "since_answered": _exposure(analysis.since_answered),
            "everywhere": None
            if analysis.everywhere is None
            else _distribution(analysis.everywhere.upper),
        },
        "targets": [_target(figures) for figures in analysis.by_target],
        "resolution": asdict(analysis.resolution),
        "stale_accepts": {
            **asdict(stale),
            "rate": stale.rate,
            "rate_since_sent": stale.rate_since_sent,
        },
        "false_refusals": {
            **asdict(analysis.false_refusals),
            "total": analysis.false_refusals.total,
        },
        "flapping": asdict(analysis.flapping),
        "disagreement": None
        if analysis.disagreement is None
        else {
            "tokens": analysis.disagreement.tokens,
            "surely": analysis.disagreement.surely,
            "apart": _distribution(analysis.disagreement.curve),
        },
        "latency": {kind: asdict(latency) for kind, latency in analysis.latencies.items()},
        "background_over_time": [asdict(piece) for piece in analysis.background_over_time],
        "errors": [
            {"kind": kind, "error": error, "count": count}
            for (kind, error), count in analysis.errors.items()
        ],
        "lag": asdict(analysis.lag),
        "theory": None if analysis.theory is None else _theory(analysis.theory),
        "windows": [_window(window, analysis.digests) for window in analysis.windows],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "exit_code": verdict.exit_code,
        "line": verdict.line,
        "results": [
            {"slo": result.slo.text, "kept": result.kept, "measured": result.measured}
            for result in verdict.results
        ],
    }


def _exposure(exposure: Exposure) -> dict[str, Any]:
    return {
        "refused_by": _distribution(exposure.upper),
        "accepted_until": _distribution(exposure.lower),
        "middle": _distribution(exposure.middle),
    }


def _distribution(curve: Curve) -> dict[str, Any]:
    return {
        "windows": curve.windows,
        "censored": curve.censored,
        **{name: _percentile(found) for name, found in percentiles(curve).items()},
    }


def _percentile(found: Percentile | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _target(figures: TargetFigures) -> dict[str, Any]:
    return {
        "url": figures.url,
        "window": _exposure(figures.since_sent),
        "stale_accepts": asdict(figures.stale_accepts),
        "false_refusals": asdict(figures.false_refusals),
        "flapping": asdict(figures.flapping),
    }


def _theory(theory: Theory) -> dict[str, Any]:
    return {
        "max_age": theory.max_age,
        "promise": theory.promise.value,
        "outlived": [_pair(window) for window in theory.outlived],
        "unclear": [_pair(window) for window in theory.unclear],
        "fit": None if theory.fit is None else {**asdict(theory.fit), "agrees": theory.fit.agrees},
        "no_fit": theory.no_fit,
    }


def _pair(window: Window) -> dict[str, int]:
    return {"token": window.token, "target": window.target}


def _window(window: Window, digests: Mapping[int, str]) -> dict[str, Any]:
    return {
        "token": window.token,
        "digest": digests.get(window.token),
        "target": window.target,
        "revoke_sent": window.revoke_sent,
        "revoke_answered": window.revoke_answered,
        "last_accepted": window.last_accepted,
        "refused": window.refused,
        "flaps": window.flaps,
        "since_sent": _interval(window.since_sent),
        "since_answered": _interval(window.since_answered),
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"lower": interval.lower, "upper": interval.upper}


def _rounded(value: Any) -> Any:
    """Round to a microsecond, as instants are in the record; p-values need more than that."""
    if isinstance(value, float):
        return round(value, 6) if abs(value) >= 1e-3 else float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
