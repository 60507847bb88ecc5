"""Notices between gateways, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis_server import RedisServer

from gateway.notices import Notices
from gateway.settings import Store
from gateway.store import open_store


async def no_sleep(_seconds: float) -> None:
    await asyncio.sleep(0)


class Gateway:
    """Notices, and what they have brought."""

    def __init__(self, url: str) -> None:
        self.store = open_store(Store(url=SecretStr(url)))
        self.got: asyncio.Queue[Any] = asyncio.Queue()
        self.notices = Notices(self.store, self.got.put, ping_interval_seconds=0.05, sleep=no_sleep)

    async def next(self) -> Any:
        async with asyncio.timeout(20):
            return await self.got.get()


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Gateway]:
    gateway = Gateway(url)
    gateway.notices.start()
    try:
        async with asyncio.timeout(20):
            await gateway.notices.up.wait()
        yield gateway
    finally:
        await gateway.notices.stop()
        await gateway.store.close()


async def test_others_hear_what_one_tells(redis_url: str) -> None:
    """Once, in order, and whoever tells doesn't hear it."""
    async with listening(redis_url) as one, listening(redis_url) as two, listening(redis_url) as it:
        assert await one.notices.tell({"number": 1}) == 2
        assert await two.notices.tell({"number": 2}) == 2
        assert [await it.next(), await it.next()] == [{"number": 1}, {"number": 2}]
        assert (await one.next(), await two.next()) == ({"number": 2}, {"number": 1})
        assert one.got.empty()


async def test_a_store_in_memory_has_nobody_else() -> None:
    """Nobody got it, and nothing is wrong."""
    one = Gateway("memory://")
    one.notices.start()
    assert await one.notices.tell({}) == 0
    await one.notices.stop()
    await one.store.close()


@pytest.mark.parametrize("junk", [b"junk", b"[]", b"{}", b'{"from": "x"}', b"\xff"])
async def test_what_makes_no_sense_is_passed_over(redis_url: str, junk: bytes) -> None:
    """Whoever else may write to Redis."""
    async with listening(redis_url) as one, listening(redis_url) as two:
        await two.store.client.publish("token:notices", junk)
        await two.notices.tell("sense")
        assert await one.next() == "sense"


async def test_it_can_be_stopped_at_any_moment(redis_url: str) -> None:
    """While it connects, listens or pings: whatever redis-py makes of a cancellation."""
    for turns in range(60):
        gateway = Gateway(redis_url)
        gateway.notices._ping_interval_seconds = 0.001
        gateway.notices.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await gateway.notices.stop()
        await gateway.store.close()


async def test_a_connection_that_was_killed_comes_back(
    redis_server: RedisServer, redis_url: str
) -> None:
    """Without a restart."""
    async with listening(redis_url) as one, listening(redis_url) as two:
        for _ in range(2):
            # The other one's connections in the pool may have died, too.
            with redis.Redis(port=redis_server.port) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            async with asyncio.timeout(20):
                while await two.notices.tell("again") != 1:
                    await one.notices.up.wait()
        assert await one.next() == "again"
