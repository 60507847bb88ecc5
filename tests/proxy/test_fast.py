"""The fast lane in a gateway: what it takes, what it tells, and how connections end around it."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from backends import Connection, RecordingBackend, answering, recording, scripted
from wire import Client, connect, fetch, request

from gateway.clock import SystemClock
from gateway.demo.certificate import write_certificate
from proxy.gateways import (
    FAST_LANE,
    HANDLER_LANE,
    LogText,
    connections,
    fast_lane,
    outcomes,
    running,
    samples,
    seed,
    taken,
    until,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"2\r\nok\r\n0\r\n\r\n"


# What it takes.


@pytest.mark.parametrize("target", ["/a?b=c", "/a?b=%20&b", "/a?", "/a?b?", "/?", "/a??", "/%61"])
async def test_targets(backend: RecordingBackend, target: str) -> None:
    """It takes any of them, and both lanes send it on byte for byte."""
    for lane, expected in ((FAST_LANE, 1), (HANDLER_LANE, 0)):
        async with running(backend.url, proxy=lane) as gateway:
            assert (await fetch(gateway.url, request(target))).status == 200
            assert taken(gateway) == expected
    assert [seen.target for seen in backend.seen] == [target] * 2


@pytest.mark.parametrize("value", [b"a\nX-A: b", b"a\rb", b"a\0b", b"a\x7fb", b"a\x01b"])
@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE])
async def test_a_token_with_bytes_that_are_not_allowed(
    backend: RecordingBackend, value: bytes, lane: dict[str, Any]
) -> None:
    """On a public path, too, where nobody asks for it: it is 400 and reaches no backend."""
    async with running(backend.url, proxy=lane) as gateway:
        data = request("/public", b"Authorization: Bearer " + value, token=None)
        assert (await fetch(gateway.url, data)).status == 400
        assert (taken(gateway), backend.seen) == (0, [])


async def test_paths_that_are_let_through_are_known_again(backend: RecordingBackend) -> None:
    """Queries aren't kept: they seldom come again, and may hold what nobody should keep."""
    async with running(backend.url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
        for target in ("/a", "/b", "/c?secret=1", "/d", "/public/e", "/f?secret=2"):
            await client.send(request(target))
            assert (await client.answer()).status == 200
        assert taken(gateway) == 6
        lane = fast_lane(gateway)
        assert list(lane._lines) == [b"GET /%b HTTP/1.1" % path for path in (b"a", b"b", b"d")]
        assert list(lane._public_lines) == [b"GET /public/e HTTP/1.1"]


@pytest.mark.parametrize("token", ["unknown", "narrow"])
async def test_a_client_without_a_good_token_fills_no_memory(
    backend: RecordingBackend, token: str
) -> None:
    """Long paths and long fields that differ were kept by their number: 340 MiB in a worker."""
    async with running(backend.url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
        await seed(gateway, "narrow", scope="other")
        for number in range(20):
            path, field = f"/{number}" + "x" * 7000, f"X-A: {number}" + "y" * 7000
            await client.send(request(path, field, token=token))
            assert (await client.answer()).status in {401, 403}
            await client.send(request(f"/{number}", token=token))
            assert (await client.answer()).status in {401, 403}
        assert taken(gateway) == 40
        assert fast_lane(gateway).remembered_bytes == 0
        assert [connection.last_request for connection in connections(gateway)] == [None]


async def test_long_requests_are_not_kept_whoever_sends_them(backend: RecordingBackend) -> None:
    """Each would push out a hundred others; nor does a connection keep its last one."""
    async with running(backend.url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
        await client.send(request("/" + "x" * 7000, "X-A: " + "y" * 7000))
        assert (await client.answer()).status == 200
        assert taken(gateway) == 1
        assert fast_lane(gateway).remembered_bytes == 0
        assert [connection.last_request for connection in connections(gateway)] == [None]


# What it tells.


SAME = [
    request("/a"),
    request("/a?b=c"),
    request("/a", method="HEAD"),
    request("/a", method="POST", body=b"hello"),
    request("/a", "X-Request-ID: mine"),
    request("/public", token=None),
    request("/a", token="unknown"),
    request("/a", token="narrow"),
    request("/a", "Connection: close"),
]


async def told(lane: dict[str, Any], url: str, log: LogText) -> tuple[Any, Any]:
    """Return what a gateway logs and counts of the same requests."""
    log.records.clear()
    async with running(url, proxy=lane) as gateway:
        await seed(gateway, "narrow", scope="other")
        for data in SAME:
            await fetch(gateway.url, data, bodiless=data.startswith(b"HEAD"))
        await until(lambda: len(log.named("request")) == len(SAME))
        assert taken(gateway) == (len(SAME) if lane is FAST_LANE else 0)
        await until(lambda: not samples(gateway, "gateway_connections")[0].value)
        counted = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for name in (
                *("gateway_requests_total", "gateway_stale_accepts_total"),
                *("gateway_cache_requests_total", "gateway_requests_in_progress"),
                *("gateway_request_duration_seconds_count", "gateway_upstream_failures_total"),
            )
            for sample in samples(gateway, name)
        }
    records = [
        {key: value for key, value in record.items() if key not in {"duration_ms", "timestamp"}}
        for record in log.named("request")
    ]
    for record in records:
        if record["request_id"] != "mine":
            assert len(record.pop("request_id")) == 32
    return records, counted


async def test_both_lanes_tell_the_same(backend: RecordingBackend, log: LogText) -> None:
    """A line for each request with the same in it, and the same counts."""
    of_fast = await told(FAST_LANE, backend.url, log)
    of_handler = await told(HANDLER_LANE, backend.url, log)
    assert of_fast == of_handler
    assert sum(of_fast[1].values()) > len(SAME)


async def test_request_ids(backend: RecordingBackend) -> None:
    """Each request has an id of its own, the same for the client and the backend."""
    async with running(backend.url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
        ids = []
        for _ in range(600):  # they are made some hundreds at a time
            await client.send(request("/"))
            ids.append((await client.answer()).value("X-Request-ID"))
        assert len(set(ids)) == 600
        assert [seen.values("X-Request-ID") for seen in backend.seen] == [[each] for each in ids]
        await client.send(request("/", "X-Request-ID: mine"))
        assert (await client.answer()).value("X-Request-ID") == b"mine"
        assert taken(gateway) == 601


async def test_dates(backend: RecordingBackend) -> None:
    """An answer without ``Date`` gets one (RFC 9110 §6.6.1), any other keeps its own."""
    dated = b"HTTP/1.1 200 OK\r\nDate: yesterday\r\nContent-Length: 0\r\n\r\n"
    for answer, expected in ((OK, None), (dated, b"yesterday")):
        async with (
            scripted(answering(answer)) as plain,
            running(plain.url, proxy=FAST_LANE) as gateway,
        ):
            date = (await fetch(gateway.url, request("/"))).value("Date")
            assert date is not None
            assert date.endswith(b" GMT") if expected is None else date == expected
            assert taken(gateway) == 1


# Framing.


@pytest.mark.parametrize(
    ("method", "answer", "status", "length", "body"),
    [
        ("GET", OK, 200, b"2", b"ok"),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
            200,
            None,
            b"ok",
        ),
        ("HEAD", OK[:-2], 200, b"2", b""),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None, b""),
        ("HEAD", b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n", 404, b"9", b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, None, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"9", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, None, b""),
    ],
)
async def test_the_next_answer_begins_where_this_one_ends(
    method: str, answer: bytes, status: int, length: bytes | None, body: bytes
) -> None:
    """On both connections, whatever has content or none (RFC 9112 §6.3)."""
    async with (
        scripted(answering(answer)) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        for _ in range(3):
            await client.send(request("/", method=method))
            got = await client.answer(bodiless=method == "HEAD")
            assert (got.status, got.body, got.value("Content-Length")) == (status, body, length)
            assert got.values("Connection") == []
        assert (taken(gateway), len(backend.connections)) == (3, 1)
        assert not client.reader.at_eof()


@pytest.mark.parametrize("size", [0, 1000, 5_000_000])
async def test_answers_over_tls(tmp_path: Path, size: int) -> None:
    """All of each arrives, one after the other on one connection."""
    files = write_certificate(tmp_path, "localhost", now_at=SystemClock().wall())
    trusting = ssl.create_default_context(cafile=files.certificate)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)
    listen = {
        "tls_port": 0,
        "tls_certificate": str(files.certificate),
        "tls_key": str(files.key),
    }
    async with (
        scripted(answering(answer)) as backend,
        running(backend.url, proxy=FAST_LANE, listen=listen) as gateway,
        connect(gateway.tls_url or "", tls=trusting) as client,
    ):
        for _ in range(3):
            await client.send(request("/"))
            assert len((await client.answer()).body) == size
        assert b"X-Forwarded-Proto: https\r\n" in backend.connections[0].heads[0]
        assert taken(gateway) == 3
        await until(lambda: outcomes(gateway) == {"proxied": 3})


# Connections.


async def ask(client: Client, *lanes: str) -> None:
    """Send a request for each of these lanes and read its answer."""
    for lane in lanes:
        if lane == "fast":
            await client.send(request("/"))
        else:
            chunked = "Transfer-Encoding: chunked"
            await client.send(request("/", chunked, method="POST"), CHUNKED)
        assert (await client.answer()).status == 200


SEQUENCES = [("fast",), ("fast", "fast"), ("handler", "fast"), ("fast", "handler", "fast")]


@pytest.mark.parametrize("lanes", SEQUENCES, ids="-".join)
async def test_a_connection_that_idles(backend: RecordingBackend, lanes: tuple[str, ...]) -> None:
    """It is closed after ``limits.idle_timeout``, whichever lane answered last."""
    async with (
        running(backend.url, proxy=FAST_LANE, limits={"idle_timeout": "200ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await ask(client, *lanes)
        assert taken(gateway) == lanes.count("fast")
        assert await client.rest() == b""


async def test_each_fast_request_begins_the_idle_time_anew(backend: RecordingBackend) -> None:
    """The connection's end is put off from the end of the last one."""
    async with running(backend.url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
        await ask(client, "fast")
        assert gateway._server is not None
        (connection,) = gateway._server.connections
        first = connection._next_keepalive_close_time
        loop = asyncio.get_running_loop()
        assert first > loop.time() + 60
        before = loop.time()
        await ask(client, "fast")
        assert connection._next_keepalive_close_time >= before + connection._keepalive_timeout


async def test_an_exchange_may_take_longer_than_its_connection_may_idle() -> None:
    """Also on a connection that was idle before."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        await connection.head()
        await go.wait()
        await connection.send(OK)

    limits = {"idle_timeout": "200ms"}
    async with (
        scripted(script) as backend,
        running(backend.url, proxy=FAST_LANE, limits=limits) as gateway,
        connect(gateway.url) as client,
    ):
        await ask(client, "fast")
        await client.send(request("/"))
        await until(lambda: taken(gateway) == 2)
        async with connect(gateway.url) as other:
            assert await other.rest() == b""  # opened later, idle all the time
        go.set()
        assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("lanes", SEQUENCES, ids="-".join)
@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", request("/")[:-1]])
async def test_a_slow_header_section(
    backend: RecordingBackend, lanes: tuple[str, ...], part: bytes
) -> None:
    """It has ``limits.header_timeout``, whichever lane answered before it."""
    async with (
        running(backend.url, proxy=FAST_LANE, limits={"header_timeout": "50ms"}) as gateway,
        connect(gateway.url) as client,
    ):
        await ask(client, *lanes)
        await client.send(part)
        assert await client.ended()
        assert taken(gateway) == lanes.count("fast")
    assert len(backend.seen) == len(lanes)


async def test_draining() -> None:
    """What is under way is finished, as the last on its connection, and all idle ones close."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            if b" /slow " in await connection.head():
                await go.wait()
            await connection.send(OK)

    async with (
        scripted(script) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
        connect(gateway.url) as idle,
    ):
        await ask(idle, "fast", "fast")
        await client.send(request("/slow"))
        await until(lambda: taken(gateway) == 3)
        drain = asyncio.create_task(gateway.drain(grace_seconds=0))
        assert await idle.rest() == b""
        assert not drain.done()
        go.set()
        answer = await client.answer()
        assert (answer.body, answer.values("Connection")) == (b"ok", [b"close"])
        assert await client.rest() == b""
        await drain
        assert outcomes(gateway) == {"proxied": 3}


async def test_draining_where_a_part_of_the_answer_is_out() -> None:
    """It goes on to its end, and its connection closes then."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK[:-1])
        await go.wait()
        await connection.send(OK[-1:])
        await connection.rest()

    async with (
        scripted(script) as backend,
        running(backend.url, proxy=FAST_LANE) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/"))
        head = await client.head()
        drain = asyncio.create_task(gateway.drain(grace_seconds=3600))
        await until(lambda: fast_lane(gateway).draining)
        go.set()
        assert (head.status, await client.rest()) == (200, b"ok")
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)


async def test_a_request_sent_ahead() -> None:
    """It waits for the answer to the one before it, and both are answered in order."""
    async with recording() as backend, running(backend.url, proxy=FAST_LANE) as gateway:
        async with connect(gateway.url) as client:
            await client.send(request("/first"))
            await until(lambda: taken(gateway) == 1)
            await client.send(request("/second"))
            assert (await client.answer()).status == 200
            assert (await client.answer()).status == 200
        assert [seen.target for seen in backend.seen] == ["/first", "/second"]


async def test_one_client_s_identity_is_not_another_s(backend: RecordingBackend) -> None:
    """What is kept of requests that look the same but for their token tells the tokens apart."""
    async with running(backend.url, proxy=FAST_LANE) as gateway, connect(gateway.url) as client:
        await seed(gateway, "other", sub="bob", client_id="app2")
        for token in ("good", "other", "good", "other", "other"):
            await client.send(request("/", token=token))
            assert (await client.answer()).status == 200
        await client.send(request("/", token="unknown"))
        assert (await client.answer()).status == 401
        told = [seen.values("X-Token-Subject") for seen in backend.seen]
        assert told == [[b"alice"], [b"bob"], [b"alice"], [b"bob"], [b"bob"]]
        assert taken(gateway) == 6


async def test_an_identity_that_changes(backend: RecordingBackend) -> None:
    """The backend is told of the token as it is now, however often the same request came."""
    cache = {"max_age": "0s"}
    async with (
        running(backend.url, proxy=FAST_LANE, cache=cache) as gateway,
        connect(gateway.url) as client,
    ):
        for subject in ("alice", "alice", "bob", "bob"):
            await seed(gateway, sub=subject)
            await client.send(request("/"))
            assert (await client.answer()).status == 200
        told = [seen.values("X-Token-Subject") for seen in backend.seen]
        assert told == [[b"alice"], [b"alice"], [b"bob"], [b"bob"]]
        assert taken(gateway) == 4
