"""One connection, as a gateway of any kind may treat it."""

import asyncio
import ssl

import pytest

from gateway.loadtest.connection import kind_of
from loadtest.fake_gateway import RawServer
from loadtest.pools import open_pool, probe
from loadtest.waiting import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("pieces", "status", "error"),
    [
        ([OK], 200, None),
        ([OK[:20], OK[20:]], 200, None),
        ([b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"], 401, None),
        ([b"HTTP/1.0 200 OK\r\n\r\nuntil the end", None], 200, None),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], 200, None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", None], None, "closed"),
        ([None], None, "closed"),
        ([b"what?\r\n\r\n"], None, "invalid"),
    ],
)
async def test_answers(pieces: list[bytes | None], status: int | None, error: str | None) -> None:
    """An answer's status is taken when it is whole; otherwise a word says what went wrong."""
    server = RawServer(pieces)
    async with server.serving() as port, open_pool(port) as (pool, collected):
        pool.send(probe())
        (call,) = await collected.wait_for(1)
    assert (status, error) == (call.status, call.error)
    assert call.sent is not None
    assert call.finished is not None
    assert 0 < call.sent <= call.finished


async def test_bytes_that_nobody_asked_for() -> None:
    """A connection on which an answer comes without a request is never used again."""
    server = RawServer([OK + OK], [OK])
    async with server.serving() as port, open_pool(port) as (pool, collected):
        for count in (1, 2):
            pool.send(probe())
            await collected.wait_for(count)
    assert [call.status for call in collected.calls] == [200, 200]
    assert server.connections == 2


async def test_bytes_while_nothing_is_asked() -> None:
    """What comes on a resting connection ends it: it can't be taken for the next answer."""
    server = RawServer([OK])
    async with server.serving() as port, open_pool(port) as (pool, collected):
        pool.send(probe())
        await collected.wait_for(1)
        server._writers[0].write(OK)
        await until(lambda: not pool._resting)
        pool.send(probe())
        await collected.wait_for(2)
    assert [call.status for call in collected.calls] == [200, 200]
    assert server.connections == 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(), "refused"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (TimeoutError(), "timeout"),
        (ssl.SSLCertVerificationError(), "tls"),
        (OSError(113, "No route to host"), "refused"),
        (asyncio.CancelledError(), "refused"),
    ],
)
def test_words_for_failures(error: BaseException, kind: str) -> None:
    """Each failure has a short word."""
    assert kind == kind_of(error)
