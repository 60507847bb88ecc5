"""What the story's calls make of answers."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from clocks import FakeClock

from gateway.demo.calls import Answer, opened_calls
from gateway.demo.stack import Stack
from gateway.demo.window import Span

METRICS = """\
# TYPE gateway_requests_total counter
gateway_requests_total{outcome="proxied",route="/orders"} 3.0
gateway_requests_total{outcome="proxied",route="token"} 2.0
gateway_requests_total{outcome="invalid_token",route="/orders"} 1.0
gateway_requests_created{outcome="proxied",route="/orders"} 1.7e9
gateway_connections 1.0
"""


class Scripted:
    """A server that notes each request and answers as the test says."""

    def __init__(self, clock: FakeClock) -> None:
        self.status, self.content = 200, b"{}"
        self.received: list[tuple[str, str, str, str]] = []
        self._clock = clock

    async def handle(self, request: web.Request) -> web.Response:
        self._clock.advance(1.5)
        self.received.append(
            (
                request.method,
                request.path,
                request.headers["Authorization"],
                await request.text(),
            )
        )
        return web.Response(status=self.status, body=self.content)


@pytest.fixture
def server(clock: FakeClock) -> Scripted:
    return Scripted(clock)


@pytest.fixture
async def scripted(server: Scripted, aiohttp_server: Any) -> Stack:
    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_route("*", "/{path:.*}", server.handle)
    url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    return Stack(url, url, url, url, url, 1.0)


async def metrics(_: web.Request) -> web.Response:
    return web.Response(text=METRICS)


async def test_requests(scripted: Stack, server: Scripted, clock: FakeClock) -> None:
    """Forms go out with the client's credentials, calls with the token."""
    async with opened_calls(scripted, clock) as calls:
        await calls.token(grant_type="refresh_token", refresh_token="abc")
        await calls.revoke("abc")
        await calls.get("/orders/1", "abc")
    basic = "Basic ZGVtby1rZXk6ZGVtby1zZWNyZXQ="
    assert server.received == [
        ("POST", "/token", basic, "grant_type=refresh_token&refresh_token=abc"),
        ("POST", "/revoke", basic, "token=abc"),
        ("GET", "/orders/1", "Bearer abc", ""),
    ]


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (200, b'{"a": 1}', None),
        (200, b"", None),
        (401, b'{"error": "invalid_token"}', "invalid_token"),
        (500, b"not JSON", None),
        (500, b"[]", None),
    ],
)
async def test_answers(
    scripted: Stack,
    server: Scripted,
    clock: FakeClock,
    status: int,
    content: bytes,
    error: str | None,
) -> None:
    """An answer has its status, its error code, and when it was asked for and came."""
    server.status, server.content = status, content
    async with opened_calls(scripted, clock) as calls:
        answer = await calls.get("/orders/1", "abc")
    assert (answer.status, answer.error, answer.span) == (status, error, Span(1000.0, 1001.5))


async def test_schemes(stack: Stack, clock: FakeClock) -> None:
    """A call goes out over https, or over http where that is asked for."""
    async with opened_calls(replace(stack, url="http://192.0.2.1:1"), clock) as calls:
        answer = await calls.get("/public", "abc")
    assert answer.members["headers"]["X-Forwarded-Proto"] == "https"
    async with opened_calls(replace(stack, tls_url="https://192.0.2.1:1"), clock) as calls:
        answer = await calls.get("/public", "abc", tls=False)
    assert answer.members["headers"]["X-Forwarded-Proto"] == "http"


async def test_counts(scripted: Stack, server: Scripted, clock: FakeClock) -> None:
    """It keeps count as the gateway should, and reads what the gateway counted."""
    async with opened_calls(scripted, clock) as calls:
        await calls.token(grant_type="password")
        await calls.get("/orders/1", "abc")
        server.status = 401
        await calls.get("/orders/1", "abc")
        assert calls.outcomes == Counter({"proxied": 2, "invalid_token": 1})
        assert await calls.counted() == Counter({"proxied": 5, "invalid_token": 1})


def test_tokens_are_not_shown() -> None:
    """An answer's representation has none of its members."""
    assert "secret" not in repr(Answer(200, Span(0, 0), {"access_token": "secret"}))
