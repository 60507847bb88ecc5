"""What the gateway records is no more than what the key manager says when it is asked.

The key managers' own introspection (RFC 7662) is the oracle: that of the embedded one always, that
of oidc-provider where Node has it (``npm install --global oidc-provider``, or ``NODE_PATH``).
"""

import hmac
import json
import os
import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import aiohttp
import fakeredis
import pytest
from clocks import FakeClock
from jwts import base64url
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpServer

from gateway.app import Gateway
from gateway.clock import Clock, SystemClock
from gateway.keymanager.app import create_app
from gateway.keymanager.config import Client, KeyManagerConfig, User
from gateway.keymanager.storage import open_storage
from gateway.settings import Admin, KeyManager, Listen, Logging, Settings, Store
from gateway.store import TokenStore
from gateway.tokens import token_key

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SCRIPT = Path(__file__).with_name("oidc_provider.mjs")


def basic(client_id: str, secret: str) -> dict[str, str]:
    pair = f"{client_id}:{secret}".encode()
    return {"Authorization": "Basic " + b64encode(pair).decode()}


class Asking:
    """A client of a gateway that stands before a key manager."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        gateway: str,
        introspection: str,
        resource_server: dict[str, str],
        store: TokenStore,
    ) -> None:
        self._session = session
        self._gateway = gateway
        self._introspection = introspection
        self._resource_server = resource_server
        self._store = store

    async def token(
        self, credentials: dict[str, str], query: str = "", **form: str
    ) -> dict[str, Any] | None:
        """Ask for a token, check what is recorded of it, and return the answer if it is one."""
        url = f"{self._gateway}/token{query and '?' + query}"
        headers = FORM | credentials
        async with self._session.post(url, data=urlencode(form), headers=headers) as got:
            if got.status != 200:
                return None
            answer: dict[str, Any] = await got.json()
        said = await self._introspected(answer["access_token"])
        (found,) = await self._store.get_many([token_key(answer["access_token"])])
        assert found is not None, "not recorded"
        recorded = json.loads(found)
        assert said["active"]
        assert set(recorded.get("scope", "").split()) <= set(said.get("scope", "").split())
        assert recorded.get("client_id") in {None, said["client_id"]}
        assert recorded.get("sub") in {None, said.get("sub")}
        assert recorded.get("username") in {None, said.get("username")}
        assert recorded["exp"] <= said["exp"]
        return answer | {"recorded": recorded}

    async def _introspected(self, token: str) -> dict[str, Any]:
        headers = FORM | self._resource_server
        async with self._session.post(
            self._introspection, data=urlencode({"token": token}), headers=headers
        ) as got:
            said: dict[str, Any] = await got.json()
            return said


@asynccontextmanager
async def asking(
    key_manager: str, introspection: str, resource_server: dict[str, str], clock: Clock
) -> AsyncIterator[Asking]:
    client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    store = TokenStore(client, timeout_seconds=5.0)
    settings = Settings(
        listen=Listen(port=0),
        admin=Admin(port=0),
        key_manager=KeyManager(url=key_manager),
        store=Store.model_validate({"url": SecretStr("memory://")}),
        logging=Logging(access_log=False),
    )
    async with (
        Gateway(settings, clock=clock, store=store) as gateway,
        aiohttp.ClientSession() as session,
    ):
        yield Asking(session, gateway.url, introspection, resource_server, store)
    await client.aclose()


async def test_the_embedded_key_manager_says_no_less(
    aiohttp_server: AiohttpServer, clock: FakeClock
) -> None:
    """Whatever is asked for: and it names the scope in each answer, so that nothing is lost."""
    scopes = ("read", "write")
    config = KeyManagerConfig(
        clients=(Client("app", "s", scopes=scopes), Client("alice", "s", scopes=("read",))),
        users=(User("alice", "wonderland"),),
    )
    storage = open_storage("memory://")
    url = str((await aiohttp_server(create_app(config, storage, clock))).make_url("")).rstrip("/")
    issued = []
    async with asking(url, f"{url}/introspect", basic("app", "s"), clock) as client:
        for client_id in ("app", "alice"):
            for form in (
                {"grant_type": "client_credentials"},
                {"grant_type": "password", "username": "alice", "password": "wonderland"},
                {"grant_type": "password", "username": "ALICE", "password": "wonderland"},
            ):
                for more in ({}, {"scope": "read"}, {"scope": "read write"}, {"scope": "admin"}):
                    for extra in ({}, {"client_id": "alice"}):
                        credentials = basic(client_id, "s")
                        answer = await client.token(credentials, **form, **more, **extra)
                        issued += [answer] if answer else []
                        if answer is None or "refresh_token" not in answer:
                            continue
                        refresh = {
                            "grant_type": "refresh_token",
                            "refresh_token": answer["refresh_token"],
                        }
                        for narrower in ({"scope": "read"}, {"scope": "read admin"}, {}):
                            answer = await client.token(credentials, **refresh, **narrower)
                            if answer is not None:
                                issued.append(answer)
                                refresh["refresh_token"] = answer["refresh_token"]
    storage.close()
    assert len(issued) > 20
    assert all(answer["recorded"]["scope"] == answer["scope"] for answer in issued)
    assert {answer["recorded"].get("username") for answer in issued} == {None, "alice"}


@cache
def node_with_provider() -> dict[str, str] | None:
    """Return the environment in which Node finds oidc-provider, ``None`` where it can't."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        return None
    places = [os.environ.get("NODE_PATH", "")]
    if npm is not None:
        found = subprocess.run(
            [npm, "root", "--global"], check=False, capture_output=True, text=True, timeout=30
        )
        places.append(found.stdout.strip())
    environment = os.environ | {"NODE_PATH": os.pathsep.join(filter(None, places))}
    resolves = [node, "-e", "require.resolve('oidc-provider')"]
    there = subprocess.run(resolves, check=False, env=environment, capture_output=True, timeout=30)
    return environment if there.returncode == 0 else None


@pytest.fixture
def provider() -> Iterator[dict[str, Any]]:
    """Run oidc-provider; return what it says of itself."""
    environment = node_with_provider()
    if environment is None:
        pytest.skip("needs Node with the package oidc-provider, globally or in NODE_PATH")
    with subprocess.Popen(
        ["node", str(SCRIPT)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=10)


def assertion(client_id: str, secret: str, audience: str) -> dict[str, str]:
    """Return a client's assertion of itself (RFC 7523 §2.2)."""
    now_at = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": audience, "exp": now_at + 60}
    claims |= {"jti": os.urandom(8).hex(), "iat": now_at}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, claims)]
    signed = ".".join(map(base64url, parts))
    signature = hmac.digest(secret.encode(), signed.encode(), "sha256")
    return {
        "client_assertion": f"{signed}.{base64url(signature)}",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }


async def test_oidc_provider_says_no_less(provider: dict[str, Any]) -> None:
    """A key manager by others: it ignores queries, decodes Basic, and issues ID tokens."""
    secret, url = provider["secret"], f"http://127.0.0.1:{provider['port']}"
    app = basic("basic-app", secret)
    grant = {"grant_type": "client_credentials"}
    posted = {"client_id": "post-app", "client_secret": secret}
    code = {"grant_type": "authorization_code", "redirect_uri": provider["redirect"]}
    async with asking(url, f"{url}/token/introspection", app, SystemClock()) as client:

        async def recorded(
            credentials: dict[str, str], query: str = "", **form: str
        ) -> dict[str, Any]:
            answer = await client.token(credentials, query, **form)
            assert answer is not None
            document: dict[str, Any] = answer["recorded"]
            document["refresh_token"] = answer.get("refresh_token")
            return document

        assert "scope" not in await recorded(app, "scope=write", **grant)
        assert (await recorded(app, **grant, scope="read"))["scope"] == "read"
        assert "scope" not in await recorded(app, **grant, scope="admin")
        assert (await recorded({}, **grant, **posted))["client_id"] == "post-app"
        by_jwt = assertion("jwt-app", secret, url)
        assert (await recorded({}, **grant, **by_jwt))["client_id"] == "jwt-app"
        assert "client_id" not in await recorded(basic(quote_plus("svc+prod"), secret), **grant)
        assert await client.token(basic("svc+prod@example.com", secret), **grant) is None

        first = await recorded(app, **code, code=provider["codes"][0])
        assert (first["sub"], first["client_id"]) == ("alice", "basic-app")
        refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        narrow = await recorded(app, **refresh, scope="openid read")
        assert (narrow["sub"], narrow["scope"]) == ("alice", "openid read")
        theirs = await recorded({}, **code, **posted, code=provider["codes"][1], scope="write")
        assert (theirs["sub"], theirs["scope"]) == ("alice", "openid")
