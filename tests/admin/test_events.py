"""Events: one state for all who watch, none when nobody does, an end when the port closes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from gateway.admin.events import MOST_WATCHERS, StateEvents


class Bench:
    """Events whose time a test moves, and what they were asked for."""

    def __init__(self) -> None:
        self.told = 0
        self.looked = 0
        self.broken = False
        self.sleeping = asyncio.Event()
        self._wake = asyncio.Event()
        self.events = StateEvents(
            self.describe, look=self.look, sleep=self.sleep, write_seconds=1e9
        )

    async def describe(self) -> dict[str, Any]:
        self.told += 1
        if self.broken:
            raise ValueError("broken")
        return {"number": self.told}

    async def look(self) -> None:
        self.looked += 1

    async def sleep(self, _seconds: float) -> None:
        self.sleeping.set()
        await self._wake.wait()
        self._wake.clear()

    async def tick(self) -> None:
        """Let a second pass."""
        await self.sleeping.wait()
        self.sleeping.clear()
        self._wake.set()
        await self.sleeping.wait()

    async def idle(self) -> None:
        """Return when the ticker has ended."""
        async with asyncio.timeout(20):
            while self.events._ticker is not None:  # noqa: ASYNC110 -- nothing tells of it
                await asyncio.sleep(0)


Client = TestClient[web.Request, web.Application]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def client(bench: Bench, aiohttp_client: AiohttpClient) -> AsyncIterator[Client]:
    async def send(request: web.Request) -> web.StreamResponse:
        return await bench.events.send(request)

    app = web.Application()
    app.router.add_get("/", send)
    client = await aiohttp_client(app, server_kwargs={"handler_cancellation": True})
    yield client
    bench.events.close()


async def block(stream: ClientResponse) -> dict[str, str]:
    """Return the fields of the next event."""
    async with asyncio.timeout(20):
        lines = (await stream.content.readuntil(b"\n\n")).decode().split("\n")[:-2]
    return dict(line.split(": ", 1) for line in lines)


async def test_a_watcher_gets_the_state_at_once_and_every_second(
    bench: Bench, client: Client
) -> None:
    """After being told how soon to come back when the stream breaks."""
    async with client.get("/") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["Cache-Control"] == "no-store"
        assert await block(stream) == {"retry": "2000"}
        assert await block(stream) == {"event": "state", "data": '{"number":1}'}
        await bench.tick()
        assert await block(stream) == {"event": "state", "data": '{"number":2}'}
    assert bench.looked == 2


async def test_one_state_is_made_for_all(bench: Bench, client: Client) -> None:
    """However many watch."""
    async with client.get("/") as one, client.get("/") as other:
        for stream in (one, other):
            await block(stream)
            await block(stream)
        await bench.sleeping.wait()
        before = bench.told
        await bench.tick()
        assert await block(one) == await block(other)
        assert bench.told == before + 1


async def test_nothing_is_done_when_nobody_watches(bench: Bench, client: Client) -> None:
    """Before the first, and after the last has gone."""
    assert bench.told == 0
    async with client.get("/") as stream:
        await block(stream)
        await block(stream)
    await bench.idle()
    told = bench.told
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
    assert (bench.told, bench.events.full) == (told, False)


async def test_a_fault_of_ours_costs_one_event(
    bench: Bench, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next event comes."""
    async with client.get("/") as stream:
        await block(stream)
        await block(stream)
        bench.broken = True
        await bench.tick()
        bench.broken = False
        await bench.tick()
        assert json.loads((await block(stream))["data"])["number"] == 3


async def test_streams_end_when_the_port_closes(bench: Bench, client: Client) -> None:
    """And none begins."""
    async with client.get("/") as stream:
        await block(stream)
        await block(stream)
        bench.events.close()
        assert await stream.content.read() == b""
    async with client.get("/") as stream:
        assert (await stream.content.read()).startswith(b"retry")
    assert bench.events.full


async def test_so_many_may_watch_and_no_more(bench: Bench) -> None:
    """Each costs memory and time."""
    bench.events._watchers = {asyncio.Queue(1) for _ in range(MOST_WATCHERS - 1)}
    assert not bench.events.full
    bench.events._watchers.add(asyncio.Queue(1))
    assert bench.events.full


async def test_a_slow_watcher_misses_events_and_gets_the_latest(bench: Bench) -> None:
    """Nothing piles up for whoever doesn't read."""
    mailbox: asyncio.Queue[bytes | None] = asyncio.Queue(1)
    bench.events._watchers.add(mailbox)
    for _ in range(3):
        await bench.events._publish()
    assert mailbox.get_nowait() == b'event: state\ndata: {"number":3}\n\n'
    bench.events.close()
    await bench.events._publish()
    assert mailbox.get_nowait() is None
