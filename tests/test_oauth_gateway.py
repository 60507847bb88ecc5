"""The OAuth endpoints of a whole gateway, before the embedded key manager and a real Redis.

The key manager has a storage of its own: all that the gateway knows, it has recorded.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import fakeredis
import pytest
from aiohttp import web
from clocks import FakeClock
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpServer
from scripted_key_manager import ScriptedKeyManager, bearer

from gateway.app import Gateway
from gateway.keymanager.app import create_app
from gateway.keymanager.config import Client, KeyManagerConfig, User
from gateway.keymanager.storage import open_storage
from gateway.settings import (
    Admin,
    Cache,
    KeyManager,
    Listen,
    Logging,
    Proxy,
    RouteSettings,
    Settings,
    Store,
)
from gateway.store import TokenStore
from gateway.tokens import token_key

BASIC = {"Authorization": "Basic " + b64encode(b"demo-key:demo-secret").decode()}
MAX_AGE_SECONDS = 900


def settings_for(key_manager: str, backend: str, redis_url: str) -> Settings:
    return Settings(
        listen=Listen(port=0),
        admin=Admin(port=0),
        key_manager=KeyManager(url=key_manager),
        store=Store.model_validate({"url": SecretStr(redis_url), "timeout": "5s"}),
        cache=Cache.model_validate({"max_age": f"{MAX_AGE_SECONDS}s", "negative_max_age": "1s"}),
        routes=(RouteSettings(path="/orders", upstream=backend, scopes=("read",)),),
        logging=Logging(access_log=False),
    )


class Visitor:
    """A client of the gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, path: str, **form: str) -> tuple[int, Any]:
        async with self._session.post(self._url + path, data=form, headers=BASIC) as answer:
            text = await answer.text()
            return answer.status, await answer.json() if text else None

    async def call(self, token: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.get(f"{self._url}/orders/7", headers=headers) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def backend(aiohttp_server: AiohttpServer) -> str:
    """A backend that says who calls."""

    async def whoami(request: web.Request) -> web.Response:
        names = [f"X-Token-{name}" for name in ("Client-Id", "Subject", "Username", "Scope")]
        return web.Response(text=", ".join(request.headers.get(name, "-") for name in names))

    app = web.Application()
    app.router.add_get("/orders/7", whoami)
    return str((await aiohttp_server(app)).make_url("")).rstrip("/")


@pytest.fixture
async def visitor(
    aiohttp_server: AiohttpServer, backend: str, redis_url: str, clock: FakeClock
) -> AsyncIterator[Visitor]:
    """A client of a gateway that is before the embedded key manager."""
    config = KeyManagerConfig(
        clients=(Client("demo-key", "demo-secret", scopes=("read", "write")),),
        users=(User("alice", "wonderland"),),
    )
    storage = open_storage("memory://")
    key_manager = await aiohttp_server(create_app(config, storage, clock))
    settings = settings_for(str(key_manager.make_url("")).rstrip("/"), backend, redis_url)
    async with Gateway(settings, clock=clock) as gateway, aiohttp.ClientSession() as session:
        yield Visitor(session, gateway.url)
    storage.close()


async def test_the_users_story(visitor: Visitor, clock: FakeClock) -> None:
    """Issue, call, refresh, the old refresh token refused, revoke, still accepted, lapsed."""
    password = {"grant_type": "password", "username": "alice", "password": "wonderland"}
    _, first = await visitor.post("/token", **password, scope="read write")
    whoami = "demo-key, -, alice, read write"
    assert await visitor.call(first["access_token"]) == (200, whoami)

    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    _, second = await visitor.post("/token", **refresh)
    assert await visitor.call(second["access_token"]) == (200, whoami)

    assert await visitor.post("/revoke", token=second["access_token"]) == (200, None)
    clock.advance(MAX_AGE_SECONDS - 1)
    assert await visitor.call(second["access_token"]) == (200, whoami)
    clock.advance(1)
    assert (await visitor.call(second["access_token"]))[0] == 401
    assert (await visitor.call(first["access_token"]))[0] == 200

    status, error = await visitor.post("/token", **refresh)
    assert (status, error["error"]) == (400, "invalid_grant")


async def test_revoking_the_refresh_token_ends_its_access_tokens(visitor: Visitor) -> None:
    """Of the key manager's family the gateway's store has only what it recorded itself."""
    password = {"grant_type": "password", "username": "alice", "password": "wonderland"}
    _, first = await visitor.post("/token", **password, scope="read")
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    _, second = await visitor.post("/token", **refresh)
    assert await visitor.post("/revoke", token=second["refresh_token"]) == (200, None)
    calls = [await visitor.call(answer["access_token"]) for answer in (first, second)]
    assert [status for status, _ in calls] == [401, 401]


@pytest.mark.parametrize("fast_lane", [True, False])
async def test_h2_a_token_that_the_gateway_holds_is_not_unauthorized(
    backend: str, clock: FakeClock, fast_lane: bool
) -> None:
    """Redis was down when it was issued and is up again: 503 until it is there, never 401."""
    redis = fakeredis.FakeServer()
    client = fakeredis.FakeAsyncRedis(server=redis)
    store = TokenStore(client, timeout_seconds=5.0)
    async with ScriptedKeyManager() as key_manager, aiohttp.ClientSession() as session:
        settings = settings_for(key_manager.url, backend, "memory://")
        settings = settings.model_copy(update={"proxy": Proxy(fast_lane=fast_lane)})
        async with Gateway(settings, clock=clock, store=store) as gateway:
            visitor = Visitor(session, gateway.url)
            assert (await visitor.call("token-1"))[0] == 401
            redis.connected = False
            key_manager.will(bearer("token-1", scope="read"))
            await visitor.post("/token", grant_type="client_credentials")
            redis.connected = True
            calls = [(await visitor.call(token))[0] for token in ("token-1", "token-2")]
            await gateway._recorder._write_waiting()
            calls.append((await visitor.call("token-1"))[0])
    assert calls == [503, 401, 200]
    await client.aclose()


async def test_a3_a_refresh_token_used_at_once_leaves_nothing_behind(
    backend: str, clock: FakeClock, redis_url: str
) -> None:
    """Ten refreshes with one refresh token, all answered: revoking the last one's ends all."""
    async with ScriptedKeyManager() as key_manager, aiohttp.ClientSession() as session:
        settings = settings_for(key_manager.url, backend, redis_url)
        async with Gateway(settings, clock=clock) as gateway:
            visitor = Visitor(session, gateway.url)
            key_manager.will(bearer("access-0", refresh_token="refresh-0", scope="read"))
            await visitor.post("/token", grant_type="password", username="alice", password="x")
            for number in range(1, 11):
                key_manager.will(bearer(f"access-{number}", refresh_token=f"refresh-{number}"))
            refresh = {"grant_type": "refresh_token", "refresh_token": "refresh-0"}
            await asyncio.gather(*(visitor.post("/token", **refresh) for _ in range(10)))
            tokens = [f"access-{number}" for number in range(11)]
            before = {(await gateway.store.get_many([token_key(token)]))[0] for token in tokens}
            assert await visitor.post("/revoke", token="refresh-10") == (200, None)
            calls = [(await visitor.call(token))[0] for token in tokens]
    assert None not in before
    assert calls == [401] * 11


async def test_h3_what_the_key_manager_ended_in_the_same_redis_stays_ended(
    aiohttp_server: AiohttpServer, backend: str, redis_url: str, clock: FakeClock
) -> None:
    """Refreshes at once are replays, and end the grant; what the gateway writes late is refused."""
    config = KeyManagerConfig(
        clients=(Client("demo-key", "demo-secret", scopes=("read", "write")),),
        users=(User("alice", "wonderland"),),
    )
    storage = open_storage(redis_url, writes_store=False)
    key_manager = await aiohttp_server(create_app(config, storage, clock))
    settings = settings_for(str(key_manager.make_url("")).rstrip("/"), backend, redis_url)
    async with Gateway(settings, clock=clock) as gateway, aiohttp.ClientSession() as session:
        visitor = Visitor(session, gateway.url)
        issued: list[str] = []
        for _ in range(4):
            password = {"grant_type": "password", "username": "alice", "password": "wonderland"}
            _, first = await visitor.post("/token", **password, scope="read")
            refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
            answers = await asyncio.gather(*(visitor.post("/token", **refresh) for _ in range(4)))
            issued += [first["access_token"]]
            issued += [said["access_token"] for status, said in answers if status == 200]
        calls = [(await visitor.call(token))[0] for token in issued]
        known = [storage.access_document(token_key(token)) for token in issued]
    active = [document is not None and b'"active":true' in document for document in known]
    assert calls == [200 if is_active else 401 for is_active in active]
    assert False in active
    storage.close()


async def test_what_waits_survives_a_reload_and_is_written_at_the_end(
    backend: str, clock: FakeClock
) -> None:
    """New settings make new endpoints, and the same tokens wait."""
    redis = fakeredis.FakeServer()
    client = fakeredis.FakeAsyncRedis(server=redis)
    store = TokenStore(client, timeout_seconds=5.0)
    async with ScriptedKeyManager() as key_manager, aiohttp.ClientSession() as session:
        settings = settings_for(key_manager.url, backend, "memory://")
        gateway = Gateway(settings, clock=clock, store=store)
        await gateway.start()
        redis.connected = False
        key_manager.will(bearer("token-1"))
        status, _ = await Visitor(session, gateway.url).post(
            "/token", grant_type="client_credentials"
        )
        gateway.reload(settings)
        redis.connected = True
        await gateway.stop()
    assert status == 200
    assert await store.get_many([token_key("token-1")]) != [None]
    await client.aclose()


async def test_a_gateway_that_stops_finishes_what_its_clients_have_left(
    backend: str, clock: FakeClock
) -> None:
    """The refresh token may be replaced: the answer is awaited and its token recorded."""
    client = fakeredis.FakeAsyncRedis()
    store = TokenStore(client, timeout_seconds=5.0)
    async with ScriptedKeyManager() as key_manager, aiohttp.ClientSession() as session:
        reaction = key_manager.will(bearer("token-1"), waits=True)
        gateway = Gateway(
            settings_for(key_manager.url, backend, "memory://"), clock=clock, store=store
        )
        await gateway.start()
        visit = asyncio.create_task(
            Visitor(session, gateway.url).post("/token", grant_type="client_credentials")
        )
        await key_manager.received.get()
        stopping = asyncio.create_task(gateway.stop())
        with pytest.raises(aiohttp.ClientError):
            await visit
        reaction.gate.set()
        await stopping
    assert await store.get_many([token_key("token-1")]) != [None]
    await client.aclose()
