"""Facts by token key: bounded in number, in age, and in the work that any one call does.

Synchronous, without I/O, and told the time by its clock. What is fresh is decided on each
hit; removing what has lapsed is housekeeping and never decides anything.

A million tokens must cost no pause (``docs/decisions/0010-facts-are-cached-as-bytes.md``). Keys and
what is kept under them are bytes, in mappings of some thousands each: there is nothing for the
garbage collector to walk through, and no mapping that takes long to grow.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from cachetools import Cache

from gateway.clock import Clock
from gateway.entries import Entry, pack, times, unpack
from gateway.tokens import Facts, TokenKey

SWEEP_AT_INSERT = 2
"""Lapsed entries that an insert removes, at most: the cache shrinks faster than it grows."""
SHARD_ENTRIES = 4096
"""About how many entries a shard has room for: it is laid out anew in a tenth of a millisecond."""
MOST_SHARDS = 256
"""One for each value of a key's first byte."""
ENTRIES_AT_HAND = 4096
"""Entries lately used that are kept as objects too: a busy token's is unpacked once."""
MOST_IN_PART = 1000
SHARDS_AT_SWEEP = 32
"""Shards that a sweep looks at, at most."""


class _Shard(Cache[TokenKey, bytes | None]):
    """A part of the tokens, as a cachetools cache that gives up what was put first.

    That entry lapses first anyway, and a hit changes nothing: reading stays cheap, and the
    order of entries is the order in which they lapse. (cachetools' own TTLCache removes
    everything that has lapsed in one go: a million entries stall the event loop for seconds.)

    ``due`` is when its oldest entry was to lapse when an insert last looked (monotonic seconds).
    """

    due = float("-inf")

    def __missing__(self, key: TokenKey) -> None:
        """Find ``None`` where there is nothing: one step less than ``get`` for what is there."""

    def popitem(self) -> tuple[TokenKey, bytes | None]:
        """Remove and return the oldest."""
        for key in self:
            record = self[key]
            del self[key]
            return key, record
        raise KeyError("the cache is empty")


class FactsCache:
    """What validations learned, each good for ``max_age_seconds`` and never beyond its own end.

    That is ``exp``, or the instant until which the store keeps the token, judged on each hit by
    both clocks: one that is set, forward or back, doesn't prolong the life of a token.

    ``stale_seconds`` keeps facts that much longer, for ``stale`` to find while the store is
    down. A caller may ask for facts younger than ``max_age_seconds``, never for older ones.
    ``cap_seconds`` may be set while there is reason to trust facts for less than that.

    When it is full, the oldest facts of the shard that a new token belongs to make room. Keys are
    digests, so the shards are alike, and what goes is among the oldest of all.

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
        self._max_entries = max_entries
        self._clock = clock
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._left = left
        count = 1
        while count < MOST_SHARDS and count * SHARD_ENTRIES < max_entries:
            count *= 2
        self._shards = [_Shard(max_entries) for _ in range(count)]
        self._by_byte = [self._shards[byte % count] for byte in range(256)]
        self._at_hand: dict[TokenKey, Entry] = {}
        self._next_to_sweep = 0
        self._size = 0
        self._outdated = 0  # of these, how many were flushed
        self._number = 0
        self._flushed = 0
        self._pushed_out = Counter(size=0)

    def __len__(self) -> int:
        """How many facts there are; none of those that were flushed and lie there still."""
        return self._size - self._outdated

    @property
    def evicted(self) -> int:
        """How many entries have gone to make room for others, so far."""
        return self._pushed_out["size"]

    def evictions(self) -> dict[str, int]:
        """Return how many entries have gone before their time, by cause.

        "size" made room for others; "flushed" went with all that was cached then; the others are
        what callers of ``remove`` said.
        """
        return dict(self._pushed_out)

    def fresh(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return the facts of a token if they are young enough, else ``None``."""
        entry = self.entry(key, max_age_seconds)
        return None if entry is None else entry.facts

    def entry(
        self,
        key: TokenKey,
        max_age_seconds: float = float("inf"),
        *,
        more_seconds: float = 0.0,
        keep: bool = True,
    ) -> Entry | None:
        """Return facts with their age, if they are young enough, else ``None``.

        ``more_seconds`` is how much older than any bound they may be. Who doesn't ask for a request
        should say not to ``keep`` the entry as an object: those of busy tokens are kept.
        """
        entry = self._at_hand.get(key)
        if entry is None:
            entry = self._unpacked(key, keep=keep)
            if entry is None:
                return None
        now = self._monotonic()
        age = now - entry.validated - more_seconds
        if (  # rather than with the least of the three, which costs as much as all else here
            age < max_age_seconds
            and age < self.max_age_seconds
            and age < self.cap_seconds
            and now < entry.expires
            and entry.begins_at <= self._wall() < entry.ends_at
            and entry.number > self._flushed
        ):
            return entry
        return None

    def _unpacked(self, key: TokenKey, *, keep: bool = True) -> Entry | None:
        if not self._size:
            return None  # as of bad tokens most of the time
        record = self._by_byte[key[0]][key]
        if record is None:
            return None
        if not keep:
            return unpack(record)
        if len(self._at_hand) >= ENTRIES_AT_HAND:
            self._at_hand.clear()  # the busy ones are back at once
        entry = self._at_hand[key] = unpack(record)
        return entry

    def stale(self, key: TokenKey, max_age_seconds: float) -> Facts | None:
        """Return facts that are at most ``stale_seconds`` too old (RFC 5861 §4), else ``None``."""
        entry = self.entry(key, max_age_seconds, more_seconds=self.stale_seconds)
        return None if entry is None else entry.facts

    def peek(self, key: TokenKey) -> Facts | None:
        """Return the facts of a token however old they are, which no request may rely on."""
        record = self._by_byte[key[0]][key]
        if record is None:
            return None
        entry = unpack(record)
        return entry.facts if entry.number > self._flushed else None

    def keys(self) -> list[TokenKey]:
        """Return the tokens that there are facts of, lapsed ones among them.

        Of a million that takes tens of milliseconds.
        """
        return [key for part in self.parts() for key in part]

    def parts(self) -> Iterator[list[TokenKey]]:
        """Yield the tokens that there are facts of, ``MOST_IN_PART`` at a time.

        The cache may change between one part and the next.
        """
        for shard in self._shards:
            keys = list(shard)
            for start in range(0, len(keys), MOST_IN_PART):
                yield keys[start : start + MOST_IN_PART]

    def put(
        self,
        key: TokenKey,
        facts: Facts,
        *,
        validated: float,
        life_seconds: float = float("inf"),
    ) -> None:
        """Keep facts learned by a lookup that began at ``validated`` (monotonic seconds).

        From then on the store keeps the token for ``life_seconds``.
        """
        now, now_at = self._monotonic(), self._wall()
        expires, ends_at = validated + life_seconds, now_at - now + validated + life_seconds
        if facts.exp is not None:
            expires = min(expires, now + facts.exp - now_at)
            ends_at = min(ends_at, facts.exp)
        shard = self._by_byte[key[0]]
        if key in shard:
            self._drop(shard, key)  # so that it is the youngest
        if now >= shard.due:
            self._sweep(shard, SWEEP_AT_INSERT)
        if self._size >= self._max_entries:
            self._make_room(shard)
        self._number += 1
        shard[key] = pack(facts, validated, expires, self._number, ends_at=ends_at)
        self._size += 1

    def remove(self, key: TokenKey, cause: str | None = None) -> bool:
        """Drop the facts of a token; tell whether there were any, and count them by ``cause``."""
        shard = self._by_byte[key[0]]
        if not self._size or key not in shard:
            return False
        was_there = self._drop(shard, key)
        if was_there and cause is not None:
            self._pushed_out[cause] += 1
        return was_there

    def flush(self) -> None:
        """Rely on nothing that was put before; costs the same whatever is cached.

        What was put lies there until it is swept or makes room. Its number tells it apart, not
        an instant: two events in one tick of the clock still have an order.
        """
        self._pushed_out["flushed"] += len(self)
        self._outdated, self._flushed = self._size, self._number
        for shard in self._shards:
            shard.due = float("-inf")

    def sweep(self, most: int) -> int:
        """Remove at most ``most`` entries that can't serve any more; return how many it did.

        Entries whose ``exp`` came before their max age wait for their turn: they don't serve,
        and only occupy their place. Of a large cache it looks at a part, and goes on from there
        the next time.
        """
        removed = 0
        for _ in range(min(SHARDS_AT_SWEEP, len(self._shards))):
            removed += self._sweep(self._shards[self._next_to_sweep], most - removed)
            if removed == most:
                break
            self._next_to_sweep = (self._next_to_sweep + 1) % len(self._shards)
        return removed

    def _sweep(self, shard: _Shard, most: int) -> int:
        now = shard.due = self._monotonic()
        kept_seconds = self.max_age_seconds + self.stale_seconds
        lapsed: list[TokenKey] = []
        for key in shard:
            if len(lapsed) == most:
                break
            validated, expires, number = times(shard[key] or b"")
            if number > self._flushed and now < validated + kept_seconds and now < expires:
                shard.due = min(validated + kept_seconds, expires)
                break
            lapsed.append(key)
        for key in lapsed:
            self._drop(shard, key)
        return len(lapsed)

    def _make_room(self, shard: _Shard) -> None:
        # The new token's own shard, which so keeps its size; it may have nothing to give.
        key, record = (shard or max(self._shards, key=len)).popitem()
        self._pushed_out["size"] += self._gone(key, record)

    def _drop(self, shard: _Shard, key: TokenKey) -> bool:
        record = shard[key]
        del shard[key]
        return self._gone(key, record)

    def _gone(self, key: TokenKey, record: bytes | None) -> bool:
        """Account for an entry that is no longer there; return whether it counted till then."""
        _, _, number = times(record or b"")
        self._size -= 1
        self._outdated -= number <= self._flushed
        self._at_hand.pop(key, None)
        if self._left is not None:
            self._left(key)
        return number > self._flushed
