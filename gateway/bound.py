"""How long a revoked token can be accepted: what ``docs/revocation.md`` derives, as numbers.

Pure: no I/O, no asyncio.
"""

from gateway.settings import RouteSettings, Settings


def promised_bounds(settings: Settings) -> dict[str, float]:
    """Return the bound in seconds of each route that takes tokens, by its label."""
    return {
        route.label: bound_seconds(settings, route) for route in settings.routes if not route.public
    }


def bound_seconds(settings: Settings, route: RouteSettings) -> float:
    """Return the longest time from a revocation until a route last accepts the token.

    Whatever the state of the store and the feed. With evict that is the time in which the feed
    can be down unnoticed, or the age that facts may have then; while the feed is up, a revocation
    is followed in the time that a message takes.
    """
    cache, revocation = settings.cache, settings.revocation
    # A lookup that was answered just before the revocation may take so long to be heard.
    lookup_seconds = settings.store.timeout.total_seconds()
    stale_seconds = cache.stale_if_error.total_seconds()
    max_age_seconds = max_age_of(settings, route)
    lapse = max(max_age_seconds + stale_seconds, lookup_seconds)
    if revocation.on_revoke == "lapse":
        return lapse
    # The next ping waits for the answer to the one before.
    unnoticed = max(revocation.feed_ping_interval.total_seconds(), lookup_seconds) + lookup_seconds
    capped = min(max_age_seconds, revocation.feed_down_max_age.total_seconds()) + stale_seconds
    return min(lapse, max(unnoticed, capped))


def max_age_of(settings: Settings, route: RouteSettings) -> float:
    """Return how old facts may be on a route, in seconds."""
    most = settings.cache.max_age
    return (most if route.max_age is None else min(route.max_age, most)).total_seconds()


def widest_max_age(settings: Settings) -> float:
    """Return how old facts may be on the route that allows most, in seconds; 0 without routes."""
    return max(
        (max_age_of(settings, route) for route in settings.routes if not route.public), default=0.0
    )
