"""The cases: what is sent, to whom, and what has to be done before.

Tokens are by number: the first ``MANY`` are hot ones, those that follow are used once, each
round its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from peers import Peer

from rig.load import Load
from rig.tokens import BAD_TOKEN

MANY = 100_000
COLD_A_ROUND = 40_000
SMALL_ANSWER = 26


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
    variants: bool = False

    def takes_part(self, peer: Peer) -> bool:
        """Whether a gateway is measured in this case."""
        if peer.cases:
            return self.name in peer.cases
        return not self.variants and self.takes(peer)

    def in_round(self, number: int, seconds: float) -> Load:
        """Return what is sent in a round, which counts from 0."""
        load = replace(self.load, seconds=seconds)
        if self.cold:
            first = MANY + number * COLD_A_ROUND
            load = replace(load, tokens=(first, COLD_A_ROUND), stop=COLD_A_ROUND)
        return load


def _checks(peer: Peer) -> bool:
    return peer.checks_tokens


CASES = (
    Case("hot", "One hot token", Load()),
    Case("many", "100,000 hot tokens", Load(tokens=(0, MANY)), takes=_checks, warm_all=True),
    Case("cold", "Every token cold (its first use)", Load(), takes=_checks, cold=True),
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
)
