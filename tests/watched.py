"""A gateway as the admin port sees it, whose state a test writes by hand."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from clocks import FakeClock

from gateway.admin.state import Place, RevokedToken
from gateway.admin.tally import Tally
from gateway.clock import Clock
from gateway.settings import Admin, RouteSettings, Settings
from gateway.tokens import TokenKey, token_key

ROUTES = (
    RouteSettings.model_validate({"path": "/orders", "upstream": "http://h", "name": "orders"}),
    RouteSettings.model_validate({"path": "/payments", "upstream": "http://h", "max_age": "0s"}),
    RouteSettings.model_validate({"path": "/public", "upstream": "http://h", "public": True}),
)


@dataclass
class Revoked:
    """A revoked token; instants in epoch seconds."""

    key: TokenKey
    client_id: str | None
    revoked_at: float
    lapses_at: float
    stale_accepts: int = 0
    last_accept_at: float | None = None

    @property
    def lapses(self) -> float:
        return self.lapses_at


def revoked(name: str, *, at: float, lapses_in: float, accepts: int = 0) -> Revoked:
    """Return a token revoked at an instant, accepted a second after that if at all."""
    last = at + 1 if accepts else None
    return Revoked(token_key(name), f"client-{name}", at, at + lapses_in, accepts, last)


@dataclass
class WatchedGateway:
    """Satisfies ``gateway.admin.state.Watched``."""

    settings: Settings = field(default_factory=lambda: Settings(admin=Admin(), routes=ROUTES))
    clock: Clock = field(default_factory=FakeClock)
    mode: Literal["lapse", "evict"] = "lapse"
    feed_enabled: bool = True
    store_reachable: bool = True
    tally: Tally = field(default_factory=Tally)
    book: list[RevokedToken] = field(default_factory=list)
    asked: int = 0

    def now_at(self) -> float:
        return self.clock.wall()

    def uptime_seconds(self) -> float:
        return self.clock.monotonic()

    def counted(self) -> Tally:
        self.asked += 1
        return self.tally

    def revoked_count(self) -> int:
        return len(self.book)

    def revoked(self, limit: int, after: Place | None = None) -> list[RevokedToken]:
        places = sorted(((token.lapses, token.key), token) for token in self.book)
        return [token for place, token in places if after is None or place > after][:limit]


def busy() -> Tally:
    """Return what a gateway has counted that had everything happen to it."""
    return Tally(
        outcomes={"orders": Counter(proxied=1000, invalid_token=20)},
        cache_results=Counter(hit=900, negative_hit=10, miss=110),
        cache_entries=Counter(positive=100, negative=3),
        evictions=Counter(size=2, revoked=1),
        bounds={"orders": 905.0},
        feed_up=True,
        feed_lag_seconds=0.25,
        exposure_le=[0.1, 1.0, 10.0],
        exposure_counts=[1, 0, 2, 1],
        exposure_sum=31.5,
    )
