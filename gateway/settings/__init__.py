"""Typed settings: file < environment < flags."""

from gateway.settings.model import (
    Admin,
    Cache,
    KeyManager,
    Limits,
    Listen,
    Logging,
    Proxy,
    RouteSettings,
    Settings,
    Store,
)

__all__ = [
    "Admin",
    "Cache",
    "KeyManager",
    "Limits",
    "Listen",
    "Logging",
    "Proxy",
    "RouteSettings",
    "Settings",
    "Store",
]
