"""A key manager over HTTP, on a Redis in memory and on a real one."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import fakeredis
import pytest
from clocks import FakeClock
from redis import Redis

from gateway.keymanager.app import create_app
from gateway.keymanager.config import KeyManagerConfig
from gateway.keymanager.connection import open_client
from gateway.keymanager.storage import Storage
from keymanager.driver import CONFIG, Driver

Start = Callable[[KeyManagerConfig], Awaitable[Driver]]


@pytest.fixture(params=["memory", "redis"])
def redis_client(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """A client of an empty Redis: in memory, then a real one."""
    if request.param == "memory":
        client: Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    else:
        client = open_client(request.getfixturevalue("redis_url"))
    with client:
        yield client


@pytest.fixture
def storage(redis_client: Redis) -> Storage:
    return Storage(redis_client)


@pytest.fixture
def start(storage: Storage, clock: FakeClock, aiohttp_client: Any) -> Start:
    """Start a key manager with settings of the test's own."""

    async def started(config: KeyManagerConfig) -> Driver:
        return Driver(await aiohttp_client(create_app(config, storage, clock)))

    return started


@pytest.fixture
async def km(start: Start) -> Driver:
    return await start(CONFIG)
