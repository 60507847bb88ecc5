"""What must hold within a section, whoever builds it."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import KeyManager, Listen, Revocation, RouteSettings, Settings, Store

ROUTE = {"path": "/a", "upstream": "http://h"}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (Listen, {"tls_certificate": "a"}),
        (Listen, {"tls_key": "a"}),
        (Listen, {"tls_port": 1}),
        (Listen, {"tls_port": 1, "port": 1, "tls_certificate": "a", "tls_key": "b"}),
        (Listen, {"event_loop": "trio"}),
        (KeyManager, {"token_path": "/revoke"}),
        (Store, {"url": "redis://u@h", "username": "v"}),
        (Store, {"url": "redis://:p@h", "password": "q"}),
        (Store, {"ca_file": "a"}),
        (Store, {"tls_certificate": "a", "tls_key": "b"}),
        (Store, {"url": "rediss://h", "tls_certificate": "a"}),
        (Store, {"url": "rediss://h", "tls_key": "b"}),
        (RouteSettings, {**ROUTE, "public": True, "scopes": ["read"]}),
        (RouteSettings, {**ROUTE, "public": True, "max_age": "1s"}),
        (RouteSettings, {"path": "/a"}),
        (RouteSettings, {**ROUTE, "cors_credentials": True}),
        (RouteSettings, {**ROUTE, "cors_origins": ["*"], "cors_credentials": True}),
        (RouteSettings, {**ROUTE, "cors_origins": ["*", "https://a"]}),
        (Revocation, {"on_revoke": "evict", "feed": False}),
        (Revocation, {"on_revoke": "always"}),
        (Revocation, {"feed_ping_interval": "0s"}),
        (
            Settings,
            {"revocation": {"revoke_on_refresh": True}, "key_manager": {"record_tokens": False}},
        ),
        (Settings, {"listen": {"unknown": 1}}),
    ],
)
def test_a_section_refuses_what_does_not_go_together(section: Any, values: dict[str, Any]) -> None:
    """Half a key pair, a second password, scopes on a public route."""
    with pytest.raises(ValidationError):
        section.model_validate(values)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (Settings, {}),
        (Listen, {"tls_certificate": "a", "tls_key": "b"}),
        (Listen, {"tls_port": 0, "port": 0, "tls_certificate": "a", "tls_key": "b"}),
        (Store, {"url": "redis://u@h", "password": "q"}),
        (Store, {"url": "rediss+cluster://h", "ca_file": "a"}),
        (Store, {"url": "rediss+sentinel://h/s", "tls_certificate": "a", "tls_key": "b"}),
        (RouteSettings, {**ROUTE, "public": True}),
        (RouteSettings, {**ROUTE, "max_age": "0s"}),
        (RouteSettings, {**ROUTE, "cors_origins": ["https://a"], "cors_credentials": True}),
        (RouteSettings, {**ROUTE, "cors_origins": ["*"], "public": True}),
        (Revocation, {"on_revoke": "evict", "feed_down_max_age": "0s"}),
        (Revocation, {"on_revoke": "lapse", "feed": False}),
        (Settings, {"revocation": {"revoke_on_refresh": True}}),
    ],
)
def test_a_section_takes_what_goes_together(section: Any, values: dict[str, Any]) -> None:
    """All defaults among them."""
    section.model_validate(values)


@pytest.mark.parametrize(
    ("values", "token", "revoke"),
    [
        ({}, None, None),
        ({"url": "http://h/oauth2/"}, "http://h/oauth2/token", "http://h/oauth2/revoke"),
        ({"url": "http://h", "revoke_url": "http://r"}, "http://h/token", "http://r"),
        ({"token_url": "http://t"}, "http://t", None),
    ],
)
def test_endpoints_follow_from_the_url_unless_given(
    values: dict[str, Any], token: str | None, revoke: str | None
) -> None:
    """An endpoint of its own wins over url/token and url/revoke."""
    key_manager = KeyManager.model_validate(values)
    assert (key_manager.token_endpoint, key_manager.revoke_endpoint) == (token, revoke)


def test_a_route_is_called_by_its_name_or_else_its_path() -> None:
    """What metrics and logs call it."""
    routes = [RouteSettings.model_validate(ROUTE | {"name": name}) for name in ("orders", None)]
    assert [route.label for route in routes] == ["orders", "/a"]


def test_a_secret_is_in_no_repr_and_no_error() -> None:
    """Settings and pydantic's own errors may be logged."""
    store = Store.model_validate({"url": "redis://:hunter2@h"})
    with pytest.raises(ValidationError) as refusal:
        Store.model_validate({"url": "redis://:hunter2@h:x", "password": 1})
    assert "hunter2" not in repr(store) + str(refusal.value)
