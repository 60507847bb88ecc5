"""What a run comes to, in sentences: the same in every report, each with a verdict in a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.loadtest.figures import Analysis
from gateway.loadtest.slo import Verdict
from gateway.loadtest.theory import Promise, Theory
from gateway.loadtest.validity import Validity
from gateway.loadtest.windows import Window
from gateway.loadtest.words import bound, count_of, duration, p_value, percent, percentile

LISTED = 5


class Tone(Enum):
    """How a finding is to be taken; reports show it by a word and a sign, then by colour."""

    GOOD = "good"
    BAD = "bad"
    UNSURE = "unsure"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Finding:
    """A question that the run was asked, the answer in a word or two, and a sentence of why."""

    subject: str
    verdict: str
    tone: Tone
    sentence: str


def headline(analysis: Analysis) -> str:
    """Say in one sentence how long revoked tokens were accepted."""
    ends = analysis.since_sent.upper
    if not ends.windows:
        return "No revocation window was measured."
    half, most = ends.percentile(0.5), ends.percentile(0.99)
    if half is None or most is None:
        return "No revocation window was measured."
    if not ends.censored and not analysis.since_sent.lower.longest:
        return (
            "No token was seen accepted after its revocation was sent; "
            f"all were refused within {duration(ends.longest)}."
        )
    if not half.known:
        return f"Most revoked tokens were still accepted after {duration(half.seconds)}."
    first = f"Half of the revoked tokens were refused within {duration(half.seconds)}"
    if not most.known:
        windows = count_of(ends.windows, "window")
        return f"{first}; no end was seen of {ends.censored:,} of {windows}."
    last = (
        "the longest window may be longer"
        if ends.censored
        else (f"the last after {duration(ends.longest)}")
    )
    return f"{first}, 99 % within {duration(most.seconds)}, {last}."


def findings(analysis: Analysis, verdict: Verdict | None = None) -> list[Finding]:
    """Return the findings of a run, the most important first."""
    found = [_validity(analysis.validity)]
    if verdict is not None and verdict.results:
        found.append(_slos(verdict))
    if analysis.theory is not None:
        found += [_promise(analysis.theory, analysis), _theory(analysis.theory)]
    found += [_stale(analysis), _refusals(analysis)]
    if analysis.flapping.windows:
        found.append(_flapping(analysis))
    if analysis.disagreement is not None:
        found.append(_disagreement(analysis))
    return found


def _validity(validity: Validity) -> Finding:
    if validity.valid:
        return Finding("The run", "valid", Tone.GOOD, "Lag, errors and numbers were in bounds.")
    return Finding("The run", "not valid", Tone.BAD, f"{_sentence('; '.join(validity.reasons))}")


def _slos(verdict: Verdict) -> Finding:
    broken = [result for result in verdict.results if not result.kept]
    shown = broken or verdict.results
    sentence = "; ".join(f"{result.slo.text}: measured {result.measured}" for result in shown)
    return Finding(
        "SLO", "broken" if broken else "kept", Tone.BAD if broken else Tone.GOOD, f"{sentence}."
    )


def _promise(theory: Theory, analysis: Analysis) -> Finding:
    subject = f"Max age {bound(theory.max_age)}"
    total = analysis.counts.windows
    if theory.promise is Promise.BROKEN:
        count = len(theory.outlived)
        return Finding(
            subject,
            "broken",
            Tone.BAD,
            f"{count:,} of {count_of(total, 'window')} surely outlived it: "
            f"{_tokens(theory.outlived)}.",
        )
    if theory.promise is Promise.UNCLEAR:
        sentence = "No window was measured."
        if theory.unclear:
            sentence = (
                f"{len(theory.unclear):,} of {count_of(total, 'window')} may have outlived it, "
                f"or ended unseen: {_tokens(theory.unclear)}."
            )
        return Finding(subject, "unclear", Tone.UNSURE, sentence)
    return Finding(
        subject,
        "kept",
        Tone.GOOD,
        f"No token outlived it, as far as the probes could see "
        f"({duration(analysis.resolution.finest)}).",
    )


def _theory(theory: Theory) -> Finding:
    subject = "Fixed-lifetime cache"
    if theory.fit is None:
        return Finding(subject, "not tested", Tone.PLAIN, f"{_sentence(theory.no_fit or '')}")
    numbers = f"Kolmogorov-Smirnov p = {p_value(theory.fit.p_value)}".replace("= <", "< ")
    if theory.fit.agrees:
        return Finding(
            subject,
            "agrees",
            Tone.PLAIN,
            f"The windows are spread as Uniform(0, {bound(theory.max_age)}) would be ({numbers}).",
        )
    return Finding(
        subject,
        "differs",
        Tone.PLAIN,
        f"The windows aren't spread as Uniform(0, {bound(theory.max_age)}) would be ({numbers}).",
    )


def _stale(analysis: Analysis) -> Finding:
    stale = analysis.stale_accepts
    return Finding(
        "Stale accepts",
        f"{stale.accepted:,}" if stale.accepted else "none",
        Tone.PLAIN if stale.accepted else Tone.GOOD,
        f"{percent(stale.rate)} of {count_of(stale.probes, 'probe')} sent after the revocation "
        "was answered were accepted.",
    )


def _refusals(analysis: Analysis) -> Finding:
    refusals = analysis.false_refusals
    if not refusals.total:
        return Finding("False refusals", "none", Tone.GOOD, "No good token was refused.")
    return Finding(
        "False refusals",
        f"{refusals.total:,}",
        Tone.BAD,
        f"{refusals.before_revocation:,} before the revocation, "
        f"{refusals.background:,} of tokens that were never revoked.",
    )


def _flapping(analysis: Analysis) -> Finding:
    flapping = analysis.flapping
    return Finding(
        "Flapping",
        f"{count_of(flapping.windows, 'window')}",
        Tone.BAD,
        f"Accepted again after a refusal, {count_of(flapping.flaps, 'time')}, for up to "
        f"{duration(flapping.longest)}: behind one address there are replicas or workers "
        "that don't share what they know, and the last of them to refuse ends the window.",
    )


def _disagreement(analysis: Analysis) -> Finding:
    found = analysis.disagreement
    assert found is not None
    return Finding(
        "Targets",
        "disagree" if found.surely else "agree",
        Tone.PLAIN,
        f"{found.surely:,} of {count_of(found.tokens, 'token')} were still accepted at one target "
        f"after another had refused them for good; the last refused "
        f"{percentile(found.curve.percentile(0.5))} after the first at p50, "
        f"{percentile(found.curve.maximum(), longest=True)} at most.",
    )


def _tokens(windows: Sequence[Window]) -> str:
    tokens = sorted({window.token for window in windows})
    shown = ", ".join(map(str, tokens[:LISTED]))
    more = f" and {len(tokens) - LISTED:,} more" if len(tokens) > LISTED else ""
    return f"token{'' if len(tokens) == 1 else 's'} {shown}{more}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
