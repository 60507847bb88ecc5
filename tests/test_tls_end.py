"""How a connection with TLS ended, and that nothing of what came is lost."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from proxy.gateways import FAST_LANE, HANDLER_LANE, outcomes, running
from proxy.test_upstream import serving
from streams import listening
from wire import connect, request

from gateway.clock import SystemClock
from gateway.demo.certificate import CertificateFiles, write_certificate
from gateway.event_loop import EventLoop, run
from gateway.tls_end import TlsEnd, tls_end


@pytest.fixture
def certificate(tmp_path: Path) -> CertificateFiles:
    """A certificate for this machine."""
    return write_certificate(tmp_path, "localhost", now_at=SystemClock().wall())


class Ends:
    """Both ends of a connection with TLS, without a network."""

    def __init__(self, certificate: CertificateFiles) -> None:
        self.to_client, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        trusting = ssl.create_default_context(cafile=certificate.certificate)
        self.client = trusting.wrap_bio(self.to_client, self.to_server, server_hostname="localhost")
        self.server = serving(certificate).wrap_bio(
            self.to_server, self.to_client, server_side=True
        )
        for _ in range(3):
            for end in (self.client, self.server):
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()


@pytest.mark.parametrize("said", [b"", b"the end of an answer", b"x" * 100_000])
@pytest.mark.parametrize("meant", [False, True])
def test_what_came_is_there_and_whether_the_end_was_meant(
    certificate: CertificateFiles, said: bytes, meant: bool
) -> None:
    """All that was received and not handed on, and whether a closure alert came behind it."""
    ends = Ends(certificate)
    if said:
        ends.server.write(said)
    if meant:
        with suppress(ssl.SSLWantReadError):
            ends.server.unwrap()
    assert tls_end(ends.client) == TlsEnd(said, meant)
    assert tls_end(ends.client) == TlsEnd(b"", meant)


def test_an_end_of_a_record_that_was_cut(certificate: CertificateFiles) -> None:
    """What is whole is there; it was not meant to end so."""
    ends = Ends(certificate)
    ends.server.write(b"whole")
    ends.server.write(b"half")
    data = ends.to_client.read()
    ends.to_client.write(data[:-3])
    assert tls_end(ends.client) == TlsEnd(b"whole", meant=False)


def test_a_connection_without_tls() -> None:
    """Its end is one."""
    assert tls_end(None) == TlsEnd(b"", meant=True)


BODY = b"x" * 3_000_000
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handlers"])
@pytest.mark.parametrize(
    ("said", "accepts", "outcome"),
    [
        (LENGTH + BODY, False, "proxied"),
        (CHUNKED + BODY + b"\r\n0\r\n\r\n", False, "proxied"),
        (UNTIL_CLOSE + BODY, False, "upstream_aborted"),
        (UNTIL_CLOSE + BODY, True, "proxied"),
        (LENGTH + BODY[:-1], True, "upstream_aborted"),
        (CHUNKED + BODY + b"\r\n0\r\n", True, "upstream_aborted"),
    ],
    ids=["length", "chunks", "until close", "until close, accepted", "cut off", "cut off chunks"],
)
def test_an_upstream_that_closes_without_a_closure_alert(
    certificate: CertificateFiles,
    loop: EventLoop,
    lane: dict[str, Any],
    said: bytes,
    accepts: bool,
    outcome: str,
) -> None:
    """To a slow client, too, no whole answer is cut off, and none that may be short looks whole."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.set_write_buffer_limits(0)
        writer.write(said)
        await writer.drain()
        writer.transport.abort()

    proxy = lane | {"ca_file": str(certificate.certificate), "accept_incomplete_close": accepts}

    async def talk() -> None:
        async with (
            listening(serve, tls=serving(certificate)) as port,
            running(f"https://localhost:{port}", proxy=proxy) as gateway,
        ):
            for _ in range(5):
                async with connect(gateway.url) as client:
                    await client.send(request("/"))
                    for _ in range(500):  # turns of the loop in which nothing is read
                        await asyncio.sleep(0)
                    if outcome == "proxied":
                        assert (await client.answer()).body == BODY
                    else:
                        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                            await client.answer()
            assert outcomes(gateway) == {outcome: 5}

    run(talk(), loop)
