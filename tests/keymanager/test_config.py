"""What may be configured."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.keymanager.config import Client, KeyManagerConfig, User

CONFIG = KeyManagerConfig(clients=(Client("a", "b"),), users=(User("alice", "wonderland"),))


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": ""},
        {"client_id": "ä"},
        {"client_secret": ""},
        {"client_secret": "line\nbreak"},
        {"redirect_uris": ("/relative",)},
        {"redirect_uris": ("https://app.example/#fragment",)},
        {"redirect_uris": ("https://äpp.example/",)},
        {"scopes": ()},
        {"scopes": ("two words",)},
        {"scopes": ('"',)},
        {"grant_types": ("device_code",)},
    ],
)
def test_refused_clients(change: dict[str, Any]) -> None:
    """What OAuth doesn't allow in a client is refused."""
    with pytest.raises(ValueError, match=r"allowed|needed"):
        replace(Client("a", "b"), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"access_token_expires_in": 0},
        {"refresh_token_expires_in": 0},
        {"code_expires_in": -1},
        {"clients": (Client("a"), Client("a", "b"))},
        {"users": (User("a", "b"), User("a", "c"))},
    ],
)
def test_refused_configurations(change: dict[str, Any]) -> None:
    """Lifetimes are positive and names are distinct."""
    with pytest.raises(ValueError, match="allowed"):
        replace(CONFIG, **change)


def test_defaults() -> None:
    """An hour for access tokens, a day for refresh tokens, a minute for codes."""
    lifetimes = (
        CONFIG.access_token_expires_in,
        CONFIG.refresh_token_expires_in,
        CONFIG.code_expires_in,
    )
    assert lifetimes == (3600, 86_400, 60)


def test_a_native_apps_redirect_uri() -> None:
    """A scheme of the application's own is a redirect URI too (RFC 8252 §7.1)."""
    assert Client("a", redirect_uris=("com.example.app:/callback",)).redirect_uris


@pytest.mark.parametrize(
    "uri", ["https://app.example/a b", "https://app.example/\r\nX: y", "\u0661:/"]
)
def test_a_redirect_uri_is_printable(uri: str) -> None:
    """It becomes a header, so it has neither spaces nor line breaks in it."""
    with pytest.raises(ValueError, match="redirect_uris"):
        Client("a", redirect_uris=(uri,))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"admins": (User("a", "b"), User("a", "c"))}, "admins: each name"),
        ({"trusted_proxies": ("gateway",)}, "trusted_proxies: 'gateway'"),
        ({"trusted_proxies": ("10.0.0.1/8",)}, "trusted_proxies: 10.0.0.1/8"),
    ],
)
def test_other_faults(settings: dict[str, Any], fault: str) -> None:
    """Each is said."""
    with pytest.raises(ValueError, match=fault):
        KeyManagerConfig((Client("a"),), **settings)
