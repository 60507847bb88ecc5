"""How many connections to upstreams there are, who gets one, and how long each is kept."""

import asyncio
from urllib.parse import urlsplit

import pytest
from backends import Connection, answering, scripted

from gateway.errors import UpstreamTimeout
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.pools import UpstreamPools
from proxy.asked import Asked, ask
from proxy.gateways import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def open_pools(
    connections: int = 10, *, idle: float = 4, connect: float = 10, tick: float = 1
) -> UpstreamPools:
    return UpstreamPools(
        connections=connections,
        connect_timeout_seconds=connect,
        idle_timeout_seconds=idle,
        tick_seconds=tick,
    )


class Held:
    """A script that answers each request when the test lets it, in the order in which they came.

    ``most`` is how many connections were open at once.
    """

    def __init__(self, answer: bytes = OK) -> None:
        self.came: list[str] = []
        self.most = 0
        self._answer = answer
        self._open = 0
        self._go = asyncio.Semaphore(0)

    async def __call__(self, connection: Connection) -> None:
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            while True:
                head = await connection.head()
                self.came.append(head.split(b" ")[1].decode()[1:])
                await self._go.acquire()
                await connection.send(self._answer)
        finally:
            self._open -= 1

    def let(self, count: int = 1) -> None:
        """Let so many requests be answered."""
        for _ in range(count):
            self._go.release()


def submit(pool: UpstreamPool, *names: str) -> list[Asked]:
    exchanges = [Asked(name) for name in names]
    for exchange in exchanges:
        pool.submit(exchange)
    return exchanges


async def test_no_more_than_the_limit() -> None:
    """Those that find no room wait, and get a connection in the order in which they came."""
    pools, held = open_pools(2), Held()
    async with scripted(held) as backend:
        pool = pools.pool(backend.url)
        asked = submit(pool, "a", "b", "c", "d", "e")
        await until(lambda: len(held.came) == 2)
        assert (pools.open_connections, len(pool.waiting)) == (2, 3)
        held.let()
        await until(lambda: len(held.came) == 3)
        held.let()
        await until(lambda: len(held.came) == 4)
        held.let(3)
        for exchange in asked:
            assert (await exchange.ended()).content == b"ok"
        assert held.came[2:] == ["c", "d", "e"]
        assert sorted(held.came[:2]) == ["a", "b"]
        assert [exchange.reused for exchange in asked] == [False, False, True, True, True]
        assert len(backend.connections) == 2
    await pools.close()


async def test_the_limit_is_for_all_upstreams() -> None:
    """One that has to wait for another upstream's connections gets the first that closes."""
    pools, held = open_pools(1), Held(LAST)
    async with scripted(held) as first, scripted(answering(OK)) as second:
        (one,) = submit(pools.pool(first.url), "a")
        (other,) = submit(pools.pool(second.url), "b")
        await until(lambda: held.came == ["a"])
        assert (other.events, pools.open_connections) == ([], 1)
        held.let()
        assert (await one.ended()).content == b"ok"
        assert (await other.ended()).content == b"ok"
    await pools.close()


async def test_no_upstream_starves_another() -> None:
    """At the limit, one that is asked without end gives up a connection for one that has none."""
    pools, busy, quiet = open_pools(1), Held(), Held()
    async with scripted(busy) as first, scripted(quiet) as second:
        pool = pools.pool(first.url)
        asked = submit(pool, "a", "b", "c")
        await until(lambda: busy.came == ["a"])
        (other,) = submit(pools.pool(second.url), "x")
        busy.let()
        await until(lambda: quiet.came == ["x"])
        assert (busy.came, pools.open_connections) == (["a"], 1)
        quiet.let()
        busy.let(2)
        for exchange in (*asked, other):
            assert (await exchange.ended()).content == b"ok"
    await pools.close()


async def test_an_idle_connection_makes_room() -> None:
    """It is closed for a request to another upstream, which gets one connection and not two."""
    pools = open_pools(2)
    async with scripted(answering(OK)) as first, scripted(answering(OK)) as second:
        one, other = submit(pools.pool(first.url), "a", "b")
        await one.ended()
        await other.ended()
        await until(lambda: len(pools.pool(first.url).idle) == 2)
        (third,) = submit(pools.pool(second.url), "c")
        assert pools.open_connections == 2
        await third.ended()
        assert (pools.open_connections, len(pools.pool(first.url).idle)) == (2, 1)
        assert (await ask(pools, first.url)).reused is True
        assert len(second.connections) == 1
    await pools.close()


async def test_many_at_the_limit() -> None:
    """However they come and go, over several upstreams there are never more than allowed."""
    pools, held, most = open_pools(3), Held(), 0
    async with scripted(held) as first, scripted(held) as second, scripted(held) as third:
        pooled = [pools.pool(backend.url) for backend in (first, second, third)]
        asked = [submit(pooled[number % 3], str(number))[0] for number in range(30)]
        held.let(30)

        def all_ended() -> bool:
            nonlocal most
            most = max(most, pools.open_connections)
            return all(exchange.status for exchange in asked)

        await until(all_ended)
        assert most == 3
        assert sorted(held.came, key=int) == [str(number) for number in range(30)]
    await pools.close()


async def test_one_that_waits_no_more() -> None:
    """It gets nothing, those behind it move up, and the connection made for it is kept."""
    pools, held = open_pools(1), Held()
    async with scripted(held) as backend:
        pool = pools.pool(backend.url)
        first, second, third = submit(pool, "a", "b", "c")
        await until(lambda: held.came == ["a"])
        pool.withdraw(second)
        pool.withdraw(second)  # and nothing more happens
        held.let(2)
        await first.ended()
        await third.ended()
        assert (held.came, second.events) == (["a", "c"], [])
    await pools.close()


async def test_one_that_leaves_while_its_connection_opens() -> None:
    """The next request finds that connection."""
    pools = open_pools(1)
    async with scripted(answering(OK)) as backend:
        pool = pools.pool(backend.url)
        (gone,) = submit(pool, "a")
        pool.withdraw(gone)
        await until(lambda: len(pool.idle) == 1)
        assert gone.events == []
        assert (await ask(pools, backend.url)).reused is True
        assert len(backend.connections) == 1
    await pools.close()


async def test_one_that_leaves_an_answer_gives_room() -> None:
    """Its connection closes, and who waits gets another."""
    pools, held = open_pools(1), Held()
    async with scripted(held) as backend:
        first, second = submit(pools.pool(backend.url), "a", "b")
        await until(lambda: held.came == ["a"])
        assert first.connection is not None
        first.connection.abandon()
        await until(lambda: held.came == ["a", "b"])
        held.let(2)
        assert ((await second.ended()).content, second.reused) == (b"ok", False)
        assert held.most <= 2  # the backend learns of the first one's end in its own time
    await pools.close()


async def test_a_fresh_one() -> None:
    """It gets a new connection though one is idle, and before those that wait."""
    pools, held = open_pools(2), Held()
    async with scripted(held) as backend:
        pool = pools.pool(backend.url)
        held.let()
        assert (await ask(pools, backend.url)).reused is False
        (_, _, waits) = submit(pool, "a", "b", "c")
        await until(lambda: held.came == ["", "a", "b"])
        fresh = Asked("d")
        pool.submit(fresh, fresh=True)
        held.let(4)
        await fresh.ended()
        await waits.ended()
        assert held.came == ["", "a", "b", "d", "c"]
    await pools.close()
    async with scripted(answering(OK)) as backend:
        pools = open_pools(2)
        assert (await ask(pools, backend.url)).reused is False
        assert (await ask(pools, backend.url, fresh=True)).reused is False
        await pools.close()


async def test_idle_connections_close_in_time() -> None:
    """After as many ticks as make the time-out, each counted from its own last answer."""
    pools = open_pools(idle=4, tick=1)
    async with scripted(answering(OK)) as backend:
        pool = pools.pool(backend.url)
        first, second = submit(pool, "a", "b")
        await first.ended()
        await second.ended()
        await until(lambda: len(pool.idle) == 2)
        for _ in range(3):
            assert pools.tick() is True
        assert (await ask(pools, backend.url)).reused is True  # the one used last
        assert pools.tick() is True
        assert len(pool.idle) == 1
        assert [pools.tick() for _ in range(3)] == [True, True, False]
        assert pool.idle == []
        assert (await ask(pools, backend.url)).reused is False
    await pools.close()


async def test_a_connection_in_use_is_not_idle() -> None:
    """However long an answer takes."""
    pools, held = open_pools(idle=4, tick=1), Held()
    async with scripted(held) as backend:
        (exchange,) = submit(pools.pool(backend.url), "a")
        await until(lambda: held.came == ["a"])
        for _ in range(100):
            assert pools.tick() is True
        held.let()
        assert (await exchange.ended()).content == b"ok"
        assert len(pools.pool(backend.url).idle) == 1
    await pools.close()


@pytest.mark.parametrize(("host", "replaced"), [("localhost", True), ("127.0.0.1", False)])
async def test_names_are_resolved_again(host: str, replaced: bool) -> None:
    """A connection to a name serves for 30 s, however busy it is; an address stays what it is."""
    pools = open_pools(idle=4, tick=1)
    async with scripted(answering(OK)) as backend:
        url = f"http://{host}:{urlsplit(backend.url).port}"
        reused = []
        for _ in range(32):
            reused.append((await ask(pools, url)).reused)
            pools.tick()
        assert reused.index(True) == 1
        # The answer after the thirtieth tick is the last on its connection.
        assert reused[1:] == [True] * 30 + [not replaced]
        assert len(backend.connections) == 1 + replaced
    await pools.close()


async def test_a_time_out_gives_room() -> None:
    """Who could not connect doesn't count, and the next one tries for itself."""
    pools = open_pools(1, connect=0.01)
    async with scripted(answering(OK)) as backend:
        silent = pools.pool(backend.url.replace("http:", "https:"))
        first, second = submit(silent, "a", "b")
        (other,) = submit(pools.pool(backend.url), "c")
        for exchange in (first, second):
            assert type((await exchange.ended()).error) is UpstreamTimeout
        assert (await other.ended()).content == b"ok"
    await pools.close()


async def test_closing() -> None:
    """What is idle closes at once, what is under way when it ends, and nothing more is opened."""
    pools, held = open_pools(), Held()
    async with scripted(held) as busy, scripted(answering(OK)) as other:
        await ask(pools, other.url)
        (exchange,) = submit(pools.pool(busy.url), "a")
        await until(lambda: held.came == ["a"])
        await pools.close()
        assert (pools.open_connections, pools.pool(other.url).idle) == (1, [])
        held.let()
        assert (await exchange.ended()).content == b"ok"
        await until(lambda: pools.open_connections == 0)
        (late,) = submit(pools.pool(other.url), "b")
        assert (late.events, pools.open_connections) == ([], 0)
        assert len(other.connections) == 1


async def test_closing_while_connections_open() -> None:
    """The attempts end, and no task and no connection is left."""
    pools = open_pools()
    async with scripted(answering(OK)) as backend:
        submit(pools.pool(backend.url.replace("http:", "https:")), "a", "b")
        await until(lambda: len(backend.connections) == 2)
        await pools.close()
        assert pools.open_connections == 0
        assert asyncio.all_tasks() - backend._tasks == {asyncio.current_task()}
