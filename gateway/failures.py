"""What fails upstream: counted each time, and logged when its cause changes."""

from collections.abc import Callable

import structlog

from gateway.errors import GatewayError
from gateway.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)

_QUIET_SECONDS = 60.0


class UpstreamFailures:
    """Which upstreams fail, and of what.

    A line tells of a failure whose cause isn't that of the one before, and one when the upstream
    answers again. The same line about the same upstream isn't logged twice in a minute, so that
    one that fails now and then doesn't fill the log.
    """

    def __init__(self, metrics: Metrics, *, monotonic: Callable[[], float]) -> None:
        self.failing: dict[str, str] = {}
        """The last cause, by upstream (scheme, host and port); nothing of those that answer."""
        self._metrics = metrics
        self._monotonic = monotonic
        self._told_at: dict[tuple[str, str], float] = {}

    def failed(self, route: str, upstream: str, error: GatewayError, outcome: str = "") -> None:
        """A request of a route failed because of its upstream; ``outcome`` if not the error's."""
        outcome = outcome or error.outcome
        self._metrics.upstream_failed(route, outcome, error.cause)
        if self.failing.get(upstream) != error.cause:
            self.failing[upstream] = error.cause
            if self._may_tell(upstream, error.cause):
                log.warning(
                    "upstream fails",
                    upstream=upstream,
                    route=route,
                    outcome=outcome,
                    cause=error.cause,
                    why=error.why,
                )

    def answered(self, upstream: str) -> None:
        """An upstream answered; to be called where any is ``failing``."""
        if self.failing.pop(upstream, None) is not None and self._may_tell(upstream, ""):
            log.info("upstream answers again", upstream=upstream)

    def _may_tell(self, upstream: str, cause: str) -> bool:
        now = self._monotonic()
        told_at = self._told_at.get((upstream, cause))
        if told_at is not None and now - told_at < _QUIET_SECONDS:
            return False
        self._told_at[upstream, cause] = now
        return True
