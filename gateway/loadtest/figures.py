"""All that is said of a run, as types: what ``analysis`` finds and the reports show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.loadtest.latency import Latency, Slice, Summary
from gateway.loadtest.record import Header
from gateway.loadtest.replicas import Disagreement, Flapping
from gateway.loadtest.survival import Curve, Percentile
from gateway.loadtest.theory import Theory
from gateway.loadtest.validity import Validity
from gateway.loadtest.windows import Window
from gateway.loadtest.wrong_answers import FalseRefusals, StaleAccepts

PERCENTILES: Mapping[str, float] = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Exposure:
    """How long windows were: by their upper ends (the headline), lower ends and middles."""

    upper: Curve
    lower: Curve
    middle: Curve


@dataclass(frozen=True, slots=True)
class Counts:
    """What the run did: tokens, requests, and which pairs of token and target have no window."""

    tokens_issued: int
    tokens_failed: int
    tokens_revoked: int
    revocations_failed: int
    never_revoked: int
    background_tokens: int
    probes: int
    background: int
    unsent: int
    windows: int
    censored: int
    never_accepted: int
    refused_early: int


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the run could see, in seconds, from the gaps between answered probes.

    Each gap runs from the sending of a probe to the end of the next one of the same token and
    target, around the revocation and up to the refusal. ``finest`` is their 99th percentile:
    a window shorter than that may look like none, and no window is known better than that.
    """

    typical: float
    finest: float
    widest: float
    gaps: int


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """One target by itself."""

    url: str
    since_sent: Exposure
    since_answered: Exposure
    stale_accepts: StaleAccepts
    false_refusals: FalseRefusals
    flapping: Flapping


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that is said of a run; durations in seconds.

    ``since_sent`` and ``since_answered`` count windows from the sending of the revocation and
    from its answer, one for each token and target. ``everywhere`` has one for each token, until
    its last target refused it; None with one target. ``latencies`` are by kind: accepted,
    refused, background, token, revoke. ``errors`` counts by kind of request and what went wrong.
    ``ended`` is completed, interrupted or cut off. ``digests`` has the SHA-256 digest, in hex,
    of each token that was issued.
    """

    name: str
    header: Header
    seconds: float
    ended: str
    counts: Counts
    windows: Sequence[Window]
    digests: Mapping[int, str]
    since_sent: Exposure
    since_answered: Exposure
    everywhere: Exposure | None
    by_target: Sequence[TargetFigures]
    resolution: Resolution
    stale_accepts: StaleAccepts
    false_refusals: FalseRefusals
    flapping: Flapping
    disagreement: Disagreement | None
    latencies: Mapping[str, Latency]
    background_over_time: Sequence[Slice]
    errors: Mapping[tuple[str, str], int]
    lag: Summary
    theory: Theory | None
    validity: Validity


def percentiles(curve: Curve) -> dict[str, Percentile | None]:
    """Return the percentiles that reports show, and the maximum, by name."""
    found = {name: curve.percentile(share) for name, share in PERCENTILES.items()}
    return {**found, "max": curve.maximum()}
