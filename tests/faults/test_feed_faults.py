"""Evict mode with the feed harmed, on a real Redis: nobody is let in for longer than promised.

Time is real here, and so are the bounds: what is revoked while the feed is down must be refused
once ``feed_down_max_age`` has passed, or the feed is back.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
import redis
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer
from redis_server import RedisServer
from waiting import eventually

from gateway.app import Gateway
from gateway.settings import Settings
from gateway.tokens import token_key

PING_SECONDS, TIMEOUT_SECONDS, DOWN_SECONDS = 0.2, 0.3, 0.3
SLACK_SECONDS = 2.0  # of a busy machine, above what is promised


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may freeze, kill and start again."""
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


class Fleet:
    """Three gateways in evict mode on one Redis."""

    def __init__(self, server: RedisServer, gateways: list[Gateway]) -> None:
        self.server = server
        self.gateways = gateways
        self.session = aiohttp.ClientSession()

    async def status(self, gateway: Gateway, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.get(f"{gateway.url}/orders", headers=headers) as answer:
            return answer.status

    async def statuses(self, token: str) -> list[int]:
        return [await self.status(gateway, token) for gateway in self.gateways]

    async def all_up(self) -> bool:
        return all(gateway.feed is not None and gateway.feed.is_up for gateway in self.gateways)

    async def all_down(self) -> bool:
        return not any(gateway.feed is not None and gateway.feed.is_up for gateway in self.gateways)

    async def refused_by_all(self, token: str) -> bool:
        return set(await self.statuses(token)) == {401}

    def issue(self, *tokens: str) -> None:
        with redis.Redis(port=self.server.port) as client:
            for token in tokens:
                client.set(name(token), json.dumps({"active": True}), ex=3600)

    def revoke(self, token: str) -> None:
        with redis.Redis(port=self.server.port) as client:
            client.delete(name(token))


def name(token: str) -> str:
    return f"token:{token_key(token).hex()}"


@pytest.fixture
async def fleet(aiohttp_server: AiohttpServer, server: RedisServer) -> AsyncIterator[Fleet]:
    async def answer(request: web.Request) -> web.Response:
        # The key manager's too: it revokes whatever it is asked to.
        return web.Response(text="from the backend")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    backend = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    settings = Settings.model_validate(
        {
            "listen": {"port": 0},
            "admin": {"port": 0},
            "store": {"url": server.url, "timeout": f"{TIMEOUT_SECONDS * 1000:.0f}ms"},
            "key_manager": {"url": backend},
            "revocation": {
                "on_revoke": "evict",
                "feed_ping_interval": f"{PING_SECONDS * 1000:.0f}ms",
                "feed_down_max_age": f"{DOWN_SECONDS * 1000:.0f}ms",
            },
            "routes": [{"path": "/orders", "upstream": backend}],
            "logging": {"access_log": False},
        }
    )
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(Gateway(settings)) for _ in range(3)]
        fleet = Fleet(server, gateways)
        stack.push_async_callback(fleet.session.close)
        await eventually(fleet.all_up)
        yield fleet


def revoke_by_del(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.delete(name("tok"))


def revoke_by_overwriting(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.set(name("tok"), json.dumps({"active": False}), keepttl=True)


def revoke_by_flushall(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.flushall()


@pytest.mark.parametrize("revoke", [revoke_by_del, revoke_by_overwriting, revoke_by_flushall])
async def test_any_writer_revokes_everywhere(
    fleet: Fleet, revoke: Callable[[RedisServer], None]
) -> None:
    """Removed or overwritten by whoever can reach Redis: all three refuse, others stay good."""
    fleet.issue("tok", "other")
    assert await fleet.statuses("tok") == [200] * 3
    revoke(fleet.server)
    await eventually(lambda: fleet.refused_by_all("tok"), seconds=1)
    if revoke is not revoke_by_flushall:
        assert await fleet.statuses("other") == [200] * 3


async def test_databases_that_are_swapped(fleet: Fleet) -> None:
    """Redis tells nobody; it is found out by asking, and what was in the other one is good then."""
    fleet.issue("tok", "other")
    assert await fleet.statuses("tok") == [200] * 3
    with redis.Redis(port=fleet.server.port) as client:
        client.copy(name("other"), name("other"), destination_db=1)
        client.execute_command("SWAPDB", 0, 1)
    bound = 2 * TIMEOUT_SECONDS + SLACK_SECONDS
    await eventually(lambda: fleet.refused_by_all("tok"), seconds=bound)
    assert await fleet.statuses("other") == [200] * 3


async def test_a_key_that_redis_is_slow_to_delete(fleet: Fleet) -> None:
    """It has expired by then, without an ``exp`` to say so: all three refuse it unheard."""
    with redis.Redis(port=fleet.server.port) as client:
        with suppress(redis.ResponseError):  # newer ones have that switched off
            client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        client.set(name("tok"), json.dumps({"active": True}), px=1_500)
    assert await fleet.statuses("tok") == [200] * 3
    await eventually(lambda: fleet.refused_by_all("tok"), seconds=1.5 + SLACK_SECONDS)


async def test_a_revocation_through_one_gateway(fleet: Fleet) -> None:
    """That one refuses with the answer's return, the others as soon as they hear."""
    fleet.issue("tok")
    assert await fleet.statuses("tok") == [200] * 3
    first = fleet.gateways[0]
    async with fleet.session.post(f"{first.url}/revoke", data={"token": "tok"}) as answer:
        assert answer.status == 200
    assert await fleet.status(first, "tok") == 401
    await eventually(lambda: fleet.refused_by_all("tok"), seconds=1)


def kill_feeds(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def test_feeds_killed_before_a_revocation(fleet: Fleet) -> None:
    """Nobody hears of it; what was cached is let go on the way back, and all recover."""
    for number in range(5):
        token = f"tok-{number}"
        fleet.issue(token)
        assert await fleet.statuses(token) == [200] * 3
        kill_feeds(fleet.server)
        fleet.revoke(token)
        await eventually(
            lambda token=token: fleet.refused_by_all(token),  # type: ignore[misc]
            seconds=PING_SECONDS + TIMEOUT_SECONDS + DOWN_SECONDS + SLACK_SECONDS,
        )
        await eventually(fleet.all_up)


async def test_redis_restarted(fleet: Fleet) -> None:
    """It forgets all its tokens: so do the gateways, and new ones are good at once."""
    fleet.issue("tok")
    assert await fleet.statuses("tok") == [200] * 3
    fleet.server.stop()
    began = time.monotonic()
    await eventually(fleet.all_down, seconds=SLACK_SECONDS)
    while 200 in await fleet.statuses("tok"):  # young facts serve; then 503
        assert time.monotonic() - began < DOWN_SECONDS + TIMEOUT_SECONDS + SLACK_SECONDS
    assert await fleet.statuses("tok") == [503] * 3
    fleet.server.start()
    await eventually(fleet.all_up)
    assert await fleet.statuses("tok") == [401] * 3
    fleet.issue("new")
    assert await fleet.statuses("new") == [200] * 3


async def test_redis_frozen_during_a_revocation(fleet: Fleet) -> None:
    """Noticed within a ping; facts then serve for moments, and never again what was revoked."""
    fleet.issue("tok", "good")
    assert await fleet.statuses("tok") == [200] * 3
    fleet.server.freeze()
    frozen = time.monotonic()
    # Sent while it is frozen, done when it is not: before anything that the gateways ask then.
    revoking = asyncio.create_task(asyncio.to_thread(fleet.revoke, "tok"))
    await eventually(fleet.all_down, seconds=PING_SECONDS + TIMEOUT_SECONDS + SLACK_SECONDS)
    while 200 in await fleet.statuses("tok"):
        bound = PING_SECONDS + TIMEOUT_SECONDS + DOWN_SECONDS
        assert time.monotonic() - frozen < bound + SLACK_SECONDS
    fleet.server.thaw()
    await revoking
    await eventually(fleet.all_up)
    assert await fleet.statuses("tok") == [401] * 3
    assert await fleet.statuses("good") == [200] * 3


async def test_what_the_metrics_say(fleet: Fleet) -> None:
    """The feed's state, what is promised, and what was evicted, by cause."""
    fleet.issue("tok")
    await fleet.statuses("tok")
    fleet.revoke("tok")
    await eventually(lambda: fleet.refused_by_all("tok"), seconds=1)
    shown = fleet.gateways[0].metrics.render().decode()
    assert "gateway_revocation_feed_up 1.0" in shown
    assert 'gateway_revocation_bound_seconds{route="/orders"} 0.6' in shown
    assert 'gateway_cache_evictions_total{cache="positive",cause="invalidated"} 1.0' in shown
    assert "gateway_exposure_seconds_count 1.0" in shown
    assert "gateway_revoked_tokens_cached 0.0" in shown
