"""The cases: what is sent, to whom, and what has to be done before.

Tokens are by number: the first ``MANY`` are hot ones; ``REVOKED`` follow, which are used and then
revoked; the rest is used once, each round its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from peers import Peer

from rig.load import Load
from rig.tokens import BAD_TOKEN

MANY = 100_000
REVOKED = 10_000
COLD_A_ROUND = 40_000
REFERENCE = "ours_fast"
"""What all others are compared with."""


@dataclass(frozen=True)
class Case:
    """A case of the benchmark.

    ``warm_all``: every token of the load is used before the first round. ``cold``: each round
    has tokens of its own.
    """

    name: str
    title: str
    load: Load
    takes: Callable[[Peer], bool] = lambda _: True
    warm_all: bool = False
    cold: bool = False
    idle: int = 0
    marked: Load | None = None
    """What is sent instead to a gateway whose cache has revoked tokens."""

    def takes_part(self, peer: Peer) -> bool:
        """Whether a gateway is measured in this case."""
        if peer.cases:
            return self.name in peer.cases
        return self.takes(peer)

    def is_cold(self, peer: Peer) -> bool:
        """Whether each request to a gateway has a token of its own."""
        return self.cold or peer.cold

    def in_round(self, peer: Peer, number: int, seconds: float) -> Load:
        """Return what is sent in a round, which counts from 0."""
        load = self.marked if self.marked and peer.marks else self.load
        load = replace(load, seconds=seconds)
        if self.is_cold(peer):
            first = MANY + REVOKED + number * COLD_A_ROUND
            load = replace(load, tokens=(first, COLD_A_ROUND), stop=COLD_A_ROUND)
        return load


def _checks(peer: Peer) -> bool:
    return peer.checks_tokens


def _reference(peer: Peer) -> bool:
    return peer.name == REFERENCE


CASES = (
    Case("hot", "One hot token", Load()),
    Case("many", "100,000 hot tokens", Load(tokens=(0, MANY)), takes=_checks, warm_all=True),
    Case("cold", "Every token cold (its first use)", Load(), takes=_checks, cold=True),
    # Minutes may lie between two cases, in which the machine's pace changes.
    Case(
        "first",
        "Ours: one hot token, or each token for the first time",
        Load(),
        takes=_reference,
    ),
    Case(
        "fresh",
        "max_age 0s: the store is asked every time",
        Load(path="/fresh"),
        takes=lambda peer: peer.checks_tokens and peer.fresh,
    ),
    Case("64k", "Answers of 64 KiB", Load(path="/64k", answer_bytes=64 * 1024)),
    Case(
        "10m",
        "Answers of 10 MiB, 8 connections",
        Load(path="/10m", answer_bytes=10 * 1024 * 1024, connections=8),
    ),
    Case("post", "POST with 1 KiB", Load(method="POST", body_bytes=1024)),
    Case("bad", "A bad token: 401", Load(token=BAD_TOKEN, status=401), takes=_checks),
    Case("tls", "TLS from the client", Load(tls=True)),
    Case("idle", "1,000 idle connections", Load(), idle=1000),
    Case("own", "Ours with one thing changed: one hot token", Load(), takes=_reference),
    Case(
        "stale",
        "Ours, 10,000 hot tokens: all revoked (each request is a stale accept), or none",
        Load(tokens=(0, REVOKED)),
        takes=_reference,
        warm_all=True,
        marked=Load(tokens=(MANY, REVOKED)),
    ),
)
