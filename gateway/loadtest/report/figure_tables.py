"""What the charts show, as tables for those who read rather than look."""

from collections.abc import Sequence

from gateway.loadtest.figures import Analysis
from gateway.loadtest.report.charts import histogram
from gateway.loadtest.report.sample import pick
from gateway.loadtest.report.tables import Table
from gateway.loadtest.words import duration, limits, percentile

_SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def distribution_table(analyses: Sequence[Analysis], names: Sequence[str]) -> Table:
    """Return when each share of the revoked tokens had been refused, with limits."""
    return Table(
        "",
        ["refused", *(f"{name}{part}" for name in names for part in ("", ", 95 % limits"))],
        [
            [
                f"{share:.0%}".replace("%", " %"),
                *(
                    text
                    for analysis in analyses
                    for found in [analysis.since_sent.upper.percentile(share)]
                    for text in (percentile(found), limits(found))
                ),
            ]
            for share in _SHARES
        ],
    )


def timeline_table(analysis: Analysis, lines: int) -> Table:
    """Return the windows that the timeline shows."""
    return Table(
        "",
        ["token", "target", "revoked at", "accepted until", "refused by", "accepted again"],
        [
            [
                str(window.token),
                str(window.target),
                f"{window.revoke_sent:.3f} s",
                duration(window.since_sent.lower),
                "never seen" if (upper := window.since_sent.upper) is None else duration(upper),
                f"{window.flaps} times" if window.flaps else "",
            ]
            for window in pick(analysis.windows, lines)
        ],
        "Revoked at: since the start of the run; the others from the sending of the revocation.",
    )


def histogram_table(analysis: Analysis, end: float) -> Table:
    """Return how many windows were how long."""
    edges, counts = histogram(analysis, end)
    rows = [
        [f"{duration(start)} to {duration(stop)}", f"{count:,}"]
        for start, stop, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    if analysis.counts.censored:
        rows.append(["never seen to end", f"{analysis.counts.censored:,}"])
    return Table("", ["window", "windows"], rows)


def latency_table(analyses: Sequence[Analysis], names: Sequence[str]) -> Table:
    """Return the latency of background requests over the run."""
    return Table(
        "",
        ["from", "run", "requests", "p50", "p99"],
        [
            [
                f"{piece.start:g} s",
                name,
                f"{piece.count:,}",
                duration(piece.p50),
                duration(piece.p99),
            ]
            for analysis, name in zip(analyses, names, strict=True)
            for piece in analysis.background_over_time
        ],
    )
