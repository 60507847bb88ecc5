"""Facts by token key: bounded in number, in age, and in the work that any one call does.

Synchronous, without I/O, and told the time by its clock. What is fresh is decided on each
hit; removing what has lapsed is housekeeping and never decides anything.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import Cache

from gateway.clock import Clock
from gateway.tokens import Facts, TokenKey

SWEEP_AT_INSERT = 2
"""Lapsed entries that an insert removes, at most: the cache shrinks faster than it grows."""


@dataclass(slots=True)
class Entry:
    """Facts and when they were learned, on the monotonic clock.

    ``validated`` is when the lookup began: the store may have answered at any instant since,
    so counting from the beginning never overstates how fresh the facts are. ``expires`` is
    the token's own end (``exp``), infinity where it has none. ``generation`` counts the flushes
    before it was put.
    """

    facts: Facts
    validated: float
    expires: float
    generation: int = 0

    def fresh(self, now: float, max_age_seconds: float) -> bool:
        """Whether a request may rely on these facts ``now``; a hit never extends it."""
        return now < self.validated + max_age_seconds and now < self.expires


class _OldestFirst(Cache[TokenKey, Entry]):
    """A cachetools cache that gives up what was validated longest ago.

    That entry lapses first anyway, and a hit changes nothing: reading stays cheap, and the
    order of entries is the order in which they lapse. (cachetools' own TLRUCache removes
    everything that has lapsed in one go: a million entries stall the event loop for seconds.)
    """

    def __init__(self, maxsize: int, left: Callable[[TokenKey], None] | None) -> None:
        super().__init__(maxsize)
        self._order: OrderedDict[TokenKey, None] = OrderedDict()
        self._left = left
        self.evicted = 0

    def __setitem__(self, key: TokenKey, entry: Entry) -> None:
        if self._left is not None and key in self._order:
            self._left(key)
        super().__setitem__(key, entry)
        self._order[key] = None
        self._order.move_to_end(key)

    def __delitem__(self, key: TokenKey) -> None:
        super().__delitem__(key)
        del self._order[key]
        if self._left is not None:
            self._left(key)

    def popitem(self) -> tuple[TokenKey, Entry]:
        """Remove and return the oldest; cachetools calls this to make room."""
        key, entry = self.oldest()
        del self[key]
        self.evicted += 1
        return key, entry

    def in_order(self) -> list[TokenKey]:
        """Return all keys, oldest first."""
        return list(self._order)

    def oldest(self) -> tuple[TokenKey, Entry]:
        """Return the entry validated longest ago, or raise ``KeyError``."""
        for key in self._order:
            return key, self[key]
        raise KeyError("the cache is empty")


class FactsCache:
    """What validations learned, each good for ``max_age_seconds`` and never beyond ``exp``.

    ``stale_seconds`` keeps facts that much longer, for ``stale`` to find while the store is
    down. A caller may ask for facts younger than ``max_age_seconds``, never for older ones.
    ``cap_seconds`` may be set while there is reason to trust facts for less than that.

    ``left`` is told of each token whose facts go, or are replaced by later ones.
    """

    def __init__(
        self,
        *,
        max_age_seconds: float,
        max_entries: int,
        clock: Clock,
        stale_seconds: float = 0.0,
        left: Callable[[TokenKey], None] | None = None,
    ) -> None:
        self.max_age_seconds = max_age_seconds
        self.stale_seconds = stale_seconds
        self.cap_seconds = float("inf")
        self._clock = clock
        self._entries = _OldestFirst(max_entries, left)
        self._generation = 0
        self._pushed_out: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def evicted(self) -> int:
        """How many entries have gone to make room for others, so far."""
        return self._entries.evicted

    def evictions(self) -> dict[str, int]:
        """Return how many entries have gone before their time, by cause.

        "size" made room for others; "flushed" went with all that was cached then (counted as
        they are swept); the others are what callers of ``remove`` said.
        """
        return {"size": self._entries.evicted, **self._pushed_out}

    def fresh(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return the facts of a token if they are young enough, else ``None``."""
        entry = self.entry(key, max_age_seconds)
        return None if entry is None else entry.facts

    def entry(
        self, key: TokenKey, max_age_seconds: float = float("inf"), *, more_seconds: float = 0.0
    ) -> Entry | None:
        """Return facts with their age, if they are young enough, else ``None``.

        ``more_seconds`` is how much older than any bound they may be.
        """
        entry = self._entries.get(key)
        if (
            entry is not None
            and entry.generation == self._generation
            and entry.fresh(
                self._clock.monotonic(),
                min(max_age_seconds, self.max_age_seconds, self.cap_seconds) + more_seconds,
            )
        ):
            return entry
        return None

    def stale(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return facts that are at most ``stale_seconds`` too old (RFC 5861 §4), else ``None``."""
        entry = self.entry(key, max_age_seconds, more_seconds=self.stale_seconds)
        return None if entry is None else entry.facts

    def keys(self) -> list[TokenKey]:
        """Return the tokens that there are facts of, oldest first, lapsed ones among them."""
        return self._entries.in_order()

    def peek(self, key: TokenKey) -> Facts | None:
        """Return the facts of a token however old they are, which no request may rely on."""
        entry = self._entries.get(key)
        if entry is None or entry.generation != self._generation:
            return None
        return entry.facts

    def put(self, key: TokenKey, facts: Facts, *, validated: float) -> None:
        """Keep facts learned by a lookup that began at ``validated`` (monotonic seconds)."""
        expires = float("inf")
        if facts.exp is not None:
            expires = self._clock.monotonic() + facts.exp - self._clock.wall()
        self._entries[key] = Entry(facts, validated, expires, self._generation)
        self.sweep(SWEEP_AT_INSERT)

    def remove(self, key: TokenKey, cause: str | None = None) -> bool:
        """Drop the facts of a token; tell whether there were any, and count them by ``cause``."""
        removed = self._entries.pop(key, None) is not None
        if removed and cause is not None:
            self._pushed_out[cause] += 1
        return removed

    def flush(self) -> None:
        """Rely on nothing that was put before; costs the same whatever is cached.

        What was put lies there until it is swept or makes room. A generation tells it apart, not
        an instant: two events in one tick of the clock still have an order.
        """
        self._generation += 1

    def sweep(self, most: int) -> int:
        """Remove at most ``most`` entries that can't serve any more; return how many it did.

        Entries whose ``exp`` came before their max age wait for their turn: they don't serve,
        and only occupy their place.
        """
        now = self._clock.monotonic()
        kept_seconds = self.max_age_seconds + self.stale_seconds
        for removed in range(most):
            if not self._entries:
                return removed
            key, entry = self._entries.oldest()
            if entry.generation != self._generation:
                self._pushed_out["flushed"] += 1
            elif entry.fresh(now, kept_seconds):
                return removed
            del self._entries[key]
        return most
