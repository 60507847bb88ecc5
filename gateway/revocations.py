"""The book of tokens that are known to be revoked while their cached facts still serve.

Pure: no I/O, no asyncio; told the time by its clock. A cached entry costs nothing for it: the book
is looked at on a hit only while something is in it. What is in it leaves when the facts stop
serving, and then its exposure is recorded, once.

Hundreds of thousands may be revoked at once (FLUSHALL). So a mark is bytes, as what the cache keeps
is (``docs/decisions/0010-facts-are-cached-as-bytes.md``), and nothing here walks through all.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Protocol

from gateway.clock import Clock
from gateway.entries import Entry
from gateway.sorted_keys import SortedKeys
from gateway.tokens import KEY_BYTES, TokenKey


class RevocationMetrics(Protocol):
    """What is counted of revoked tokens."""

    def stale_accept(self, route: str) -> None:
        """A request was accepted by a token known to be revoked."""
        ...

    def exposure(self, seconds: float) -> None:
        """The facts of a revoked token stopped serving."""
        ...


MOST_AT_ONCE = 400
"""Tokens that one call lets go: two or three milliseconds' work."""
_PARTS_AT_ONCE = 8
"""Parts of an order that nobody needs any more, which one call lets go."""

_MARK = Struct("<dddddQ?")
"""A mark: ``revoked_at``, ``revoked``, ``validated``, ``expires``, the last accept (NaN before the
first), their number, and whether a client's id follows."""
_LAPSES = Struct(">d")
"""When facts lapse, in an order in which bytes are compared: numbers that aren't negative."""


@dataclass(slots=True)
class RevokedToken:
    """A token that is revoked and still passes.

    ``revoked_at`` is epoch seconds, ``revoked`` the same instant on the monotonic clock, on which
    ``validated`` and ``expires`` are too: when its facts were learned, and its end.
    ``accepts`` counts the requests since.
    """

    key: TokenKey
    client_id: str | None
    revoked_at: float
    revoked: float
    validated: float
    expires: float
    accepts: int = 0
    last_accept: float | None = None

    def lapses(self, max_age_seconds: float) -> float:
        """When its facts stop serving (monotonic seconds)."""
        return min(self.validated + max_age_seconds, self.expires)


def _pack(token: RevokedToken) -> bytes:
    last_accept = math.nan if token.last_accept is None else token.last_accept
    fixed = _MARK.pack(
        token.revoked_at,
        token.revoked,
        token.validated,
        token.expires,
        last_accept,
        token.accepts,
        token.client_id is not None,
    )
    return fixed if token.client_id is None else fixed + token.client_id.encode()


def _unpack(key: TokenKey, mark: bytes) -> RevokedToken:
    revoked_at, revoked, validated, expires, last, accepts, has_client = _MARK.unpack_from(mark)
    return RevokedToken(
        key,
        mark[_MARK.size :].decode() if has_client else None,
        revoked_at,
        revoked,
        validated,
        expires,
        accepts,
        None if math.isnan(last) else last,
    )


def _exposure_seconds(mark: bytes) -> float:
    """Return the time from the revocation until the last acceptance; 0 where there was none."""
    _, revoked, _, _, last_accept, accepts, _ = _MARK.unpack_from(mark)
    return max(0.0, last_accept - revoked) if accepts else 0.0


class _Order:
    """Tokens in the order in which their facts lapse by one max age."""

    def __init__(self, max_age_seconds: float) -> None:
        self.max_age_seconds = max_age_seconds
        self.keys = SortedKeys(_LAPSES.size + KEY_BYTES)

    def name(self, mark: bytes, key: TokenKey) -> bytes:
        """Return what stands for a token here: when it lapses, and its key."""
        _, _, validated, expires, *_ = _MARK.unpack_from(mark)
        lapses = min(validated + self.max_age_seconds, expires)
        return _LAPSES.pack(max(0.0, lapses)) + key


def _key(name: bytes) -> TokenKey:
    return TokenKey(name[_LAPSES.size :])


def _just_after(instant: float) -> bytes:
    """Return what is greater than the name of whatever lapses by an instant."""
    return _LAPSES.pack(math.nextafter(max(0.0, instant), math.inf))


class RevokedTokens:
    """Tokens revoked whose facts still serve, until these are ``max_age_seconds`` old.

    That is the longest max age that any request may ask for.

    Where very many lapse at once, ``lapse`` lets them go a part at a time. To everyone else all of
    them are gone; only their exposure is recorded later.
    """

    def __init__(self, *, max_age_seconds: float, clock: Clock, metrics: RevocationMetrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._size = 0
        self._shards: list[dict[TokenKey, bytes]] = [{} for _ in range(256)]
        self._order = _Order(max_age_seconds)
        self._earlier: list[_Order] = []  # by other max ages, on their way into the present one
        # Cleared, and still to be recorded and let go.
        self._cleared: list[dict[TokenKey, bytes]] = []
        self._cleared_orders: list[_Order] = []

    def __len__(self) -> int:
        """How many there are that still pass, now.

        While very many are put in another order, after a reload, some that don't count too.
        """
        if not self.lapse():
            return self._size
        return self._size - self._order.keys.count_below(_just_after(self._clock.monotonic()))

    def __iter__(self) -> Iterator[RevokedToken]:
        """Yield those that still pass, the next to lapse first."""
        return self.after(0.0, b"")

    def after(self, lapses: float, key: bytes) -> Iterator[RevokedToken]:
        """Yield those of them that come after that token, which lapses then (monotonic seconds).

        To begin in the midst of very many costs no more than at the beginning.
        """
        self.lapse()
        now = self._clock.monotonic()
        start = max(_LAPSES.pack(max(0.0, lapses)) + key, _just_after(now))
        for name in self._order.keys.after(start):
            mark = self._mark_of(_key(name))
            if mark is not None:
                yield _unpack(_key(name), mark)
        for order in self._earlier:
            for name in order.keys:
                mark = self._mark_of(_key(name))
                if mark is not None and self._order.name(mark, _key(name)) > start:
                    yield _unpack(_key(name), mark)

    def __contains__(self, key: TokenKey) -> bool:
        return self._size > 0 and key in self._shards[key[0]]

    def mark(self, key: TokenKey, entry: Entry, *, revoked: float) -> None:
        """Note that a token is revoked since ``revoked`` (monotonic), with the facts of ``entry``.

        Of two reports of a revocation the earlier counts.
        """
        revoked_at = self._clock.wall() - (self._clock.monotonic() - revoked)
        shard = self._shards[key[0]]
        known = shard.get(key)
        if known is not None:
            token = _unpack(key, known)
            if revoked < token.revoked:
                token.revoked, token.revoked_at = revoked, revoked_at
                shard[key] = _pack(token)
            return
        facts = entry.facts
        token = RevokedToken(
            key, facts.client_id, revoked_at, revoked, entry.validated, entry.expires
        )
        mark = shard[key] = _pack(token)
        self._size += 1
        self._order.keys.add(self._order.name(mark, key))

    def accepted(self, key: TokenKey, route: str) -> None:
        """A request was accepted: if its token is revoked, that was a stale accept."""
        if not self._size:
            return
        shard = self._shards[key[0]]
        mark = shard.get(key)
        if mark is None:
            return
        *since, _, accepts, has_client = _MARK.unpack_from(mark)
        fixed = _MARK.pack(*since, self._clock.monotonic(), accepts + 1, has_client)
        shard[key] = fixed + mark[_MARK.size :]
        self._metrics.stale_accept(route)

    def left(self, key: TokenKey) -> None:
        """The facts of a token are gone, or replaced by what the store says now."""
        if not self._size:
            return
        mark = self._shards[key[0]].pop(key, None)
        if mark is None:
            return
        self._size -= 1
        for order in (self._order, *self._earlier):
            if order.keys.remove(order.name(mark, key)):
                break
        self._metrics.exposure(_exposure_seconds(mark))

    def clear(self) -> None:
        """The facts of all tokens are gone."""
        self._cleared.extend(shard for shard in self._shards if shard)
        self._cleared_orders += [self._order, *self._earlier]
        self._shards = [{} for _ in range(256)]
        self._order, self._earlier = _Order(self._order.max_age_seconds), []
        self._size = 0
        self.lapse()

    def lapse(self) -> bool:
        """Let those go whose facts no longer serve, ``MOST_AT_ONCE``; return if more have to."""
        left = MOST_AT_ONCE
        left -= self._record_cleared(left)
        left -= self._order_anew(left)
        due = _just_after(self._clock.monotonic())
        while left and (first := self._order.keys.first) is not None and first < due:
            left -= 1
            self.left(_key(first))
        return bool(self._cleared or self._cleared_orders or self._earlier or self._overdue(due))

    def _overdue(self, due: bytes) -> bool:
        first = self._order.keys.first
        return first is not None and first < due

    def _record_cleared(self, most: int) -> int:
        done = 0
        while self._cleared and done < most:
            shard = self._cleared[-1]
            for _ in range(min(len(shard), most - done)):
                _, mark = shard.popitem()
                self._metrics.exposure(_exposure_seconds(mark))
                done += 1
            if not shard:
                self._cleared.pop()
        for _ in range(_PARTS_AT_ONCE):
            if self._cleared_orders and not self._cleared_orders[-1].keys.take(MOST_AT_ONCE):
                self._cleared_orders.pop()
        return done

    def set_max_age(self, seconds: float) -> None:
        """Work by another max age from now on."""
        if len(self._order.keys):
            self._earlier.append(self._order)
        self._order = _Order(seconds)
        self.lapse()

    def _order_anew(self, most: int) -> int:
        done = 0
        while self._earlier and done < most:
            names = self._earlier[-1].keys.take(most - done)
            if not names:
                self._earlier.pop()
            for name in names:
                done += 1
                mark = self._mark_of(_key(name))
                if mark is not None:
                    self._order.keys.add(self._order.name(mark, _key(name)))
        return done

    def _mark_of(self, key: TokenKey) -> bytes | None:
        return self._shards[key[0]].get(key)

    def lapses(self, token: RevokedToken) -> float:
        """When the facts of a token stop serving (monotonic seconds)."""
        return token.lapses(self._order.max_age_seconds)

    def lapses_at(self, token: RevokedToken) -> float:
        """When the facts of a token stop serving (epoch seconds)."""
        remaining = self.lapses(token) - self._clock.monotonic()
        return self._clock.wall() + remaining
