"""The book of tokens that are known to be revoked while their cached facts still serve.

Pure: no I/O, no asyncio; told the time by its clock. A cached entry costs nothing for it: the book
is looked at on a hit only while something is in it. What is in it leaves when the facts stop
serving, and then its exposure is recorded, once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Protocol

from gateway.clock import Clock
from gateway.entries import Entry
from gateway.tokens import Facts, TokenKey


class RevocationMetrics(Protocol):
    """What is counted of revoked tokens."""

    def stale_accept(self, route: str) -> None:
        """A request was accepted by a token known to be revoked."""
        ...

    def exposure(self, seconds: float) -> None:
        """The facts of a revoked token stopped serving."""
        ...


MOST_AT_ONCE = 1000
"""Tokens that one call lets go: some milliseconds' work."""


@dataclass(slots=True)
class RevokedToken:
    """A token that is revoked and still passes.

    ``revoked_at`` is epoch seconds, ``revoked`` the same instant on the monotonic clock, on which
    ``validated`` and ``expires`` are too: when its facts were learned, and its ``exp``.
    ``accepts`` counts the requests since.
    """

    key: TokenKey
    facts: Facts
    revoked_at: float
    revoked: float
    validated: float
    expires: float
    accepts: int = 0
    last_accept: float | None = None

    @property
    def exposure_seconds(self) -> float:
        """From the revocation until the last acceptance; 0 where there was none."""
        return 0.0 if self.last_accept is None else max(0.0, self.last_accept - self.revoked)

    def lapses(self, max_age_seconds: float) -> float:
        """When its facts stop serving (monotonic seconds)."""
        return min(self.validated + max_age_seconds, self.expires)


class RevokedTokens:
    """Tokens revoked whose facts still serve, until these are ``max_age_seconds`` old.

    That is the longest max age that any request may ask for.

    Where very many lapse at once, ``lapse`` lets them go a part at a time. To everyone else all of
    them are gone; only their exposure is recorded later.
    """

    def __init__(self, *, max_age_seconds: float, clock: Clock, metrics: RevocationMetrics) -> None:
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._metrics = metrics
        self._tokens: dict[TokenKey, RevokedToken] = {}
        self._lapsing: list[tuple[float, TokenKey]] = []  # a heap; some have left already
        self._cleared: list[RevokedToken] = []  # whose exposure isn't recorded yet

    def __len__(self) -> int:
        """How many there are that still pass, now."""
        return sum(1 for _ in self) if self.lapse() else len(self._tokens)

    def __iter__(self) -> Iterator[RevokedToken]:
        """Yield those that still pass, in the order in which they became known."""
        self.lapse()
        now = self._clock.monotonic()
        yield from [token for token in self._tokens.values() if self.lapses(token) > now]

    def __contains__(self, key: object) -> bool:
        return key in self._tokens

    def mark(self, key: TokenKey, entry: Entry, *, revoked: float) -> None:
        """Note that a token is revoked since ``revoked`` (monotonic), with the facts of ``entry``.

        Of two reports of a revocation the earlier counts.
        """
        revoked_at = self._clock.wall() - (self._clock.monotonic() - revoked)
        known = self._tokens.get(key)
        if known is not None:
            if revoked < known.revoked:
                known.revoked, known.revoked_at = revoked, revoked_at
            return
        token = RevokedToken(
            key=key,
            facts=entry.facts,
            revoked_at=revoked_at,
            revoked=revoked,
            validated=entry.validated,
            expires=entry.expires,
        )
        self._tokens[key] = token
        heappush(self._lapsing, (token.lapses(self._max_age_seconds), key))

    def accepted(self, key: TokenKey, route: str) -> None:
        """A request was accepted: if its token is revoked, that was a stale accept."""
        token = self._tokens.get(key)
        if token is None:
            return
        token.accepts += 1
        token.last_accept = self._clock.monotonic()
        self._metrics.stale_accept(route)

    def left(self, key: TokenKey) -> None:
        """The facts of a token are gone, or replaced by what the store says now."""
        token = self._tokens.pop(key, None)
        if token is not None:
            self._metrics.exposure(token.exposure_seconds)
            self._forget_those_that_left()

    def clear(self) -> None:
        """The facts of all tokens are gone."""
        self._cleared.extend(self._tokens.values())
        self._tokens, self._lapsing = {}, []
        self.lapse()

    def lapse(self) -> bool:
        """Let those go whose facts no longer serve, ``MOST_AT_ONCE``; return if more have to."""
        left = MOST_AT_ONCE
        while self._cleared and left:
            left -= 1
            self._metrics.exposure(self._cleared.pop().exposure_seconds)
        now = self._clock.monotonic()
        while left and self._overdue(now):
            left -= 1
            lapses, key = heappop(self._lapsing)
            token = self._tokens.get(key)
            if token is not None and token.lapses(self._max_age_seconds) == lapses:
                self.left(key)
        return bool(self._cleared) or self._overdue(now)

    def _overdue(self, now: float) -> bool:
        return bool(self._lapsing) and self._lapsing[0][0] <= now

    def set_max_age(self, seconds: float) -> None:
        """Work by another max age from now on."""
        self._max_age_seconds = seconds
        self._order_anew()

    def lapses(self, token: RevokedToken) -> float:
        """When the facts of a token stop serving (monotonic seconds)."""
        return token.lapses(self._max_age_seconds)

    def lapses_at(self, token: RevokedToken) -> float:
        """When the facts of a token stop serving (epoch seconds)."""
        remaining = token.lapses(self._max_age_seconds) - self._clock.monotonic()
        return self._clock.wall() + remaining

    def _forget_those_that_left(self) -> None:
        # Tokens that are marked and evicted over and over must not fill the heap.
        if len(self._lapsing) > 2 * len(self._tokens) + 100:
            self._order_anew()

    def _order_anew(self) -> None:
        self._lapsing = [
            (token.lapses(self._max_age_seconds), key) for key, token in self._tokens.items()
        ]
        heapify(self._lapsing)
