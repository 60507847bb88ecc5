"""What a run comes to, in words."""

import pytest

from gateway.loadtest.report.findings import Tone, findings, headline
from gateway.loadtest.slo import judge, parse_slo
from loadtest.reported import analysed


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("uniform", "Half of the revoked tokens were refused within 1.75 s, 99 % within 3.03 s, "),
        (
            "some never",
            "Half of the revoked tokens were refused within 1.71 s; no end was seen of 5 of 60 ",
        ),
        ("instant", "No token was seen accepted after its revocation was sent; all were refused "),
        ("never", "Most revoked tokens were still accepted after 9.99 s."),
        ("empty", "No revocation window was measured."),
    ],
)
def test_the_headline_is_one_sentence(name: str, sentence: str) -> None:
    """How long revoked tokens lived, also where that isn't known."""
    assert headline(analysed(name)).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "subject", "verdict", "tone"),
    [
        ("uniform", "The run", "valid", Tone.GOOD),
        ("lost", "The run", "not valid", Tone.BAD),
        ("uniform", "Max age 3 s", "kept", Tone.GOOD),
        ("over", "Max age 3 s", "broken", Tone.BAD),
        ("unclear", "Max age 3 s", "unclear", Tone.UNSURE),
        ("empty", "Max age 3 s", "unclear", Tone.UNSURE),
        ("long promise", "Max age 15 min", "kept", Tone.GOOD),
        ("uniform", "Fixed-lifetime cache", "agrees", Tone.PLAIN),
        ("instant", "Fixed-lifetime cache", "differs", Tone.PLAIN),
        ("one token", "Fixed-lifetime cache", "not tested", Tone.PLAIN),
        ("instant", "Stale accepts", "none", Tone.GOOD),
        ("uniform", "False refusals", "none", Tone.GOOD),
        ("refusing", "False refusals", "85", Tone.BAD),
        ("three targets", "Targets", "disagree", Tone.PLAIN),
    ],
)
def test_a_finding_has_a_verdict_in_words(
    name: str, subject: str, verdict: str, tone: Tone
) -> None:
    """Each question has its answer in a word, not in a colour alone."""
    (found,) = [f for f in findings(analysed(name)) if f.subject == subject]
    assert (found.verdict, found.tone) == (verdict, tone)


@pytest.mark.parametrize("name", ["uniform", "instant", "no promise"])
def test_what_did_not_happen_is_not_mentioned(name: str) -> None:
    """Without flapping, several targets or a promise there's no finding of them."""
    subjects = {found.subject for found in findings(analysed(name))}
    assert subjects.isdisjoint({"Flapping", "Targets", "SLO"})
    assert ("Max age 3 s" in subjects) == (name != "no promise")


def test_flapping_is_explained() -> None:
    """Several workers behind one address disagree for a while, and whose fault that is, is said."""
    (found,) = [f for f in findings(analysed("flapping")) if f.subject == "Flapping"]
    assert "replicas or workers that don't share what they know" in found.sentence


def test_tokens_that_outlived_max_age_are_named() -> None:
    """The first few by number, each once."""
    (found,) = [f for f in findings(analysed("over")) if f.verdict == "broken"]
    outlived = sorted({w.token for w in analysed("over").theory.outlived})  # type: ignore[union-attr]
    first = ", ".join(map(str, outlived[:5]))
    assert f"tokens {first} and {len(outlived) - 5} more." in found.sentence


@pytest.mark.parametrize(
    ("slo", "verdict", "sentence"),
    [
        ("p50<=1s", "broken", "p50<=1s: measured 1.748 s."),
        ("p50<=2s", "kept", "p50<=2s: measured 1.748 s."),
    ],
)
def test_slos_are_findings(slo: str, verdict: str, sentence: str) -> None:
    """What a run was held to stands among its findings, with what was measured."""
    run = analysed("uniform")
    (found,) = [f for f in findings(run, judge([parse_slo(slo)], run)) if f.subject == "SLO"]
    assert (found.verdict, found.sentence) == (verdict, sentence)
