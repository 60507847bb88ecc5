"""What the project set itself, and whether this run shows it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rig.cases import REFERENCE
from rig.figures import Sample, by_round, figure


@dataclass(frozen=True)
class Goal:
    """Processor time a request: of one gateway in a case, to another's, perhaps in another case."""

    title: str
    of: tuple[str, str]
    to: tuple[str, str]
    at_most: float


OURS = ("hot", REFERENCE)
WITHOUT = ("own", "ours_no_feed")
SAME = ("own", REFERENCE)
GOALS = (
    Goal("a hot token: no more than nginx auth_request", OURS, ("hot", "nginx_auth"), 1),
    Goal("a hot token: 1.3 times nginx + Lua + Redis", OURS, ("hot", "nginx_lua"), 1.3),
    Goal("a hot token: a third of Envoy + ext_authz", OURS, ("hot", "envoy"), 1 / 3),
    Goal("cold tokens: 2.5 times a hot one", ("first", "ours_first"), ("first", REFERENCE), 2.5),
    Goal("lapse, with the feed: as without", SAME, WITHOUT, 1.05),
    Goal("evict: as without the feed", ("own", "ours_evict"), WITHOUT, 1.05),
    Goal("revoked tokens marked: as without", ("own", "ours_marked"), SAME, 1.05),
    Goal("stale accepts: as good tokens", ("stale", "ours_marked"), ("stale", REFERENCE), 1.05),
    Goal("metrics scraped each second: as without", ("own", "ours_scraped"), SAME, 1.05),
    Goal("two workers: as one", ("own", "ours_workers"), SAME, 1.05),
)  # fmt: skip


def goals(samples: Sequence[Sample]) -> str:
    """Return the table of those goals that the run has figures for; "" for none."""
    lines = []
    for goal in GOALS:
        found = figure(by_round(samples, *goal.of, "cpu"), by_round(samples, *goal.to, "cpu"))
        if found is None or found.ratio is None:
            continue
        holds = "yes" if found.ratio <= goal.at_most else "**no**"
        lines.append(f"| {goal.title} | {goal.at_most:.2f} | {found.ratio:.2f} | {holds} |")
    if not lines:
        return ""
    head = ["### Goals, by CPU a request", "", "| goal | at most | here | holds |"]
    return "\n".join([*head, "| --- | ---: | ---: | --- |", *lines]) + "\n"
