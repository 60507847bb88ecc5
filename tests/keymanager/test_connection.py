"""A store that is down, hangs, or comes back."""

import asyncio
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
from clocks import FakeClock
from redis_server import RedisServer, free_port
from structlog.testing import capture_logs

from gateway.keymanager.app import create_app
from gateway.keymanager.connection import open_client
from gateway.keymanager.storage import Storage
from keymanager.driver import ALICE, CONFIG, Driver, code_request


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that the test may harm."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


async def unavailable(km: Driver) -> list[tuple[int, str | None, str | None]]:
    """What each endpoint answers: status, error, Retry-After."""
    replies = [
        await km.token(grant_type="client_credentials"),
        await km.refresh("any"),
        await km.revoke("any"),
        await km.post("/introspect", {"token": "any"}),
    ]
    return [(*reply.error, reply.headers.get("Retry-After")) for reply in replies]


EXPECTED = [(503, "temporarily_unavailable", "1")] * 4


async def test_refused(clock: FakeClock, aiohttp_client: Any) -> None:
    """Without a Redis every endpoint that needs it says 503 with Retry-After, in JSON."""
    client = open_client(f"redis://127.0.0.1:{free_port()}/0")
    km = Driver(await aiohttp_client(create_app(CONFIG, Storage(client), clock)))
    with capture_logs() as events:
        assert await unavailable(km) == EXPECTED
    assert {event["event"] for event in events} == {"key manager's store unavailable"}
    assert {event["error"] for event in events} == {"ConnectionError"}


async def test_memory_that_is_cut_off(clock: FakeClock, aiohttp_client: Any) -> None:
    """The store in memory can be cut off too, and comes back."""
    server = fakeredis.FakeServer()
    storage = Storage(fakeredis.FakeRedis(server=server))
    km = Driver(await aiohttp_client(create_app(CONFIG, storage, clock)))
    server.connected = False
    assert await unavailable(km) == EXPECTED
    allowed = await km.decide(code_request(), **ALICE, decision="allow")
    assert allowed.error == (503, "temporarily_unavailable")
    server.connected = True
    assert (await km.token(grant_type="client_credentials")).status == 200


async def test_the_loop_goes_on(
    own_redis: RedisServer, clock: FakeClock, aiohttp_client: Any
) -> None:
    """While one request waits for a Redis that hangs, others are answered."""
    with open_client(own_redis.url, timeout_seconds=30) as client:
        km = Driver(await aiohttp_client(create_app(CONFIG, Storage(client), clock)))
        tokens = await km.password()
        own_redis.freeze()
        waiting = asyncio.create_task(km.refresh(tokens["refresh_token"]))
        assert (await km.page(**code_request())).status == 200
        assert not waiting.done()
        own_redis.thaw()
        assert (await waiting).status == 200


async def test_frozen(own_redis: RedisServer, clock: FakeClock, aiohttp_client: Any) -> None:
    """A Redis that hangs costs its time-out and is a 503; nothing is used up by that."""
    with open_client(own_redis.url, timeout_seconds=0.1) as client:
        km = Driver(await aiohttp_client(create_app(CONFIG, Storage(client), clock)))
        tokens = await km.password()
        own_redis.freeze()
        assert await unavailable(km) == EXPECTED
        own_redis.thaw()
        assert (await km.refresh(tokens["refresh_token"])).status == 200


async def test_back_again(own_redis: RedisServer, clock: FakeClock, aiohttp_client: Any) -> None:
    """After Redis was away the first request goes through again."""
    with open_client(own_redis.url) as client:
        km = Driver(await aiohttp_client(create_app(CONFIG, Storage(client), clock)))
        assert (await km.token(grant_type="client_credentials")).status == 200
        own_redis.stop()
        assert await unavailable(km) == EXPECTED
        own_redis.start()
        assert (await km.token(grant_type="client_credentials")).status == 200


def test_other_urls() -> None:
    """A URL of another kind is a ValueError."""
    with pytest.raises(ValueError, match="redis://"):
        open_client("http://127.0.0.1/")
