"""Answers on their way to a client: what crosses, what doesn't, and how they are framed."""

import gzip
from typing import Any

import pytest
from backends import answering, scripted
from wire import Answer, connect, fetch, request

from proxy.gateways import FAST_LANE, HANDLER_LANE, outcomes, running


async def relayed(answer: bytes, data: bytes | None = None, *, bodiless: bool = False) -> Answer:
    """Return what a client gets when the backend gives these bytes."""
    async with scripted(answering(answer)) as backend, running(backend.url) as gateway:
        return await fetch(gateway.url, data or request("/"), bodiless=bodiless)


def raw(*fields: bytes, body: bytes = b"ok", status: bytes = b"200 OK") -> bytes:
    """Return an answer of a backend."""
    lines = [b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


async def test_nothing_is_added_but_date_and_request_id() -> None:
    """No Server or Content-Type of the gateway's library."""
    answer = await relayed(raw())
    assert answer.names == [b"Date", b"X-Request-ID", b"Content-Length"]


async def test_the_backends_date_is_kept() -> None:
    """Only an answer without a Date gets one (RFC 9110 §6.6.1)."""
    answer = await relayed(raw(b"Date: Tue, 15 Nov 1994 08:12:31 GMT"))
    assert answer.values("Date") == [b"Tue, 15 Nov 1994 08:12:31 GMT"]


async def test_order_spelling_and_duplicates_are_kept() -> None:
    """Every Set-Cookie arrives, and the fields look as the backend made them."""
    fields = [b"Set-Cookie: a=1; Path=/", b"x-B: 2", b"set-cookie: b=2", b"X-b: 3", b"SERVER: s"]
    answer = await relayed(raw(*fields))
    assert [b": ".join(field) for field in answer.fields[:5]] == fields


async def test_bytes_that_are_not_utf_8_pass_byte_for_byte() -> None:
    """The library's own serializer would drop them."""
    answer = await relayed(raw(b"X-Old: caf\xe9 \xff\xfe", b"X-New: caf\xc3\xa9"))
    assert answer.values("X-Old") == [b"caf\xe9 \xff\xfe"]
    assert answer.values("X-New") == [b"caf\xc3\xa9"]


async def test_long_fields_pass() -> None:
    """Some backends' cookies and policies are longer than the library's 8 KiB."""
    answer = await relayed(raw(b"X-Long: " + b"x" * 60_000))
    assert answer.values("X-Long") == [b"x" * 60_000]


@pytest.mark.parametrize("reason", [b"OK", b"", b"All is well", b"caf\xe9", b"caf\xc3\xa9"])
async def test_the_reason_passes_byte_for_byte(reason: bytes) -> None:
    """Whatever it says, in whatever encoding."""
    answer = await relayed(raw(status=b"200 " + reason))
    assert (answer.status, answer.reason) == (200, reason)


@pytest.mark.parametrize(
    "field",
    [
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Connection: close",
        b"Trailer: X-Sum",
        b"Upgrade: h2c",
        b"TE: trailers",
    ],
)
async def test_hop_by_hop_fields_end_here(field: bytes) -> None:
    """Fields for one connection aren't for the next (RFC 9110 §7.6.1)."""
    answer = await relayed(raw(field))
    assert answer.values(field.partition(b":")[0].decode()) == []


async def test_nominated_fields_end_here_but_not_those_that_decide() -> None:
    """``Connection`` can't take what the client must see."""
    nominated = b"Connection: X-Hop, Set-Cookie, Content-Type, Cache-Control, WWW-Authenticate"
    kept = [
        b"Set-Cookie: a=1",
        b"Content-Type: text/plain",
        b"Cache-Control: no-store",
        b"WWW-Authenticate: Basic",
    ]
    answer = await relayed(raw(nominated, b"X-Hop: 1", *kept))
    assert [b": ".join(field) for field in answer.fields[:4]] == kept
    assert answer.values("X-Hop") == []


async def test_the_backends_request_id_is_replaced() -> None:
    """The one that the gateway logs is the one that the client sees."""
    answer = await relayed(raw(b"X-Request-ID: other"), request("/", "X-Request-ID: mine"))
    assert answer.values("X-Request-ID") == [b"mine"]


@pytest.mark.parametrize("status", [b"301", b"302", b"303", b"307", b"308"])
async def test_redirects_are_passed_and_not_followed(status: bytes) -> None:
    """Where to go next is the client's business."""
    answer = await relayed(raw(b"Location: /elsewhere", status=status + b" Moved"))
    assert (answer.status, answer.values("Location")) == (int(status), [b"/elsewhere"])


async def test_a_compressed_body_passes_untouched() -> None:
    """The gateway neither reads nor changes a content coding, even one that isn't what it says."""
    for body in (gzip.compress(b"content " * 100), b"no gzip at all"):
        answer = await relayed(raw(b"Content-Encoding: gzip", body=body))
        assert (answer.body, answer.values("Content-Encoding")) == (body, [b"gzip"])


async def test_the_backends_401_passes() -> None:
    """What the backend refuses isn't the gateway's to explain."""
    answer = await relayed(raw(b'WWW-Authenticate: Basic realm="b"', status=b"401 No"))
    assert (answer.status, answer.body) == (401, b"ok")
    assert answer.values("WWW-Authenticate") == [b'Basic realm="b"']


async def test_content_length_stays_content_length() -> None:
    """An answer of known length isn't made chunked."""
    answer = await relayed(raw(body=b"x" * 100_000))
    assert answer.values("Content-Length") == [b"100000"]
    assert answer.values("Transfer-Encoding") == []
    assert answer.body == b"x" * 100_000


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


async def test_chunked_stays_chunked() -> None:
    """An answer of unknown length stays so on HTTP/1.1."""
    answer = await relayed(CHUNKED)
    assert (answer.values("Transfer-Encoding"), answer.body) == ([b"chunked"], b"abcde")


async def test_trailers_are_dropped_and_the_answer_is_whole() -> None:
    """Trailers may be dropped (RFC 9110 §6.5.1); they aren't merged into the header section."""
    answer = await relayed(CHUNKED.replace(b"0\r\n\r\n", b"0\r\nX-Sum: 1\r\n\r\n"))
    assert (answer.body, answer.values("X-Sum")) == (b"abcde", [])


async def test_an_http_1_0_client_gets_no_chunks() -> None:
    """Its answer ends with the connection (RFC 9112 §6.1)."""
    answer = await relayed(CHUNKED, request("/", version="HTTP/1.0"))
    assert (answer.version, answer.values("Transfer-Encoding")) == (b"HTTP/1.0", [])
    assert (answer.values("Connection"), answer.body) == ([b"close"], b"abcde")


async def test_an_http_1_0_client_may_keep_its_connection() -> None:
    """With a known length, and if it asks to."""
    async with (
        scripted(answering(raw())) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        for _ in range(2):
            await client.send(request("/", "Connection: keep-alive", version="HTTP/1.0"))
            answer = await client.answer()
            assert (answer.values("Connection"), answer.body) == ([b"keep-alive"], b"ok")
        await client.send(request("/", version="HTTP/1.0"))
        assert (await client.answer()).values("Connection") == [b"close"]
        assert await client.rest() == b""


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_an_answer_until_close_becomes_chunked(version: bytes) -> None:
    """What ends with the backend's connection gets an end of its own."""
    async with (
        scripted(answering(version + b" 200 OK\r\n\r\nall there is", close=True)) as backend,
        running(backend.url) as gateway,
    ):
        answer = await fetch(gateway.url, request("/"))
    assert (answer.values("Transfer-Encoding"), answer.body) == ([b"chunked"], b"all there is")


async def test_client_asks_for_close() -> None:
    """``Connection: close`` is answered likewise, and done."""
    async with (
        scripted(answering(raw())) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/", "Connection: close"))
        assert (await client.answer()).values("Connection") == [b"close"]
        assert await client.rest() == b""


BODILESS = [
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", [b"1234"]),
    ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: x\r\n\r\n", [b"1234"]),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", []),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
    ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", []),
    ("GET", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", [b"0"]),
    ("POST", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [b"0"]),
]


@pytest.mark.parametrize(("method", "answer", "lengths"), BODILESS)
async def test_answers_without_content(method: str, answer: bytes, lengths: list[bytes]) -> None:
    """HEAD, 204, 205, 304: framed so that the next answer on both connections is found."""
    async with (
        scripted(answering(answer)) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        for _ in range(3):
            await client.send(request("/", method=method))
            got = await client.answer(bodiless=True)
            assert got.values("Content-Length") == lengths
            assert got.values("Transfer-Encoding") == []
            assert got.status == int(answer.split()[1])
        assert outcomes(gateway) == {"proxied": 3}
        assert len(backend.connections) == 1


async def test_an_obsolete_fold_is_unfolded() -> None:
    """A proxy replaces it by spaces (RFC 9112 §5.2)."""
    answer = await relayed(raw(b"X-Long: a\r\n b"))
    assert answer.values("X-Long") == [b"a b"]


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Each gets its own answer, though all came at once."""
    answers = iter([b"first", b"second", b"third"])

    async with (
        scripted(answering(lambda: raw(body=next(answers)))) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/1"), request("/2", token=None), request("/3"), request("/4"))
        got = [await client.answer() for _ in range(4)]
    assert [answer.status for answer in got] == [200, 401, 200, 200]
    assert [answer.body for answer in got if answer.status == 200] == [
        b"first",
        b"second",
        b"third",
    ]


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_a_426_says_which_protocol_it_asks_for(lane: dict[str, Any]) -> None:
    """Its ``Upgrade`` must reach the client (RFC 9110 §15.5.22); of other answers it goes."""
    said = b"HTTP/1.1 %d X\r\nUpgrade: HTTP/3.0\r\nConnection: upgrade, X-Hop\r\nX-Hop: 1\r\n"
    for status, passed in ((426, [b"HTTP/3.0"]), (200, [])):
        answer = said % status + b"Content-Length: 2\r\n\r\nno"
        async with (
            scripted(answering(answer)) as backend,
            running(backend.url, proxy=lane) as gateway,
        ):
            seen = await fetch(gateway.url, request("/"))
        assert (seen.status, seen.values("Upgrade"), seen.body) == (status, passed, b"no")
        assert seen.values("Connection") == ([b"Upgrade"] if passed else [])
        assert seen.values("X-Hop") == []


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_answers_of_many_fields(lane: dict[str, Any]) -> None:
    """``limits.header_fields`` bounds those of an answer, too: 502 over it, in either lane."""

    async def ask(count: int, **limits: Any) -> int:
        fields = b"".join(b"X-%d: 1\r\n" % number for number in range(count - 1))
        answer = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 2\r\n\r\nok"
        async with (
            scripted(answering(answer)) as backend,
            running(backend.url, proxy=lane, limits=limits) as gateway,
        ):
            return (await fetch(gateway.url, request("/"))).status

    assert [await ask(128), await ask(129)] == [200, 502]
    assert [await ask(300, header_fields=300), await ask(301, header_fields=300)] == [200, 502]
    assert [await ask(16, header_fields=16), await ask(17, header_fields=16)] == [200, 502]
