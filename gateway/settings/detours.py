"""Routes that lead to the key manager's endpoints past the gateway's own.

What is revoked that way the gateway doesn't hear of, and a token that is issued that way it doesn't
know.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.settings.model import Settings
from gateway.settings.sections import RouteSettings
from gateway.settings.types import same_path

_THIS_MACHINE = re.compile(r"localhost|127(\.[0-9]+){1,3}|::1|0\.0\.0\.0|::")
_WELL_KNOWN = frozenset({80, 443})
"""Ports of http and https: who serves both serves the same on them, mostly."""


def detours(settings: Settings) -> Iterator[str]:
    """Yield a warning for each route by which a POST reaches an endpoint of the key manager."""
    key_manager = settings.key_manager
    endpoints = {
        "token": (key_manager.token_endpoint, key_manager.token_path),
        "revoke": (key_manager.revoke_endpoint, key_manager.revoke_path),
    }
    served = {same_path(path) for url, path in endpoints.values() if url is not None}
    for name, (url, path) in endpoints.items():
        if url is None:
            continue
        for route in settings.routes:
            detour = _detour(route, url)
            if (
                detour is not None
                and same_path(detour) not in served
                and _governs(settings, route, detour)
            ):
                yield (
                    f"route {route.label}: {detour} leads to the key manager's {name} endpoint "
                    f"past {path}: what happens there the gateway doesn't know"
                )


def _detour(route: RouteSettings, endpoint: str) -> str | None:
    """Return the path here that a route forwards to an endpoint, if there is one."""
    if route.methods and "POST" not in route.methods:
        return None
    upstream, there = urlsplit(route.upstream), urlsplit(endpoint)
    if _origin(route.upstream) != _origin(endpoint):
        return None
    path = there.path or "/"
    if not same_path(path).startswith(same_path(upstream.path)):
        return None
    path = path[len(upstream.path) :] or "/"
    if not path.startswith("/"):
        return None
    prefix = route.path.rstrip("/")
    if route.strip_prefix:
        return prefix + path
    return path if _within(path, prefix) else None


def _governs(settings: Settings, route: RouteSettings, path: str) -> bool:
    longest = max(
        (len(other.path.rstrip("/")) for other in settings.routes if _within(path, other.path)),
        default=0,
    )
    return len(route.path.rstrip("/")) == longest


def _within(path: str, prefix: str) -> bool:
    return f"{path}/".startswith(f"{prefix.rstrip('/')}/")


def _origin(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    return (
        "localhost" if _THIS_MACHINE.fullmatch(host) else host,
        None if parts.port in _WELL_KNOWN else parts.port,
    )
