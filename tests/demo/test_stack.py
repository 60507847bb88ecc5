"""The parts of the demo together, and what becomes of them when one can't start."""

import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, TCPConnector
from redis_server import free_port

from gateway.demo import DemoOptions
from gateway.demo.stack import BASIC, Stack, demo_settings, running
from gateway.errors import SettingsError, StoreUnavailable

Run = Callable[..., AbstractAsyncContextManager[Stack]]

PORTS = ("port", "tls_port", "admin_port", "key_manager_port", "backend_port")


@pytest.fixture
async def session() -> Any:
    async with ClientSession(connector=TCPConnector(ssl=False)) as session:
        yield session


async def sign_in(session: ClientSession, stack: Stack, scope: str) -> str:
    form = {"grant_type": "password", "username": "alice", "password": "wonderland"}
    async with session.post(
        f"{stack.tls_url}/token",
        data={**form, "scope": scope},
        headers={"Authorization": f"Basic {BASIC}"},
    ) as response:
        token: str = (await response.json())["access_token"]
        return token


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize(
    ("path", "scope", "status"),
    [
        ("/orders/1", "read", 200),
        ("/orders/1", "write", 403),
        ("/payments/1", "write", 200),
        ("/payments/1", "read", 403),
    ],
)
async def test_scopes(
    run: Run,
    session: ClientSession,
    kind: str,
    path: str,
    scope: str,
    status: int,
    request: pytest.FixtureRequest,
) -> None:
    """A token of the key manager opens the routes that its scope is for."""
    store = "memory://" if kind == "memory" else request.getfixturevalue("redis_url")
    async with run(store=store) as stack:
        token = await sign_in(session, stack, scope)
        headers = {"Authorization": f"Bearer {token}"}
        async with session.get(stack.tls_url + path, headers=headers) as response:
            assert status == response.status


@pytest.mark.parametrize(
    ("path", "status"), [("/orders", 401), ("/payments", 401), ("/public", 200), ("/", 404)]
)
async def test_without_a_token(
    stack: Stack, session: ClientSession, path: str, status: int
) -> None:
    """Only /public is open to anybody."""
    async with session.get(stack.url + path) as response:
        assert status == response.status


async def test_resources(stack: Stack, session: ClientSession) -> None:
    """The backend's resources are there through the gateway."""
    async with session.get(f"{stack.tls_url}/public/bytes/1000000") as response:
        assert len(await response.read()) == 1_000_000
    async with session.get(f"{stack.url}/public/sse?count=2&interval=60") as response:
        assert (await response.content.readuntil(b"\n\n")).startswith(b"id: 1\n")
    async with session.ws_connect(f"{stack.tls_url}/public/ws") as socket:
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
    async with session.get(f"{stack.admin_url}/readyz") as response:
        assert response.status == 200


async def test_the_key_is_gone(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the gateway listens, its private key is on disk no more."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with run() as stack:
        left = os.listdir(tmp_path)  # noqa: PTH208 -- pathlib's isn't for async code
    assert (urlsplit(stack.tls_url).scheme, left) == ("https", [])


@pytest.mark.parametrize("taken", PORTS)
async def test_a_taken_port(taken: str) -> None:
    """A port that is taken is an error that names it, and all that had been opened is closed."""
    ports = {name: free_port() for name in PORTS}
    with (
        socket.create_server(("127.0.0.1", ports[taken])),
        pytest.raises(OSError, match=f"{ports[taken]}.*in use"),
    ):
        async with running(DemoOptions(**ports)):  # type: ignore[arg-type]
            pass
    for port in ports.values():
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"port": 8000, "admin_port": 8000}, "admin.port = 8000 (command line): another port"),
        ({"port": 8000, "tls_port": 8000}, "listen.tls_port = 8000 (command line): another port"),
        ({"max_age_seconds": -1.0}, "cache.max_age = "),
        ({"log_level": "loud"}, 'logging.level = "loud" (command line): '),
        ({"store": "http://x"}, "store.url = "),
    ],
)
async def test_wrong_options(run: Run, options: dict[str, Any], fault: str) -> None:
    """Options are settings, and wrong ones are said as for those."""
    with pytest.raises(SettingsError) as raised:
        async with run(**options):
            pass
    assert str(raised.value).startswith(fault)


async def test_no_store(run: Run) -> None:
    """A Redis that isn't there is an error at the start, not of the first call."""
    with pytest.raises(StoreUnavailable):
        async with run(store=f"redis://127.0.0.1:{free_port()}/0"):
            pass


def test_store_url_is_not_shown() -> None:
    """The options' representation has no password in it."""
    assert "secret" not in repr(DemoOptions(store="redis://:secret@127.0.0.1/0"))


def test_recording_is_off() -> None:
    """The key manager writes the store, so the gateway doesn't."""
    assert not demo_settings(DemoOptions()).key_manager.record_tokens
