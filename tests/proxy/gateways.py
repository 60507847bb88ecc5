"""A real gateway on free ports, and what it counts and logs."""

import asyncio
import logging
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.app import Gateway
from gateway.clock import Clock
from gateway.proxy.fast import FastLane
from gateway.proxy.server import GatewayConnection
from gateway.resolver import Resolver
from gateway.settings import Settings
from gateway.store import TokenStore
from gateway.tokens import token_key

HANDLER_LANE = {"fast_lane": False}
"""The section ``proxy`` for tests of what only the handler lane has."""
FAST_LANE = {"fast_lane": True}
"""The same for the fast lane."""


def settings_for(upstream: str, **sections: Any) -> Settings:
    """Return settings: free ports, a store in memory, "/" for the token, "/public" for all."""
    given: dict[str, Any] = {
        "listen": {"port": 0},
        "admin": {"port": 0},
        "store": {"url": "memory://"},
        "routes": [
            {"path": "/", "upstream": upstream, "scopes": ["read"]},
            {"path": "/public", "upstream": upstream, "public": True},
        ],
    }
    for name, section in sections.items():
        given[name] = given.get(name, {}) | section if isinstance(section, dict) else section
    return Settings.model_validate(given)


@asynccontextmanager
async def running(
    upstream: str,
    *,
    clock: Clock | None = None,
    store: TokenStore | None = None,
    resolver: Resolver | None = None,
    **sections: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway before an upstream, with the token "good" in its store, unless one is given."""
    settings = settings_for(upstream, **sections)
    async with Gateway(settings, clock=clock, store=store, resolver=resolver) as gateway:
        if store is None:
            await seed(gateway)
        yield gateway


async def seed(gateway: Gateway, token: str = "good", **members: Any) -> None:
    """Put a token into the gateway's store."""
    document = {"active": True, "client_id": "app", "sub": "alice", "scope": "read write"}
    await gateway.store.put(token_key(token), document | members, expires_in_seconds=600)


def samples(gateway: Gateway, name: str) -> list[Any]:
    """Return the samples of a metric, as a scraper reads them."""
    families = text_string_to_metric_families(gateway.metrics.render().decode())
    return [sample for family in families for sample in family.samples if sample.name == name]


def count(gateway: Gateway, name: str) -> float:
    """Return a metric's value, summed over its labels."""
    return float(sum(sample.value for sample in samples(gateway, name)))


def outcomes(gateway: Gateway) -> Counter[str]:
    """Return how many requests ended with each outcome."""
    counted: Counter[str] = Counter()
    for sample in samples(gateway, "gateway_requests_total"):
        counted[sample.labels["outcome"]] += int(sample.value)
    return counted


def fast_lane(gateway: Gateway) -> FastLane:
    """Return a gateway's fast lane."""
    assert gateway._traffic is not None
    assert gateway._traffic.lane is not None
    return gateway._traffic.lane


def connections(gateway: Gateway) -> list[GatewayConnection]:
    """Return the connections of its clients."""
    assert gateway._server is not None
    return [each for each in gateway._server.connections if isinstance(each, GatewayConnection)]


def taken(gateway: Gateway) -> int:
    """Return how many requests the fast lane has taken."""
    assert gateway._server is not None
    return gateway._server.fast_requests


def pass_ticks(lane: FastLane, count: int) -> None:
    """Have so many ticks of the fast lane pass at once."""
    for _ in range(count):
        if lane._timer is not None:
            lane._timer.cancel()
        lane._tick()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own: what a request leaves behind after its answer."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0)


class LogText(logging.Handler):
    """Everything that any logger said: unredacted, with arguments and tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.msg!r} {record.args!r}")
        error: Any = record.exc_info
        if isinstance(record.msg, dict):
            self.records.append(record.msg)
            error = record.msg.get("exc_info")
        if error is True:
            error = sys.exc_info()
        if isinstance(error, tuple):
            error = error[1]
        if isinstance(error, BaseException):
            self.lines += traceback.format_exception(error)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the gateway's own records of this event."""
        return [record for record in self.records if record.get("event") == event]
