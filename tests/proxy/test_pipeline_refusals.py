"""What follows a request that was refused: it is read as a request only where nothing is in doubt.

Whoever stands before the gateway may take the content of one client's request for the next one of
another, and give each the other's answer (RFC 9112 §11.2).
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from backends import RecordingBackend
from wire import Answer, Client, connect, request

from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.demo.certificate import write_certificate
from gateway.errors import StoreUnavailable
from gateway.tokens import TokenKey
from proxy.gateways import running

SMUGGLED = request("/smuggled")
CHUNKED = "Transfer-Encoding: chunked"
IN_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
LENGTH = f"Content-Length: {len(SMUGGLED)}"


async def refused(client: Client, *pieces: bytes) -> Answer:
    """Send pieces, each after what the one before led to; return the only answer there is."""
    await client.send(pieces[0])
    answer = await client.answer()
    assert answer.values("Connection") == [b"close"]
    try:
        for piece in pieces[1:]:
            await client.send(piece)
    except ConnectionError:
        pass
    assert await client.ended()
    return answer


CONNECTS = {
    "a body": [request("/p", LENGTH, method="CONNECT") + SMUGGLED],
    "a body that comes later": [request("/p", LENGTH, method="CONNECT"), SMUGGLED],
    "a body in chunks": [request("/p", CHUNKED, method="CONNECT") + IN_CHUNKS],
    "chunks that come later": [request("/p", CHUNKED, method="CONNECT"), IN_CHUNKS],
    "a body that is announced": [
        request("/p", LENGTH, "Expect: 100-continue", method="CONNECT"),
        SMUGGLED,
    ],
    "an authority": [request("a.test:443", method="CONNECT") + SMUGGLED],
    "an authority and a body": [request("a.test:443", LENGTH, method="CONNECT") + SMUGGLED],
    "an empty body": [request("/p", "Content-Length: 0", method="CONNECT") + SMUGGLED],
    "an upgrade": [
        request("/p", "Connection: Upgrade", "Upgrade: websocket", method="CONNECT") + SMUGGLED
    ],
    "HTTP/1.0": [
        request("/p", "Connection: keep-alive", LENGTH, method="CONNECT", version="HTTP/1.0")
        + SMUGGLED
    ],
}


@pytest.mark.parametrize("pieces", CONNECTS.values(), ids=CONNECTS)
@pytest.mark.parametrize("before", [False, True], ids=["first", "behind another"])
async def test_what_follows_a_refused_connect_is_never_read(
    gateway: Gateway, backend: RecordingBackend, pieces: list[bytes], before: bool
) -> None:
    """405, and the end: behind CONNECT there is a tunnel, content or a request, as one reads it."""
    async with connect(gateway.url) as client:
        if before:
            pieces = [request("/first") + pieces[0], *pieces[1:]]
            await client.send(pieces.pop(0))
            assert (await client.answer()).status == 200
            answer = await refused(client, b"", *pieces)
        else:
            answer = await refused(client, *pieces)
    assert answer.status == 405
    assert [seen.target for seen in backend.seen] == ["/first"] * before


def refusals() -> dict[str, tuple[int, str, tuple[str, ...], str | None]]:
    """Return, by stage: the status, the target, more fields, and the token."""
    return {
        "a bad path": (400, "/a/../b", (), "good"),
        "a bad target": (400, "a.test:80", (), "good"),
        "a bad field": (400, "/", ("X_A: 1",), "good"),
        "no token": (401, "/", (), None),
        "a bad token": (401, "/", (), "bad"),
        "no token that is one": (401, "/", (), "{"),
        "two tokens": (400, "/", ("Authorization: Bearer a", "Authorization: Bearer b"), None),
        "no Host": (400, "/", ("Host:",), "good"),
        "a token in the query": (400, "/?access_token=good", (), None),
        "no scope": (403, "/admin", (), "good"),
        "no route": (404, "/nowhere", (), "good"),
        "another method": (405, "/get", (), "good"),
        "a long target": (431, "/" + "x" * 20_000, (), "good"),
        "an expectation": (417, "/", ("Expect: something",), "good"),
        "a dead upstream": (502, "/dead", (), "good"),
        "no store": (503, "/", (), "unheard-of"),
    }


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("stage", refusals())
@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
@pytest.mark.parametrize("lane", [False, True], ids=["handler lane", "fast lane"])
async def test_content_that_a_refusal_left_unread_is_never_a_request(
    backend: RecordingBackend,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    stage: str,
    framing: str,
    lane: bool,
) -> None:
    """Whatever refuses a request while its content is still to come, the connection closes."""
    status, target, fields, token = refusals()[stage]
    if target == "/get" and method in {"GET", "HEAD"}:
        method = "PUT"
    here = {"upstream": backend.url}
    routes = [
        {"path": "/get", "methods": ["GET"], **here},
        {"path": "/admin", "scopes": ["admin"], **here},
        {"path": "/dead", "upstream": f"http://127.0.0.1:{free_port}", "public": True},
        {"path": "/nowhere/else", **here},
        *([] if target == "/nowhere" else [{"path": "/", **here}]),
    ]
    async with running(backend.url, routes=routes, proxy={"fast_lane": lane}) as gateway:

        async def fail(keys: Sequence[TokenKey] = ()) -> None:
            raise StoreUnavailable

        if status == 503:
            monkeypatch.setattr(gateway.validator._lookups, "_find_many", fail)
        async with connect(gateway.url) as client:
            head = request(target, *fields, framing, method=method, token=token)
            await client.send(head)
            answer = await client.answer(bodiless=method == "HEAD")
            assert (answer.status, answer.values("Connection")) == (status, [b"close"])
            try:
                await client.send(SMUGGLED if framing == LENGTH else IN_CHUNKS)
                await client.send(SMUGGLED)
            except ConnectionError:
                pass
            assert await client.ended()
    assert backend.seen == []


@pytest.mark.parametrize("method", ["LIST", "FOO", "connect", "SOURCE"])
@pytest.mark.parametrize(("framing", "content"), [(LENGTH, SMUGGLED), (CHUNKED, IN_CHUNKS)])
async def test_content_of_a_method_that_is_not_served_is_never_a_request(
    gateway: Gateway, backend: RecordingBackend, method: str, framing: str, content: bytes
) -> None:
    """Nor what comes behind it, whatever the parser makes of such a method."""
    async with connect(gateway.url) as client:
        answer = await refused(client, request("/", framing, method=method, token="bad"), content)
    assert answer.status in {401, 405, 501}
    assert backend.seen == []


@pytest.mark.parametrize(
    "pieces",
    [
        [request("/p", LENGTH, method="TRACE") + SMUGGLED + SMUGGLED],
        [request("/p", LENGTH, method="TRACE"), SMUGGLED],
        [request("/p", CHUNKED, method="TRACE") + IN_CHUNKS + SMUGGLED],
    ],
    ids=["whole", "later", "in chunks"],
)
async def test_content_behind_trace_ends_the_connection(
    gateway: Gateway, backend: RecordingBackend, pieces: list[bytes]
) -> None:
    """TRACE has none (RFC 9110 §9.3.8), so to another parser it is the next request."""
    async with connect(gateway.url) as client:
        assert (await refused(client, *pieces)).status == 405
    assert backend.seen == []


@pytest.mark.parametrize("fields", [[LENGTH], [CHUNKED], [LENGTH, "Expect: 100-continue"]])
async def test_content_behind_options_asterisk_is_never_a_request(
    gateway: Gateway, backend: RecordingBackend, fields: list[str]
) -> None:
    """The gateway answers without asking for it, and closes, because it may come or not."""
    async with connect(gateway.url) as client:
        head = request("*", *fields, method="OPTIONS", token=None)
        answer = await refused(client, head, IN_CHUNKS if CHUNKED in fields else SMUGGLED)
    assert answer.status == 200
    assert backend.seen == []


async def test_a_request_after_options_asterisk_that_expected_is_not_eaten(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """A client that sends no content after a final answer sends its next request elsewhere."""
    async with connect(gateway.url) as client:
        head = request("*", "Content-Length: 10", "Expect: 100-continue", method="OPTIONS")
        await client.send(head)
        answer = await client.answer()
        assert (answer.status, answer.interim) == (200, [])
        assert answer.values("Connection") == [b"close"]


async def test_a_refusal_whose_content_is_all_here_keeps_the_connection(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """Nothing is in doubt then, and a client whose token has ended may try another."""
    async with connect(gateway.url) as client:
        for token, status in (("bad", 401), ("good", 200)):
            await client.send(request("/", method="POST", body=b"hello", token=token))
            answer = await client.answer()
            assert (answer.status, answer.values("Connection")) == (status, [])
    assert len(backend.seen) == 1


@pytest.fixture
def over_tls(tmp_path: Path) -> tuple[dict[str, object], ssl.SSLContext]:
    """What makes a gateway listen with TLS beside, and what a client trusts."""
    files = write_certificate(tmp_path, "localhost", now_at=SystemClock().wall())
    names = {"tls_certificate": str(files.certificate), "tls_key": str(files.key)}
    return {"tls_port": 0, **names}, ssl.create_default_context(cafile=files.certificate)


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        (CONNECTS["a body"], 405),
        (CONNECTS["a body that comes later"], 405),
        ([request("/", LENGTH, method="POST", token="bad"), SMUGGLED], 401),
        ([request("/a/../b", CHUNKED, method="POST"), IN_CHUNKS + SMUGGLED], 400),
        ([request("/", "X: " + "x" * 20_000, LENGTH, method="POST"), SMUGGLED], 431),
        ([request("/p", "Connection: close") + SMUGGLED], 200),
    ],
)
async def test_nothing_is_smuggled_over_tls(
    backend: RecordingBackend,
    over_tls: tuple[dict[str, object], ssl.SSLContext],
    pieces: list[bytes],
    status: int,
) -> None:
    """The same holds there."""
    listen, trusting = over_tls
    async with (
        running(backend.url, listen=listen) as gateway,
        connect(gateway.tls_url or "", tls=trusting) as client,
    ):
        assert (await refused(client, *pieces)).status == status
    assert [seen.target for seen in backend.seen] == ["/p"] * (status == 200)


@pytest.mark.parametrize("part", [b"", b"G", b"GET / HTTP/1.1\r\nHost"])
async def test_a_slow_header_section_over_tls(
    backend: RecordingBackend,
    over_tls: tuple[dict[str, object], ssl.SSLContext],
    part: bytes,
) -> None:
    """It has its time there too, and so has a client that says nothing at all."""
    listen, trusting = over_tls
    limits = {"header_timeout": "300ms", "idle_timeout": "500ms" if not part else "1h"}
    async with (
        running(backend.url, listen=listen, limits=limits) as gateway,
        connect(gateway.tls_url or "", tls=trusting) as client,
    ):
        await client.send(part)
        assert await client.ended()
