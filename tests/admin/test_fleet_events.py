"""Events in front of several workers."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from in_process_worker import InProcessWorker
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpClient
from watched import WatchedGateway, busy

from gateway.admin.access import Access
from gateway.admin.fleet import FleetAdmin
from gateway.admin.fleet_events import FleetEvents
from gateway.admin.guard import Guard
from gateway.admin.state import describe
from gateway.settings import Admin

TOKEN = {"Authorization": "Bearer s3cret"}
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def workers() -> AsyncIterator[list[InProcessWorker]]:
    """Two workers that tell their state to those who have the token."""

    async def told(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == TOKEN["Authorization"]
        return web.json_response(describe(WatchedGateway(tally=busy())))

    async with InProcessWorker(1) as one, InProcessWorker(2) as two:
        for worker in (one, two):
            worker.admin.router.add_get("/api/state", told)
            await worker.serve()
        yield [one, two]


@pytest.fixture
async def client(workers: list[InProcessWorker], aiohttp_client: AiohttpClient) -> Client:
    app = web.Application()
    admin = Admin(host="0.0.0.0", token=SecretStr("s3cret"))
    guard = Guard(Access(admin))
    FleetEvents(FleetAdmin(workers, guard=guard), admin, guard).add_to(app)
    return await aiohttp_client(app, server_kwargs={"handler_cancellation": True})


async def test_the_state_of_all_workers_is_told(client: Client) -> None:
    """Summed, as one gateway's."""
    async with client.get("/api/events", headers=TOKEN) as stream, asyncio.timeout(20):
        assert await stream.content.readuntil(b"\n\n") == b"retry: 2000\n\n"
        event = await stream.content.readuntil(b"\n\n")
    state = json.loads(event.partition(b"data: ")[2])
    assert state["traffic"]["by_route"]["orders"]["proxied"] == 2000


async def test_nobody_watches_without_the_token(client: Client) -> None:
    """The supervisor judges that itself."""
    async with client.get("/api/events") as answer:
        assert answer.status == 401
