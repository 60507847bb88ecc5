"""How the page opens: the headline, what is against the run, the figures to remember."""

from collections.abc import Sequence
from html import escape

from gateway.loadtest.figures import Analysis, percentiles
from gateway.loadtest.report.findings import headline
from gateway.loadtest.words import bound, count_of, duration, percentile


def lead(analyses: Sequence[Analysis], names: Sequence[str]) -> str:
    """Return a headline for each run, and what was run."""
    many = len(analyses) > 1
    return "".join(
        f'<p class="headline">{f"<strong>{escape(name)}</strong>: " if many else ""}'
        f"{escape(headline(analysis))}</p>"
        f'<p class="about">{escape(_about(analysis))}</p>'
        for analysis, name in zip(analyses, names, strict=True)
    )


def _about(analysis: Analysis) -> str:
    counts = analysis.counts
    return (
        f"{', '.join(analysis.header.targets)} · {count_of(counts.tokens_revoked, 'token')} "
        f"revoked · {counts.probes + counts.background:,} requests in "
        f"{duration(analysis.seconds)} · probe resolution {duration(analysis.resolution.finest)} "
        f"· {analysis.header.started_at}"
    )


def warnings(analyses: Sequence[Analysis], names: Sequence[str]) -> str:
    """Return, for each run that is not valid, the reasons."""
    return "".join(
        '<section class="warning"><h2>Not a valid run'
        f"{f': {escape(name)}' if len(names) > 1 else ''}</h2><ul>"
        + "".join(f"<li>{escape(reason)}</li>" for reason in analysis.validity.reasons)
        + "</ul></section>"
        for analysis, name in zip(analyses, names, strict=True)
        if not analysis.validity.valid
    )


def key_figures(analyses: Sequence[Analysis]) -> str:
    """Return the figures to remember of one run; several have them in a table."""
    if len(analyses) > 1:
        return ""
    analysis = analyses[0]
    found = percentiles(analysis.since_sent.upper)
    shown = {
        "half refused by": percentile(found["p50"]),
        "99 % refused by": percentile(found["p99"]),
        "longest window": percentile(found["max"], longest=True),
    }
    if analysis.theory is not None:
        shown[f"promised max age: {analysis.theory.promise.value}"] = bound(analysis.theory.max_age)
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in shown.items()
    )
    return f'<dl class="figures">{items}</dl>'
