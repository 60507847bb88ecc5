"""The promised bound: what docs/revocation.md says, as a table."""

from typing import Any

import pytest

from gateway.bound import promised_bounds, widest_max_age
from gateway.settings import Settings

ROUTES = [
    {"path": "/orders", "upstream": "http://h"},
    {"path": "/hourly", "upstream": "http://h", "max_age": "1m"},
    {"path": "/payments", "upstream": "http://h", "max_age": "0s"},
    {"path": "/public", "upstream": "http://h", "public": True},
]


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"routes": ROUTES, **sections})


@pytest.mark.parametrize(
    ("sections", "orders", "hourly", "payments"),
    [
        ({}, 900, 60, 0.5),
        ({"cache": {"max_age": "1m"}, "routes": ROUTES[:3]}, 60, 60, 0.5),
        ({"cache": {"stale_if_error": "10s"}}, 910, 70, 10),
        ({"store": {"timeout": "2s"}}, 900, 60, 2),
        ({"revocation": {"on_revoke": "evict"}}, 1.5, 1.5, 0.5),
        ({"revocation": {"on_revoke": "evict", "feed_ping_interval": "200ms"}}, 1, 1, 0.5),
        ({"revocation": {"on_revoke": "evict", "feed_down_max_age": "5s"}}, 5, 5, 0.5),
        ({"revocation": {"on_revoke": "evict", "feed_down_max_age": "1h"}}, 900, 60, 0.5),
        (
            {"revocation": {"on_revoke": "evict"}, "cache": {"stale_if_error": "10s"}},
            11,
            11,
            10,
        ),
    ],
)
def test_what_is_promised(
    sections: dict[str, Any], orders: float, hourly: float, payments: float
) -> None:
    """In lapse mode the window; in evict mode the feed's outage, unless the window is narrower."""
    made = settings(**sections)
    assert promised_bounds(made) == {
        "/orders": orders,
        "/hourly": hourly,
        "/payments": payments,
    }


def test_the_widest_max_age() -> None:
    """That of the route which allows most; nothing where no route takes tokens."""
    assert widest_max_age(settings()) == 900
    assert widest_max_age(settings(routes=ROUTES[1:])) == 60
    assert widest_max_age(settings(routes=ROUTES[3:])) == 0
