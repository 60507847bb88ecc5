"""The pool of connections: open loop, bounded, nothing retried, nothing lost."""

import asyncio
import socket
import ssl
import time
from pathlib import Path

import pytest
from streams import listening

from gateway.demo.certificate import write_certificate
from gateway.loadtest.client import Pool, Unreachable, tls_context
from gateway.loadtest.origins import Origin
from loadtest.fake_gateway import FakeGateway, RawServer, serving
from loadtest.pools import Collected, open_pool, probe
from loadtest.waiting import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_a_connection_is_kept() -> None:
    """One request after another goes over one connection, and each is sent once."""
    server = RawServer([OK])
    async with server.serving() as port, open_pool(port) as (pool, collected):
        for count in range(1, 6):
            pool.send(probe())
            await collected.wait_for(count)
    assert (server.connections, len(server.requests)) == (1, 5)


async def test_more_connections_when_they_are_needed() -> None:
    """Requests at once go over connections of their own, up to the limit; the rest are late."""
    server = RawServer([])
    async with server.serving() as port, open_pool(port, limit=3) as (pool, collected):
        calls = [probe() for _ in range(5)]
        for call in calls:
            pool.send(call)
        await until(lambda: len(server.requests) >= 3)
        assert ([call.sent is None for call in calls], pool.waiting) == (
            [False, False, False, True, True],
            2,
        )
        server.script = [[OK]]
        for writer in server._writers:
            writer.write(OK)
        await collected.wait_for(5)
    assert server.connections == 3
    assert [call.status for call in calls] == [200] * 5
    late = [call.sent for call in calls[3:]]
    assert all(at is not None and at >= (calls[0].finished or 0) for at in late)


async def test_no_free_connection_for_too_long() -> None:
    """A request that waited as long as an answer may take comes back unsent, never silently."""
    server = RawServer([])
    async with (
        server.serving() as port,
        open_pool(port, limit=1, timeout=0.1) as (pool, collected),
    ):
        first, second = probe(planned=pool.clock()), probe(planned=pool.clock() - 0.05)
        pool.send(first)
        pool.send(second)
        calls = await collected.wait_for(2)
    assert calls == [second, first]
    assert (second.sent, second.error, first.error) == (None, None, "timeout")
    assert first.sent is not None
    assert first.finished is not None
    assert first.finished - first.sent >= 0.1


async def test_a_time_out_closes_the_connection() -> None:
    """A late answer can't be taken for another's, for its connection is gone."""
    server = RawServer([], [OK])
    async with (
        server.serving() as port,
        open_pool(port, limit=1, timeout=0.1) as (pool, collected),
    ):
        pool.send(probe(planned=pool.clock()))
        await collected.wait_for(1)
        pool.send(probe(planned=pool.clock()))
        await collected.wait_for(2)
    assert [(call.status, call.error) for call in collected.calls] == [
        (None, "timeout"),
        (200, None),
    ]
    assert server.connections == 2


async def test_a_gateway_that_closes_after_each_answer() -> None:
    """Every request gets an answer, each over a connection of its own."""
    server = RawServer([CLOSE, None])
    async with server.serving() as port, open_pool(port, connections=2) as (pool, collected):
        for count in range(1, 9):
            pool.send(probe())
            await collected.wait_for(count)
    assert [call.status for call in collected.calls] == [200] * 8


async def test_spare_connections() -> None:
    """So many connections as are asked for are there before the first request."""
    server = RawServer([OK])
    async with server.serving() as port, open_pool(port, connections=3):
        await until(lambda: server.connections >= 3)
    assert server.connections == 3


async def test_nobody_listens_at_the_start() -> None:
    """A target that can't be reached is found out at once, and the word says why."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:[0-9]+: refused") as caught:
            async with open_pool(free.getsockname()[1]):
                pass
    assert caught.value.kind == "refused"


async def test_a_host_that_isn_t_known() -> None:
    """A name without an address is a failure of its own."""
    pool = Pool(
        Origin(False, "no-such-host.invalid", 80),
        done=Collected(),
        clock=time.monotonic,
        limit=1,
        timeout_seconds=1,
    )
    with pytest.raises(Unreachable, match=r"no-such-host.invalid:80: dns"):
        await pool.start()
    await pool.close()


async def test_a_gateway_that_goes_away() -> None:
    """What was under way fails in a word, and so does each request after it, none retried."""
    server = RawServer([None])
    async with server.serving() as port:
        context = open_pool(port)
        pool, collected = await context.__aenter__()
        pool.send(probe())
        await collected.wait_for(1)
    for count in range(2, 5):
        pool.send(probe())
        await collected.wait_for(count)
    await context.__aexit__(None, None, None)
    assert [call.error for call in collected.calls] == ["closed", "refused", "refused", "refused"]
    assert len(server.requests) == 1


async def test_closing_gives_everything_back() -> None:
    """What is under way when a pool closes fails, and what waits comes back unsent."""
    server = RawServer([])
    async with server.serving() as port:
        async with open_pool(port, limit=1) as (pool, collected):
            pool.send(probe())
            pool.send(probe())
        assert sorted((call.sent is None, call.error) for call in collected.calls) == [
            (False, "closed"),
            (True, None),
        ]


async def test_bodies_where_they_are_wanted() -> None:
    """A pool of the token endpoint keeps bodies, one of a target doesn't."""
    server = RawServer([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"])
    bodies = []
    async with server.serving() as port:
        for keep in (True, False):
            async with open_pool(port, keep_body=keep) as (pool, collected):
                pool.send(probe())
                bodies.append((await collected.wait_for(1))[0].body)
    assert bodies == [b"{}", b""]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Give the files of a certificate for this machine, and of its key."""
    written = write_certificate(tmp_path, "127.0.0.1", now_at=time.time())
    return str(written.certificate), str(written.key)


@pytest.mark.parametrize(
    ("trusted", "insecure", "outcome"),
    [(True, False, 200), (False, True, 200), (False, False, "tls")],
)
async def test_tls(
    files: tuple[str, str], trusted: bool, insecure: bool, outcome: int | str
) -> None:
    """A certificate is trusted by a file, or whatever it is where that is asked for."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(*files)
    tls = tls_context(ca_file=files[0] if trusted else None, insecure=insecure)
    async with listening(_answer_once, tls=served) as port:
        try:
            async with open_pool(port, tls=tls) as (pool, collected):
                pool.send(probe())
                (call,) = await collected.wait_for(1)
                found: int | str | None = call.status
        except Unreachable as error:
            found = error.kind
    assert outcome == found


async def _answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(CLOSE)
    await writer.drain()


async def test_open_loop() -> None:
    """A target that stands still doesn't hold back what is planned while it does."""
    gateway = FakeGateway()
    gateway.stall = asyncio.Event()
    async with serving(gateway) as url:
        port = int(url.rpartition(":")[2])
        async with open_pool(port, limit=32) as (pool, collected):
            calls = [probe(planned=pool.clock()) for _ in range(20)]
            for call in calls:
                pool.send(call)
            await until(lambda: len(gateway.seen) >= 20)
            assert collected.calls == []
            released_at = pool.clock()
            gateway.stall.set()
            await collected.wait_for(20)
    assert all(call.sent is not None and call.sent < released_at for call in calls)
    assert all(call.finished is not None and call.finished > released_at for call in calls)
