"""What fails upstream: counted each time, and logged once per change of its cause."""

import asyncio
import socket
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from backends import Connection, answering, recording, scripted
from clocks import FakeClock
from proxy.gateways import FAST_LANE, HANDLER_LANE, LogText, running, samples
from proxy.test_upstream import serving
from redis_server import free_port
from streams import listening
from wire import fetch, request

from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.demo.certificate import write_certificate
from gateway.errors import UpstreamInvalid, UpstreamUnreachable
from gateway.failures import UpstreamFailures
from gateway.metrics import Metrics

ORIGIN = "http://backend.test"
LANES = pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handlers"])


def causes(gateway: Gateway) -> Counter[str]:
    """Return how many upstream calls failed of each cause."""
    counted: Counter[str] = Counter()
    for sample in samples(gateway, "gateway_upstream_failure_causes_total"):
        counted[sample.labels["cause"]] += int(sample.value)
    return counted


def told(log: LogText) -> list[str]:
    """Return the causes that were logged, and "answers" for each upstream that does again."""
    return [
        record.get("cause", "answers")
        for record in log.records
        if record.get("event") in {"upstream fails", "upstream answers again"}
    ]


def test_a_cause_is_logged_when_it_changes(clock: FakeClock, log: LogText) -> None:
    """Not for each request, and not twice in a minute; an upstream that recovers is told, too."""
    failures = UpstreamFailures(Metrics(), monotonic=clock.monotonic)
    refused, garbled = UpstreamUnreachable(cause="refused"), UpstreamInvalid(cause="framing")
    for error in (refused, refused, garbled, refused, garbled):
        failures.failed("/", ORIGIN, error)
    assert told(log) == ["refused", "framing"]
    failures.answered(ORIGIN)
    assert failures.failing == {}
    failures.answered(ORIGIN)
    failures.failed("/", ORIGIN, refused)
    failures.failed("/", "http://other.test", refused)
    failures.answered(ORIGIN)
    assert told(log) == ["refused", "framing", "answers", "refused"]
    clock.advance(60)
    failures.failed("/", ORIGIN, refused)
    failures.answered(ORIGIN)
    assert told(log)[4:] == ["refused", "answers"]


@LANES
async def test_an_upstream_that_refuses_and_recovers(lane: dict[str, bool], log: LogText) -> None:
    """One line says why, however many requests fail, and the client hears nothing of it."""
    port = free_port()
    async with running(f"http://127.0.0.1:{port}", proxy=lane) as gateway:
        for _ in range(3):
            answer = await fetch(gateway.url, request("/"))
            assert answer.status == 502
            assert b"refused" not in answer.body
        assert causes(gateway) == {"refused": 3}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        async with server:
            assert (await fetch(gateway.url, request("/"))).status == 204
    assert told(log) == ["refused", "answers"]
    (record,) = log.named("upstream fails")
    assert record["upstream"] == f"http://127.0.0.1:{port}"
    assert (record["route"], record["outcome"]) == ("/", "upstream_unreachable")


@LANES
async def test_a_certificate_that_is_not_trusted(
    lane: dict[str, bool], log: LogText, tmp_path: Path
) -> None:
    """The log says what is wrong with it, and the metric that it is that."""
    certificate = write_certificate(tmp_path, "localhost", now_at=SystemClock().wall())

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        listening(serve, tls=serving(certificate)) as port,
        running(f"https://localhost:{port}", proxy=lane) as gateway,
    ):
        assert (await fetch(gateway.url, request("/"))).status == 502
        assert causes(gateway) == {"certificate": 1}
    (record,) = log.named("upstream fails")
    assert (record["cause"], record["why"]) == ("certificate", "self-signed certificate")


@LANES
async def test_an_upstream_that_speaks_no_tls(lane: dict[str, bool]) -> None:
    """It is told from one that isn't trusted."""
    async with (
        scripted(speaking_plain) as backend,
        running(backend.url.replace("http:", "https:"), proxy=lane) as gateway,
    ):
        assert (await fetch(gateway.url, request("/"))).status == 502
        assert causes(gateway) == {"tls": 1}


async def speaking_plain(connection: Connection) -> None:
    await connection.reader.read(10)
    await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await connection.rest()


async def resetting(connection: Connection) -> None:
    await connection.head()
    opened = connection.writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.abort()


async def closing(connection: Connection) -> None:
    await connection.head()


@LANES
@pytest.mark.parametrize(
    ("cause", "script"),
    [
        ("closed", closing),
        ("reset", resetting),
        ("closed", answering(b"HTTP/1.1 200 OK\r\nX-A", close=True)),
        ("closed", answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", close=True)),
        ("chunk", answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n")),
        ("status_line", answering(b"SSH-2.0-x\r\n")),
        ("line_end", answering(b"HTTP/1.1 200 OK\r\nX: a\nb: c\r\n\r\n")),
        ("field", answering(b"HTTP/1.1 200 OK\r\nX\r\n\r\n")),
        ("framing", answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")),
        ("too_large", answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000)),
    ],
)
async def test_an_upstream_that_fails(lane: dict[str, bool], cause: str, script: Any) -> None:
    """What it did is one word, the same in both lanes."""
    async with scripted(script) as backend, running(backend.url, proxy=lane) as gateway:
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # part of an answer was out
            await fetch(gateway.url, request("/"))
        assert causes(gateway) == {cause: 1}


@LANES
async def test_a_name_that_does_not_resolve(lane: dict[str, bool], log: LogText) -> None:
    """It is told from an upstream that is there and refuses."""
    async with running("http://backend.invalid", proxy=lane) as gateway:
        assert (await fetch(gateway.url, request("/"))).status == 502
        assert causes(gateway) == {"unresolved": 1}
    assert told(log) == ["unresolved"]


async def test_a_key_manager_that_fails(log: LogText) -> None:
    """Its failures have causes as well, by the endpoint that was asked."""
    async with recording() as backend:
        settings = {"url": f"http://127.0.0.1:{free_port()}"}
        async with running(backend.url, key_manager=settings) as gateway:
            form = "Content-Type: application/x-www-form-urlencoded"
            data = request("/token", form, method="POST", body=b"a=b", token=None)
            assert (await fetch(gateway.url, data)).status == 502
            assert causes(gateway) == {"refused": 1}
    (record,) = log.named("upstream fails")
    assert (record["route"], record["upstream"]) == ("token", settings["url"])
