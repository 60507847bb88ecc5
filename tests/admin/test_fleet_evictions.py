"""Evictions in the whole fleet: two gateways on one Redis."""

import asyncio

import aiohttp
import pytest
from pydantic import SecretStr

from gateway.admin.eviction import InvalidEviction
from gateway.admin.fleet_evictions import FleetEvictions
from gateway.app import Gateway
from gateway.settings import Admin, Listen, RouteSettings, Settings, Store
from gateway.tokens import token_key


def settings_for(url: str) -> Settings:
    return Settings(
        listen=Listen(port=0),
        admin=Admin(port=0, token=SecretStr("s3cret")),
        store=Store(url=SecretStr(url)),
        routes=(RouteSettings(path="/orders", upstream="http://127.0.0.1:1"),),
    )


async def test_all_gateways_evict(redis_url: str) -> None:
    """What one is asked for by its admin API."""
    settings = settings_for(redis_url)
    key = token_key("t")
    async with (
        Gateway(settings) as one,
        Gateway(settings) as two,
        aiohttp.ClientSession(headers={"Authorization": "Bearer s3cret"}) as session,
        asyncio.timeout(20),
    ):
        await one.notices.up.wait()
        await two.notices.up.wait()
        await one.store.put(key, {"active": True, "client_id": "c"}, expires_in_seconds=600)
        for gateway in (one, two):
            await gateway.validator.validate(key, 600)
        asked = {"client_id": "c", "scope": "fleet"}
        async with session.post(f"{one.admin_url}/api/evict", json=asked) as answer:
            told = await answer.json()
        while two.validator.cached(key, 600):  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0)
    assert told == {"scope": "fleet", "by": "client_id", "evicted": 1, "gateways": 1}


async def test_a_notice_that_is_no_eviction_is_refused() -> None:
    """And nothing is evicted."""
    with pytest.raises(InvalidEviction):
        await FleetEvictions(None).heard({"all": 1})  # type: ignore[arg-type]
