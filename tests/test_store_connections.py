"""Redis by name: found by the resolver of all upstreams, whatever other names do."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.asyncio import Redis
from redis_server import RedisServer

from gateway.resolver import AddressInfo, Resolver
from gateway.settings import Store
from gateway.store import open_store
from gateway.store_connections import resolve_by

HERE: AddressInfo = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
NOWHERE: AddressInfo = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", 0))


class Names:
    """What a resolver asks: "redis.test" has two addresses, of which one refuses."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, host: str) -> list[AddressInfo]:
        self.asked.append(host)
        if host != "redis.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [NOWHERE, HERE]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    started = RedisServer(tmp_path).start()
    yield started
    started.stop()


async def ping(url: str, names: Names) -> None:
    """Ask a store by names; raises what its connections do."""
    settings = Store(url=SecretStr(url), timeout="10s", connect_timeout="10s")
    store = open_store(settings, resolver=Resolver(look_up=names))
    try:
        await store.ping()
    finally:
        await store.close()


async def test_a_redis_by_name(server: RedisServer) -> None:
    """Its name is looked up as an upstream's, and each address is tried."""
    names = Names()
    await ping(f"redis://redis.test:{server.port}", names)
    assert set(names.asked) == {"redis.test"}


async def test_a_redis_by_address(server: RedisServer) -> None:
    """Nothing is looked up."""
    names = Names()
    await ping(f"redis://127.0.0.1:{server.port}", names)
    assert names.asked == []


async def test_a_dead_sentinel_s_name_does_not_keep_another_from_being_found(
    server: RedisServer, tmp_path: Path
) -> None:
    """The next one is asked."""
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor tokens 127.0.0.1 {server.port} 1\n")
    sentinel = RedisServer(tmp_path, str(config), "--sentinel").start()
    names = Names()
    try:
        await ping(f"redis+sentinel://dead.test:1,redis.test:{sentinel.port}/tokens", names)
    finally:
        sentinel.stop()
    assert names.asked[:1] == ["dead.test"]
    assert "redis.test" in names.asked


async def test_a_cluster_by_name(tmp_path: Path) -> None:
    """The nodes that the settings name are found so."""
    server = RedisServer(tmp_path, "--cluster-enabled", "yes").start()
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(16_384))
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            pass
    names = Names()
    try:
        await ping(f"redis+cluster://redis.test:{server.port}", names)
    finally:
        server.stop()
    assert set(names.asked) == {"redis.test"}


async def test_a_certificate_is_judged_by_the_name() -> None:
    """Not by the address at which it was found (RFC 9110 §4.3.4)."""
    client: Redis = Redis(host="redis.test", port=1, ssl=True)
    resolve_by(Resolver(look_up=Names()), client)
    pool: Any = client.connection_pool
    connection = pool.make_connection()
    connection._address = "127.0.0.1"
    arguments = connection._connection_arguments()
    assert (arguments["host"], arguments["server_hostname"]) == ("127.0.0.1", "redis.test")
    await client.aclose()
