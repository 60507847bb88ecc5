"""When everything is to happen, known before the run begins. Pure.

Each token lives backwards from its revocation: it is first used, at each target by itself, a
warm-up and a random part of ``spread`` before. ``spread`` is a whole turn of the cache that is
looked for (from one filling of an entry to the next), so the entry's age at the revocation is
uniform, whatever its phase. Where no max age was stated, the watch stands for it: the longest
window that the run can see.

The same options and seed give the same plan. It is made as the run goes, so a long run costs
no more memory than a short one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from gateway.loadtest.options import Arrivals, Grant, RunOptions

ISSUE_LEAD_SECONDS = 1.0
"""How long before its first use a token is asked for."""

CHAINED_ISSUES_PER_SECOND = 25.0
"""How fast a chain of refresh tokens is planned to be followed: each waits for the one before."""

SENSIBLE_RPS = 5_000.0
"""What one core is shown to keep up with (benchmarks/generator.py)."""


@dataclass(frozen=True, slots=True)
class TokenPlan:
    """The life of one token; seconds since the start of the run, ``first_uses`` by target."""

    token: int
    issue_at: float
    first_uses: tuple[float, ...]
    revoke_at: float


@dataclass(frozen=True, slots=True)
class Load:
    """What the plan comes to: requests a second at the most, and seconds at the most."""

    probe_rps: float
    background_rps: float
    seconds: float

    @property
    def rps(self) -> float:
        """All requests a second, at the most."""
        return self.probe_rps + self.background_rps

    @property
    def sensible(self) -> bool:
        """Whether one process is known to keep up with it."""
        return self.rps <= SENSIBLE_RPS


@dataclass(frozen=True, slots=True)
class Share:
    """One of several workers that run a plan together; ``index`` counts from 0."""

    index: int = 0
    of: int = 1


class Plan:
    """The schedule of a run, or of one worker's share of it."""

    def __init__(
        self,
        options: RunOptions,
        share: Share = Share(),
        *,
        lead_seconds: float = ISSUE_LEAD_SECONDS,
    ) -> None:
        self._options = options
        self._share = share
        self._lead = lead_seconds
        self._targets = len(options.targets)
        interval = options.probe_interval
        turn = options.watch if options.max_age is None else options.max_age
        self.spread = max(1, math.ceil(turn / interval - 1e-9)) * interval
        # One interval to spare, so that a first answer that is a little late does no harm.
        self._rest = options.warm_up + interval
        self.horizon = self._rest + self.spread + lead_seconds
        """How long before its revocation a token may be asked for."""
        self._chained = options.grant is Grant.REFRESH_TOKEN and not options.given_tokens
        self.background_tokens = range(
            options.measured_tokens + share.index,
            options.measured_tokens + options.background_tokens * share.of,
            share.of,
        )
        """Their indices; they are asked for first of all."""

    def again_after(self, ready_at: float, token: int, attempt: int) -> float:
        """Return when to revoke a token that wasn't warm when its time came.

        At a random phase again: to revoke it as soon as it is warm would fix the age of its
        cache entry.
        """
        return ready_at + self._random(f"again/{token}/{attempt}").random() * self.spread

    def issue_background_at(self, order: int) -> float:
        """Return when to ask for a background token, the first being ``order`` 0."""
        return order / CHAINED_ISSUES_PER_SECOND if self._chained else 0.0

    def tokens(self) -> Iterator[TokenPlan]:
        """Give the plan of each token of this share, in the order of their revocations."""
        options = self._options
        phases = self._random("phases")
        first = len(self.background_tokens)
        ready = 0.0
        if self._chained:  # whatever becomes of a chain, the tokens are there before they're used
            own = -(-options.measured_tokens // self._share.of)
            ready = (first + own) / CHAINED_ISSUES_PER_SECOND
        for token, at in enumerate(self._revocations()):
            uses = tuple(
                ready + at - self._rest - phases.random() * self.spread
                for _ in range(self._targets)
            )
            if token % self._share.of != self._share.index:
                continue
            issue_at = (
                (first + token // self._share.of) / CHAINED_ISSUES_PER_SECOND
                if self._chained
                else min(uses) - self._lead
            )
            yield TokenPlan(token, issue_at, uses, ready + at)

    def background(self) -> Iterator[tuple[float, int, int]]:
        """Give instant, token and target of each background request, without end: Poisson."""
        random = self._random(f"background/{self._share.index}")
        rate = self._options.background_rps / self._share.of
        at = self.background_from
        while rate and self.background_tokens:
            at += random.expovariate(rate)
            yield at, random.choice(self.background_tokens), random.randrange(self._targets)

    @property
    def background_from(self) -> float:
        """When background traffic begins: its tokens should be there by then."""
        return self._lead / 2 + self.issue_background_at(len(self.background_tokens))

    def load(self) -> Load:
        """Return what the plan comes to at the most: no token refused before its watch ends."""
        options = self._options
        tokens = options.measured_tokens / self._share.of
        rate = options.revoke_rate / self._share.of
        life = self._rest + self.spread / 2 + options.watch
        background = options.background_rps / self._share.of
        seconds = self.horizon + options.measured_tokens / options.revoke_rate + options.watch
        if self._chained:
            seconds += (tokens + len(self.background_tokens)) / CHAINED_ISSUES_PER_SECOND
        return Load(
            probe_rps=min(tokens, rate * life) * self._targets / options.probe_interval,
            background_rps=background,
            seconds=seconds,
        )

    def _revocations(self) -> Iterator[float]:
        options = self._options
        random = self._random("revocations")
        at = self.horizon
        for _ in range(options.measured_tokens):
            yield at
            even = options.arrivals is Arrivals.EVEN
            at += 1 / options.revoke_rate if even else random.expovariate(options.revoke_rate)

    def _random(self, purpose: str) -> Random:
        # A source of its own for each purpose: a change of one doesn't shift the others.
        return Random(f"{self._options.seed}/{purpose}")  # noqa: S311 (a schedule, no secret)
