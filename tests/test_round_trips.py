"""Round trips that redis-py doesn't make: lives beside values, and slots that are moving."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.crc import key_slot
from redis_server import RedisServer
from scripted import keys

from gateway.round_trips import values_and_lives
from gateway.settings import Store
from gateway.store import GrantUpdate, NewDocument, TokenStore, open_store
from gateway.tokens import TokenKey

DOCUMENT = {"active": True, "client_id": "app"}


class TwoMasters:
    """A Cluster of two, each with half of the slots."""

    def __init__(self, first: RedisServer, second: RedisServer) -> None:
        self.servers = (first, second)
        self.source, self.target = (self._client(server) for server in self.servers)
        halves = (range(8_192), range(8_192, 16_384))
        for client, half in zip(self.clients, halves, strict=True):
            self._own(client, half)
        self.source.execute_command("CLUSTER MEET", "127.0.0.1", second.port)
        while not all(self._whole(client) for client in self.clients):
            pass

    @property
    def clients(self) -> tuple[Any, Any]:
        return (self.source, self.target)

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.servers[0].port}"

    @staticmethod
    def _client(server: RedisServer) -> Any:
        return redis.Redis(port=server.port)

    @staticmethod
    def _own(client: Any, slots: range) -> None:
        client.execute_command("CLUSTER ADDSLOTS", *slots)
        client.execute_command("CLUSTER SET-CONFIG-EPOCH", 1 + slots.start)

    @staticmethod
    def _whole(client: Any) -> bool:
        info = client.execute_command("CLUSTER INFO")
        return (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", "2")

    def begin_to_move(self, slot: int) -> None:
        source, target = (client.execute_command("CLUSTER MYID") for client in self.clients)
        self.target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source)
        self.source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target)

    def move(self, name: str) -> None:
        port = self.servers[1].port
        self.source.execute_command("MIGRATE", "127.0.0.1", port, name, 0, 5_000)

    def end_of_move(self, slot: int) -> None:
        target = self.target.execute_command("CLUSTER MYID")
        for client in reversed(self.clients):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", target)

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMasters]:
    """Two masters of one Cluster."""
    servers = [
        RedisServer(tmp_path_factory.mktemp(name), "--cluster-enabled", "yes").start()
        for name in ("first", "second")
    ]
    masters = TwoMasters(*servers)
    yield masters
    masters.close()
    for server in servers:
        server.stop()


@pytest.fixture
async def store(cluster: TwoMasters) -> AsyncIterator[TokenStore]:
    """A store with several connections to each master, as one in use has them."""
    opened = open_store(Store(url=SecretStr(cluster.url), timeout="10s"))
    await asyncio.gather(*(opened.get_many([key]) for key in keys(100)))
    yield opened
    await opened.close()


def tokens_of(store: TokenStore) -> tuple[list[TokenKey], int]:
    """Return tokens of the first master, and the slot of the first of them."""
    slots = {key: key_slot(store.name(key).encode()) for key in keys(40)}
    mine = [key for key, slot in slots.items() if slot < 8_192]
    return mine, slots[mine[0]]


async def test_a_slot_that_is_half_migrated(cluster: TwoMasters, store: TokenStore) -> None:
    """Of its tokens those that have gone ahead, and those that haven't, are found and written."""
    (moving, staying, absent, *_), slot = tokens_of(store)
    for key in (moving, staying):
        await store.put(key, DOCUMENT, expires_in_seconds=60)
    cluster.begin_to_move(slot)
    for has_gone in (False, True):
        if has_gone:
            cluster.move(store.name(moving))
        asked = [moving, staying, absent]
        there = [value is not None for value in await store.get_many(asked)]
        assert there == [True, True, False]
        found = await store.find_many(asked)
        assert [one and 50 < one.life_seconds <= 60 for one in found] == [True, True, None]
    await store.put(moving, {"active": False}, expires_in_seconds=60)
    assert await store.get_many([moving]) == [b'{"active":false}']
    update = GrantUpdate(moving, {"sub": "a"}, without=["x"], expires_in_seconds=60)
    assert [{"sub": "a"}] == await store.update_grants([update]) == await store.grants([moving])
    await store.end({moving: 60})
    assert await store.record([NewDocument(moving, DOCUMENT, 60)]) == [False]
    assert (await store.delete([moving, staying, absent]), await store.delete([moving])) == (2, 0)


async def test_a_slot_that_has_moved(cluster: TwoMasters, store: TokenStore) -> None:
    """A store that looked for it at its old place follows."""
    (moving, *_), slot = tokens_of(store)
    await store.put(moving, DOCUMENT, expires_in_seconds=60)
    cluster.begin_to_move(slot)
    cluster.move(store.name(moving))
    cluster.end_of_move(slot)
    (found,) = await store.find_many([moving])
    assert found is not None
    assert await store.delete([moving]) == 1


async def test_a_pooled_connection_that_died(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The next lookup connects anew, as redis-py's own commands do."""
    server = RedisServer(tmp_path_factory.mktemp("restarted")).start()
    store = open_store(Store(url=SecretStr(server.url), timeout="10s"))
    assert await values_and_lives(store.client, [b"a"]) == ([None], [-2])  # type: ignore[arg-type]
    server.stop()
    server.start()
    assert await values_and_lives(store.client, [b"a"]) == ([None], [-2])  # type: ignore[arg-type]
    await store.close()
    server.stop()


async def test_a_cluster_whose_connections_died(cluster: TwoMasters, store: TokenStore) -> None:
    """The next call connects anew and looks at the Cluster again, for reading and for writing."""
    (key, *_), _ = tokens_of(store)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.find_many([key]),
        lambda: store.get_many([key]),
        lambda: store.put(key, DOCUMENT, expires_in_seconds=60),
        lambda: store.delete([key]),
    ]
    for call in calls:
        for client in cluster.clients:
            client.execute_command("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")
        await call()
    assert await store.get_many([key]) == [None]
