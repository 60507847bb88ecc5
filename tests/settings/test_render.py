"""Settings in effect, as a file again; and what differs between two."""

import tomllib
from typing import Any

import pytest

from gateway.settings import Settings, changed_settings, render_settings

VALUES: dict[str, Any] = {
    "listen": {"port": 0, "tls_port": 1, "tls_certificate": "a b", "tls_key": 'k"ey'},
    "store": {"url": "rediss://u:hunter2@h/1"},
    "cache": {"max_age": "90s"},
    "limits": {"body": "1MiB"},
    "proxy": {"trusted_proxies": ["10.0.0.0/8", "::1/128"]},
    "routes": [
        {"path": "/a", "upstream": "http://h", "scopes": ["read"], "max_age": "0s"},
        {"path": "/b", "upstream": "http://h", "public": True},
    ],
}


@pytest.mark.parametrize("values", [{}, VALUES])
def test_what_is_rendered_is_a_settings_file_of_the_same_settings(values: dict[str, Any]) -> None:
    """All but the secrets, which are masked."""
    settings = Settings.model_validate(values)
    read = tomllib.loads(render_settings(settings))
    if values:
        assert read["store"].pop("url") == "rediss://u:***@h/1"
        read["store"]["url"] = values["store"]["url"]
    assert Settings.model_validate(read) == settings


def test_secrets_are_masked_and_unset_settings_are_comments() -> None:
    """A person sees what could be set."""
    lines = render_settings(
        Settings.model_validate({"store": {"url": "redis://h", "password": "hunter2"}})
    ).splitlines()
    assert 'password = "***"' in lines
    assert 'url = "redis://h"' in lines
    assert "# username is not set" in lines
    assert "# no [[routes]]" in lines


@pytest.mark.parametrize(
    ("new", "changed"),
    [
        ({}, []),
        ({"store": {"url": "redis://127.0.0.1:6379/0"}}, []),
        ({"store": {"password": "hunter2"}}, ["store.password"]),
        (
            VALUES,
            ["listen.port", "listen.tls_port", "listen.tls_certificate", "listen.tls_key",
             "store.url", "cache.max_age", "routes", "proxy.trusted_proxies", "limits.body"],
        ),
    ],
)  # fmt: skip
def test_what_changed_is_named(new: dict[str, Any], changed: list[str]) -> None:
    """By dotted name; the routes are one setting."""
    assert changed_settings(Settings(), Settings.model_validate(new)) == changed
