"""TokenStore on a real Redis that refuses, dies, freezes, or says no; and on it again after."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis_server import RedisServer, free_port
from scripted import keys
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.settings import Store
from gateway.store import TokenStore, open_store
from gateway.tokens import TokenKey

A, B = keys(2)
DOCUMENT = {"active": True}
PATIENT = "10s"
SHORT = "100ms"

Call = Callable[[TokenStore], Awaitable[Any]]
READS: dict[str, Call] = {
    "get_many": lambda store: store.get_many([A, B]),
    "find_many": lambda store: store.find_many([A, B]),
    "ping": lambda store: store.ping(),
}
WRITES: dict[str, Call] = {
    "put": lambda store: store.put(A, DOCUMENT, expires_in_seconds=60),
    "delete": lambda store: store.delete([A, B]),
}
EVERY_CALL = pytest.mark.parametrize("call", [*READS, *WRITES])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may harm."""
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., TokenStore]]:
    """Open stores by URL, and close them at the end."""
    stores: list[TokenStore] = []

    def open_one(url: str, timeout: str = PATIENT, **settings: Any) -> TokenStore:
        stores.append(open_store(Store(url=SecretStr(url), timeout=timeout, **settings)))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


async def fails(call: Call, store: TokenStore) -> bool:
    """Tell whether a call ends as ``StoreUnavailable``, within the test's patience."""
    try:
        async with asyncio.timeout(20):
            await call(store)
    except StoreUnavailable:
        return True
    return False


@EVERY_CALL
async def test_refused(opened: Any, call: str) -> None:
    """Where nothing listens, every call fails."""
    store = opened(f"redis://127.0.0.1:{free_port()}")
    assert await fails((READS | WRITES)[call], store)


@EVERY_CALL
async def test_killed_and_back(opened: Any, server: RedisServer, call: str) -> None:
    """After Redis dies every call fails, and after it is back every call works, by one client."""
    store = opened(server.url)
    assert not await fails((READS | WRITES)[call], store)
    server.stop()
    assert [await fails((READS | WRITES)[call], store) for _ in range(3)] == [True] * 3
    server.start()
    assert not await fails((READS | WRITES)[call], store)


async def test_restarted_between_calls(opened: Any, server: RedisServer) -> None:
    """A restart that happens while nobody asks goes unnoticed, although the connections died."""
    store = opened(server.url)
    await asyncio.gather(*(store.ping() for _ in range(5)))
    server.stop()
    server.start()
    assert await asyncio.gather(*(fails(READS["ping"], store) for _ in range(5))) == [False] * 5


@EVERY_CALL
async def test_frozen_and_thawed(opened: Any, server: RedisServer, call: str) -> None:
    """While Redis is stopped, calls end by their time-out; once it goes on, they work."""
    store = opened(server.url, SHORT)
    assert not await fails((READS | WRITES)[call], store)
    server.freeze()
    many = [fails((READS | WRITES)[call], store) for _ in range(40)]
    assert await asyncio.gather(*many) == [True] * 40
    server.thaw()
    patient = opened(server.url)
    assert not await fails(READS["ping"], patient)  # it is awake
    store.timeout_seconds = 10.0
    assert not await fails((READS | WRITES)[call], store)


async def test_frozen_before_the_first_call(opened: Any, server: RedisServer) -> None:
    """A Redis that accepts connections and never answers is one that is down."""
    server.freeze()
    assert await fails(READS["get_many"], opened(server.url, SHORT))


async def values(store: TokenStore, asked: list[TokenKey], way: str) -> list[bytes | None]:
    """Return the documents that a store has, by either way of asking."""
    if way == "get_many":
        return await store.get_many(asked)
    return [found and found.document for found in await store.find_many(asked)]


EITHER_WAY = pytest.mark.parametrize("way", ["get_many", "find_many"])


@EITHER_WAY
async def test_answers_never_reach_the_wrong_caller(
    opened: Any, server: RedisServer, way: str
) -> None:
    """Calls cancelled after they were sent leave no answer behind for the next caller."""
    store = opened(server.url, max_connections=4)
    many = keys(200)
    for key in many:
        await store.put(key, {"active": True, "sub": key.hex()}, expires_in_seconds=600)

    async def subject(number: int) -> str:
        (value,) = await values(store, [many[number]], way)
        found: str = json.loads(value or b"")["sub"]
        return found

    for round_number in range(10):
        server.freeze()
        calls = [asyncio.create_task(subject(number)) for number in range(20)]
        for _ in range(round_number):  # cancelled ever later on their way
            await asyncio.sleep(0)
        for doomed in calls[::2]:
            doomed.cancel()
        await asyncio.sleep(0)
        server.thaw()
        assert [many[number].hex() for number in range(1, 20, 2)] == await asyncio.gather(
            *calls[1::2]
        )
        expected = [many[number].hex() for number in range(100, 120)]
        assert expected == await asyncio.gather(*(subject(number) for number in range(100, 120)))


@EITHER_WAY
async def test_late_answers_reach_nobody(opened: Any, server: RedisServer, way: str) -> None:
    """The answers to calls that timed out are never taken for those of later calls."""
    store = opened(server.url, max_connections=1)
    await store.put(A, {"active": True, "sub": "a"}, expires_in_seconds=600)
    store.timeout_seconds = 0.05
    for _ in range(5):
        server.freeze()
        assert await fails(lambda store: values(store, [A], way), store)
        server.thaw()
    store.timeout_seconds = 10.0
    found = await values(store, [B, A, B], way)
    assert found == [None, b'{"active":true,"sub":"a"}', None]


async def test_a_password_is_needed(opened: Any, server: RedisServer) -> None:
    """Without the password, or with a wrong one, the store is unavailable; with it, all is well."""
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "s3cret")
    wrong = opened(f"redis://:wr0ng@127.0.0.1:{server.port}")
    with capture_logs() as logs:
        assert await fails(READS["get_many"], opened(server.url))
        assert await fails(READS["get_many"], wrong)
    assert not await fails(READS["get_many"], opened(server.url, password=SecretStr("s3cret")))
    assert "s3cret" not in repr(logs)
    assert "wr0ng" not in repr(logs)


@pytest.mark.parametrize(
    ("user", "failing"),
    [
        ("on nopass ~* +@all", set()),
        ("on nopass ~* +@all -mget", {"get_many", "find_many"}),
        ("on nopass ~token:* +@read +@connection", {"put", "delete"}),
        ("on nopass ~other:* +@all", {"get_many", "find_many", "put", "delete"}),
    ],
)
async def test_permissions(opened: Any, server: RedisServer, user: str, failing: set[str]) -> None:
    """A command or a key that Redis doesn't permit is an unavailable store, never a bad token."""
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "gate", *user.split())
    store = opened(server.url.replace("://", "://gate:any@"))
    calls = READS | WRITES
    assert failing == {name for name in calls if await fails(calls[name], store)}


async def test_a_user_who_may_not_learn_lives(opened: Any, server: RedisServer) -> None:
    """Without PTTL tokens are found, but kept for no time; the log says so once, and what to do."""
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "gate", *["on", "nopass", "~*", "+@all", "-pttl"])
    store = opened(server.url.replace("://", "://gate:any@"))
    await store.put(A, DOCUMENT, expires_in_seconds=60)
    with capture_logs() as logs:
        for _ in range(2):
            found, absent = await store.find_many([A, B])
            assert (found and found.life_seconds, absent) == (0.0, None)
    assert [entry["remedy"] for entry in logs] == ["grant it +pttl"]


@pytest.mark.parametrize(
    "directives",
    [{"maxmemory": "1"}, {"replica-read-only": "yes", "replicaof": "127.0.0.1 1"}],
)
async def test_a_redis_that_takes_no_writes(
    opened: Any, server: RedisServer, directives: dict[str, str]
) -> None:
    """Out of memory, or a replica: a write fails, and reads go on."""
    with redis.Redis(port=server.port) as client:
        for name, value in directives.items():
            if name == "replicaof":
                client.execute_command("REPLICAOF", *value.split())
            else:
                client.config_set(name, value)
    store = opened(server.url)
    assert await fails(WRITES["put"], store)
    assert await store.get_many([A, B]) == [None, None]


async def test_a_cluster_that_is_none(opened: Any, server: RedisServer) -> None:
    """A cluster without slots, without a node, or that isn't one, is an unavailable store."""
    for port in (server.port, free_port()):
        assert await fails(READS["get_many"], opened(f"redis+cluster://127.0.0.1:{port}"))


async def test_sentinels_that_know_no_master(opened: Any, server: RedisServer) -> None:
    """Without a Sentinel, or with one that knows no such service, the store is unavailable."""
    for port in (server.port, free_port()):
        assert await fails(READS["get_many"], opened(f"redis+sentinel://127.0.0.1:{port}/tokens"))


async def test_only_changes_are_logged(opened: Any, server: RedisServer) -> None:
    """However many calls fail, the log has one line when the store goes and one when it is back."""
    store = opened(server.url)
    with capture_logs() as logs:
        await store.ping()
        server.stop()
        for _ in range(3):
            assert await fails(READS["ping"], store)
        server.start()
        for _ in range(3):
            await store.ping()
    events = [(entry["log_level"], entry["event"]) for entry in logs]
    assert events == [
        ("warning", "token store unreachable"),
        ("info", "token store reachable again"),
    ]


async def test_a_cancelled_call_is_no_failure(opened: Any, server: RedisServer) -> None:
    """A caller that goes away says nothing about the store."""
    store = opened(server.url)
    server.freeze()
    call = asyncio.create_task(store.ping())
    await asyncio.sleep(0)
    call.cancel()
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await call
    server.thaw()
    assert logs == []
