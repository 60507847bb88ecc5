"""What clients without a good token have the process hold."""

from gateway.proxy.holdings import FREE_BYTES, MOST_BYTES, Holdings


def test_who_has_held_for_longest_has_to_go() -> None:
    """As many as it takes, were it the one that came last."""
    holdings: Holdings[str] = Holdings(10_000)
    assert holdings.hold("a", 4000) == holdings.hold("b", 4000) == []
    assert holdings.hold("c", 4000) == ["a"]
    assert holdings.hold("d", 9000) == ["b", "c"]
    assert holdings.hold("e", 20_000) == ["d", "e"]
    assert holdings.total == 0


def test_holding_more_makes_nobody_younger() -> None:
    """Who sends a byte now and then is still who has held for longest."""
    holdings: Holdings[str] = Holdings(10_000)
    holdings.hold("slow", 4000)
    holdings.hold("other", 4000)
    holdings.hold("slow", 4001)
    assert holdings.hold("third", 4000) == ["slow"]
    assert holdings.total == 8000


def test_who_has_had_theirs_taken_begins_anew() -> None:
    """And who holds little isn't counted at all."""
    holdings: Holdings[str] = Holdings(10_000)
    holdings.hold("quick", 4000)
    holdings.hold("slow", 4000)
    assert holdings.hold("quick", FREE_BYTES) == []
    assert holdings.total == 4000
    holdings.hold("quick", 4000)
    assert holdings.hold("third", 4000) == ["slow"]
    holdings.release("quick")
    holdings.release("quick")
    assert holdings.total == 4000


def test_what_it_is_in_all() -> None:
    """As docs/isolation.md has it."""
    assert (MOST_BYTES, FREE_BYTES) == (3 * 2**20, 2 * 2**10)
