"""What reaches an upstream, and what its failures mean to a client."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import ClientSession, DummyCookieJar
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from redis_server import free_port
from streams import listening
from yarl import URL

from gateway.errors import ContentTooLarge, GatewayError
from gateway.exchange import RequestBody
from gateway.upstream import open_session, outgoing, request_target, upstream_errors

INFO = aiohttp.RequestInfo(
    URL("http://b/s3cret"), "GET", CIMultiDictProxy(CIMultiDict()), URL("http://b/s3cret")
)
KEY = ConnectionKey("b", 80, False, True, None, None, None)
OS = OSError(111, "s3cret refused")
CERTIFICATE = ssl.SSLCertVerificationError("s3cret certificate")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TimeoutError("s3cret"), "upstream_timeout"),
        (aiohttp.ServerTimeoutError("s3cret"), "upstream_timeout"),
        (aiohttp.ConnectionTimeoutError("s3cret"), "upstream_timeout"),
        (aiohttp.SocketTimeoutError("s3cret"), "upstream_timeout"),
        (aiohttp.ServerDisconnectedError("s3cret"), "upstream_unreachable"),
        (aiohttp.ServerConnectionError("s3cret"), "upstream_unreachable"),
        (aiohttp.ClientConnectionError("s3cret"), "upstream_unreachable"),
        (aiohttp.ClientConnectionResetError("s3cret"), "upstream_unreachable"),
        (aiohttp.ClientOSError(104, "s3cret"), "upstream_unreachable"),
        (aiohttp.ClientConnectorError(KEY, OS), "upstream_unreachable"),
        (aiohttp.ClientConnectorDNSError(KEY, OS), "upstream_unreachable"),
        (aiohttp.ClientConnectorSSLError(KEY, OS), "upstream_unreachable"),
        (aiohttp.ClientConnectorCertificateError(KEY, CERTIFICATE), "upstream_unreachable"),
        (ConnectionRefusedError("s3cret"), "upstream_unreachable"),
        (BrokenPipeError("s3cret"), "upstream_unreachable"),
        (CERTIFICATE, "upstream_unreachable"),
        (aiohttp.ClientResponseError(INFO, (), message="s3cret"), "upstream_invalid"),
        (aiohttp.ClientPayloadError("s3cret"), "upstream_invalid"),
        (aiohttp.WSServerHandshakeError(INFO, (), message="s3cret"), "upstream_invalid"),
        (aiohttp.InvalidURL("http://s3cret"), "upstream_invalid"),
        (aiohttp.ClientError("s3cret"), "upstream_invalid"),
    ],
)
def test_failures(error: Exception, outcome: str) -> None:
    """Each way in which aiohttp's client fails is one of three outcomes, and none is quoted."""
    with pytest.raises(GatewayError) as caught, upstream_errors():
        raise error
    assert outcome == caught.value.outcome
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


class Body:
    """A request body that went wrong on the client's side, or didn't."""

    def __init__(self, fault: GatewayError | None = None) -> None:
        self.fault = fault


@pytest.mark.parametrize(
    "error", [TimeoutError(), aiohttp.ClientConnectionError(), aiohttp.ClientError(), OSError()]
)
def test_the_clients_own_fault_goes_before(error: Exception) -> None:
    """A body that broke off is the client's fault, not the upstream's whose connection it broke."""
    fault = ContentTooLarge("The request body is too large.")
    body = cast("RequestBody", Body(fault))
    with pytest.raises(ContentTooLarge) as caught, upstream_errors(body):
        raise error
    assert caught.value is fault
    with pytest.raises(GatewayError) as other, upstream_errors(cast("RequestBody", Body())):
        raise error
    assert other.value.outcome.startswith("upstream_")


@pytest.mark.parametrize("error", [ValueError(), KeyError(), asyncio.CancelledError()])
def test_what_is_not_the_upstreams(error: BaseException) -> None:
    """A fault of our own, and a cancellation, go through as they are."""
    with pytest.raises(type(error)), upstream_errors():
        raise error


def test_a_gateway_error_goes_through() -> None:
    """An error that is one already stays what it is."""
    with pytest.raises(ContentTooLarge), upstream_errors():
        raise ContentTooLarge


def test_nothing_raised() -> None:
    """Without a failure nothing happens."""
    with upstream_errors(cast("RequestBody", Body(ContentTooLarge()))):
        pass


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    """A session as the gateway opens it."""
    session = open_session(
        connect_timeout_seconds=5.0,
        read_timeout_seconds=6.0,
        idle_timeout_seconds=7.0,
        connections=8,
    )
    yield session
    await session.close()


async def test_time_outs(session: ClientSession) -> None:
    """Connecting and silence have a limit, and the whole of a long answer has none."""
    timeout = session.timeout
    assert timeout.total is None
    assert (timeout.connect, timeout.sock_connect, timeout.sock_read) == (5.0, 5.0, 6.0)
    assert session.connector is not None
    assert session.connector.limit == 8
    assert session.connector.limit_per_host == 0


async def test_it_remembers_nothing(session: ClientSession) -> None:
    """No cookies, and neither proxies nor credentials from the environment."""
    assert isinstance(session.cookie_jar, DummyCookieJar)
    assert not session.trust_env
    assert session.auth is None


@asynccontextmanager
async def raw_upstream(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run an upstream that answers these bytes; gives its URL and what it was sent."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}", received


async def test_it_adds_nothing(session: ClientSession) -> None:
    """A request has the fields that it was given; a compressed answer stays compressed."""
    zipped = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00"
    async with (
        raw_upstream(zipped) as (url, received),
        session.get(f"{url}/a", headers={"Host": "x"}) as answer,
    ):
        assert await answer.read() == b"\x1f\x8b\x00"
    assert received == [b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"]


async def test_it_sends_nothing_twice(session: ClientSession) -> None:
    """A request whose connection closes without an answer isn't repeated behind our back."""
    async with raw_upstream(b"") as (url, received):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.get(f"{url}/a")
    assert len(received) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", "upstream_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "upstream_unreachable"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "upstream_invalid"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "upstream_invalid"),
        (b"HTTP/1.1 200 OK\r\nX A: b\r\n\r\n", "upstream_invalid"),
        (b"HTTP/1.1 200 OK\r\nX-A: a\rX-B: b\r\n\r\n", "upstream_invalid"),
        (b"HTTP/1.1 200 OK\r\nX-A: a\x00\r\n\r\n", "upstream_invalid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "upstream_invalid"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "upstream_invalid"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "upstream_invalid",
        ),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n", "upstream_invalid"),
    ],
)
async def test_garbled_answers(session: ClientSession, answer: bytes, outcome: str) -> None:
    """What isn't an HTTP answer, or could be read as two, is refused by the client library."""
    async with raw_upstream(answer) as (url, _):
        with pytest.raises(GatewayError) as caught, upstream_errors():
            await session.get(f"{url}/a")
    assert outcome == caught.value.outcome


async def test_nobody_listens(session: ClientSession) -> None:
    """A refused connection is an unreachable upstream."""
    with pytest.raises(GatewayError) as caught, upstream_errors():
        await session.get(f"http://127.0.0.1:{free_port()}/")
    assert caught.value.outcome == "upstream_unreachable"


async def test_a_silent_upstream() -> None:
    """An upstream that accepts and says nothing is one that timed out."""
    session = open_session(
        connect_timeout_seconds=5.0,
        read_timeout_seconds=0.02,
        idle_timeout_seconds=1.0,
        connections=1,
    )

    async def never(_reader: Any, _writer: Any) -> None:
        await asyncio.Event().wait()

    async with listening(never) as port:
        with pytest.raises(GatewayError) as caught, upstream_errors():
            await session.get(f"http://127.0.0.1:{port}/")
    assert caught.value.outcome == "upstream_timeout"
    await session.close()


LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_each_byte_goes_out_as_it_was_given(session: ClientSession) -> None:
    """The library's own client would drop bytes that aren't UTF-8, and an empty query's mark."""
    fields = [(b"X-A", b"caf\xe9"), (b"X-B", b"caf\xc3\xa9"), (b"x-a", b"\xff"), (b"X-E", b"")]
    async with raw_upstream(LAST) as (url, heads):
        target = url.rstrip("/") + '/a%7e?"<>'
        for content in (None, b"abc"):
            headers = outgoing(fields, f"{target}?")
            async with session.request("POST", url, headers=headers, data=content):
                pass
    for head in heads:
        assert head.startswith(b'POST /a%7e?"<>? HTTP/1.1\r\n')
        assert b"X-A: caf\xe9\r\nX-B: caf\xc3\xa9\r\nX-A: \xff\r\nX-E: \r\n" in head
    assert [b"Content-Length: 3\r\n" in head for head in heads] == [False, True]


async def test_no_control_byte_goes_out(session: ClientSession) -> None:
    """Whatever went wrong before: a line end in a value never makes another field."""
    async with raw_upstream(LAST) as (url, heads):
        with pytest.raises(ValueError, match="control bytes"):
            await session.get(url, headers=outgoing([(b"X-A", b"a\r\nX-B: b")], url))
    assert b"X-B" not in b"".join(heads)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://a", "/"),
        ("http://a/", "/"),
        ("http://a:80/b/?", "/b/?"),
        ("https://[::1]:8/b?c=//d", "/b?c=//d"),
        ("http://a?b=/c", "/?b=/c"),
        ("http://a/b//c?", "/b//c?"),
    ],
)
def test_targets_of_urls(url: str, target: str) -> None:
    """All behind the authority, as it is written."""
    assert request_target(url) == target
