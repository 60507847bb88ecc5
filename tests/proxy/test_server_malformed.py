"""What isn't HTTP, or could be read in two ways: refused, counted, and repeated to nobody."""

from typing import Any

import pytest
from backends import RecordingBackend, answering, scripted
from wire import connect, fetch, request

from gateway.app import Gateway
from proxy.gateways import FAST_LANE, HANDLER_LANE, LogText, outcomes, running, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = "Secret-Token-7f3a"
TOKEN = f"Authorization: Bearer {SECRET}"
HEAD = f"GET / HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n".encode()

NOT_HTTP = {
    "a bad method": f"G(T / HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "no target": f"GET HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "a space in the target": f"GET /a {SECRET} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "bytes in the target": b"GET /\xe9" + SECRET.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n" + TOKEN.encode() + b"\r\n\r\n",
    "a bad authority": f"GET http://[::1]:99@/ HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "a bad version": f"GET / HTTP/x.{SECRET}\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "HTTP/1.2": f"GET / HTTP/1.2\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "HTTP/2.0": f"GET / HTTP/2.0\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SECRET.encode(),
    "RTSP": f"GET / RTSP/1.0\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "RTSP with a method of its own": f"DESCRIBE / RTSP/1.0\r\n{TOKEN}\r\n\r\n".encode(),
    "ICE": f"SOURCE / ICE/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "ICE in a method of HTTP": f"GET / ICE/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "HTTP/1.10": f"GET / HTTP/1.10\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "HTTP/3.0": f"GET / HTTP/3.0\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "HTTP in lower case": f"GET / http/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "HTTP/0.9 with a version": f"GET / HTTP/0.9\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "two spaces": f"GET  / HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "two spaces before the version": f"GET /  HTTP/1.1\r\nHost: a\r\n{TOKEN}\r\n\r\n".encode(),
    "a line feed first": b"\n" + HEAD + b"\r\n",
    "a carriage return first": b"\r" + HEAD + b"\r\n",
    "HTTP/0.9": f"GET /{SECRET}\r\n\r\n".encode(),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET.encode(),
    "no Host": f"GET / HTTP/1.1\r\n{TOKEN}\r\n\r\n".encode(),
    "two Hosts": HEAD + b"Host: b\r\n\r\n",
    "a bad Host": f"GET / HTTP/1.1\r\nHost: a/{SECRET}\r\n\r\n".encode(),
    "a header without a colon": HEAD + SECRET.encode() + b"\r\n\r\n",
    "a space before the colon": HEAD + b"X-A : 1\r\n\r\n",
    "a space in a name": HEAD + b"X A: 1\r\n\r\n",
    "an empty name": HEAD + b": 1\r\n\r\n",
    "bytes in a name": HEAD + b"X-\xe9: 1\r\n\r\n",
    "NUL in a value": HEAD + b"X-A: a\x00b\r\n\r\n",
    "a control byte in a value": HEAD + b"X-A: a\x01b\r\n\r\n",
    "DEL in a value": HEAD + b"X-A: a\x7fb\r\n\r\n",
    "bare CR in a value": HEAD + b"X-A: a\rb\r\n\r\n",
    "bare LF for CRLF": HEAD + b"X-A: a\nX-B: b\r\n\r\n",
    "only bare LFs": HEAD.replace(b"\r\n", b"\n") + b"\n",
    "an obsolete fold": HEAD + b"X-A: a\r\n b\r\n\r\n",
    "a fold before all headers": b"GET / HTTP/1.1\r\n Host: a\r\n" + TOKEN.encode() + b"\r\n\r\n",
    "an underscore in a name": HEAD + b"X_Forwarded_For: 1\r\n\r\n",
    "two Authorizations": HEAD + f"{TOKEN}\r\n\r\n".encode(),
    "a malformed token": HEAD.replace(b"Bearer ", b"Bearer {") + b"\r\n",
    "a token in the query": f"GET /?access_token={SECRET} HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
}

CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST = HEAD.replace(b"GET", b"POST", 1)

SMUGGLING = {
    "Content-Length and Transfer-Encoding": POST + CHUNKED + b"Content-Length: 4\r\n\r\n" + BODY,
    "Transfer-Encoding and Content-Length": POST
    + b"Content-Length: 4\r\n"
    + CHUNKED
    + b"\r\n"
    + BODY,
    "two Content-Lengths": POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + BODY,
    "twice the same Content-Length": POST
    + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n"
    + BODY,
    "a list of Content-Lengths": POST + b"Content-Length: 5, 5\r\n\r\n" + BODY,
    "a signed Content-Length": POST + b"Content-Length: +5\r\n\r\n" + BODY,
    "a negative Content-Length": POST + b"Content-Length: -5\r\n\r\n" + BODY,
    "a hexadecimal Content-Length": POST + b"Content-Length: 0x5\r\n\r\n" + BODY,
    "a huge Content-Length": POST + b"Content-Length: 99999999999999999999\r\n\r\n" + BODY,
    "an empty Content-Length": POST + b"Content-Length: \r\n\r\n" + BODY,
    "chunked on HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + BODY,
    "another coding": POST + b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "no coding": POST + b"Transfer-Encoding:\r\n\r\n" + BODY,
    "a parameter of chunked": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + BODY,
    "an empty coding": POST + b"Transfer-Encoding: , chunked\r\n\r\n" + BODY,
    "chunked behind chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + BODY,
    "chunked not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + BODY,
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n" + BODY,
    "chunked spelt oddly": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + BODY,
    "chunked after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + BODY,
    "a space before the colon of it": POST + b"Transfer-Encoding : chunked\r\n\r\n" + BODY,
    "a fold within it": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + BODY,
    "an underscore in its name": POST + b"Transfer_Encoding: chunked\r\n\r\n" + BODY,
    "a chunk size of no kind": POST + CHUNKED + b"\r\nZZ\r\n" + BODY,
    "a signed chunk size": POST + CHUNKED + b"\r\n+5\r\nhello\r\n" + BODY,
    "a chunk size with 0x": POST + CHUNKED + b"\r\n0x5\r\nhello\r\n" + BODY,
    "a huge chunk size": POST + CHUNKED + b"\r\nfffffffffffffffff\r\nhello\r\n" + BODY,
    "bare LF after a chunk size": POST + CHUNKED + b"\r\n5\nhello\r\n" + BODY,
    "a space after a chunk size": POST + CHUNKED + b"\r\n5 \r\nhello\r\n" + BODY,
    "no line end after a chunk": POST + CHUNKED + b"\r\n5\r\nhello" + BODY,
    "a bare LF after a chunk": POST + CHUNKED + b"\r\n5\r\nhello\n" + BODY,
    "a bare CR in a chunk extension": POST + CHUNKED + b"\r\n5;a\rb\r\nhello\r\n" + BODY,
    "a bare LF in a chunk extension": POST + CHUNKED + b"\r\n5;a\nb\r\nhello\r\n" + BODY,
    "a request for trailers": POST + CHUNKED + b"\r\n0\r\n" + BODY[5:],
    "a length among trailers": POST + CHUNKED + b"\r\n0\r\nContent-Length: 5\r\n\r\n" + BODY,
    "a chunk longer than it says": POST + CHUNKED + b"\r\n3\r\nhello\r\n" + BODY,
}


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_malformed_requests(
    gateway: Gateway, backend: RecordingBackend, log: LogText, data: bytes
) -> None:
    """A 4xx that closes (but for credentials), counted; no byte of the request in it or the log."""
    async with connect(gateway.url) as client:
        await client.send(data)
        answer = await client.answer()
        credentials = answer.error["error"] in {"invalid_request", "invalid_token"}
        assert 400 <= answer.status < 500
        assert answer.version == b"HTTP/1.1"
        assert answer.values("Content-Type") == [b"application/json"]
        if not credentials:
            assert answer.values("Connection") == [b"close"]
            assert await client.ended()
    assert SECRET.encode() not in b"".join(b"".join(pair) for pair in answer.fields) + answer.body
    assert outcomes(gateway) == {answer.error["error"] if credentials else "bad_request": 1}
    assert [record["status"] for record in log.named("request")] == [answer.status]
    assert SECRET not in log.text
    assert backend.seen == []


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING)
async def test_smuggling(
    gateway: Gateway, backend: RecordingBackend, log: LogText, data: bytes
) -> None:
    """One 4xx, then the end: nothing of it reaches a backend, least of all as two requests."""
    async with connect(gateway.url) as client:
        await client.send(data)
        answer = await client.answer()
        assert 400 <= answer.status < 500
        assert answer.values("Connection") == [b"close"]
        assert await client.ended()
    assert backend.seen == []
    assert outcomes(gateway) == {"bad_request": 1}
    assert SECRET.encode() not in answer.body
    assert SECRET not in log.text


async def test_a_body_that_turns_malformed(backend: RecordingBackend, log: LogText) -> None:
    """400 at once, without waiting for more, and the backend never sees the request as whole."""
    async with running(backend.url, limits={"body_timeout": "1h"}) as gateway:
        async with connect(gateway.url) as client:
            head = request("/", "Transfer-Encoding: chunked", "Expect: 100-continue", method="POST")
            await client.send(head)
            assert await client.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"5\r\nhello\r\n")
            await until(lambda: len(backend.peers) == 1)
            await client.send(SECRET.encode() + b"\r\n")
            answer = await client.answer()
            assert (answer.status, answer.error["error"]) == (400, "bad_request")
            assert await client.ended()
        assert outcomes(gateway) == {"bad_request": 1}
    assert backend.seen == []
    assert SECRET not in log.text


async def test_garbage_behind_a_good_request(gateway: Gateway, backend: RecordingBackend) -> None:
    """The request before it is answered; what follows is refused, and the connection closed."""
    async with connect(gateway.url) as client:
        await client.send(request("/"))
        assert (await client.answer()).status == 200
        await client.send(b"\x00\x01\x02\r\n\r\n")
        assert (await client.answer()).status == 400
        assert await client.ended()
    assert len(backend.seen) == 1


@pytest.mark.parametrize(
    "data",
    [
        request("/", "X-A: " + "x" * 20_000),
        request("/" + "x" * 20_000),
        request("/", *(f"X-{number}: {'x' * 1000}" for number in range(20))),
        request("/", *(f"X-{number}: 1" for number in range(200))),
        request("/" + "x" * 10_000, "X-A: " + "x" * 10_000),
    ],
    ids=["one header", "request line", "many headers", "too many headers", "both together"],
)
async def test_huge_header_sections(
    gateway: Gateway, backend: RecordingBackend, log: LogText, data: bytes
) -> None:
    """431 over ``limits.headers`` (RFC 6585 §5), request line included."""
    async with connect(gateway.url) as client:
        await client.send(data)
        answer = await client.answer()
        assert (answer.status, answer.error["error"]) == (431, "headers_too_large")
        assert await client.ended()
    assert outcomes(gateway) == {"headers_too_large": 1}
    assert "xxxx" not in log.text
    assert backend.seen == []


async def test_header_sections_up_to_the_limit(backend: RecordingBackend) -> None:
    """``limits.headers`` is what is allowed."""
    async with running(backend.url, limits={"headers": "100KiB"}) as gateway:
        for size, status in ((100_000, 200), (103_000, 431)):
            answer = await fetch(gateway.url, request("/", "X-A: " + "x" * size))
            assert answer.status == status


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_requests_of_many_fields(lane: dict[str, Any]) -> None:
    """431 over ``limits.header_fields``, which the answer names; a setting raises it."""
    for limits, most in (({}, 128), ({"header_fields": 300}, 300), ({"header_fields": 16}, 16)):
        async with (
            scripted(answering(OK)) as backend,
            running(backend.url, proxy=lane, limits=limits) as gateway,
        ):
            for count, status in ((most, 200), (most + 1, 431)):
                # Two more are Host and Authorization.
                fields = [f"X-{number}: 1234567890" for number in range(count - 2)]
                answer = await fetch(gateway.url, request("/", *fields))
                assert answer.status == status
            assert answer.error["error_description"] == (
                f"The header section has more fields than limits.header_fields: {most}."
            )
            answer = await fetch(gateway.url, request("/", "X: " + "x" * 20_000))
            assert "limits.headers " in answer.error["error_description"]
