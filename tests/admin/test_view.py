"""The gateway as the admin port sees it."""

from collections.abc import Iterator

import pytest
from clocks import FakeClock
from scripted import keys

from gateway.admin.state import describe_token
from gateway.admin.view import GatewayView
from gateway.entries import Entry
from gateway.metrics import Metrics
from gateway.revocations import RevokedToken, RevokedTokens
from gateway.settings import Revocation, Settings, Store
from gateway.store import open_store
from gateway.tokens import Facts, token_key


class Bench:
    """A view of parts that the test moves."""

    def __init__(self, clock: FakeClock, revocation: Revocation | None = None) -> None:
        self.settings = Settings(revocation=revocation or Revocation())
        self.metrics = Metrics()
        self.book = RevokedTokens(max_age_seconds=60, clock=clock, metrics=self.metrics)
        self.view = GatewayView(
            current=lambda: self.settings,
            metrics=self.metrics,
            store=open_store(Store.model_validate({"url": "memory://"})),
            clock=clock,
            started=clock.monotonic(),
            book=self.book,
        )


def test_the_parts_of_a_gateway_say_what_it_is(clock: FakeClock) -> None:
    """Its clock, its store, its metrics; settings as they are after a reload."""
    bench = Bench(clock)
    view = bench.view
    clock.advance(5)
    bench.metrics.cache_hit()
    assert (view.now_at(), view.uptime_seconds()) == (clock.wall(), 5.0)
    assert (view.store_reachable, view.counted().cache_results["hit"]) == (True, 1)
    bench.settings = Settings()
    assert view.settings is bench.settings


@pytest.mark.parametrize(
    ("values", "mode", "feed"),
    [
        ({}, "lapse", True),
        ({"feed": False}, "lapse", False),
        ({"on_revoke": "evict"}, "evict", True),
    ],
)
def test_the_mode_and_the_feed_are_those_it_works_by(
    clock: FakeClock, values: dict[str, object], mode: str, feed: bool
) -> None:
    """Which only a restart changes."""
    view = Bench(clock, Revocation.model_validate(values)).view
    assert (view.mode, view.feed_enabled) == (mode, feed)


def test_revoked_tokens_are_told_by_the_wall_clock(clock: FakeClock) -> None:
    """The book counts on the monotonic one."""
    bench = Bench(clock)
    key = token_key("t")
    entry = Entry(Facts(True, client_id="app"), clock.monotonic(), float("inf"))
    clock.advance(10)
    bench.book.mark(key, entry, revoked=clock.monotonic())
    clock.advance(5)
    [untouched] = bench.view.revoked(10)
    assert untouched.last_accept_at is None
    bench.book.accepted(key, "/a")
    bench.book.accepted(key, "/b")
    clock.advance(1)
    [marked] = bench.view.revoked(10)
    assert marked.lapses == untouched.lapses
    assert describe_token(marked) == {
        "token_key": key.hex(),
        "client_id": "app",
        "revoked_at": "2023-11-14T22:13:30.000Z",
        "lapses_at": "2023-11-14T22:14:20.000Z",
        "stale_accepts": 2,
        "last_accept_at": "2023-11-14T22:13:35.000Z",
    }
    clock.advance(60)
    assert bench.view.revoked(10) == []


def test_a_page_of_very_many_looks_at_no_more_than_it_shows(clock: FakeClock) -> None:
    """60,000 revoked tokens were walked and sorted by each call: half a second for everyone."""
    bench = Bench(clock)
    for key in keys(5000):
        entry = Entry(Facts(True), clock.monotonic(), float("inf"))
        bench.book.mark(key, entry, revoked=clock.monotonic())
    looked_at = 0
    after = bench.book.after

    def counted(lapses: float, key: bytes) -> Iterator[RevokedToken]:
        nonlocal looked_at
        for token in after(lapses, key):
            looked_at += 1
            yield token

    bench.book.after = counted  # type: ignore[method-assign]
    first, last = bench.view.revoked(2)
    assert [token.key for token in bench.view.revoked(1, (first.lapses, first.key))] == [last.key]
    assert (bench.view.revoked_count(), looked_at) == (5000, 3)
