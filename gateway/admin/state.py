"""The state of a gateway as one document: what the page shows and ``GET /api/state`` answers.

What is known of revoked tokens comes from whoever keeps that book, by the protocols here; the
rest from settings and metrics. No raw token is in any of it: tokens stand by their keys.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from gateway import __version__
from gateway.admin.tally import Tally
from gateway.settings import RouteSettings, Settings
from gateway.tokens import TokenKey

MOST_SHOWN = 100
"""Revoked tokens in a state document."""


Place = tuple[float, bytes]
"""A revoked token's place in the order of lapses: ``lapses``, and its key."""


class RevokedToken(Protocol):
    """A token known to be revoked while its facts may still serve; instants in epoch seconds."""

    @property
    def key(self) -> TokenKey:
        """The token's key."""
        ...

    @property
    def client_id(self) -> str | None:
        """Whose it is."""
        ...

    @property
    def revoked_at(self) -> float:
        """When the gateway learned of the revocation, or the key manager confirmed it."""
        ...

    @property
    def lapses_at(self) -> float:
        """From when on it is refused everywhere."""
        ...

    @property
    def lapses(self) -> float:
        """The same instant on a clock that is never set: tokens are listed in this order."""
        ...

    @property
    def stale_accepts(self) -> int:
        """How often it has been accepted since its revocation."""
        ...

    @property
    def last_accept_at(self) -> float | None:
        """When that was last, if ever."""
        ...


class Watched(Protocol):
    """A gateway as the admin port sees it: the composition root satisfies this."""

    @property
    def settings(self) -> Settings:
        """The settings in effect; a reload replaces them."""
        ...

    @property
    def mode(self) -> Literal["lapse", "evict"]:
        """What a revocation does."""
        ...

    @property
    def feed_enabled(self) -> bool:
        """Whether the gateway listens for revocations."""
        ...

    @property
    def store_reachable(self) -> bool:
        """Whether the store answered when it was asked last."""
        ...

    def now_at(self) -> float:
        """Epoch seconds."""
        ...

    def uptime_seconds(self) -> float:
        """Since the gateway started."""
        ...

    def counted(self) -> Tally:
        """What metrics say now."""
        ...

    def revoked_count(self) -> int:
        """Return how many revoked tokens may still pass."""
        ...

    def revoked(self, limit: int, after: Place | None = None) -> Sequence[RevokedToken]:
        """Return the revoked tokens that lapse next, after a place among them."""
        ...


def describe(gateway: Watched) -> dict[str, Any]:
    """Return the state document."""
    counted = gateway.counted()
    settings = gateway.settings
    return {
        "at": instant(gateway.now_at()),
        "version": __version__,
        "uptime_seconds": round(gateway.uptime_seconds(), 3),
        "mode": gateway.mode,
        "feed": {
            "enabled": gateway.feed_enabled,
            "up": gateway.feed_enabled and bool(counted.feed_up),
            "lag_seconds": _finite(counted.feed_lag_seconds),
        },
        "store": {"reachable": gateway.store_reachable},
        "evictions_allowed": settings.admin.token is not None,
        "routes": [_route(route, settings, counted) for route in settings.routes],
        "traffic": {"by_route": counted.outcomes},
        "cache": {
            "entries": counted.cache_entries["positive"],
            "negative_entries": counted.cache_entries["negative"],
            "hits": counted.cache_results["hit"],
            "negative_hits": counted.cache_results["negative_hit"],
            "misses": counted.cache_results["miss"],
            "evictions": counted.evictions,
        },
        "revoked": _revoked(gateway),
        "exposure": {
            "le": counted.exposure_le,
            "counts": counted.exposure_counts,
            "sum": counted.exposure_sum,
            "count": counted.exposure_count,
        },
    }


def _route(route: RouteSettings, settings: Settings, counted: Tally) -> dict[str, Any]:
    max_age = bound = None
    if not route.public:
        age = settings.cache.max_age if route.max_age is None else route.max_age
        max_age = age.total_seconds()
        promised = max_age + settings.cache.stale_if_error.total_seconds()
        bound = counted.bounds.get(route.label, promised)
    return {
        "name": route.label,
        "path": route.path,
        "public": route.public,
        "max_age_seconds": max_age,
        "bound_seconds": _finite(bound),
    }


def _revoked(gateway: Watched) -> dict[str, Any]:
    count, shown = gateway.revoked_count(), gateway.revoked(MOST_SHOWN)
    return {
        "count": count,
        "left_out": count - len(shown),
        "tokens": [describe_token(token) for token in shown],
    }


def page_of(
    gateway: Watched, *, limit: int, after: str | None
) -> tuple[Sequence[RevokedToken], str | None]:
    """Return revoked tokens that lapse next after a cursor, and the cursor of the page after.

    Tokens come and go between pages: one that is there throughout is on exactly one of them.

    Raises:
        ValueError: not a cursor.
    """
    found = gateway.revoked(limit + 1, None if after is None else _parse_cursor(after))
    shown = found[:limit]
    following = None
    if len(found) > limit:
        last = shown[-1]
        following = f"{last.lapses!r}-{last.key.hex()}"
    return shown, following


def _parse_cursor(text: str) -> Place:
    lapses, _, key = text.rpartition("-")
    # Neither negative nor no number at all: those have no place.
    return max(0.0, float(lapses)), bytes.fromhex(key)


def describe_token(token: RevokedToken) -> dict[str, Any]:
    """Return a revoked token as the API tells it."""
    last = token.last_accept_at
    return {
        "token_key": token.key.hex(),
        "client_id": token.client_id,
        "revoked_at": instant(token.revoked_at),
        "lapses_at": instant(token.lapses_at),
        "stale_accepts": token.stale_accepts,
        "last_accept_at": None if last is None else instant(last),
    }


def instant(epoch_seconds: float) -> str:
    """Return an instant as ISO 8601 has it, in UTC, to the millisecond."""
    at = datetime.fromtimestamp(epoch_seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
