"""``gateway keymanager`` and ``gateway serve`` with their defaults, on one Redis."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from held_backend import HeldBackend
from processes import GATEWAY, serving
from pytest_aiohttp.plugin import AiohttpServer
from redis import Redis

from gateway.tokens import token_key

CLIENT = {"Authorization": aiohttp.encode_basic_auth("demo-key", "demo-secret")}
ADMIN = {"Authorization": aiohttp.encode_basic_auth("root", "secret")}
PASSWORD = {"grant_type": "password", "username": "alice", "password": "wonderland"}


@dataclass(frozen=True)
class Both:
    """A gateway and the key manager behind it."""

    session: aiohttp.ClientSession
    gateway_url: str
    key_manager_url: str

    async def post(
        self, url: str, form: dict[str, str], headers: dict[str, str] = CLIENT
    ) -> tuple[int, dict[str, Any]]:
        async with self.session.post(url, data=form, headers=headers) as response:
            text = await response.text()
            return response.status, await response.json() if text else {}

    async def token(self, **form: str) -> dict[str, Any]:
        return (await self.post(f"{self.gateway_url}/token", form))[1]

    async def accepted(self, token: str) -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.get(f"{self.gateway_url}/asked", headers=headers) as response:
            return response.status == 200

    async def active(self, token: str) -> bool:
        _, document = await self.post(f"{self.key_manager_url}/introspect", {"token": token})
        active: bool = document["active"]
        return active


@pytest.fixture
async def both(
    tmp_path: Path, redis_url: str, aiohttp_server: AiohttpServer
) -> AsyncIterator[Both]:
    """Both processes; of their settings only addresses are given, and a route."""
    backend = await HeldBackend().start(aiohttp_server)
    manager = await asyncio.create_subprocess_exec(
        *(*GATEWAY, "keymanager", "--port", "0", "--store", redis_url),
        *("--client", "demo-key:demo-secret", "--user", "alice:wonderland"),
        *("--admin", "root:secret"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(os.environ),
    )
    try:
        assert manager.stdout is not None
        async with asyncio.timeout(20):
            url = (await manager.stdout.readline()).decode().split()[-1]
        config = tmp_path / "gateway.toml"
        config.write_text(
            f"""
            listen = {{ port = 0 }}
            admin = {{ port = 0 }}
            store = {{ url = "{redis_url}" }}
            key_manager = {{ url = "{url}" }}
            routes = [{{ path = "/asked", upstream = "{backend.url}", max_age = "0s" }}]
            """
        )
        async with serving(config) as gateway, aiohttp.ClientSession() as session:
            yield Both(session, gateway.url, url)
    finally:
        manager.terminate()
        await manager.wait()


async def test_no_key_has_two_writers(both: Both, redis_url: str) -> None:
    """The gateway records the token, and the key manager's own record has another name."""
    token = (await both.token(**PASSWORD))["access_token"]
    with Redis.from_url(redis_url) as client:
        names = {name.decode().partition(":")[0] for name in client.scan_iter("*token:*")}
        document = client.get(f"token:{token_key(token).hex()}")
    assert (names, await both.accepted(token)) == ({"token", "km"}, True)
    assert b'"username":"alice"' in (document or b"")


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_revocation_ends_a_token_at_both(both: Both, kind: str) -> None:
    """By the client, at the gateway."""
    tokens = await both.token(**PASSWORD)
    status, _ = await both.post(f"{both.gateway_url}/revoke", {"token": tokens[kind]})
    access = tokens["access_token"]
    assert (status, await both.active(access), await both.accepted(access)) == (200, False, False)


async def test_what_the_key_manager_ends_ends_at_the_gateway(both: Both) -> None:
    """An administrator asks the key manager, and the gateway that recorded the token hears it."""
    access = (await both.token(**PASSWORD))["access_token"]
    accepted = await both.accepted(access)
    answer = await both.post(f"{both.key_manager_url}/admin/revoke", {"username": "alice"}, ADMIN)
    assert (accepted, answer, await both.accepted(access)) == (True, (200, {"revoked": 1}), False)


async def test_refreshes_at_once_bring_nothing_back(both: Both) -> None:
    """One use of a refresh token is a replay, which ends the grant at both, whoever writes last."""
    for _ in range(8):
        first = await both.token(**PASSWORD)
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        answers = await asyncio.gather(
            *(both.post(f"{both.gateway_url}/token", form) for _ in range(4))
        )
        assert sorted(status for status, _ in answers) == [200, 400, 400, 400]
        (newer,) = [members["access_token"] for status, members in answers if status == 200]
        assert await both.active(newer) is False
        assert [await both.accepted(token) for token in (first["access_token"], newer)] == [
            False,
            False,
        ]


async def test_a_user_s_guessing_neighbour(both: Both) -> None:
    """Whoever guesses through the gateway is slowed down by the address it tells, and alone."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        elsewhere = replace(both, session=session)
        url = f"{both.gateway_url}/token"
        guesses = [
            await elsewhere.post(url, PASSWORD | {"password": f"{number}"}) for number in range(7)
        ]
    assert [status for status, _ in guesses] == [400] * 5 + [429] * 2
    assert (await both.post(url, PASSWORD))[0] == 200
