"""Byte strings of one length in order, very many of them, of which each change moves a part alone.

Pure. A list would have to move half of itself each time, and a heap can't say what comes after
something, how many come before it, nor be rid of what has left. What stands together is one
``bytearray``: no more than the strings themselves, and nothing for the garbage collector to walk
through.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

MOST_IN_PART = 1024


class SortedKeys:
    """Different byte strings of ``width`` bytes, the least first."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._parts: list[bytearray] = []
        self._lasts: list[bytes] = []  # of each part
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """Yield all; what changes meanwhile may be among them or not."""
        return self.after(b"")

    @property
    def first(self) -> bytes | None:
        """The least, if there is any."""
        return bytes(self._parts[0][: self._width]) if self._parts else None

    def add(self, key: bytes) -> None:
        """Add one that isn't there."""
        self._size += 1
        if not self._parts:
            self._parts, self._lasts = [bytearray(key)], [key]
            return
        at = min(bisect_left(self._lasts, key), len(self._lasts) - 1)
        part = self._parts[at]
        if key > self._lasts[at]:
            part += key
            self._lasts[at] = key
        else:
            place = self._place(part, key) * self._width
            part[place:place] = key
        if len(part) > MOST_IN_PART * self._width:
            half = MOST_IN_PART // 2 * self._width
            self._parts[at : at + 1] = [part[:half], part[half:]]
            self._lasts[at:at] = [bytes(part[half - self._width : half])]

    def remove(self, key: bytes) -> bool:
        """Take one away; return whether it was there."""
        at = bisect_left(self._lasts, key)
        if at == len(self._parts):
            return False
        part = self._parts[at]
        start = self._place(part, key) * self._width
        if part[start : start + self._width] != key:
            return False
        del part[start : start + self._width]
        self._shrunk(at)
        self._size -= 1
        return True

    def take(self, most: int) -> list[bytes]:
        """Take away the least, as many as that, of one part."""
        if not self._parts:
            return []
        part = self._parts[0]
        taken = list(self._split(part[: most * self._width]))
        del part[: most * self._width]
        self._shrunk(0)
        self._size -= len(taken)
        return taken

    def count_below(self, bound: bytes) -> int:
        """Return how many are less."""
        at = bisect_left(self._lasts, bound)
        whole = sum(map(len, self._parts[:at])) // self._width
        return whole + (self._place(self._parts[at], bound) if at < len(self._parts) else 0)

    def after(self, key: bytes) -> Iterator[bytes]:
        """Yield those that are greater, in order."""
        at = bisect_right(self._lasts, key)
        for part in self._parts[at:]:
            for name in self._split(bytes(part)):
                if name > key:
                    yield name

    def _place(self, part: bytearray, key: bytes) -> int:
        width = self._width
        number = len(part) // width
        return bisect_left(
            range(number), key, key=lambda place: bytes(part[place * width : (place + 1) * width])
        )

    def _split(self, part: bytes | bytearray) -> Iterator[bytes]:
        for start in range(0, len(part), self._width):
            yield bytes(part[start : start + self._width])

    def _shrunk(self, at: int) -> None:
        part = self._parts[at]
        if part:
            self._lasts[at] = bytes(part[-self._width :])
        else:
            del self._parts[at], self._lasts[at]
