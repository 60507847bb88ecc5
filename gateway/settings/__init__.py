"""Typed settings: file < environment < flags."""

from gateway.settings.detours import detours
from gateway.settings.model import Settings
from gateway.settings.render import changed_settings, render_settings
from gateway.settings.sections import (
    Admin,
    Cache,
    KeyManager,
    Limits,
    Listen,
    Logging,
    Proxy,
    Revocation,
    RouteSettings,
    Store,
)
from gateway.settings.sources import load_admin, load_settings, misspelt

__all__ = [
    "Admin",
    "Cache",
    "KeyManager",
    "Limits",
    "Listen",
    "Logging",
    "Proxy",
    "Revocation",
    "RouteSettings",
    "Settings",
    "Store",
    "changed_settings",
    "detours",
    "load_admin",
    "load_settings",
    "misspelt",
    "render_settings",
]
