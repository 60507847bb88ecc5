"""The gateway as the admin port sees it."""

from clocks import FakeClock

from gateway.admin.view import GatewayView
from gateway.metrics import Metrics
from gateway.settings import Settings, Store
from gateway.store import open_store


def test_the_parts_of_a_gateway_say_what_it_is(clock: FakeClock) -> None:
    """Its clock, its store, its metrics; settings as they are after a reload."""
    current = Settings()
    metrics = Metrics()
    view = GatewayView(
        current=lambda: current,
        metrics=metrics,
        store=open_store(Store.model_validate({"url": "memory://"})),
        clock=clock,
        started=clock.monotonic(),
    )
    clock.advance(5)
    metrics.cache_hit()
    assert (view.now_at(), view.uptime_seconds()) == (clock.wall(), 5.0)
    assert (view.store_reachable, view.counted().cache_results["hit"]) == (True, 1)
    current = Settings()
    assert view.settings is current
