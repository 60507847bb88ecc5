"""Records of gateways whose windows are known: pure, and the same for the same seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from gateway.loadtest.record import (
    Background,
    End,
    Header,
    Issue,
    Probe,
    Record,
    Revoke,
    Unsent,
)

Draw = Callable[[Random], float]
NEVER = float("inf")


def uniform(high: float) -> Draw:
    """Windows of a cache with a fixed lifetime, filled at a random age."""
    return lambda random: random.uniform(0.0, high)


def always(seconds: float) -> Draw:
    """Windows, or lags, of one length."""
    return lambda _: seconds


def mixed(share: float, some: Draw, others: Draw) -> Draw:
    """A share of one kind, the others of another."""
    return lambda random: (some if random.random() < share else others)(random)


@dataclass(frozen=True)
class Scenario:
    """A gateway and a load on it.

    ``window`` draws the seconds from the sending of a revocation until a worker refuses the
    token. Each target has ``workers``, one of which takes each probe by chance. ``lag`` draws
    how late each request is sent. ``lost`` is the share of probes without an answer.
    """

    window: Draw = field(default_factory=lambda: uniform(3.0))
    tokens: int = 200
    targets: int = 1
    workers: int = 1
    interval: float = 0.2
    watch: float = 10.0
    warm_up: float = 1.0
    after_refusal: float = 1.0
    round_trip: float = 0.004
    lag: Draw = field(default_factory=lambda: always(0.0))
    lost: float = 0.0
    background: int = 400
    false_refusals: float = 0.0
    failing_revocations: float = 0.0
    interrupted_at: float = NEVER
    killed: bool = False
    max_age: float | None = 3.0
    name: str = "run"
    seed: int = 7

    def header(self) -> Header:
        return Header(
            tool="revocation-gateway 0.1.0",
            python="3.11.7",
            started_at="2026-11-22T21:00:00.000000Z",
            targets=tuple(f"http://127.0.0.1:{8080 + at}/orders" for at in range(self.targets)),
            arguments={"refused_status": [401, 403]},
            seed=self.seed,
            max_age_seconds=self.max_age,
            probe_interval_seconds=self.interval,
            watch_seconds=self.watch,
        )

    def record(self) -> Record:
        """Play the scenario."""
        return _Play(self).record()

    def draws(self) -> list[float]:
        """Return as many true windows as there would be, without playing."""
        random = Random(self.seed)
        return [
            max(self.window(random) for _ in range(self.workers))
            for _ in range(self.tokens * self.targets)
        ]

    def truth(self) -> list[float]:
        """Return each window's true length, in the order of tokens, then of targets."""
        play = _Play(self)
        play.record()
        return play.truth


class _Play:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.random = Random(scenario.seed)
        self.issues: list[Issue] = []
        self.probes: list[Probe] = []
        self.revokes: list[Revoke] = []
        self.background: list[Background] = []
        self.unsent: list[Unsent] = []
        self.truth: list[float] = []

    def record(self) -> Record:
        scenario = self.scenario
        for token in range(scenario.tokens):
            self.play_token(token)
        end = max(probe.finished for probe in self.probes)
        self.play_background(end)
        return Record(
            name=scenario.name,
            header=scenario.header(),
            issues=self.issues,
            probes=sorted(self.probes, key=lambda probe: probe.finished),
            revokes=self.revokes,
            background=self.background,
            unsent=self.unsent,
            end=None
            if scenario.killed
            else End(end, "completed")
            if scenario.interrupted_at == NEVER
            else End(scenario.interrupted_at, "interrupted"),
        )

    def play_token(self, token: int) -> None:
        scenario, random = self.scenario, self.random
        issued = 0.05 * token
        digest = sha256(str(token).encode()).hexdigest()
        self.issues.append(Issue(token, digest, *self.times(issued), 200))
        planned = issued + scenario.warm_up + random.random()
        revoke = Revoke(token, *self.times(planned), 200)
        revoked_at = revoke.sent
        if random.random() < scenario.failing_revocations:
            revoke = Revoke(token, planned, revoke.sent, revoke.finished, 503)
            revoked_at = NEVER
        if revoke.sent < scenario.interrupted_at:
            self.revokes.append(revoke)
        else:
            self.unsent.append(Unsent("revoke", token, None, planned))
            revoked_at = NEVER
        for target in range(scenario.targets):
            windows = [scenario.window(random) for _ in range(scenario.workers)]
            self.truth.append(max(windows))
            end = planned + min(scenario.watch, max(windows) + scenario.after_refusal)
            for at in self.every_interval(issued + 0.1, end):
                self.probe(token, target, at, [revoked_at + window for window in windows])

    def probe(self, token: int, target: int, planned: float, refused_at: list[float]) -> None:
        planned, sent, finished = self.times(planned)
        closes = self.random.choice(refused_at)
        decided = self.random.uniform(sent, finished)
        if finished > self.scenario.interrupted_at:
            self.unsent.append(Unsent("probe", token, target, planned))
        elif self.random.random() < self.scenario.lost:
            self.probes.append(Probe(token, target, planned, sent, finished, None, "timeout"))
        else:
            status = 200 if decided < closes else 401
            self.probes.append(Probe(token, target, planned, sent, finished, status))

    def play_background(self, end: float) -> None:
        for number in range(self.scenario.background):
            planned, sent, finished = self.times(end * number / self.scenario.background)
            refused = self.random.random() < self.scenario.false_refusals
            self.background.append(
                Background(
                    self.scenario.tokens + number % 10,
                    number % self.scenario.targets,
                    planned,
                    sent,
                    finished,
                    401 if refused else 200,
                )
            )

    def every_interval(self, start: float, end: float) -> Iterator[float]:
        at = start + self.random.uniform(0.0, self.scenario.interval)
        while at < end:
            yield at
            at += self.scenario.interval

    def times(self, planned: float) -> tuple[float, float, float]:
        sent = planned + self.scenario.lag(self.random)
        return planned, sent, sent + self.random.uniform(0.5, 1.0) * self.scenario.round_trip
