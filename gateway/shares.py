"""How many of the connections that upstreams share one of them may have.

Pure. Each upstream has a few to which it is entitled, whatever the others take: one that is slow
or dead, and holds what it gets, can't take these.
"""

from collections.abc import Iterable


def entitlement(limit: int, upstreams: int) -> int:
    """Return how many each of so many upstreams can always have: a quarter is kept for that."""
    return limit // (4 * upstreams) if upstreams > 1 else 0


def room(limit: int, *, used: int, own: int, others: Iterable[int], upstreams: int) -> int:
    """Return how many connections more an upstream may have that has ``own``; none if not above 0.

    ``used`` are all that there are, ``others`` how many each of the others has that has any.
    """
    free = limit - used
    entitled = entitlement(limit, upstreams)
    if own < entitled:
        return free
    counts = list(others)
    unused = upstreams - 1 - len(counts)
    kept = entitled * max(0, unused) + sum(max(0, entitled - count) for count in counts)
    return free - kept
