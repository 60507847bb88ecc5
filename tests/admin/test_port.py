"""The admin port of a whole gateway."""

import asyncio

import aiohttp
import pytest
from clocks import FakeClock
from pydantic import SecretStr

from gateway.app import Gateway
from gateway.settings import Admin, Listen, RouteSettings, Settings, Store
from gateway.tokens import token_key

TOKEN = {"Authorization": "Bearer s3cret"}


@pytest.fixture
def settings() -> Settings:
    return Settings(
        listen=Listen(port=0),
        admin=Admin(port=0, token=SecretStr("s3cret")),
        store=Store.model_validate({"url": "memory://"}),
        routes=(RouteSettings(path="/orders", upstream="http://127.0.0.1:1"),),
    )


async def test_an_eviction_reaches_what_requests_rely_on(
    settings: Settings, clock: FakeClock
) -> None:
    """What was cached isn't any more, and the state says so."""
    async with Gateway(settings, clock=clock) as gateway, aiohttp.ClientSession() as session:
        key = token_key("t")
        await gateway.store.put(key, {"active": True, "client_id": "c"}, expires_in_seconds=60)
        await gateway.validator.validate(key, 60)
        async with session.get(f"{gateway.admin_url}/api/state") as answer:
            before = await answer.json()
        evict = {"client_id": "c"}
        url = f"{gateway.admin_url}/api/evict"
        async with session.post(url, json=evict, headers=TOKEN) as answer:
            assert (await answer.json())["evicted"] == 1
        async with session.get(f"{gateway.admin_url}/api/state") as answer:
            after = await answer.json()
        assert (before["cache"]["entries"], after["cache"]["entries"]) == (1, 0)
        assert gateway.validator.cached(key, 60) is None


async def test_the_port_closes_while_somebody_watches(settings: Settings, clock: FakeClock) -> None:
    """Their streams end; the gateway doesn't wait for them to go."""
    async with aiohttp.ClientSession() as session:
        gateway = Gateway(settings, clock=clock)
        await gateway.start()
        async with session.get(f"{gateway.admin_url}/api/events") as stream:
            await stream.content.readuntil(b"\n\n")
            async with asyncio.timeout(4):
                await gateway.stop()
            rest = await stream.content.read()
        assert rest.count(b"event: state\n") <= 2


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_health_and_metrics_are_open_by_address(settings: Settings, path: str) -> None:
    """Orchestrators and Prometheus ask by address, and have no token."""
    async with (
        Gateway(settings) as gateway,
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.admin_url}{path}") as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_beyond_loopback_health_and_metrics_are_open_under_any_name(
    settings: Settings, path: str
) -> None:
    """Whatever the service is called there."""
    admin = Admin(host="0.0.0.0", port=0, token=SecretStr("s3cret"))
    beyond = settings.model_copy(update={"admin": admin})
    async with Gateway(beyond) as gateway, aiohttp.ClientSession() as session:
        url = gateway.admin_url.replace("0.0.0.0", "127.0.0.1")
        headers = {"Host": "whatever.example"}
        async with session.get(f"{url}{path}", headers=headers) as answer:
            assert answer.status == 200
