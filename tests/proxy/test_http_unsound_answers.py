"""Answers that could be read in two ways, or say more than one: nobody else gets any of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from backends import Connection, ScriptedBackend, answering, scripted
from wire import Client, connect, fetch, request

from gateway.app import Gateway
from proxy.gateways import (
    FAST_LANE,
    HANDLER_LANE,
    count,
    outcomes,
    running,
    taken,
)

PLAIN = b"HTTP/1.1 200 OK\r\n"
OK = PLAIN + b"Content-Length: 2\r\n\r\nok"
SECRET = PLAIN + b"Content-Length: 6\r\n\r\nsecret"

LANES = pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handlers"])


@asynccontextmanager
async def relaying(
    lane: dict[str, bool], said: bytes
) -> AsyncIterator[tuple[ScriptedBackend, Gateway, Client]]:
    """Run a backend that says this to each request, a gateway and a client."""
    async with (
        scripted(answering(said)) as backend,
        running(backend.url, proxy=lane) as gateway,
        connect(gateway.url) as client,
    ):
        yield backend, gateway, client


@LANES
@pytest.mark.parametrize("space", [b" ", b"\t", b" \t "])
async def test_a_space_before_the_colon_frames_no_answer_twice(
    lane: dict[str, bool], space: bytes
) -> None:
    """A length goes out once, as ours, and never beside chunks (RFC 9112 §5.1)."""
    said = PLAIN + b"Content-Length%b: 5\r\nX-A%b: b\r\n\r\nhello" % (space, space)
    async with relaying(lane, said) as (_, _, client):
        for _ in range(2):
            await client.send(request("/"))
            answer = await client.answer()
            assert answer.body == b"hello"
            assert answer.names == [b"X-A", b"Date", b"X-Request-ID", b"Content-Length"]


@LANES
@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding : chunked\r\nContent-Length: 5",
        b"Content-Length : 5\r\nContent-Length: 6",
        b"Location: /x\nSet-Cookie: evil=1",
        b"Location: /x\rSet-Cookie: evil=1",
        b"X: a\0b",
    ],
)
async def test_an_answer_that_says_two_things_is_none(lane: dict[str, bool], field: bytes) -> None:
    """It is 502, with nothing of it."""
    said = PLAIN + field + b"\r\nContent-Type: text/plain\r\n\r\nhello"
    async with relaying(lane, said) as (backend, gateway, client):
        for number in range(2):
            await client.send(request("/"))
            answer = await client.answer()
            assert (answer.status, answer.values("Set-Cookie")) == (502, [])
            assert len(backend.connections) == number + 1
        assert outcomes(gateway) == {"upstream_invalid": 2}


@LANES
async def test_control_bytes_become_spaces(lane: dict[str, bool]) -> None:
    """In a reason phrase as in a value; what isn't ASCII passes (RFC 9110 §5.5)."""
    said = b"HTTP/1.1 200 O\x01K\r\nX-A: a\x1b[2J\xe9\r\nX-B: a\r\n b\r\nContent-Length: 0\r\n\r\n"
    async with relaying(lane, said) as (_, _, client):
        await client.send(request("/"))
        answer = await client.answer()
        assert answer.reason == b"O K"
        assert answer.fields[:2] == [(b"X-A", b"a [2J\xe9"), (b"X-B", b"a b")]


EXCESSIVE = {
    "beyond its length": ("GET", OK),
    "after HEAD": ("HEAD", PLAIN + b"Content-Length: 6\r\n\r\n"),
    "after HEAD without a length": ("HEAD", PLAIN + b"\r\n"),
    "after 204": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "after 204 with a length": ("GET", b"HTTP/1.1 204 x\r\nContent-Length: 6\r\n\r\n"),
    "after 204 in chunks": ("GET", b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "after 205": ("GET", b"HTTP/1.1 205 x\r\nContent-Length: 6\r\n\r\n"),
    "after 304": ("GET", b"HTTP/1.1 304 x\r\nContent-Length: 6\r\n\r\n"),
    "after chunks": ("GET", PLAIN + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
}


@LANES
@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("excess", [SECRET, b"secret", b"\r\n"], ids=["answer", "bytes", "line"])
@pytest.mark.parametrize(("method", "whole"), EXCESSIVE.values(), ids=EXCESSIVE)
async def test_what_follows_an_answer_reaches_no_other_client(
    lane: dict[str, bool], when: str, excess: bytes, method: str, whole: bytes
) -> None:
    """The answer was whole and passes, its connection closes, and the next request is answered."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        if connection.number:
            await connection.send(OK)
        elif when == "at once":
            await connection.send(whole + excess)
        else:
            await connection.send(whole)
            await go.wait()
            await connection.send(excess)
        await connection.rest()

    async with scripted(script) as backend, running(backend.url, proxy=lane) as gateway:
        first = await fetch(gateway.url, request("/", method=method), bodiless=b"ok" not in whole)
        assert first.status == int(whole.split()[1])
        assert b"secret" not in first.body
        go.set()
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()
        assert (await fetch(gateway.url, request("/"))).body == b"ok"
        assert len(backend.connections) == 2
        assert outcomes(gateway) == {"proxied": 2}


@LANES
async def test_what_comes_just_as_the_next_request_goes_out_is_not_its_answer(
    lane: dict[str, bool],
) -> None:
    """What doesn't even begin as one was left over: the request is sent again, elsewhere."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        await connection.head()
        await connection.send(b"ecret" if connection.number == 0 else OK)
        await connection.rest()

    async with scripted(script) as backend, running(backend.url, proxy=lane) as gateway:
        for _ in range(2):
            assert (await fetch(gateway.url, request("/"))).body == b"ok"
        assert len(backend.connections) == 2
        assert count(gateway, "gateway_upstream_retries_total") == 1


@LANES
async def test_chunks_of_http_1_0_are_undone_and_end_the_connection(lane: dict[str, bool]) -> None:
    """That version has none, so that nothing more of it is believed (RFC 9112 §6.1)."""
    said = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with relaying(lane, said + b"2\r\nok\r\n0\r\n\r\n") as (backend, _, client):
        for number in range(2):
            await client.send(request("/"))
            assert (await client.answer()).body == b"ok"
            assert len(backend.connections) == number + 1


@LANES
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("HEAD", PLAIN + b"X-A: b\r\n\r\n"),
        ("HEAD", PLAIN + b"Transfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", PLAIN + b"Content-Length: 9\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("HEAD", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"),
    ],
)
async def test_an_answer_to_head_without_a_length_keeps_its_connection(
    lane: dict[str, bool], method: str, said: bytes
) -> None:
    """So do the others that have no content, and say nothing of a length."""
    async with relaying(lane, said) as (backend, _, client):
        for _ in range(3):
            await client.send(request("/", method=method))
            await client.answer(bodiless=True)
        assert len(backend.connections) == 1


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n%b\r\n"


@LANES
async def test_early_hints_reach_the_client_ahead_of_the_answer(lane: dict[str, bool]) -> None:
    """They go out when they come, without what is for one connection (RFC 9110 §15.2)."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(HINTS % b"Connection: X-Hop\r\nX-Hop: a\r\nKeep-Alive: b\r\n")
        await go.wait()
        await connection.send(OK)
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url, proxy=lane) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        async with asyncio.timeout(10):
            early = await client.reader.readuntil(b"\r\n\r\n")
        assert early == HINTS % b""
        go.set()
        answer = await client.answer()
        assert (answer.status, answer.body, answer.values("Link")) == (200, b"ok", [])
        assert taken(gateway) == (1 if lane is FAST_LANE else 0)


@LANES
async def test_a_client_of_http_1_0_gets_no_early_hints(lane: dict[str, bool]) -> None:
    """It knows no interim answers (RFC 9110 §15.2)."""
    async with relaying(lane, HINTS % b"" + OK) as (_, gateway, _):
        answer = await fetch(gateway.url, request("/", version="HTTP/1.0"))
        assert (answer.status, answer.interim, answer.body) == (200, [], b"ok")


@LANES
async def test_which_interim_answers_pass(lane: dict[str, bool]) -> None:
    """All but 100, which the gateway says itself where it is waited for (RFC 9110 §10.1.1)."""
    said = b"".join([b"HTTP/1.1 %d x\r\n\r\n" % status for status in (100, 102, 103, 104, 199)])
    async with relaying(lane, said + OK) as (_, _, client):
        for _ in range(2):
            await client.send(request("/"))
            answer = await client.answer()
            assert (answer.interim, answer.status) == ([102, 103, 104, 199], 200)


@LANES
async def test_early_hints_of_an_upstream_that_fails(lane: dict[str, bool]) -> None:
    """The answer to them is ours then, and nothing is sent twice."""
    async with (
        scripted(answering(HINTS % b"", close=True)) as backend,
        running(backend.url, proxy=lane) as gateway,
    ):
        answer = await fetch(gateway.url, request("/"))
        assert (answer.interim, answer.status) == ([103], 502)
        assert len(backend.connections) == 1


@LANES
async def test_interim_answers_without_end_are_no_answer(lane: dict[str, bool]) -> None:
    """There is a bound to them, and to what is held for them."""
    async with relaying(lane, b"HTTP/1.1 102 Processing\r\n\r\n" * 2000) as (_, gateway, client):
        await client.send(request("/"))
        assert (await client.answer()).status == 502
        assert outcomes(gateway) == {"upstream_invalid": 1}


@LANES
async def test_an_upstream_that_said_too_much_is_kept_no_connection_to(
    lane: dict[str, bool],
) -> None:
    """What it says too late might be taken for another's answer; so it has one chance a minute."""
    said = iter([OK + b"x"])
    async with (
        scripted(answering(lambda: next(said, OK))) as backend,
        running(backend.url, proxy=lane) as gateway,
    ):
        for number in range(4):
            assert (await fetch(gateway.url, request("/"))).body == b"ok"
            assert len(backend.connections) == number + 1
