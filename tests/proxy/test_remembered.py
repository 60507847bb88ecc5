"""What is remembered: bounded in bytes, the oldest out first."""

from gateway.proxy.remembered import (
    ANSWERS_BYTES,
    LINES_BYTES,
    MOST_ITEM_BYTES,
    PUBLIC_LINES_BYTES,
    PUBLIC_SECTIONS_BYTES,
    SECTIONS_BYTES,
    Remembered,
)


def test_the_oldest_go_when_it_is_full() -> None:
    """As many as the new one needs."""
    known: Remembered[str, int] = Remembered(100)
    for number, size in enumerate((40, 30, 30)):
        known.put(f"{number}", number, size)
    assert (list(known), known.held_bytes) == (["0", "1", "2"], 100)
    known.put("3", 3, 50)
    assert (list(known), known.held_bytes) == (["2", "3"], 80)
    assert (known.get("1"), known.get("2"), len(known)) == (None, 2, 2)


def test_what_is_there_stays_as_it_is() -> None:
    """It isn't counted twice, and doesn't become younger."""
    known: Remembered[str, int] = Remembered(100)
    known.put("a", 1, 60)
    known.put("a", 2, 30)
    assert (known.get("a"), known.held_bytes) == (1, 60)


def test_large_items_are_not_remembered() -> None:
    """They would push out many others."""
    known: Remembered[str, int] = Remembered(10 * MOST_ITEM_BYTES)
    known.put("large", 1, MOST_ITEM_BYTES + 1)
    known.put("largest", 1, MOST_ITEM_BYTES)
    assert list(known) == ["largest"]
    small: Remembered[str, int] = Remembered(10)
    small.put("more than all", 1, 11)
    assert len(small) == 0


def test_all_of_it_is_4_mib() -> None:
    """In each process, as docs/isolation.md has it."""
    kinds = (LINES_BYTES, SECTIONS_BYTES, PUBLIC_LINES_BYTES, PUBLIC_SECTIONS_BYTES, ANSWERS_BYTES)
    assert sum(kinds) == 4 * 2**20
