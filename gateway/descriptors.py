"""File descriptors: how many the process may have, and how many of them clients may.

Each connection takes one, to clients as to backends, the store and the admin port. Where clients
could take all, nothing would be left to serve them by.
"""

import resource
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gateway.settings import Settings

log = structlog.stdlib.get_logger(__name__)

MOST_ADMIN_CONNECTIONS = 64
"""Connections to the admin port at a time."""
_ONES_OWN = 64  # the log, the loop, listening sockets, files that are read, a worker's channel


@dataclass(frozen=True, slots=True)
class Share:
    """How many connections clients may have of ``limits.connections``.

    ``needed`` is how many descriptors the settings ask for in all, ``allowed`` how many there are.
    """

    clients: int
    needed: int
    allowed: int


def share(settings: Settings, allowed: int) -> Share:
    """Return what of so many descriptors clients may take; the others are kept for the rest.

    Where there are too few, backends may have half of those that aren't the gateway's own.
    """
    limits, store = settings.limits, settings.store
    lanes = 2 if settings.proxy.fast_lane else 1
    upstreams = (lanes + 1) * limits.upstream_connections  # and to the key manager
    # The feed and the notices have a connection each.
    own = _ONES_OWN + MOST_ADMIN_CONNECTIONS + store.max_connections + 2
    needed = limits.connections + upstreams + own
    left = max(2, allowed - own)
    clients = min(limits.connections, max(1, left - min(upstreams, left // 2)))
    return Share(clients, needed, allowed)


def raise_limit() -> int:
    """Let the process have as many descriptors as it may allow itself; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS has a limit of its own for "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def clients_share(settings: Settings) -> int:
    """Return how many connections clients may have; say it where that is less than they should."""
    share_of_clients = share(settings, raise_limit())
    if share_of_clients.clients < settings.limits.connections:
        log.warning(
            "too few file descriptors for limits.connections",
            descriptors=share_of_clients.allowed,
            needed=share_of_clients.needed,
            limits_connections=settings.limits.connections,
            connections_allowed=share_of_clients.clients,
        )
    return share_of_clients.clients
