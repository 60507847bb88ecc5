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
