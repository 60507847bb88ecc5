"""The gateway as the admin port sees it, from the parts that it is made of."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from gateway.admin.state import RevokedToken
from gateway.admin.tally import Tally, tally
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.store import TokenStore


@dataclass(frozen=True, slots=True)
class GatewayView:
    """Satisfies ``state.Watched``. ``current`` returns the settings in effect."""

    current: Callable[[], Settings]
    metrics: Metrics
    store: TokenStore
    clock: Clock
    started: float
    revoked: Callable[[], Collection[RevokedToken]] = tuple

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self.current()

    @property
    def mode(self) -> Literal["lapse", "evict"]:
        """What a revocation does."""
        return "lapse"

    @property
    def feed_enabled(self) -> bool:
        """Whether the gateway listens for revocations."""
        return False

    @property
    def store_reachable(self) -> bool:
        """Whether the store answered when it was asked last."""
        return self.store.reachable

    def now_at(self) -> float:
        """Epoch seconds."""
        return self.clock.wall()

    def uptime_seconds(self) -> float:
        """Since the gateway was made."""
        return self.clock.monotonic() - self.started

    def counted(self) -> Tally:
        """What metrics say now."""
        return tally(self.metrics.families())
