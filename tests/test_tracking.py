"""Invalidations from a real Redis, and what is noticed when it can't send them."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis_server import RedisServer
from structlog.testing import capture_logs
from waiting import eventually

from gateway.clock import SystemClock
from gateway.settings import Store
from gateway.store import TokenStore, open_store
from gateway.tokens import TokenKey, token_key
from gateway.tracking import Tracking

A, B = token_key("a"), token_key("b")


class Heard:
    """Notes what it is told, and lets the test wait for it."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[str | TokenKey] = asyncio.Queue()
        self.complete_as_of: list[float] = []
        self.whys: list[str] = []

    def up(self) -> None:
        self.events.put_nowait("up")

    def down(self, why: str) -> None:
        self.whys.append(why)
        self.events.put_nowait("down")

    def invalidated(self, keys: Sequence[TokenKey]) -> None:
        for key in keys:
            self.events.put_nowait(key)

    def invalidated_all(self) -> None:
        self.events.put_nowait("all")

    def complete(self, as_of: float) -> None:
        self.complete_as_of.append(as_of)

    async def next(self, count: int = 1) -> list[str | TokenKey]:
        async with asyncio.timeout(20):
            return [await self.events.get() for _ in range(count)]

    async def until(self, event: str | TokenKey) -> None:
        async with asyncio.timeout(20):
            while await self.events.get() != event:
                pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may freeze, kill and start again."""
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
async def listen() -> AsyncIterator[Callable[..., Awaitable[tuple[Heard, TokenStore]]]]:
    """Begin to listen to a server, with short time-outs."""
    running: list[tuple[asyncio.Task[None], TokenStore]] = []

    async def listen(url: str) -> tuple[Heard, TokenStore]:
        store = open_store(Store.model_validate({"url": url, "timeout": "200ms"}))
        heard = Heard()
        tracking = Tracking(
            store.client,
            heard,
            key_prefix=store.key_prefix,
            ping_interval_seconds=0.05,
            timeout_seconds=0.2,
            clock=SystemClock(),
        )
        running.append((asyncio.create_task(tracking.run()), store))
        return heard, store

    yield listen
    for task, store in running:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


Listen = Callable[[str], Awaitable[tuple[Heard, TokenStore]]]


async def test_every_change_is_told_whoever_makes_it(listen: Listen, server: RedisServer) -> None:
    """Written by the gateway itself or by anyone, overwritten, removed, expired, emptied."""
    heard, store = await listen(server.url)
    assert await heard.next() == ["up"]
    await store.put(A, {"active": True}, expires_in_seconds=60)
    assert await heard.next() == [A]
    with redis.Redis(port=server.port) as other:
        other.set(store.name(A), "{}")
        assert await heard.next() == [A]
        other.delete(store.name(A))
        assert await heard.next() == [A]
        other.set(store.name(B), "{}", px=20)
        assert await heard.next(2) == [B, B]
        other.flushall()
        assert await heard.next() == ["all"]


async def test_other_keys_are_not_told(listen: Listen, server: RedisServer) -> None:
    """Neither what has another prefix nor a grant, which has the tokens' own."""
    heard, store = await listen(server.url)
    await heard.until("up")
    with redis.Redis(port=server.port) as other:
        other.set("else", 1)
        other.hset(store.grant_name(A), "client_id", "a")
        other.set("token:" + "x" * 64, 1)
        other.set(store.name(B), "{}")
    assert await heard.next() == [B]


async def test_many_at_once(listen: Listen, server: RedisServer) -> None:
    """A command that removes ten thousand tokens is told in full."""
    heard, store = await listen(server.url)
    await heard.until("up")
    names = [store.name(token_key(f"{number}")) for number in range(10_000)]
    with redis.Redis(port=server.port) as other:
        other.mset(dict.fromkeys(names, "{}"))
        other.delete(*names)
    keys = await heard.next(20_000)
    assert len(set(keys)) == 10_000


async def test_pings_say_that_all_was_told(listen: Listen, server: RedisServer) -> None:
    """As of when they were sent."""
    heard, store = await listen(server.url)
    await heard.until("up")
    async with asyncio.timeout(20):
        while len(heard.complete_as_of) < 3:
            await store.put(A, {}, expires_in_seconds=60)
            await heard.until(A)
    assert heard.complete_as_of == sorted(heard.complete_as_of)
    assert heard.complete_as_of[-1] <= SystemClock().monotonic()


def kill_feed(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as other:
        killed = other.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert killed == 1


def restart(server: RedisServer) -> None:
    server.stop()
    server.start()


@pytest.mark.parametrize("harm", [kill_feed, restart])
async def test_a_lost_connection_is_made_again(
    listen: Listen, server: RedisServer, harm: Callable[[RedisServer], None]
) -> None:
    """It is down at once, then up, and tells what changes from then on."""
    heard, store = await listen(server.url)
    await heard.until("up")
    harm(server)
    assert await heard.next() == ["down"]
    await heard.until("up")
    with redis.Redis(port=server.port) as other:
        other.delete("none")
        other.set(store.name(A), "{}")
    assert await heard.next() == [A]


async def test_a_frozen_server_is_noticed(listen: Listen, server: RedisServer) -> None:
    """Its connection stays open and says nothing: an unanswered ping tells."""
    heard, store = await listen(server.url)
    await heard.until("up")
    server.freeze()
    assert await heard.next() == ["down"]
    assert heard.whys == ["no answer to a ping"]
    server.thaw()
    await heard.until("up")
    await store.put(A, {}, expires_in_seconds=60)
    assert await heard.next() == [A]


async def test_it_can_be_stopped_at_any_moment(server: RedisServer) -> None:
    """While it connects, listens or pings: whatever redis-py makes of a cancellation."""
    for turns in range(60):
        store = open_store(Store.model_validate({"url": server.url}))
        tracking = Tracking(
            store.client,
            Heard(),
            key_prefix=store.key_prefix,
            ping_interval_seconds=0.001,
            timeout_seconds=0.5,
            clock=SystemClock(),
        )
        task = asyncio.create_task(tracking.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([task])
        assert task.cancelled()
        await store.close()


async def test_nobody_there(listen: Listen) -> None:
    """It is down until somebody is; each failure is one more attempt, ever later."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        heard, _ = await listen(f"redis://127.0.0.1:{nobody.getsockname()[1]}")
        assert await heard.next(2) == ["down", "down"]
    assert heard.whys[0] == "connection refused"


async def test_a_server_that_does_not_track(listen: Listen, server: RedisServer) -> None:
    """A user without the permission, or a Redis before 6: it says why, and tries on."""
    with redis.Redis(port=server.port) as admin:
        admin.execute_command(
            *("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-subscribe")
        )
    heard, _ = await listen(f"redis://u:p@127.0.0.1:{server.port}/0")
    assert await heard.next(2) == ["down", "down"]
    assert "CLIENT TRACKING" in heard.whys[0]


@pytest.mark.parametrize("how", ["SWAPDB", "REPLICAOF"])
async def test_what_the_server_tells_nobody(
    listen: Listen, server: RedisServer, tmp_path: Path, how: str
) -> None:
    """That all tokens were exchanged is asked for: another database's, or another server's."""
    heard, store = await listen(server.url)
    assert await heard.next() == ["up"]
    (tmp_path / "other").mkdir()
    other = RedisServer(tmp_path / "other").start()
    with redis.Redis(port=server.port) as admin:
        admin.set(store.name(A), "{}")
        assert await heard.next() == [A]
        words = {"SWAPDB": "0 1", "REPLICAOF": f"127.0.0.1 {other.port}"}[how].split()
        admin.execute_command(how, *words)
        # Of a replica twice: when it becomes one, and when it has the other's data.
        times = 1 if how == "SWAPDB" else 2
        assert await heard.next(times) == ["all"] * times
        assert not admin.exists(store.name(A))
    other.stop()


CHANGES = {
    "DEL": ["DEL a"],
    "UNLINK": ["UNLINK a"],
    "GETDEL": ["GETDEL a"],
    "SET": ["SET a {}"],
    "SET KEEPTTL": ["SET a {} KEEPTTL"],
    "RENAME": ["RENAME a b"],
    "RENAME onto": ["SET b {}", "RENAME b a"],
    "COPY REPLACE": ["SET b {}", "COPY b a REPLACE"],
    "MOVE": ["MOVE a 1"],
    "RESTORE": ["RESTORE a 0 dumped REPLACE"],
    "RESTORE, expired": ["RESTORE a 1 dumped REPLACE ABSTTL"],
    "EXPIRE": ["EXPIRE a 100"],
    "EXPIRE, at once": ["EXPIRE a -1"],
    "PEXPIREAT, past": ["PEXPIREAT a 1"],
    "GETEX": ["GETEX a EX 10"],
    "PERSIST": ["EXPIRE a 10", "PERSIST a"],
    "a script": ["EVAL return(redis.call('DEL',KEYS[1])) 1 a"],
    "FLUSHDB": ["FLUSHDB"],
    "FLUSHALL": ["FLUSHALL ASYNC"],
    "a transaction": ["MULTI", "DEL a", "EXEC"],
}


@pytest.mark.parametrize("change", CHANGES)
async def test_every_way_in_which_a_token_changes(
    listen: Listen, server: RedisServer, change: str
) -> None:
    """Removed, replaced, moved away, or given another life: all but expiry is told at once."""
    heard, store = await listen(server.url)
    assert await heard.next() == ["up"]
    with redis.Redis(port=server.port, single_connection_client=True) as admin:
        admin.set(store.name(A), "{}")
        assert await heard.next() == [A]
        words = {"a": store.name(A), "b": "b", "dumped": admin.dump(store.name(A))}
        for command in CHANGES[change]:
            admin.execute_command(*(words.get(word, word) for word in command.split()))
    assert (await heard.next())[0] in {A, "all"}


async def test_a_token_that_is_evicted_for_its_memory(listen: Listen, server: RedisServer) -> None:
    """What a full Redis throws away is told as well."""
    heard, store = await listen(server.url)
    assert await heard.next() == ["up"]
    with redis.Redis(port=server.port) as admin:
        admin.set(store.name(A), "{}")
        assert await heard.next() == [A]
        admin.config_set("maxmemory-policy", "allkeys-random")
        admin.config_set("maxmemory", "1")
        with suppress(redis.ResponseError):
            admin.set("b", "b")
    assert await heard.next() == [A]


async def test_a_user_who_may_not_ask(listen: Listen, server: RedisServer) -> None:
    """Without INFO the feed works, and the log says once what goes unnoticed and what to do."""
    with redis.Redis(port=server.port) as admin:
        rules = ["on", ">p", "~*", "&*", "+@all", "-info"]
        admin.execute_command("ACL", "SETUSER", "u", *rules)
        with capture_logs() as logs:
            heard, store = await listen(f"redis://u:p@127.0.0.1:{server.port}/0")
            assert await heard.next() == ["up"]
            admin.execute_command("CLIENT KILL", "TYPE", "pubsub")
            assert await heard.next(2) == ["down", "up"]
        admin.set(store.name(A), "{}")
        assert await heard.next() == [A]
    assert [entry["remedy"] for entry in logs] == ["grant it +info, or take +swapdb from everyone"]


async def test_the_permissions_that_the_page_names(listen: Listen, server: RedisServer) -> None:
    """A user who has these besides the store's own can listen (docs/store.md)."""
    page = (Path(__file__).parents[1] / "docs" / "store.md").read_text()
    found = re.search(r"The feed .* needs `([^`]*)`", page)
    assert found
    with redis.Redis(port=server.port) as admin:
        rules = f"on >p ~token:* +ping +client|setname {found[1]}".split()
        admin.execute_command("ACL", "SETUSER", "u", *rules)
        heard, store = await listen(f"redis://u:p@127.0.0.1:{server.port}/0")
        assert await heard.next() == ["up"]
        admin.set(store.name(A), "{}")
        assert await heard.next() == [A]
        admin.execute_command("SWAPDB", 0, 1)
        assert await heard.next() == ["all"]


# Several servers


def cluster_node(directory: Path) -> RedisServer:
    """Start a master of a Cluster, which listens on a second port too, 10,000 higher."""
    directory.mkdir()
    arguments = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    return RedisServer(directory, *arguments).start()


def cluster_of(directory: Path, count: int) -> list[RedisServer]:
    """Return the masters of a Cluster, which know each other and share the slots."""
    servers = [cluster_node(directory / str(number)) for number in range(count)]
    # In one piece each: the whole map is parsed at every look.
    slots, share = range(16384), -(-16384 // count)
    for number, server in enumerate(servers):
        with redis.Redis(port=server.port) as node:
            node.execute_command(
                "CLUSTER", "ADDSLOTS", *slots[number * share : (number + 1) * share]
            )
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
    return servers


async def cluster_is_whole(servers: Sequence[RedisServer]) -> None:
    for server in servers:
        async with Redis(port=server.port) as node:

            async def is_whole(node: Redis = node) -> bool:
                return b"cluster_state:ok" in await ask(node, "CLUSTER", "INFO")

            await eventually(is_whole)


async def ask(node: Redis, *command: str) -> Any:
    return await node.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[RedisServer]]:
    servers = cluster_of(tmp_path, 2)
    await cluster_is_whole(servers)
    yield servers
    for server in servers:
        server.stop()


async def test_every_master_of_a_cluster(listen: Listen, cluster: list[RedisServer]) -> None:
    """Tokens are told wherever they are; one master that is lost is the feed lost."""
    heard, store = await listen(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    await heard.until("up")
    many = [token_key(f"{number}") for number in range(20)]
    for key in many:
        await store.put(key, {"active": True}, expires_in_seconds=60)
    assert set(await heard.next(20)) == set(many)
    kill_feed(cluster[1])
    assert await heard.next() == ["down"]
    await heard.until("up")


async def test_a_master_that_joins_a_cluster(
    listen: Listen, cluster: list[RedisServer], tmp_path: Path
) -> None:
    """It is listened to before slots move there, or soon after."""
    heard, _ = await listen(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    await heard.until("up")
    server = cluster_node(tmp_path / "new")
    try:
        with redis.Redis(port=server.port) as node:
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", cluster[0].port)
        assert await heard.next() == ["down"]
        assert heard.whys == ["other servers are the masters now"]
        await heard.until("up")
    finally:
        server.stop()


async def test_sentinel_failover(listen: Listen, server: RedisServer, tmp_path: Path) -> None:
    """The new master is listened to as soon as Sentinel says which it is."""
    (folder := tmp_path / "replica").mkdir()
    replica = RedisServer(folder, "--replicaof", "127.0.0.1", str(server.port)).start()
    (folder := tmp_path / "sentinel").mkdir()
    (conf := folder / "sentinel.conf").write_text(
        f"sentinel monitor main 127.0.0.1 {server.port} 1\n"
        "sentinel down-after-milliseconds main 1000\n"
    )
    sentinel = RedisServer(folder, str(conf), "--sentinel").start_sentinel()
    try:
        async with Redis(port=sentinel.port, decode_responses=True) as asked:

            async def knows_the_replica() -> bool:
                return bool(await ask(asked, "SENTINEL", "REPLICAS", "main"))

            async def fails_over() -> bool:  # once it has heard enough of the replica to trust it
                try:
                    await ask(asked, "SENTINEL", "FAILOVER", "main")
                except redis.ResponseError:
                    return False
                return True

            await eventually(knows_the_replica)
            heard, store = await listen(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
            await heard.until("up")
            await eventually(fails_over)
        assert await heard.next() == ["down"]
        await heard.until("up")
        async with Redis(port=replica.port) as new:

            async def is_master() -> bool:
                return bool((await ask(new, "ROLE"))[0] == b"master")

            await eventually(is_master)
            await new.set(store.name(A), "{}")
            await heard.until(A)
    finally:
        sentinel.stop()
        replica.stop()
