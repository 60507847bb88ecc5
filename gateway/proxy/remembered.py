"""What is remembered of requests and answers: bounded in bytes, whoever fills it.

Pure: no I/O, no asyncio. A bound on the number of items is none on memory where a client chooses
how long an item is.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST_ITEM_BYTES = 8 * 1024
"""What takes more is never remembered: few repeat it, and it would push out many others."""

# Together 4 MiB in each process; docs/isolation.md says so.
LINES_BYTES = 1024 * 1024
SECTIONS_BYTES = 1536 * 1024
PUBLIC_LINES_BYTES = PUBLIC_SECTIONS_BYTES = 256 * 1024
ANSWERS_BYTES = 1024 * 1024


class Remembered(Generic[K, V]):
    """A mapping that takes at most ``most_bytes``, and forgets first what came first.

    ``get`` is a dict's own: it is asked for each request.
    """

    __slots__ = ("_items", "_most_bytes", "_sizes", "get", "held_bytes")

    def __init__(self, most_bytes: int) -> None:
        self._items: dict[K, V] = {}
        self._sizes: deque[int] = deque()  # in the order of the items
        self._most_bytes = most_bytes
        self.get: Callable[[K], V | None] = self._items.get
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def put(self, key: K, value: V, size: int) -> None:
        """Remember an item that takes ``size`` bytes, unless it is too large, or there already."""
        if size > min(MOST_ITEM_BYTES, self._most_bytes) or key in self._items:
            return
        self._items[key] = value
        self._sizes.append(size)
        self.held_bytes += size
        while self.held_bytes > self._most_bytes:
            del self._items[next(iter(self._items))]
            self.held_bytes -= self._sizes.popleft()
