"""The revocation window from end to end: HTTP in front, a real Redis behind, time by hand."""

import asyncio
import hashlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import redis
import redis_cli
from aiohttp import web
from clocks import FakeClock
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpServer
from redis_server import RedisServer

from gateway.app import Gateway
from gateway.settings import (
    Admin,
    Cache,
    Listen,
    Logging,
    Revocation,
    RouteSettings,
    Settings,
    Store,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may freeze, kill and start again."""
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
async def gateway(
    aiohttp_server: AiohttpServer, server: RedisServer, clock: FakeClock
) -> AsyncIterator[Gateway]:
    """A gateway before a backend, with one route of each kind of max age."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="from the backend")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    backend = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    settings = Settings(
        listen=Listen(port=0),
        admin=Admin(port=0),
        store=Store.model_validate({"url": SecretStr(server.url), "timeout": "200ms"}),
        cache=Cache.model_validate({"max_age": "15m"}),
        # Lookups are counted here, and the feed compares what it is told of by lookups of its own.
        revocation=Revocation(feed=False),
        routes=(
            RouteSettings(path="/orders", upstream=backend, scopes=("read",)),
            RouteSettings.model_validate({"path": "/hourly", "upstream": backend, "max_age": "1m"}),
            RouteSettings.model_validate(
                {"path": "/payments", "upstream": backend, "max_age": "0s"}
            ),
        ),
        logging=Logging(access_log=False),
    )
    async with Gateway(settings, clock=clock) as gateway:
        yield gateway


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client with as many connections as a test wants."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def call(
    session: aiohttp.ClientSession, gateway: Gateway, path: str, token: str
) -> tuple[int, str]:
    """Return the status of a call and, where the gateway refused it, its error code."""
    headers = {"Authorization": f"Bearer {token}"}
    async with session.get(gateway.url + path, headers=headers) as answer:
        body = await answer.text()
        return answer.status, json.loads(body)["error"] if answer.status >= 400 else ""


def seed(server: RedisServer, token: str, clock: FakeClock) -> None:
    """Write a token as docs/store.md says, with Redis' own command line client."""
    document = {
        "active": True,
        "client_id": "seeded",
        "scope": "read",
        "exp": int(clock.wall()) + 86_400,
    }
    key = "token:" + hashlib.sha256(token.encode()).hexdigest()
    cli(server, "SET", key, json.dumps(document), "EX", "86400")


def revoke(server: RedisServer, token: str) -> None:
    cli(server, "DEL", "token:" + hashlib.sha256(token.encode()).hexdigest())


def cli(server: RedisServer, *command: str) -> None:
    subprocess.run(
        [*redis_cli.program(), "-p", str(server.port), *command], check=True, capture_output=True
    )


def lookups_sent(server: RedisServer) -> tuple[int, int]:
    """Return how many MGETs Redis has had, and how many of any other read."""
    with redis.Redis(port=server.port) as client:
        stats = client.info("commandstats")
    return stats.get("cmdstat_mget", {}).get("calls", 0), stats.get("cmdstat_get", {}).get(
        "calls", 0
    )


ACCEPTED = (200, "")
REFUSED = (401, "invalid_token")
UNAVAILABLE = (503, "temporarily_unavailable")


async def test_a_revoked_token_is_accepted_until_its_facts_are_max_age_old(
    gateway: Gateway, session: aiohttp.ClientSession, server: RedisServer, clock: FakeClock
) -> None:
    """Seeded and deleted by redis-cli: accepted to the last second of 15 minutes, no longer."""
    seed(server, "tok", clock)
    assert await call(session, gateway, "/orders/1", "tok") == ACCEPTED
    revoke(server, "tok")
    clock.advance(15 * 60 - 1)
    assert await call(session, gateway, "/orders/1", "tok") == ACCEPTED
    clock.advance(1)
    assert await call(session, gateway, "/orders/1", "tok") == REFUSED


async def test_use_does_not_prolong_the_window(
    gateway: Gateway, session: aiohttp.ClientSession, server: RedisServer, clock: FakeClock
) -> None:
    """A revoked token in constant use lapses as punctually as one left alone."""
    seed(server, "tok", clock)
    assert await call(session, gateway, "/orders", "tok") == ACCEPTED
    revoke(server, "tok")
    accepted = 0
    while (await call(session, gateway, "/orders", "tok")) == ACCEPTED:
        accepted += 1
        clock.advance(60)
    assert accepted == 15


async def test_a_route_tightens_the_window(
    gateway: Gateway, session: aiohttp.ClientSession, server: RedisServer, clock: FakeClock
) -> None:
    """One minute on one route, nothing on another; and what they learn holds for all."""
    seed(server, "tok", clock)
    for path in ("/orders", "/hourly", "/payments"):
        assert await call(session, gateway, path, "tok") == ACCEPTED
    revoke(server, "tok")
    assert await call(session, gateway, "/hourly", "tok") == ACCEPTED
    assert await call(session, gateway, "/orders", "tok") == ACCEPTED
    assert await call(session, gateway, "/payments", "tok") == REFUSED
    assert await call(session, gateway, "/hourly", "tok") == REFUSED
    assert await call(session, gateway, "/orders", "tok") == REFUSED


async def test_a_minute_on_its_own(
    gateway: Gateway, session: aiohttp.ClientSession, server: RedisServer, clock: FakeClock
) -> None:
    """A route's max age counts from the validation, though the cache keeps facts for longer."""
    seed(server, "tok", clock)
    assert await call(session, gateway, "/orders", "tok") == ACCEPTED
    revoke(server, "tok")
    clock.advance(59)
    assert await call(session, gateway, "/hourly", "tok") == ACCEPTED
    clock.advance(1)
    assert await call(session, gateway, "/hourly", "tok") == REFUSED


async def test_the_token_ends_at_exp_whatever_the_cache_holds(
    gateway: Gateway, session: aiohttp.ClientSession, server: RedisServer, clock: FakeClock
) -> None:
    """``exp`` caps the cache: nothing is accepted from that second on."""
    document = json.dumps({"active": True, "scope": "read", "exp": int(clock.wall()) + 30})
    cli(server, "SET", "token:" + hashlib.sha256(b"tok").hexdigest(), document)
    assert await call(session, gateway, "/orders", "tok") == ACCEPTED
    clock.advance(29)
    assert await call(session, gateway, "/orders", "tok") == ACCEPTED
    clock.advance(1)
    assert await call(session, gateway, "/orders", "tok") == REFUSED


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_a_redis_that_fails_and_comes_back(
    fault: str,
    gateway: Gateway,
    session: aiohttp.ClientSession,
    server: RedisServer,
    clock: FakeClock,
) -> None:
    """Cached tokens go on, others get 503 in time, and all is well again without a restart."""
    for token in ("cached", "uncached"):
        seed(server, token, clock)
    assert await call(session, gateway, "/orders", "cached") == ACCEPTED

    server.freeze() if fault == "frozen" else server.stop()
    assert await call(session, gateway, "/orders", "cached") == ACCEPTED
    # Well beyond the store's time-out of 200 ms, well before a client would give up.
    async with asyncio.timeout(5):
        assert await call(session, gateway, "/orders", "uncached") == UNAVAILABLE
        assert await call(session, gateway, "/payments", "cached") == UNAVAILABLE
    async with session.get(f"{gateway.admin_url}/readyz") as answer:
        assert answer.status == 503
    async with session.get(f"{gateway.admin_url}/livez") as answer:
        assert answer.status == 200

    server.thaw() if fault == "frozen" else server.start()
    if fault == "killed":  # without persistence: its tokens are gone with it
        seed(server, "uncached", clock)
    assert await call(session, gateway, "/orders", "uncached") == ACCEPTED
    async with session.get(f"{gateway.admin_url}/readyz") as answer:
        assert answer.status == 200


async def test_35_first_uses_of_one_token_make_one_lookup(
    gateway: Gateway, session: aiohttp.ClientSession, server: RedisServer, clock: FakeClock
) -> None:
    """However many clients come with a new token at once, Redis is asked once."""
    seed(server, "tok", clock)
    answers = await asyncio.gather(*(call(session, gateway, "/orders", "tok") for _ in range(35)))
    assert set(answers) == {ACCEPTED}
    assert lookups_sent(server) == (1, 0)


@pytest.mark.plain_asyncio("uvloop brings what waits on sockets in ones and twos")
async def test_1000_first_uses_of_1000_tokens_make_few_lookups(
    gateway: Gateway, session: aiohttp.ClientSession, server: RedisServer, clock: FakeClock
) -> None:
    """What misses together is looked up together: far fewer commands than tokens."""
    # Not as impatient as the tests of its faults: all of this is one process's work.
    gateway.store.timeout_seconds = gateway.validator._lookups._timeout_seconds = 10.0
    tokens = [f"token-{number}" for number in range(1000)]
    with redis.Redis(port=server.port) as client:
        document = json.dumps({"active": True, "scope": "read"})
        client.mset(
            {"token:" + hashlib.sha256(token.encode()).hexdigest(): document for token in tokens}
        )
    answers = await asyncio.gather(*(call(session, gateway, "/orders", token) for token in tokens))
    assert set(answers) == {ACCEPTED}
    commands, others = lookups_sent(server)
    assert others == 0
    # 8 would do if all thousand came in one turn of the loop; sockets bring them in dozens.
    assert 8 <= commands <= 250
