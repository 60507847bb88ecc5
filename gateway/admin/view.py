"""The gateway as the admin port sees it, from the parts that it is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from gateway.admin.state import Place
from gateway.admin.tally import Tally, tally
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.revocations import RevokedToken, RevokedTokens
from gateway.settings import Settings
from gateway.store import TokenStore
from gateway.tokens import TokenKey


@dataclass(frozen=True, slots=True)
class MarkedToken:
    """Satisfies ``state.RevokedToken``. The book's instants are monotonic, the API's are not."""

    token: RevokedToken
    lapses: float
    lapses_at: float

    @property
    def key(self) -> TokenKey:
        """The token's key."""
        return self.token.key

    @property
    def client_id(self) -> str | None:
        """Whose it is."""
        return self.token.client_id

    @property
    def revoked_at(self) -> float:
        """When its revocation became known."""
        return self.token.revoked_at

    @property
    def stale_accepts(self) -> int:
        """How often it has been accepted since its revocation."""
        return self.token.accepts

    @property
    def last_accept_at(self) -> float | None:
        """When that was last, if ever."""
        last = self.token.last_accept
        return None if last is None else self.token.revoked_at + last - self.token.revoked


@dataclass(frozen=True, slots=True)
class GatewayView:
    """Satisfies ``state.Watched``. ``current`` returns the settings in effect."""

    current: Callable[[], Settings]
    metrics: Metrics
    store: TokenStore
    clock: Clock
    started: float
    book: RevokedTokens

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self.current()

    @property
    def mode(self) -> Literal["lapse", "evict"]:
        """What a revocation does."""
        return self.settings.revocation.on_revoke

    @property
    def feed_enabled(self) -> bool:
        """Whether the gateway listens for revocations."""
        return self.settings.revocation.feed

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

    def revoked_count(self) -> int:
        """Return how many revoked tokens may still pass."""
        return len(self.book)

    def revoked(self, limit: int, after: Place | None = None) -> list[MarkedToken]:
        """Return the revoked tokens that lapse next, after one of them."""
        now, now_at = self.clock.monotonic(), self.clock.wall()
        marked = []
        lapses, key = (0.0, b"") if after is None else after
        for token in islice(self.book.after(lapses, key), limit):
            lapses = self.book.lapses(token)
            marked.append(MarkedToken(token, lapses, now_at + lapses - now))
        return marked

    def counted(self) -> Tally:
        """What metrics say now."""
        return tally(self.metrics.families())
