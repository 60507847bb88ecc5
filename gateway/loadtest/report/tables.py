"""The numbers of one or several runs as tables, which the terminal and the page show alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.loadtest.figures import Analysis, percentiles
from gateway.loadtest.survival import Curve
from gateway.loadtest.words import count_of, duration, limits, percent, percentile

Value = Callable[[Analysis], str]

LISTED = 10
_KINDS = {
    "accepted": "probe, accepted",
    "refused": "probe, refused",
    "background": "background",
    "token": "token request",
    "revoke": "revocation",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table: a head, then rows as wide as it; the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def tables(analyses: Sequence[Analysis], names: Sequence[str]) -> list[Table]:
    """Return the tables of these runs, called by these names; empty ones are left out."""
    one = len(analyses) == 1
    found = [_window(analyses[0]) if one else _windows(analyses, names)]
    found.append(_answers(analyses, names))
    for analysis, name in zip(analyses, names, strict=True):
        where = "" if one else f": {name}"
        found += [
            _targets(analysis, f"By target{where}"),
            _outlived(analysis, f"Tokens that outlived max age{where}"),
            _latency(analysis, f"Latency{where}"),
            _errors(analysis, f"Errors{where}"),
        ]
    found.append(_counts(analyses, names))
    return [table for table in found if table.rows]


def _window(analysis: Analysis) -> Table:
    sent, answered = analysis.since_sent, analysis.since_answered
    rows = []
    upper, lower, since = map(percentiles, (sent.upper, sent.lower, answered.upper))
    for name, found in upper.items():
        longest = name == "max"
        rows.append(
            [
                name,
                percentile(found, longest=longest),
                "" if longest else limits(found),
                percentile(lower[name], longest=longest),
                percentile(since[name], longest=longest),
            ]
        )
    return Table(
        "Revocation window",
        ["", "refused by", "95 % limits", "accepted until", "from answer"],
        rows,
        "From the sending of the revocation: to the end of the first refusal that lasted "
        "(refused by), to the sending of the last accepted probe (accepted until). "
        "From answer: refused by, counted from the answer to the revocation.",
    )


def _windows(analyses: Sequence[Analysis], names: Sequence[str]) -> Table:
    curves: dict[str, Callable[[Analysis], Curve]] = {
        "refused by": lambda analysis: analysis.since_sent.upper,
        "accepted until": lambda analysis: analysis.since_sent.lower,
        "from answer": lambda analysis: analysis.since_answered.upper,
    }
    rows = [
        [f"{name} {label}", *(_figure(curve(analysis), name) for analysis in analyses)]
        for label, curve in curves.items()
        for name in ("p50", "p99", "max")
    ]
    return Table("Revocation window", ["", *names], rows)


def _figure(curve: Curve, name: str) -> str:
    return percentile(percentiles(curve)[name], longest=name == "max")


def _answers(analyses: Sequence[Analysis], names: Sequence[str]) -> Table:
    return _side_by_side(
        "Answers",
        analyses,
        names,
        {
            "stale accepts, after the answer": lambda a: _share(
                a.stale_accepts.accepted, a.stale_accepts.rate
            ),
            "stale accepts, after the sending": lambda a: _share(
                a.stale_accepts.accepted_since_sent, a.stale_accepts.rate_since_sent
            ),
            "false refusals before revocation": lambda a: f"{a.false_refusals.before_revocation:,}",
            "false refusals in the background": lambda a: f"{a.false_refusals.background:,}",
            "windows that flapped": lambda a: f"{a.flapping.windows:,}",
            "times accepted again": lambda a: f"{a.flapping.flaps:,}",
            "probe resolution": lambda a: duration(a.resolution.finest),
            "probe gap, typical": lambda a: duration(a.resolution.typical),
            "probe gap, widest": lambda a: duration(a.resolution.widest),
            "generator lag, p50": lambda a: duration(a.lag.p50),
            "generator lag, p99": lambda a: duration(a.lag.p99),
            "generator lag, max": lambda a: duration(a.lag.max),
        },
    )


def _counts(analyses: Sequence[Analysis], names: Sequence[str]) -> Table:
    return _side_by_side(
        "Counts",
        analyses,
        names,
        {
            "seconds": lambda a: f"{a.seconds:,.1f}",
            "ended": lambda a: a.ended,
            "tokens issued": lambda a: f"{a.counts.tokens_issued:,}",
            "token requests failed": lambda a: f"{a.counts.tokens_failed:,}",
            "tokens in the background": lambda a: f"{a.counts.background_tokens:,}",
            "tokens revoked": lambda a: f"{a.counts.tokens_revoked:,}",
            "revocations failed": lambda a: f"{a.counts.revocations_failed:,}",
            "tokens never revoked": lambda a: f"{a.counts.never_revoked:,}",
            "windows": lambda a: f"{a.counts.windows:,}",
            "windows never seen to end": lambda a: f"{a.counts.censored:,}",
            "no window: never accepted": lambda a: f"{a.counts.never_accepted:,}",
            "no window: refused before": lambda a: f"{a.counts.refused_early:,}",
            "probes": lambda a: _rate(a.counts.probes, a.seconds),
            "background requests": lambda a: _rate(a.counts.background, a.seconds),
            "requests never sent": lambda a: f"{a.counts.unsent:,}",
        },
    )


def _side_by_side(
    title: str, analyses: Sequence[Analysis], names: Sequence[str], values: dict[str, Value]
) -> Table:
    return Table(
        title,
        ["", *(names if len(analyses) > 1 else [""])],
        [[label, *map(value, analyses)] for label, value in values.items()],
    )


def _share(count: int, rate: float) -> str:
    return f"{count:,} ({percent(rate)})"


def _rate(count: int, seconds: float) -> str:
    return f"{count:,} ({count / seconds:,.0f}/s)" if seconds else f"{count:,}"


def _targets(analysis: Analysis, title: str) -> Table:
    rows = []
    if len(analysis.by_target) > 1:
        for number, figures in enumerate(analysis.by_target):
            rows.append(
                [
                    f"{number}: {figures.url}",
                    *_ends(figures.since_sent.upper),
                    f"{figures.stale_accepts.accepted:,}",
                    f"{figures.false_refusals.total:,}",
                ]
            )
    if analysis.everywhere is not None:
        rows.append(["refused everywhere", *_ends(analysis.everywhere.upper), "", ""])
    if analysis.disagreement is not None:
        rows.append(["first to last target", *_ends(analysis.disagreement.curve), "", ""])
    return Table(title, ["", "p50", "p99", "max", "stale", "false"], rows)


def _ends(curve: Curve) -> list[str]:
    return [_figure(curve, name) for name in ("p50", "p99", "max")]


def _outlived(analysis: Analysis, title: str) -> Table:
    theory = analysis.theory
    found = [
        (sure, window)
        for sure, windows in (
            ("surely", () if theory is None else theory.outlived),
            ("perhaps", () if theory is None else theory.unclear),
        )
        for window in sorted(windows, key=lambda window: -window.last_accepted + window.revoke_sent)
    ]
    rows = [
        [
            f"token {window.token}",
            str(window.target),
            sure,
            duration(window.since_sent.lower),
            "never seen" if (upper := window.since_sent.upper) is None else duration(upper),
        ]
        for sure, window in found[:LISTED]
    ]
    note = ""
    if len(found) > LISTED:
        note = f"The longest of {count_of(len(found), 'window')}; the JSON report has all."
    return Table(title, ["", "target", "over", "accepted until", "refused by"], rows, note)


def _latency(analysis: Analysis, title: str) -> Table:
    rows = [
        [
            label,
            f"{found.planned.count:,}",
            *(duration(getattr(found.planned, name)) for name in ("p50", "p90", "p99", "max")),
            duration(found.service.p99),
        ]
        for kind, label in _KINDS.items()
        if (found := analysis.latencies[kind]).planned.count
    ]
    return Table(
        title,
        ["", "count", "p50", "p90", "p99", "max", "service p99"],
        rows,
        "From the planned instant; service from the sending. Answered requests only.",
    )


def _errors(analysis: Analysis, title: str) -> Table:
    return Table(
        title,
        ["", "error", "count"],
        [[kind, word, f"{count:,}"] for (kind, word), count in analysis.errors.items()],
    )
