"""Long exchanges are cut off soon after their token ends, and not before."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import fakeredis
import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from gateway.app import Gateway
from gateway.errors import InvalidToken, StoreUnavailable
from gateway.proxy.revalidation import Revalidation
from gateway.settings import Settings
from gateway.store import TokenStore
from gateway.tokens import token_key

GOOD, ENDED, UNKNOWN = None, InvalidToken(), StoreUnavailable()
HEADERS = {"Authorization": "Bearer tok"}


@pytest.mark.parametrize(
    ("outcomes", "checks"),
    [
        ([GOOD, GOOD, ENDED], 3),
        ([UNKNOWN, GOOD, UNKNOWN, GOOD, UNKNOWN, UNKNOWN], 6),
        ([UNKNOWN, ENDED], 2),
    ],
)
async def test_when_an_exchange_ends(outcomes: list[Exception | None], checks: int) -> None:
    """At the first check that finds the token ended, or the second in a row without an answer."""
    made = 0
    ended = asyncio.Event()

    async def check() -> None:
        nonlocal made
        outcome = outcomes[made]
        made += 1
        if outcome is not None:
            raise outcome

    async def end() -> None:
        ended.set()

    async with asyncio.timeout(10), Revalidation(0.001, check=check, end=end) as watch:
        await ended.wait()
    assert (made, watch.ended) == (checks, True)


async def test_an_interval_of_zero_checks_nothing() -> None:
    """The default: an exchange goes on for as long as both ends like."""

    async def never() -> None:
        raise AssertionError

    async with Revalidation(0, check=never, end=never) as watch:
        assert watch._timer is None


class House:
    """A gateway before a backend whose answers and WebSockets have no end of their own."""

    def __init__(self, gateway: Gateway, store: TokenStore) -> None:
        self.gateway = gateway
        self.store = store

    async def issue(self) -> None:
        await self.store.put(token_key("tok"), {"active": True}, expires_in_seconds=600)

    async def revoke(self) -> None:
        await self.store.delete([token_key("tok")])


@pytest.fixture
async def house(aiohttp_server: AiohttpServer) -> AsyncIterator[House]:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await asyncio.Event().wait()
        return response

    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(json.dumps(message.data))
        return socket

    app = web.Application()
    app.router.add_get("/stream", stream)
    app.router.add_get("/socket", echo)
    server = await aiohttp_server(app)
    backend = str(server.make_url("")).rstrip("/")
    store = TokenStore(fakeredis.FakeAsyncRedis(), in_memory=True)
    settings = Settings.model_validate(
        {
            "listen": {"port": 0},
            "admin": {"port": 0},
            "limits": {"revalidate_streams": "20ms"},
            "routes": [{"path": "/", "upstream": backend, "max_age": "0s"}],
            "logging": {"access_log": False},
        }
    )
    async with Gateway(settings, store=store) as gateway:
        yield House(gateway, store)
    await store.close()


async def test_a_stream_is_cut_off(house: House) -> None:
    """Its client can not take what it has for the whole."""
    await house.issue()
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.get(f"{house.gateway.url}/stream", headers=HEADERS) as answer,
    ):
        assert await answer.content.readexactly(5) == b"begun"
        await house.revoke()
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()
    counted = house.gateway.metrics.render().decode()
    assert 'gateway_requests_total{outcome="token_ended",route="/"} 1.0' in counted


async def test_a_websocket_is_closed(house: House) -> None:
    """With 1008, policy violation (RFC 6455 §7.4.1)."""
    await house.issue()
    async with (
        asyncio.timeout(10),
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{house.gateway.url}/socket", headers=HEADERS) as socket,
    ):
        await socket.send_str("hello")
        assert await socket.receive_str() == '"hello"'
        await house.revoke()
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)
