"""HTTP through socket pairs that are handed over: both ends, in one process."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from in_process_worker import InProcessWorker

from gateway.channel import ADMIN, CONTROL, WorkerConnector


@pytest.fixture
async def worker() -> AsyncIterator[InProcessWorker]:
    """A worker's end, whose two applications say which one they are."""
    async with InProcessWorker(1) as worker:
        worker.admin.router.add_get("/who", _answer("admin"))
        worker.control.router.add_get("/who", _answer("control"))
        await worker.serve()
        yield worker


def _answer(text: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text)

    return answer


@pytest.mark.parametrize(("application", "who"), [(ADMIN, "admin"), (CONTROL, "control")])
async def test_each_connection_is_for_one_application(
    worker: InProcessWorker, application: bytes, who: str
) -> None:
    """What is asked of the one never reaches the other."""
    connector = WorkerConnector(worker.supervisors_end, application)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(3):
            async with session.get("http://any.host/who") as answer:
                assert await answer.text() == who


async def test_connections_at_the_same_time(worker: InProcessWorker) -> None:
    """Each request under way has a connection of its own, so a stream holds up nobody."""
    connector = WorkerConnector(worker.supervisors_end, ADMIN)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(10):

        async def ask() -> str:
            async with session.get("http://worker/who") as answer:
                return await answer.text()

        assert await asyncio.gather(*(ask() for _ in range(50))) == ["admin"] * 50


async def test_a_worker_that_ended_takes_no_connections() -> None:
    """That is a client error, as with any server that is gone."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    with ours:
        async with aiohttp.ClientSession(connector=WorkerConnector(ours, ADMIN)) as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get("http://worker/who")


async def test_a_worker_that_hangs_blocks_nobody() -> None:
    """Once it has as many connections waiting as there is room for, more are timed out."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    timeout = aiohttp.ClientTimeout(total=0.001)
    with ours, theirs:
        connector = WorkerConnector(ours, ADMIN)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(20):
            for _ in range(400):
                with pytest.raises(TimeoutError):
                    await session.get("http://worker/who", timeout=timeout)


async def test_the_end_of_the_supervisor_is_noticed(worker: InProcessWorker) -> None:
    """Its end of the pair closes with it, whatever ended it."""
    worker.supervisors_end.close()
    async with asyncio.timeout(10):
        await worker.orphaned.wait()
