"""The state document, and the pages of revoked tokens."""

import json
from datetime import timedelta

import pytest
from clocks import FakeClock
from watched import ROUTES, WatchedGateway, busy, revoked

from gateway import __version__
from gateway.admin.state import describe, instant, page_of
from gateway.admin.tally import Tally
from gateway.settings import Cache, RouteSettings, Settings
from gateway.tokens import token_key

NOW = FakeClock().wall()


def test_all_of_a_gateway_in_one_document() -> None:
    """Settings, metrics, and the revoked tokens that still pass."""
    gateway = WatchedGateway(tally=busy())
    gateway.book = [revoked("a", at=NOW - 3, lapses_in=15, accepts=7)]
    assert describe(gateway) == {
        "at": "2023-11-14T22:13:20.000Z",
        "version": __version__,
        "uptime_seconds": 1000.0,
        "mode": "lapse",
        "feed": {"enabled": True, "up": True, "lag_seconds": 0.25},
        "store": {"reachable": True},
        "evictions_allowed": False,
        "routes": [
            {
                "name": "orders",
                "path": "/orders",
                "public": False,
                "max_age_seconds": 900.0,
                "bound_seconds": 905.0,
            },
            {
                "name": "/payments",
                "path": "/payments",
                "public": False,
                "max_age_seconds": 0.0,
                "bound_seconds": 0.0,
            },
            {
                "name": "/public",
                "path": "/public",
                "public": True,
                "max_age_seconds": None,
                "bound_seconds": None,
            },
        ],
        "traffic": {"by_route": {"orders": {"proxied": 1000, "invalid_token": 20}}},
        "cache": {
            "entries": 100,
            "negative_entries": 3,
            "hits": 900,
            "negative_hits": 10,
            "misses": 110,
            "evictions": {"size": 2, "revoked": 1},
        },
        "revoked": {
            "count": 1,
            "left_out": 0,
            "tokens": [
                {
                    "token_key": token_key("a").hex(),
                    "client_id": "client-a",
                    "revoked_at": "2023-11-14T22:13:17.000Z",
                    "lapses_at": "2023-11-14T22:13:32.000Z",
                    "stale_accepts": 7,
                    "last_accept_at": "2023-11-14T22:13:18.000Z",
                }
            ],
        },
        "exposure": {"le": [0.1, 1.0, 10.0], "counts": [1, 0, 2, 1], "sum": 31.5, "count": 4},
    }


def test_a_gateway_that_has_done_nothing_yet_is_valid_json() -> None:
    """No NaN and no infinity, whatever the bounds are."""
    gateway = WatchedGateway(tally=Tally(bounds={"orders": float("inf")}))
    text = json.dumps(describe(gateway), allow_nan=False)
    assert json.loads(text)["routes"][0]["bound_seconds"] is None


def test_what_serves_while_the_store_is_down_is_promised_too() -> None:
    """Where no metric says the bound, it is max age and stale_if_error."""
    settings = Settings(
        cache=Cache(max_age=timedelta(minutes=1), stale_if_error=timedelta(seconds=5)),
        routes=(RouteSettings(path="/a", upstream="http://h"),),
    )
    [route] = describe(WatchedGateway(settings=settings))["routes"]
    assert (route["max_age_seconds"], route["bound_seconds"]) == (60.0, 65.0)


def test_a_feed_that_is_off_is_not_up() -> None:
    """Whatever the metric says."""
    gateway = WatchedGateway(tally=busy(), feed_enabled=False)
    assert describe(gateway)["feed"] == {"enabled": False, "up": False, "lag_seconds": 0.25}


def test_of_many_revoked_tokens_the_next_to_lapse_are_shown() -> None:
    """A hundred of them, and how many are left out."""
    gateway = WatchedGateway(settings=Settings(routes=ROUTES))
    gateway.book = [revoked(str(n), at=NOW, lapses_in=1000 - n) for n in range(150)]
    told = describe(gateway)["revoked"]
    assert (told["count"], told["left_out"], len(told["tokens"])) == (150, 50, 100)
    assert told["tokens"][0]["client_id"] == "client-149"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_together_have_every_token_once(limit: int) -> None:
    """Also those that lapse at the same instant."""
    gateway = WatchedGateway()
    gateway.book = [revoked(str(n), at=NOW, lapses_in=n // 3 + 0.1) for n in range(7)]
    seen: list[str] = []
    after, pages = None, 0
    while pages == 0 or after is not None:
        tokens, after = page_of(gateway, limit=limit, after=after)
        seen += [str(token.client_id) for token in tokens]
        pages += 1
    assert sorted(seen) == [f"client-{n}" for n in range(7)]
    assert pages == -(-7 // limit)


def test_a_token_that_lapses_between_pages_leaves_the_others_in_place() -> None:
    """The cursor is a place in the order, and not a count."""
    gateway = WatchedGateway()
    gateway.book = [revoked(str(n), at=NOW, lapses_in=n) for n in range(4)]
    _, after = page_of(gateway, limit=2, after=None)
    del gateway.book[:2]
    tokens, _ = page_of(gateway, limit=2, after=after)
    assert [token.client_id for token in tokens] == ["client-2", "client-3"]


@pytest.mark.parametrize("after", ["", "x", "1.0", "1.0-xy", "-"])
def test_what_is_no_cursor_is_refused(after: str) -> None:
    """Whoever makes one up."""
    with pytest.raises(ValueError):  # noqa: PT011 -- float's and bytes.fromhex' own
        page_of(WatchedGateway(), limit=1, after=after)


def test_instants_are_in_utc_to_the_millisecond() -> None:
    """As ECMAScript reads them."""
    assert instant(1700000000.123456) == "2023-11-14T22:13:20.123Z"
