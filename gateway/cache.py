"""Facts by token key: bounded in number, in age, and in the work that any one call does.

Synchronous, without I/O, and told the time by its clock. What is fresh is decided on each
hit; removing what has lapsed is housekeeping and never decides anything.
"""

from collections import OrderedDict
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
    the token's own end (``exp``), infinity where it has none.
    """

    facts: Facts
    validated: float
    expires: float

    def fresh(self, now: float, max_age_seconds: float) -> bool:
        """Whether a request may rely on these facts ``now``; a hit never extends it."""
        return now < self.validated + max_age_seconds and now < self.expires


class _OldestFirst(Cache[TokenKey, Entry]):
    """A cachetools cache that gives up what was validated longest ago.

    That entry lapses first anyway, and a hit changes nothing: reading stays cheap, and the
    order of entries is the order in which they lapse. (cachetools' own TLRUCache removes
    everything that has lapsed in one go: a million entries stall the event loop for seconds.)
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self._order: OrderedDict[TokenKey, None] = OrderedDict()
        self.evicted = 0

    def __setitem__(self, key: TokenKey, entry: Entry) -> None:
        super().__setitem__(key, entry)
        self._order[key] = None
        self._order.move_to_end(key)

    def __delitem__(self, key: TokenKey) -> None:
        super().__delitem__(key)
        del self._order[key]

    def popitem(self) -> tuple[TokenKey, Entry]:
        """Remove and return the oldest; cachetools calls this to make room."""
        key, entry = self.oldest()
        del self[key]
        self.evicted += 1
        return key, entry

    def oldest(self) -> tuple[TokenKey, Entry]:
        """Return the entry validated longest ago, or raise ``KeyError``."""
        for key in self._order:
            return key, self[key]
        raise KeyError("the cache is empty")


class FactsCache:
    """What validations learned, each good for ``max_age_seconds`` and never beyond ``exp``.

    ``stale_seconds`` keeps facts that much longer, for ``stale`` to find while the store is
    down. A caller may ask for facts younger than ``max_age_seconds``, never for older ones.
    """

    def __init__(
        self,
        *,
        max_age_seconds: float,
        max_entries: int,
        clock: Clock,
        stale_seconds: float = 0.0,
    ) -> None:
        self.max_age_seconds = max_age_seconds
        self.stale_seconds = stale_seconds
        self._clock = clock
        self._entries = _OldestFirst(max_entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def evicted(self) -> int:
        """How many entries have gone to make room for others, so far."""
        return self._entries.evicted

    def fresh(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return the facts of a token if they are young enough, else ``None``."""
        entry = self._entries.get(key)
        if entry is not None and entry.fresh(
            self._clock.monotonic(), min(max_age_seconds, self.max_age_seconds)
        ):
            return entry.facts
        return None

    def stale(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return facts that are at most ``stale_seconds`` too old (RFC 5861 §4), else ``None``."""
        entry = self._entries.get(key)
        if entry is not None and entry.fresh(
            self._clock.monotonic(),
            min(max_age_seconds, self.max_age_seconds) + self.stale_seconds,
        ):
            return entry.facts
        return None

    def keys(self) -> list[TokenKey]:
        """Return the tokens that there are facts of, lapsed ones among them."""
        return list(self._entries)

    def peek(self, key: TokenKey) -> Facts | None:
        """Return the facts of a token however old they are, which no request may rely on."""
        entry = self._entries.get(key)
        return None if entry is None else entry.facts

    def put(self, key: TokenKey, facts: Facts, *, validated: float) -> None:
        """Keep facts learned by a lookup that began at ``validated`` (monotonic seconds)."""
        expires = float("inf")
        if facts.exp is not None:
            expires = self._clock.monotonic() + facts.exp - self._clock.wall()
        self._entries[key] = Entry(facts, validated, expires)
        self.sweep(SWEEP_AT_INSERT)

    def remove(self, key: TokenKey) -> bool:
        """Drop the facts of a token; tell whether there were any."""
        return self._entries.pop(key, None) is not None

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
            if entry.fresh(now, kept_seconds):
                return removed
            del self._entries[key]
        return most
