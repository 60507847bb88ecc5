"""What stands before the admin API."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from clocks import FakeClock
from proxy.gateways import LogText
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpClient

from gateway.admin.access import Access
from gateway.admin.door import application
from gateway.admin.guard import MOST_BODY_BYTES, Guard
from gateway.admin.resources import Kind
from gateway.settings import Admin

TOKEN = {"Authorization": "Bearer s3cret"}
Client = TestClient[web.Request, web.Application]


class Bench:
    """A handler behind a guard, which repeats the body that it gets."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.wrong = 0
        self.asked = 0

    def build(self, *, body_seconds: float = 10) -> web.Application:
        def count() -> None:
            self.wrong += 1

        async def handler(request: web.Request) -> web.Response:
            self.asked += 1
            return web.Response(body=await request.read())

        access = Access(Admin(token=SecretStr("s3cret")))
        guard = Guard(access, refused=count, clock=self.clock, body_seconds=body_seconds)
        app = application()
        for kind in Kind:
            app.router.add_post(f"/{kind.value}", guard.before(handler, kind))
        return app


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


@pytest.fixture
async def client(bench: Bench, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(bench.build())


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/open", {"Host": "evil.example"}, 200),
        ("/reading", {}, 200),
        ("/reading", {"Host": "evil.example"}, 421),
        ("/changing", TOKEN, 200),
        ("/changing", {}, 401),
        ("/changing", {"Authorization": "Bearer wrong"}, 401),
        ("/changing", TOKEN | {"Origin": "http://evil.example"}, 403),
    ],
)
async def test_who_may_ask(
    client: Client, bench: Bench, path: str, headers: dict[str, str], status: int
) -> None:
    """By the kind of what is asked."""
    async with client.post(path, data=b"x", headers=headers) as answer:
        assert (answer.status, bench.asked) == (status, int(status == 200))


async def test_a_body_that_is_too_large(client: Client, bench: Bench) -> None:
    """413, and nothing is done."""
    async with client.post("/changing", data=b"x" * MOST_BODY_BYTES, headers=TOKEN) as answer:
        assert (answer.status, len(await answer.read())) == (200, MOST_BODY_BYTES)
    async with client.post("/changing", data=b"x" * (MOST_BODY_BYTES + 1), headers=TOKEN) as answer:
        assert (answer.status, (await answer.json())["error"]) == (413, "content_too_large")
    assert bench.asked == 1


async def test_who_has_no_token_is_answered_before_the_body_is_here(client: Client) -> None:
    """1 MB of it from each was read before: 196 MB in the supervisor."""
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    async with client.post("/changing", data=endless()) as answer:
        assert answer.status == 401
    never.set()


async def test_a_body_that_does_not_come(bench: Bench, aiohttp_client: AiohttpClient) -> None:
    """It has a time, and 408 ends it."""
    client = await aiohttp_client(bench.build(body_seconds=0.01))
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await never.wait()

    async with client.post("/changing", data=endless(), headers=TOKEN) as answer:
        assert (answer.status, answer.headers["Connection"]) == (408, "close")
    never.set()
    assert bench.asked == 0


async def test_wrong_tokens_are_counted_and_seldom_logged(
    client: Client, bench: Bench, clock: FakeClock, log: LogText
) -> None:
    """50 of them left no trace; no line has the token."""
    for _ in range(50):
        headers = {"Authorization": "Bearer gu3ss"}
        async with client.post("/changing", headers=headers) as answer:
            assert answer.status == 401
    clock.advance(1)
    async with client.post("/changing", headers={"Authorization": "Basic gu3ss"}):
        pass
    async with client.post("/changing"):  # no guess at all
        pass
    assert bench.wrong == 51
    said = log.named("admin token refused")
    assert [(record["remote"], record["not_logged"]) for record in said] == [
        ("127.0.0.1", 0),
        ("127.0.0.1", 49),
    ]
    assert "gu3ss" not in log.text
