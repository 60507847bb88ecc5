"""The backend's resources, alone and under a prefix."""

import json
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType
from aiohttp.test_utils import TestClient

from gateway.demo.backend import MOST_BYTES, SHOWN_BYTES, create_backend, serving_backend

PREFIXES = pytest.mark.parametrize("prefix", ["", "/orders", "/orders/a/b"])


@pytest.fixture
async def backend(aiohttp_client: Any) -> TestClient[Any, Any]:
    client: TestClient[Any, Any] = await aiohttp_client(create_backend())
    return client


async def test_echo(backend: TestClient[Any, Any]) -> None:
    """Any path is answered with what was received."""
    headers = [("X-One", "1"), ("X-Two", "a"), ("X-Two", "b")]
    async with backend.put("/orders/1%20x?a=%2F&b", data="héllo", headers=headers) as response:
        received = await response.json()
    shown = {name: received["headers"].get(name) for name in ("X-One", "X-Two", "Content-Length")}
    assert received | {"headers": shown} == {
        "method": "PUT",
        "path": "/orders/1%20x",
        "query": "a=/&b",
        "headers": {"X-One": "1", "X-Two": "a, b", "Content-Length": "6"},
        "body_bytes": 6,
        "body": "héllo",
    }


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"", ""),
        (b"x" * SHOWN_BYTES, "x" * SHOWN_BYTES),
        (b"x" * (SHOWN_BYTES + 1), None),
        (b"\xff\x00", None),
    ],
)
async def test_bodies(backend: TestClient[Any, Any], body: bytes, shown: str | None) -> None:
    """A body is shown when it is short text; its length always is."""
    async with backend.post("/", data=body) as response:
        received = await response.json()
    assert (len(body), shown) == (received["body_bytes"], received["body"])


@PREFIXES
async def test_events(backend: TestClient[Any, Any], prefix: str) -> None:
    """As many events are sent as were asked for."""
    async with backend.get(f"{prefix}/sse?count=3&interval=0") as response:
        text = await response.text()
    events = [json.loads(part.partition("data: ")[2]) for part in text.split("\n\n") if part]
    assert response.content_type == "text/event-stream"
    assert events == [{"event": number, "of": 3} for number in (1, 2, 3)]


async def test_events_one_by_one(backend: TestClient[Any, Any]) -> None:
    """An event goes out when it is due, not with the next."""
    async with backend.get("/sse?count=2&interval=60") as response:
        first = await response.content.readuntil(b"\n\n")
    assert first == b'id: 1\ndata: {"event": 1, "of": 2}\n\n'


@PREFIXES
async def test_messages(backend: TestClient[Any, Any], prefix: str) -> None:
    """A WebSocket gets its messages back, under the first subprotocol it offered."""
    async with backend.ws_connect(f"{prefix}/ws", protocols=["chat", "talk"]) as socket:
        await socket.send_str("hello")
        await socket.send_bytes(b"\x00\x01")
        messages = [await socket.receive(), await socket.receive()]
    assert socket.protocol == "chat"
    assert [(message.type, message.data) for message in messages] == [
        (WSMsgType.TEXT, "hello"),
        (WSMsgType.BINARY, b"\x00\x01"),
    ]


@PREFIXES
@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_001])
async def test_bytes(backend: TestClient[Any, Any], prefix: str, size: int) -> None:
    """As many bytes are sent as were asked for, and announced."""
    async with backend.get(f"{prefix}/bytes/{size}") as response:
        content = await response.read()
    assert (response.content_length, len(content)) == (size, size)


async def test_head(backend: TestClient[Any, Any]) -> None:
    """HEAD has the length of what GET would send."""
    async with backend.head(f"/bytes/{MOST_BYTES}") as response:
        assert (response.content_length, await response.read()) == (MOST_BYTES, b"")


@PREFIXES
@pytest.mark.parametrize("code", [200, 201, 404, 503])
async def test_status(backend: TestClient[Any, Any], prefix: str, code: int) -> None:
    """The status is the one asked for, of an echo."""
    async with backend.post(f"{prefix}/status/{code}", data="x") as response:
        received = await response.json()
    assert (response.status, received["body"]) == (code, "x")


@pytest.mark.parametrize("code", [204, 205, 304])
async def test_status_without_content(backend: TestClient[Any, Any], code: int) -> None:
    """Statuses that have no content get none."""
    async with backend.get(f"/status/{code}") as response:
        assert (response.status, await response.read()) == (code, b"")


@PREFIXES
async def test_slow(backend: TestClient[Any, Any], prefix: str) -> None:
    """An echo comes after as long as was asked for."""
    async with backend.get(f"{prefix}/slow/0.001") as response:
        received = await response.json()
    assert (response.status, received["path"]) == (200, f"{prefix}/slow/0.001")


@pytest.mark.parametrize(
    "path",
    [
        f"/bytes/{MOST_BYTES + 1}",
        "/slow/61",
        "/status/100",
        "/status/600",
        "/sse?count=1001",
        "/sse?count=x",
        "/sse?interval=61",
        "/sse?interval=nan",
        "/sse?interval=-1",
    ],
)
async def test_bounds(backend: TestClient[Any, Any], path: str) -> None:
    """Nothing is sent without end, or waited for."""
    async with backend.get(path) as response:
        assert (response.status, (await response.text()).endswith("allowed.\n")) == (400, True)


async def test_serving() -> None:
    """It serves on a port of its own, and ends while a client still reads."""
    async with ClientSession() as session:
        async with serving_backend() as url:
            response = await session.get(f"{url}/sse?count=2&interval=60")
            await response.content.readuntil(b"\n\n")
        assert response.status == 200
        response.close()
