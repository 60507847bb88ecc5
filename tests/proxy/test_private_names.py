"""What the fast lane leans on in aiohttp: all of it is there, and what isn't is told."""

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from aiohttp import http_parser
from aiohttp.web_protocol import RequestHandler
from backends import RecordingBackend
from wire import fetch, request

from gateway import traffic
from gateway.proxy.private_names import OF_CONNECTIONS, missing_names
from proxy.gateways import LogText, running

STUB = "stub_of_http_parser"


def handler_without(name: str) -> type:
    """Return a class that has all names but one."""
    names = {each: None for each in OF_CONNECTIONS if each != name}
    return type("RequestHandler", (), names)


@pytest.fixture
def parsers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with aiohttp's parser, which a test may change."""
    stub: Any = ModuleType(STUB)
    stub.HttpRequestParser = http_parser.HttpRequestParser
    monkeypatch.setitem(sys.modules, STUB, stub)
    return stub


async def test_nothing_is_missing() -> None:
    """This aiohttp is one that the fast lane was made for."""
    assert missing_names() == []


@pytest.mark.parametrize("name", OF_CONNECTIONS)
async def test_a_name_of_connections_that_is_gone(name: str) -> None:
    """Each of them is told by itself."""
    assert hasattr(RequestHandler, name)
    assert missing_names(handler_without(name)) == [f"RequestHandler.{name}"]


async def test_a_parser_that_is_gone(parsers: Any) -> None:
    """A module without it is found out."""
    assert missing_names(parsers=STUB) == []
    del parsers.HttpRequestParser
    assert missing_names(parsers=STUB) == [f"{STUB}.HttpRequestParser"]


async def test_a_module_that_is_gone() -> None:
    """Its parser is missing then."""
    assert missing_names(parsers="no_such_module") == ["no_such_module.HttpRequestParser"]


class TakesNothing:
    """A parser with another signature."""

    def __init__(self) -> None: ...


class Altered:
    """A parser whose answer is altered before the lane would have it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.real = http_parser.HttpRequestParser(*args, **options)

    def feed_data(self, data: bytes) -> Any:
        return self.alter(*self.real.feed_data(data))

    def alter(self, messages: Any, upgraded: Any, rest: Any) -> Any:
        raise NotImplementedError


class AnswersPairs(Altered):
    def alter(self, messages: Any, upgraded: Any, rest: Any) -> Any:  # noqa: ARG002
        return messages, upgraded


class AnswersNoMessage(Altered):
    def alter(self, messages: Any, upgraded: Any, rest: Any) -> Any:  # noqa: ARG002
        return (), upgraded, rest


class SaysUpgraded(Altered):
    def alter(self, messages: Any, upgraded: Any, rest: Any) -> Any:  # noqa: ARG002
        return messages, True, rest


class KeepsConnections(Altered):
    def alter(self, messages: Any, upgraded: Any, rest: Any) -> Any:
        ((message, content),) = messages
        return [(message._replace(should_close=False), content)], upgraded, rest


class HasTextFields(Altered):
    def alter(self, messages: Any, upgraded: Any, rest: Any) -> Any:
        ((message, content),) = messages
        fields = tuple((name.decode(), value.decode()) for name, value in message.raw_headers)
        return [(message._replace(raw_headers=fields), content)], upgraded, rest


@pytest.mark.parametrize(
    "parser",
    [TakesNothing, AnswersPairs, AnswersNoMessage, SaysUpgraded, KeepsConnections, HasTextFields],
)
async def test_a_parser_that_means_something_else(parsers: Any, parser: type) -> None:
    """What has its name but another meaning counts as missing, whatever it raises."""
    parsers.HttpRequestParser = parser
    assert missing_names(parsers=STUB) == [f"{STUB}.HttpRequestParser"]


async def test_a_gateway_without_them_serves_on(
    backend: RecordingBackend, log: LogText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast lane stays off, the log says why, and requests go the other way."""
    monkeypatch.setattr(traffic, "missing_names", lambda: ["RequestHandler._waiter"])
    async with running(backend.url, proxy={"fast_lane": True}) as gateway:
        assert gateway._server is not None
        assert gateway._server.lane is None
        assert (await fetch(gateway.url, request("/"))).status == 200
        assert gateway._server.fast_requests == 0
    (warning,) = log.named("this aiohttp isn't known to the fast lane, which stays off")
    assert warning["missing"] == ["RequestHandler._waiter"]


WITHOUT_THE_MODULE = """
import asyncio, sys
import aiohttp, aiohttp.web
del aiohttp.http_parser
sys.modules["aiohttp.http_parser"] = None  # an import of it fails from here on
from gateway.app import Gateway
from gateway.settings import Settings

async def main():
    settings = Settings.model_validate({
        "listen": {"port": 0},
        "admin": {"port": 0},
        "store": {"url": "memory://"},
        "routes": [{"path": "/", "upstream": "http://127.0.0.1:9"}],
    })
    async with Gateway(settings) as gateway:
        async with aiohttp.ClientSession() as client, client.get(gateway.url) as answer:
            print("answered", answer.status, gateway._server.lane)

asyncio.run(main())
"""


def test_an_aiohttp_without_the_module() -> None:
    """Not even its import is needed by a gateway whose fast lane stays off."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_MODULE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "answered 401 None" in ended.stdout, ended.stderr
    assert "isn't known to the fast lane" in ended.stdout + ended.stderr
