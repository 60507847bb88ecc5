"""Connections of the fast lane to an upstream: what comes over them, and when they are kept."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from backends import Connection, Script, answering, scripted
from streams import listening

from gateway.clock import SystemClock
from gateway.demo.certificate import CertificateFiles, write_certificate
from gateway.errors import UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from gateway.proxy.pools import UpstreamPools
from proxy.asked import Asked, ask
from proxy.gateways import LogText, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PLAIN = b"HTTP/1.1 200 OK\r\n"
CHUNKED = PLAIN + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def pools() -> AsyncIterator[UpstreamPools]:
    """Pools whose time stands still."""
    pools = UpstreamPools(
        connections=10, connect_timeout_seconds=10, idle_timeout_seconds=10, tick_seconds=1
    )
    yield pools
    await pools.close()


def replying(*replies: bytes, after: Callable[[], None] | None = None) -> Script:
    """Return a script that answers each request in these pieces, each in a read of its own."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.head()
            for piece in replies:
                await connection.send(piece)
                for _ in range(50):  # turns of the loop, until the gateway has read it
                    await asyncio.sleep(0)
            if after is not None:
                after()

    return script


async def test_a_connection_is_used_again(pools: UpstreamPools) -> None:
    """One request after the other goes out on it."""
    async with scripted(answering(OK)) as backend:
        asked = [await ask(pools, backend.url) for _ in range(3)]
        assert [exchange.reused for exchange in asked] == [False, True, True]
        assert [exchange.content for exchange in asked] == [b"ok"] * 3
        assert len(backend.connections) == 1


@pytest.mark.parametrize(
    ("method", "pieces", "expected", "reused"),
    [
        ("GET", [OK], (200, b"ok"), True),
        ("GET", [OK[:-2], b"o", b"k"], (200, b"ok"), True),
        ("GET", [OK[:-1], b"k"], (200, b"ok"), True),
        ("GET", [CHUNKED + b"2\r\nok\r\n0\r\n\r\n"], (200, b"ok"), True),
        ("GET", [CHUNKED, b"1\r\n", b"o\r\n1\r\nk", b"\r\n0\r", b"\n\r\n"], (200, b"ok"), True),
        ("GET", [b"HTTP/1.1 204 No Content\r\n\r\n"], (204, b""), True),
        ("GET", [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"], (304, b""), True),
        ("HEAD", [PLAIN + b"Content-Length: 9\r\n\r\n"], (200, b""), True),
        ("HEAD", [CHUNKED], (200, b""), True),
        ("HEAD", [PLAIN + b"\r\n"], (200, b""), True),
        ("GET", [OK[:9], OK[9:]], (200, b"ok"), True),
        ("GET", [b"HTTP/1.1 100 Continue\r\n\r\n" + OK], (200, b"ok"), True),
        ("GET", [b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", OK], (200, b"ok"), True),
        ("GET", [CHUNKED, b"2\r\nok\r\n0\r\nX-T: 1\r\n", b"\r\n"], (200, b"ok"), True),
        ("GET", [PLAIN + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"], (200, b"ok"), False),
        ("GET", [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"], (200, b"ok"), False),
        ("GET", [OK + OK], (200, b"ok"), False),
        ("GET", [OK + b"more"], (200, b"ok"), False),
        ("HEAD", [OK], (200, b""), False),
        ("GET", [b"HTTP/1.1 204 No Content\r\n\r\nok"], (204, b""), False),
        ("GET", [b"HTTP/1.1 204 x\r\nContent-Length: 2\r\n\r\n"], (204, b""), False),
        ("GET", [b"HTTP/1.1 205 x\r\nContent-Length: 2\r\n\r\nok"], (205, b""), False),
        ("GET", [OK[:-1], b"kmore"], (200, b"ok"), False),
        ("GET", [CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + OK], (200, b"ok"), False),
        # Whole, and what follows isn't even the beginning of an answer.
        ("GET", [OK[:9], OK[9:-2], b"okx"], (200, b"ok"), False),
        ("GET", [CHUNKED, b"2\r\nok\r\n0\r\n\r\nx"], (200, b"ok"), False),
    ],
    ids=lambda given: (
        b"+".join(given).decode().replace("\r\n", "|") if isinstance(given, list) else None
    ),
)
async def test_answers(
    pools: UpstreamPools,
    method: str,
    pieces: list[bytes],
    expected: tuple[int, bytes],
    reused: bool,
) -> None:
    """However they are framed and cut; after one that may not be the end none is asked for."""
    async with scripted(replying(*pieces)) as backend:
        exchange = await ask(pools, backend.url, method=method)
        assert (exchange.status, exchange.content, exchange.error) == (*expected, None)
        again = await ask(pools, backend.url, method=method)
        assert (again.status, again.content, again.error) == (*expected, None)
        assert again.reused is reused
        assert len(backend.connections) == (1 if reused else 2)


async def test_an_answer_that_ends_with_its_connection(pools: UpstreamPools) -> None:
    """Without a length or chunks the content goes on until the upstream closes."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(PLAIN + b"\r\nsome")
        await connection.send(b" more")

    async with scripted(script) as backend:
        exchange = await ask(pools, backend.url)
        assert (exchange.content, exchange.error) == (b"some more", None)
        assert exchange.events[-1] == "answer_ends"
    await until(lambda: pools.open_connections == 0)


@pytest.mark.parametrize(
    ("said", "error", "silent", "begun"),
    [
        (b"", UpstreamUnreachable, True, False),
        (b"HTTP/1.1 200", UpstreamUnreachable, False, False),
        (OK[:-1], UpstreamUnreachable, False, True),
        (CHUNKED + b"2\r\nok\r\n", UpstreamUnreachable, False, True),
        # These may be left over from another exchange.
        (b"\x16\x03\x01\0\0\r\n\r\n", UpstreamInvalid, True, False),
        (b"SSH-2.0-x\r\n", UpstreamInvalid, True, False),
        (PLAIN + b"no colon\r\n\r\n", UpstreamInvalid, False, False),
        (PLAIN + b"Content-Length: x\r\n\r\n", UpstreamInvalid, False, False),
        (PLAIN + b"Transfer-Encoding: gzip\r\n\r\n", UpstreamInvalid, False, False),
        (b"HTTP/1.1 101 Hm\r\nUpgrade: a\r\n\r\n", UpstreamInvalid, False, False),
        (CHUNKED + b"x\r\n", UpstreamInvalid, False, False),
        (PLAIN + b"Location: /\nSet-Cookie: a\r\n\r\n", UpstreamInvalid, False, False),
        (PLAIN + b"X: " + b"x" * 70_000, UpstreamInvalid, False, False),
    ],
    ids=lambda given: given[:40].decode("latin-1") if isinstance(given, bytes) else None,
)
async def test_upstreams_that_fail(
    pools: UpstreamPools, said: bytes, error: type[Exception], silent: bool, begun: bool
) -> None:
    """Each way is told once, and the connection is gone."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(said)

    async with scripted(script) as backend:
        exchange = await ask(pools, backend.url)
        assert (type(exchange.error), exchange.silent) == (error, silent)
        assert exchange.events.count("upstream_failed") == 1
        assert ("answer_begins" in exchange.events) is begun
        await until(lambda: pools.open_connections == 0)


async def test_what_comes_unasked_answers_nobody(pools: UpstreamPools) -> None:
    """Such as the 408 of a server that tires of an idle connection: it closes that."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        await go.wait()
        if connection.number == 0:
            await connection.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await connection.rest()

    async with scripted(script) as backend:
        await ask(pools, backend.url)
        assert pools.open_connections == 1
        go.set()
        await until(lambda: pools.open_connections == 0)
        again = await ask(pools, backend.url)
        assert (again.status, again.reused) == (200, False)


async def test_an_upstream_that_closes_an_idle_connection(pools: UpstreamPools) -> None:
    """The next request finds another one."""
    go = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.send(OK)
        await go.wait()

    async with scripted(script) as backend:
        await ask(pools, backend.url)
        go.set()
        await until(lambda: pools.open_connections == 0)
        assert (await ask(pools, backend.url)).reused is False


async def test_an_exchange_that_leaves_within_its_answer(pools: UpstreamPools) -> None:
    """Its connection is closed: what is left of the answer is for nobody."""
    async with scripted(_begin_and_wait) as backend:
        exchange = Asked()
        pools.pool(backend.url).submit(exchange)
        await exchange.begun()
        assert exchange.connection is not None
        exchange.connection.abandon()
        async with asyncio.timeout(10):
            await backend.connections[0].gone.wait()
        await until(lambda: pools.open_connections == 0)
        assert exchange.events == ["send_on", "answer_begins"]


async def _begin_and_wait(connection: Connection) -> None:
    await connection.head()
    await connection.send(OK[:-1])
    await connection.rest()


async def test_reading_is_held(pools: UpstreamPools) -> None:
    """While whoever takes the content is slow nothing more is read, and then all of it is."""
    size = 50 * 2**20
    async with scripted(lambda connection: _send_much(connection, size)) as backend:
        exchange = Asked()
        pools.pool(backend.url).submit(exchange)
        await exchange.begun()
        assert exchange.connection is not None
        exchange.connection.hold()
        held = len(exchange.content)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(exchange.content) == held
        exchange.connection.go_on()
        await exchange.ended()
        assert len(exchange.content) == size


async def _send_much(connection: Connection, size: int) -> None:
    await connection.head()
    await connection.send(PLAIN + b"Content-Length: %d\r\n\r\n" % size)
    await connection.send(b"x" * size)
    await connection.rest()


async def test_nobody_listens(pools: UpstreamPools, free_port: int) -> None:
    """A refused connection is an upstream that can't be reached."""
    exchange = await ask(pools, f"http://127.0.0.1:{free_port}")
    assert (type(exchange.error), exchange.silent) == (UpstreamUnreachable, True)
    assert pools.open_connections == 0


async def test_a_name_that_means_nothing(pools: UpstreamPools) -> None:
    """One that can't be resolved is the same (RFC 6761 §6.4 keeps ``.invalid`` free)."""
    exchange = await ask(pools, "http://backend.invalid")
    assert type(exchange.error) is UpstreamUnreachable
    assert pools.open_connections == 0


async def test_an_upstream_that_does_not_take_the_connection() -> None:
    """The time to connect includes the TLS handshake, which never ends here."""
    pools = UpstreamPools(
        connections=1, connect_timeout_seconds=0.01, idle_timeout_seconds=10, tick_seconds=1
    )
    async with scripted(answering(OK)) as backend:
        exchange = await ask(pools, backend.url.replace("http:", "https:"))
        assert type(exchange.error) is UpstreamTimeout
        assert pools.open_connections == 0
    await pools.close()


@pytest.fixture
def certificate(tmp_path: Path) -> CertificateFiles:
    """A certificate for this machine that nobody trusts."""
    return write_certificate(tmp_path, "localhost", now_at=SystemClock().wall())


@pytest.fixture
async def trusting(certificate: CertificateFiles) -> UpstreamPools:
    """Pools that trust it; whoever uses them closes them."""
    return UpstreamPools(
        connections=1,
        connect_timeout_seconds=10,
        idle_timeout_seconds=10,
        tick_seconds=1,
        ca_file=certificate.certificate,
    )


def serving(certificate: CertificateFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


@contextmanager
def served(
    answer: bytes,
) -> Iterator[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answer:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

    yield serve


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_an_upstream_with_tls(
    trusting: UpstreamPools, certificate: CertificateFiles, host: str
) -> None:
    """Whom ``ca_file`` vouches for is asked, and its connection used again."""
    with served(OK) as serve:
        async with listening(serve, tls=serving(certificate)) as port:
            asked = [await ask(trusting, f"https://{host}:{port}") for _ in range(2)]
            assert [(each.content, each.reused) for each in asked] == [
                (b"ok", False),
                (b"ok", True),
            ]
            await trusting.close()
            await until(lambda: trusting.open_connections == 0)


async def test_an_upstream_that_is_not_trusted(
    pools: UpstreamPools, certificate: CertificateFiles
) -> None:
    """Nothing is sent to one whose certificate nobody vouches for."""
    with served(OK) as serve:
        async with listening(serve, tls=serving(certificate)) as port:
            exchange = await ask(pools, f"https://localhost:{port}")
            assert (type(exchange.error), exchange.is_sent) == (UpstreamUnreachable, False)
            await until(lambda: pools.open_connections == 0)


async def test_an_upstream_with_another_s_certificate(
    trusting: UpstreamPools, certificate: CertificateFiles
) -> None:
    """One that is trusted, but isn't for this name (RFC 9110 §4.3.4), is asked nothing either."""
    with served(OK) as serve:
        async with listening(serve, tls=serving(certificate)) as port:
            exchange = await ask(trusting, f"https://127.1:{port}")  # as 127.0.0.1, and not in it
            assert (type(exchange.error), exchange.is_sent) == (UpstreamUnreachable, False)
            assert (await ask(trusting, f"https://127.0.0.1:{port}")).content == b"ok"
            await trusting.close()
            await until(lambda: trusting.open_connections == 0)


async def test_an_upstream_with_tls_that_closes_at_once(
    trusting: UpstreamPools, certificate: CertificateFiles
) -> None:
    """It can't be reached, whether it closes before the request goes out or after."""
    with served(b"") as serve:
        async with listening(serve, tls=serving(certificate)) as port:
            exchange = await ask(trusting, f"https://localhost:{port}")
            assert type(exchange.error) is UpstreamUnreachable
            await until(lambda: trusting.open_connections == 0)
    await trusting.close()


@pytest.mark.parametrize(
    "event", ["answer_whole", "answer_begins", "answer_goes_on", "answer_ends"]
)
async def test_a_fault_of_ours_within_an_answer(
    pools: UpstreamPools, log: LogText, event: str
) -> None:
    """It is logged, the exchange is told, and the connection isn't left to the next one."""
    pieces = [OK] if event == "answer_whole" else [OK[:-2], b"o", b"k"]
    async with scripted(replying(*pieces)) as backend:
        exchange = Asked(faults=event)
        pools.pool(backend.url).submit(exchange)
        await exchange.ended()
        assert exchange.events[-1] == "fault"
        assert "ZeroDivisionError" in log.text
        assert (await ask(pools, backend.url)).content == b"ok"


@pytest.mark.parametrize("behind", [False, True])
async def test_a_fault_of_ours_on_sending(pools: UpstreamPools, log: LogText, behind: bool) -> None:
    """Also for one that waited for its connection to open, or for another's answer."""
    pools._limit = 1
    async with scripted(answering(OK)) as backend:
        first = Asked(faults="" if behind else "send_on")
        second = Asked(faults="send_on" if behind else "")
        pools.pool(backend.url).submit(first)
        pools.pool(backend.url).submit(second)
        await first.ended()
        await second.ended()
        faulty, other = (second, first) if behind else (first, second)
        assert faulty.events == ["send_on", "fault"]
        assert other.content == b"ok"
        assert "ZeroDivisionError" in log.text
        assert (await ask(pools, backend.url)).content == b"ok"
