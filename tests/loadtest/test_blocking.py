"""The client on plain sockets."""

import asyncio
import socket
import ssl
import time
from pathlib import Path

import pytest
from streams import listening

from gateway.demo.certificate import write_certificate
from gateway.loadtest.blocking import BlockingClient
from gateway.loadtest.calls import Call, Kind
from gateway.loadtest.client import tls_context
from gateway.loadtest.origins import Origin
from loadtest.fake_gateway import RawServer
from loadtest.pools import probe

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def client(port: int, timeout: float = 5.0, tls: ssl.SSLContext | None = None) -> BlockingClient:
    return BlockingClient(
        Origin(tls is not None, "127.0.0.1", port),
        clock=time.monotonic,
        timeout_seconds=timeout,
        tls=tls,
    )


async def exchange(asked: BlockingClient, call: Call) -> Call:
    """Make the exchange in a thread, while the loop serves."""
    await asyncio.to_thread(asked.exchange, call)
    assert call.sent is not None
    assert call.finished is not None
    assert call.sent <= call.finished
    return call


@pytest.mark.parametrize(
    ("pieces", "status", "error"),
    [
        ([OK], 200, None),
        ([OK[:20], OK[20:]], 200, None),
        ([b"HTTP/1.0 401 No\r\n\r\nuntil the end", None], 401, None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", None], None, "closed"),
        ([None], None, "closed"),
        ([b"what?\r\n\r\n"], None, "invalid"),
        ([], None, "timeout"),
    ],
)
async def test_answers(pieces: list[bytes | None], status: int | None, error: str | None) -> None:
    """The status is taken of a whole answer; otherwise a word says what went wrong."""
    server = RawServer(pieces)
    async with server.serving() as port:
        asked = client(port, timeout=0.1 if error == "timeout" else 5.0)
        call = await exchange(asked, probe())
        asked.close()
    assert (status, error) == (call.status, call.error)


async def test_connections_are_kept() -> None:
    """A connection is used again after a whole answer, and after nothing else."""
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    server = RawServer([OK], [OK], [close], [OK])
    async with server.serving() as port:
        asked = client(port)
        statuses = [(await exchange(asked, probe())).status for _ in range(4)]
        asked.close()
    assert (statuses, server.connections) == ([200] * 4, 2)


async def test_bodies_of_the_oauth_endpoints_are_kept() -> None:
    """A call without a target is to an OAuth endpoint, whose answer is read."""
    server = RawServer([OK])
    async with server.serving() as port:
        asked = client(port)
        call = await exchange(asked, Call(Kind.TOKEN, 0, None, 0.0, probe().request))
        asked.close()
    assert call.body == b"ok"


def test_nobody_listens() -> None:
    """A connection that is refused is one word, and so is a name without an address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused = probe()
        client(free.getsockname()[1]).exchange(refused)
    unknown = probe()
    BlockingClient(
        Origin(False, "no-such-host.invalid", 80), clock=time.monotonic, timeout_seconds=1
    ).exchange(unknown)
    assert (refused.error, unknown.error) == ("refused", "dns")


async def test_tls(tmp_path: Path) -> None:
    """A certificate is trusted by a file, or not at all."""
    files = write_certificate(tmp_path, "127.0.0.1", now_at=time.time())
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(files.certificate, files.key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    async with listening(answer, tls=served) as port:
        trusting = client(port, tls=tls_context(ca_file=str(files.certificate)))
        good = await exchange(trusting, probe())
        bad = await exchange(client(port, tls=tls_context()), probe())
        trusting.close()
    assert (good.status, bad.error) == (200, "tls")
