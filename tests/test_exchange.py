"""Answers, byte for byte as they go out, and the form of those that are errors."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from talking import Handler, request, serving, talk

from gateway.errors import ContentTooLarge, GatewayError, InvalidToken
from gateway.exchange import (
    Exchange,
    RelayedResponse,
    error_response,
    reason_phrase,
)
from gateway.request_head import RequestHead

DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"


def answering(*parts: Any, **settings: Any) -> Handler:
    """Return a handler that answers with a status, fields and content."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        status, fields, *chunks = parts
        response = RelayedResponse(status, reason_phrase(status), list(fields), **settings)
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response

    return handler


async def test_fields_go_out_byte_for_byte() -> None:
    """Spelling, order, doubles and bytes beyond ASCII stay, and nothing is added but framing."""
    fields = [(b"x-a", b"1"), (b"X-A", b"\xff\xe9"), (b"set-cookie", b"a=b"), (b"x-a", b"")]
    assert await talk(answering(200, fields, body=b"abc"), request()) == (
        b"HTTP/1.1 200 OK\r\nx-a: 1\r\nX-A: \xff\xe9\r\nset-cookie: a=b\r\nx-a: \r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\nabc"
    )


CLOSE = b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "version", "parts", "length", "expected"),
    [
        ("GET", "1.1", (200, [], b"ab", b"c"), 3, b"Content-Length: 3\r\n" + CLOSE + b"abc"),
        (
            *("GET", "1.1", (200, [], b"ab", b"c"), None),
            b"Transfer-Encoding: chunked\r\n" + CLOSE + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        ("GET", "1.0", (200, [], b"ab", b"c"), None, CLOSE + b"abc"),
        ("GET", "1.0", (200, [], b"abc"), 3, b"Content-Length: 3\r\n" + CLOSE + b"abc"),
        ("GET", "1.1", (200, []), 0, b"Content-Length: 0\r\n" + CLOSE),
        ("GET", "1.1", (200, []), None, b"Transfer-Encoding: chunked\r\n" + CLOSE + b"0\r\n\r\n"),
        ("HEAD", "1.1", (200, []), 5, b"Content-Length: 5\r\n" + CLOSE),
        ("HEAD", "1.1", (200, []), None, CLOSE),
        ("GET", "1.1", (204, []), None, CLOSE),
        ("GET", "1.1", (204, []), 0, CLOSE),
        ("GET", "1.1", (304, []), None, CLOSE),
        ("GET", "1.1", (304, []), 5, b"Content-Length: 5\r\n" + CLOSE),
        ("GET", "1.1", (404, [], b"no"), 2, b"Content-Length: 2\r\n" + CLOSE + b"no"),
    ],
)
async def test_framing(
    method: str, version: str, parts: Any, length: int | None, expected: bytes
) -> None:
    """Content is framed as its length, the status, the method and the client's version ask."""
    received = await talk(
        answering(*parts, content_length=length), request(method, version=version)
    )
    line, _, rest = received.partition(b"\r\n")
    assert f"HTTP/{version} {parts[0]} {reason_phrase(parts[0])}".encode() == line
    assert expected == rest


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_whole_body(method: str) -> None:
    """A body that is given whole is sent, but to HEAD only its length (RFC 9110 §9.3.2)."""
    received = await talk(answering(200, [], body=b"abc"), request(method))
    expected = b"Content-Length: 3\r\n" + CLOSE + (b"abc" if method == "GET" else b"")
    assert received.partition(b"\r\n")[2] == expected


async def test_keep_alive() -> None:
    """HTTP/1.0 is told that the connection stays, HTTP/1.1 that it doesn't."""
    old = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    received = await talk(answering(200, [], body=b"a"), old, request())
    assert received == (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na"
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"
    )


async def test_the_header_section_goes_ahead() -> None:
    """``send_head`` sends the header section before there is any content."""
    go_on = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = RelayedResponse(200, "OK", [])
        await response.prepare(request)
        response.send_head()
        await go_on.wait()
        await response.write_eof()
        return response

    async with serving(handler) as (reader, writer):
        writer.write(request())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        go_on.set()
        assert await reader.read() == b"0\r\n\r\n"


def exchange(request: web.BaseRequest, **members: Any) -> Exchange:
    known: dict[str, Any] = {
        "request_id": b"abc-1",
        "peer": "127.0.0.1",
        "scheme": "http",
        "wall": lambda: 1_700_000_000.0,
        "stopping": lambda: False,
    }
    return Exchange(request, **known | members)


@pytest.mark.parametrize(
    ("error", "head", "stopping", "closes"),
    [
        (InvalidToken("No.", headers=[("WWW-Authenticate", "Bearer")]), None, False, False),
        (InvalidToken("No."), RequestHead(), False, False),
        (ContentTooLarge("Large."), RequestHead(), False, True),
        (InvalidToken("No."), RequestHead(expects_continue=True), False, True),
        (InvalidToken("No."), RequestHead(), True, True),
    ],
)
async def test_errors(
    error: GatewayError, head: RequestHead | None, stopping: bool, closes: bool
) -> None:
    """Errors are JSON that nobody keeps, with the request's id; some close the connection."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return error_response(error, exchange(request, head=head, stopping=lambda: stopping))

    keeping = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    received = await talk(handler, keeping, *(() if closes else (request(),)))
    first, body = received.split(b"\r\n\r\n", 1)
    lines = first.decode().split("\r\n")
    assert lines[0] == f"HTTP/1.1 {error.status} {reason_phrase(error.status)}"
    fields = dict(line.split(": ", 1) for line in lines[1:])
    content = body[: int(fields.pop("Content-Length"))]
    assert json.loads(content) == {
        "error": error.code,
        "error_description": error.description,
        "request_id": "abc-1",
    }
    assert fields == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Pragma": "no-cache",
        "Date": DATE.decode(),
        "X-Request-ID": "abc-1",
        **dict(error.headers),
        **({"Connection": "close"} if closes else {}),
    }
    assert closes == (len(body) == len(content))


def test_a_date() -> None:
    """The Date of an answer is when its request began, as RFC 9110 §5.6.7 writes it."""
    assert exchange(None, wall=lambda: 1_700_000_000.9).date == DATE  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "phrase"), [(200, "OK"), (404, "Not Found"), (799, "")])
def test_reason_phrases(status: int, phrase: str) -> None:
    """A status has its registered phrase, and an unknown one has none."""
    assert reason_phrase(status) == phrase
