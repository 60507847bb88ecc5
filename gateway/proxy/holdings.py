"""What clients without a good token have the process hold: bytes that nobody has taken yet.

Pure: no I/O, no asyncio. Header sections that don't end, bodies that nobody reads, requests sent
ahead of their turn: each connection may have some, but all of them together must not have much.
"""

from typing import Generic, TypeVar

Owner = TypeVar("Owner")

MOST_BYTES = 3 * 1024 * 1024
"""What all may hold together; docs/isolation.md says so."""
FREE_BYTES = 2 * 1024
"""What each may hold besides."""


class Holdings(Generic[Owner]):
    """How many bytes each holds.

    Where that is too much in all, those have to go that have held theirs for longest: whose bytes
    are taken is soon rid of them.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held: dict[Owner, int] = {}
        self.total = 0

    def hold(self, owner: Owner, size: int) -> list[Owner]:
        """Note that one holds so many bytes now; return who has to go for it."""
        if size <= FREE_BYTES:
            self.release(owner)
            return []
        self.total += size - self._held.get(owner, 0)
        self._held[owner] = size  # which leaves it in its place
        gone = []
        while self.total > self._most_bytes:
            first = next(iter(self._held))
            self.release(first)
            gone.append(first)
        return gone

    def release(self, owner: Owner) -> None:
        """Note that one holds nothing, or that it doesn't count any more."""
        self.total -= self._held.pop(owner, 0)
