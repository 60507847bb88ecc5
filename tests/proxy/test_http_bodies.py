"""Request bodies: passed as they come, within limits, and asked for only when wanted."""

import asyncio

import pytest
from aiohttp import web
from backends import Connection, RecordingBackend, answering, recording, scripted
from wire import connect, fetch, request

from gateway.app import Gateway
from proxy.gateways import HANDLER_LANE, outcomes, running, seed, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS"])
async def test_a_body_of_known_length(
    gateway: Gateway, backend: RecordingBackend, method: str
) -> None:
    """It arrives with its length, whatever the method."""
    body = bytes(range(256)) * 1000
    assert (await fetch(gateway.url, request("/", method=method, body=body))).status == 200
    (seen,) = backend.seen
    assert (seen.method, seen.body, seen.values("Content-Length")) == (method, body, [b"256000"])
    assert seen.values("Transfer-Encoding") == []


async def test_a_chunked_body(gateway: Gateway, backend: RecordingBackend) -> None:
    """It arrives whole, chunked again, without extensions."""
    body = b"5;ext=1\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
    async with connect(gateway.url) as client:
        await client.send(request("/", CHUNKED, method="POST", body=body))
        assert (await client.answer()).status == 200
        await client.send(request("/next"))
        assert (await client.answer()).status == 200
    seen, following = backend.seen
    assert (seen.body, seen.values("Transfer-Encoding")) == (b"hello, world", [b"chunked"])
    assert seen.values("Content-Length") == []
    assert following.target == "/next"


@pytest.mark.parametrize("apart", [True, False])
async def test_trailers(gateway: Gateway, backend: RecordingBackend, apart: bool) -> None:
    """They are dropped, and never taken for fields of the next request on that connection."""
    body = b"5\r\nhello\r\n0\r\nX-Token-Subject: root\r\n\r\n"
    upload, after = request("/", CHUNKED, method="POST", body=body), request("/next")
    async with connect(gateway.url) as client:
        await client.send(*([upload] if apart else [upload, after]))
        answer = await client.answer()
        assert (answer.status, answer.values("Connection")) == (200, [b"close"])
        assert await client.rest() == b""
    (seen,) = backend.seen
    assert (seen.body, seen.values("X-Token-Subject")) == (b"hello", [b"alice"])


async def test_h7_a_token_in_a_form_is_none_and_passes_unjudged(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """README says so: the body is the backend's, and whose request it is stands in the headers."""
    form, body = "Content-Type: application/x-www-form-urlencoded", b"access_token=other"
    alone = await fetch(gateway.url, request("/", form, method="POST", body=body, token=None))
    assert (alone.status, backend.seen) == (401, [])
    assert (await fetch(gateway.url, request("/", form, method="POST", body=body))).status == 200
    (seen,) = backend.seen
    assert (seen.body, seen.values("X-Token-Subject")) == (body, [b"alice"])


async def test_an_empty_body(gateway: Gateway, backend: RecordingBackend) -> None:
    """A length of nothing stays one."""
    await fetch(gateway.url, request("/", "Content-Length: 0", method="POST"))
    await fetch(gateway.url, request("/", CHUNKED, method="POST", body=b"0\r\n\r\n"))
    assert [seen.body for seen in backend.seen] == [b"", b""]
    assert backend.seen[0].values("Content-Length") == [b"0"]


async def test_a_body_reaches_the_backend_as_it_comes() -> None:
    """The backend has the first part before the client sends the second."""
    first, second = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        assert await connection.reader.readuntil(b"first\r\n") == b"5\r\nfirst\r\n"
        first.set()
        assert await connection.reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
        second.set()
        await connection.send(OK)

    async with (
        scripted(script) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/", CHUNKED, method="POST", body=b"5\r\nfirst\r\n"))
        await first.wait()
        await client.send(b"6\r\nsecond\r\n0\r\n\r\n")
        await second.wait()
        assert (await client.answer()).status == 200


async def test_an_http_1_0_client_uploads(gateway: Gateway, backend: RecordingBackend) -> None:
    """With a length it may."""
    data = request("/", method="POST", body=b"hello", version="HTTP/1.0")
    answer = await fetch(gateway.url, data)
    assert (answer.version, answer.status, backend.seen[0].body) == (b"HTTP/1.0", 200, b"hello")


class TestLimits:
    """``limits.body`` and ``limits.body_timeout``."""

    async def test_a_length_over_the_limit(self) -> None:
        """413 before 100 Continue, and before the upstream hears of it."""
        async with recording() as backend, running(backend.url, limits={"body": "1KiB"}) as gateway:
            expect = ["Expect: 100-continue", "Content-Length: 1025"]
            answer = await fetch(gateway.url, request("/", *expect, method="POST"))
            assert (answer.status, answer.interim) == (413, [])
            assert answer.error["error"] == "content_too_large"
            assert answer.values("Connection") == [b"close"]
            assert outcomes(gateway) == {"content_too_large": 1}
        assert backend.peers == []

    async def test_a_length_at_the_limit(self) -> None:
        """The limit itself is allowed."""
        async with recording() as backend, running(backend.url, limits={"body": "1KiB"}) as gateway:
            data = request("/", method="POST", body=b"x" * 1024)
            assert (await fetch(gateway.url, data)).status == 200

    async def test_chunks_over_the_limit(self) -> None:
        """413 as soon as it is known, and the upstream's request is broken off."""
        broken_off = asyncio.Event()

        async def script(connection: Connection) -> None:
            await connection.head()
            assert not (await connection.rest()).endswith(b"0\r\n\r\n")
            broken_off.set()

        async with (
            scripted(script) as backend,
            running(backend.url, limits={"body": "1KiB"}) as gateway,
            connect(gateway.url) as client,
        ):
            chunk = b"200\r\n" + b"x" * 0x200 + b"\r\n"
            await client.send(request("/", CHUNKED, method="POST", body=chunk))
            await until(lambda: any(connection.heads for connection in backend.connections))
            await client.send(chunk, b"1\r\nx\r\n")
            answer = await client.answer()
            assert (answer.status, answer.values("Connection")) == (413, [b"close"])
            await broken_off.wait()
            assert outcomes(gateway) == {"content_too_large": 1}

    async def test_no_body_is_wanted(self) -> None:
        """``0B`` refuses any body, and requests without one pass."""
        async with recording() as backend, running(backend.url, limits={"body": "0B"}) as gateway:
            for data in (
                request("/", method="POST", body=b"x"),
                request("/", CHUNKED, method="POST", body=b"0\r\n\r\n"),
            ):
                assert (await fetch(gateway.url, data)).status == 413
            assert (await fetch(gateway.url, request("/"))).status == 200
        assert len(backend.seen) == 1

    async def test_a_body_that_stops_coming(self) -> None:
        """408 after ``body_timeout`` (RFC 9110 §15.5.9); the upstream's request is broken off."""
        gone = asyncio.Event()

        async def script(connection: Connection) -> None:
            await connection.head()
            await connection.rest()
            gone.set()

        async with (
            scripted(script) as backend,
            running(backend.url, limits={"body_timeout": "50ms"}) as gateway,
            connect(gateway.url) as client,
        ):
            await client.send(request("/", "Content-Length: 10", method="POST"), b"hello")
            answer = await client.answer()
            assert (answer.status, answer.error["error"]) == (408, "request_timeout")
            assert answer.values("Connection") == [b"close"]
            await gone.wait()
            assert outcomes(gateway) == {"request_timeout": 1}


class TestExpectations:
    """``Expect: 100-continue`` (RFC 9110 §10.1.1)."""

    async def test_continue_is_sent_once_the_body_is_wanted(
        self, gateway: Gateway, backend: RecordingBackend
    ) -> None:
        """After the token was found good; the upstream doesn't hear of it."""
        async with connect(gateway.url) as client:
            expect = ["Expect: 100-Continue", "Content-Length: 5"]
            await client.send(request("/", *expect, method="POST"))
            assert await client.read(len(CONTINUE)) == CONTINUE
            await client.send(b"hello")
            answer = await client.answer()
            assert (answer.status, answer.interim, answer.values("Connection")) == (200, [], [])
        (seen,) = backend.seen
        assert (seen.body, seen.values("Expect")) == (b"hello", [])

    @pytest.mark.parametrize(
        ("token", "target", "status"),
        [
            ("bad", "/", 401),
            (None, "/", 401),
            ("{ {", "/", 400),
            ("{", "/", 401),
            ("narrow", "/", 403),
        ],
    )
    async def test_refused_without_continue(
        self, gateway: Gateway, backend: RecordingBackend, token: str, target: str, status: int
    ) -> None:
        """No 100 for bad tokens; the connection closes, as nobody knows if the body still comes."""
        await seed(gateway, "narrow", scope="write")
        data = request(
            target, "Expect: 100-continue", "Content-Length: 5", method="POST", token=token
        )
        async with connect(gateway.url) as client:
            await client.send(data)
            answer = await client.answer()
            assert (answer.status, answer.interim) == (status, [])
            assert answer.values("Connection") == [b"close"]
        assert backend.peers == []

    async def test_no_continue_for_an_upstream_that_cannot_be_reached(self, free_port: int) -> None:
        """The body isn't asked for before somebody takes it."""
        async with running(f"http://127.0.0.1:{free_port}") as gateway:
            expect = ["Expect: 100-continue", "Content-Length: 5"]
            answer = await fetch(gateway.url, request("/", *expect, method="POST"))
        assert (answer.status, answer.interim) == (502, [])

    @pytest.mark.parametrize("value", ["200-maybe", "100-continue, x", ""])
    async def test_other_expectations(
        self, gateway: Gateway, backend: RecordingBackend, value: str
    ) -> None:
        """417: what can't be promised is refused."""
        async with connect(gateway.url) as client:
            await client.send(request("/", f"Expect: {value}", method="POST", body=b"hello"))
            answer = await client.answer()
            assert (answer.status, answer.error["error"]) == (417, "expectation_failed")
            assert await client.ended()
        assert backend.peers == []

    async def test_http_1_0_has_none(self, gateway: Gateway, backend: RecordingBackend) -> None:
        """An expectation of an HTTP/1.0 client is ignored."""
        data = request(
            "/", "Expect: 100-continue", method="POST", body=b"hello", version="HTTP/1.0"
        )
        answer = await fetch(gateway.url, data)
        assert (answer.status, answer.interim, backend.seen[0].body) == (200, [], b"hello")

    async def test_without_a_body(self, gateway: Gateway) -> None:
        """Nothing is asked for where nothing comes."""
        answer = await fetch(gateway.url, request("/", "Expect: 100-continue"))
        assert (answer.status, answer.interim) == (200, [])


class TestEarlyAnswers:
    """An upstream that answers before the body is there."""

    async def test_it_reaches_the_client_while_it_uploads(self) -> None:
        """The client hears it at once, and the upload to the upstream ends."""

        async def script(connection: Connection) -> None:
            await connection.head()
            await connection.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
            await connection.rest()

        async with (
            scripted(script) as backend,
            running(backend.url) as gateway,
            connect(gateway.url) as client,
        ):
            await client.send(request("/", "Content-Length: 1000000", method="POST"), b"start")
            answer = await client.answer()
            assert (answer.status, answer.body) == (403, b"no")
            async with asyncio.timeout(10):
                await backend.connections[0].gone.wait()
            assert outcomes(gateway) == {"proxied": 1}

    async def test_the_rest_of_a_short_upload_does_not_cost_the_connection(self) -> None:
        """What still comes is read and dropped, and the next request is answered."""

        async def script(connection: Connection) -> None:
            head = await connection.head()
            await connection.send(OK)
            if b"POST" in head:
                await connection.rest()

        async with (
            scripted(script) as backend,
            running(backend.url) as gateway,
            connect(gateway.url) as client,
        ):
            await client.send(request("/", "Content-Length: 10", method="POST"), b"hello")
            assert (await client.answer()).status == 200
            await client.send(b"world", request("/"))
            assert (await client.answer()).status == 200

    async def test_both_ways_at_once(self) -> None:
        """A backend may answer while it reads, part by part."""

        async def handler(seen: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(seen)
            async for data in seen.content.iter_any():
                await response.write(data.upper())
            return response

        async with (
            recording(handler, reads=False) as backend,
            running(backend.url) as gateway,
            connect(gateway.url) as client,
        ):
            await client.send(request("/", CHUNKED, method="POST"))
            assert (await client.head()).status == 200
            for part in (b"one", b"two", b"six"):
                await client.send(b"3\r\n", part, b"\r\n")
                assert await client.chunk() == part.upper()
            await client.send(b"0\r\n\r\n")
            assert await client.chunk() == b""
            await until(lambda: outcomes(gateway) == {"proxied": 1})


async def test_a_body_goes_to_one_upstream_connection_and_the_next_reuses_it() -> None:
    """After an upload the connection is as good as before."""
    async with recording() as backend, running(backend.url, proxy=HANDLER_LANE) as gateway:
        for _ in range(3):
            await fetch(gateway.url, request("/", method="POST", body=b"x" * 100_000))
            await fetch(gateway.url, request("/"))
        assert len(set(backend.peers)) == 1


async def test_a_refused_upload_costs_no_upstream() -> None:
    """A bad token isn't worth a byte of the body."""
    async with (
        scripted(answering(OK)) as backend,
        running(backend.url) as gateway,
        connect(gateway.url) as client,
    ):
        await client.send(request("/", method="POST", body=b"x" * 1000, token="bad"), request("/"))
        assert [(await client.answer()).status for _ in range(2)] == [401, 200]
        assert len(backend.connections) == 1
