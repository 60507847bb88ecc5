"""Doors that stay open without a good token: each is filled, and a good client watched."""

import asyncio
import gc
import socket
import tracemalloc
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from backends import recording
from proxy.gateways import LogText, connections, count, running, seed, settings_for, until
from test_listeners import trusting
from wire import Client, connect, fetch, request

from gateway.app import Gateway
from gateway.demo.certificate import write_certificate
from gateway.proxy.holdings import MOST_BYTES


def silent(url: str, number: int, stack: ExitStack) -> list[socket.socket]:
    """Return so many connections that say nothing."""
    parts = urlsplit(url)
    address = (parts.hostname, parts.port)
    return [stack.enter_context(socket.create_connection(address)) for _ in range(number)]


async def test_connections_that_never_shake_hands_are_counted(tmp_path: Path) -> None:
    """600 of them on the TLS port weren't, took all descriptors, and both ports were dead."""
    files = write_certificate(tmp_path, "localhost", now_at=1_600_000_000)
    listen = {"tls_port": 0, "tls_certificate": str(files.certificate), "tls_key": str(files.key)}
    limits = {"connections": 10}
    async with (
        recording() as backend,
        running(backend.url, listen=listen, limits=limits) as gateway,
        connect(gateway.url) as good,
    ):
        await good.send(request("/"))
        assert (await good.answer()).status == 200
        assert gateway.tls_url is not None
        with ExitStack() as stack:
            silent(gateway.tls_url, 50, stack)
            await until(lambda: count(gateway, "gateway_tls_handshakes_failed_total") == 41)
            assert count(gateway, "gateway_tls_handshakes_in_progress") == 9
            await good.send(request("/"))
            assert (await good.answer()).status == 200
            async with connect(gateway.tls_url, tls=trusting()) as another:
                await another.send(request("/"))
                assert (await another.answer()).status == 200
        await until(lambda: count(gateway, "gateway_tls_handshakes_in_progress") == 0)
        assert (await fetch(gateway.url, request("/"))).status == 200


async def test_clients_leave_descriptors_for_those_that_serve_them(
    monkeypatch: pytest.MonkeyPatch, log: LogText
) -> None:
    """With 1,024 of them and 10,000 connections allowed, clients took all: 502 for everyone."""
    monkeypatch.setattr("gateway.descriptors.raise_limit", lambda: 190)
    limits = {"upstream_connections": 8}
    async with recording() as backend, running(backend.url, limits=limits) as gateway:
        (said,) = log.named("too few file descriptors for limits.connections")
        most = said["connections_allowed"]
        assert 1 < most < 30
        async with connect(gateway.url) as good:
            await good.send(request("/"))
            assert (await good.answer()).status == 200
            with ExitStack() as stack:
                silent(gateway.url, 100, stack)
                await until(lambda: count(gateway, "gateway_connections") == most)
                await good.send(request("/"))
                assert (await good.answer()).status == 200


async def test_nobody_who_has_connected_is_lost_when_the_gateway_stops() -> None:
    """1 to 8 of 1,700 were: in the queue when it closed, or taken for idle when just accepted."""
    answered, lost, stopping = 0, list[str](), asyncio.Event()

    async def keep_connecting(address: tuple[str, int]) -> None:
        nonlocal answered
        while True:
            with socket.socket() as client:
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                try:
                    async with asyncio.timeout(0.5):
                        await loop.sock_connect(client, address)
                except (OSError, TimeoutError):
                    return  # nobody is there any more
                try:
                    await loop.sock_sendall(client, request("/", "Connection: close"))
                    async with asyncio.timeout(10):
                        assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 200 ")
                except (OSError, TimeoutError) as error:
                    lost.append(repr(error))
                    return
                answered += 1
                if answered == 50:
                    stopping.set()

    async with recording() as backend:
        gateway = Gateway(settings_for(backend.url))
        await gateway.start()
        await seed(gateway)
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        clients = [asyncio.create_task(keep_connecting((host, int(port)))) for _ in range(20)]
        await stopping.wait()
        await gateway.drain(grace_seconds=0)
        await asyncio.gather(*clients)
    assert (lost, answered >= 50) == ([], True)


async def test_half_requests_to_the_admin_port_keep_nobody_out() -> None:
    """450 of them were held for as long as they liked, and traffic got 502 for as long."""
    async with recording() as backend, running(backend.url) as gateway:
        with ExitStack() as stack:
            for half in silent(gateway.admin_url, 100, stack):
                half.sendall(b"GET /livez HTTP/1.1\r\nHo")
            assert (
                await fetch(gateway.admin_url, request("/livez", "Host: localhost"))
            ).status == 200
            assert (await fetch(gateway.url, request("/"))).status == 200


HALF = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * 14_000
FORM = "Content-Type: application/x-www-form-urlencoded"
HELD = {
    "header sections that don't end": HALF,
    "bodies for the token endpoint": request(
        "/token", FORM, "Content-Length: 900000", method="POST", token=None
    )
    + b"a=" * 100_000,
}


@pytest.mark.parametrize("data", HELD.values(), ids=HELD.keys())
async def test_what_never_comes_to_an_end_is_bounded_in_all(data: bytes) -> None:
    """Each connection could hold as much as it is allowed, and there may be 10,000 of them."""
    async with (
        recording() as backend,
        running(backend.url, key_manager={"url": backend.url}) as gateway,
        connect(gateway.url) as good,
    ):
        await good.send(request("/"))
        assert (await good.answer()).status == 200
        assert gateway._server is not None
        most = 0
        with ExitStack() as stack:
            for client in silent(gateway.url, 300, stack):
                client.setblocking(False)
                with suppress(OSError):
                    client.send(data)
                await asyncio.sleep(0)
                most = max(most, gateway._server.holdings.total)
            await until(lambda: count(gateway, "gateway_connections_displaced_total") > 0)
            assert most <= MOST_BYTES
            await good.send(request("/"))
            assert (await good.answer()).status == 200


async def test_idle_connections_keep_nobody_out() -> None:
    """Where there are as many as may be, the idlest that has shown no good token makes room."""
    limits = {"connections": 5}
    async with (
        recording() as backend,
        running(backend.url, limits=limits) as gateway,
        connect(gateway.url) as good,
    ):
        await good.send(request("/"))
        assert (await good.answer()).status == 200
        with ExitStack() as stack:
            silent(gateway.url, 30, stack)
            await until(lambda: count(gateway, "gateway_connections_displaced_total") == 26)
            assert (await fetch(gateway.url, request("/"))).status == 200
            await good.send(request("/"))
            assert (await good.answer()).status == 200


async def test_an_idle_connection_keeps_little_of_its_last_request() -> None:
    """8,000 of them kept 70 KiB each, after one request of 15 KB."""
    long = request("/" + "p" * 14_000, "Transfer-Encoding: chunked", token="unknown", method="POST")
    async with recording() as backend, running(backend.url) as gateway, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(gateway.url)) for _ in range(60)]

        async def ask(asking: list[Client]) -> int:
            """Return what is held once all have asked, and were forgotten."""
            for client in asking:
                await client.send(long + b"0\r\n\r\n")
                assert (await client.answer()).status == 401
            await until(lambda: all(each._between for each in connections(gateway)))
            await until(lambda: all(each._waiter is not None for each in connections(gateway)))
            for connection in connections(gateway):
                if connection._forgetting is not None:
                    connection._forgetting.cancel()
                    connection._forget()
            await asyncio.sleep(0)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            first = await ask(clients[:10])
            grown = await ask(clients[10:]) - first
        finally:
            tracemalloc.stop()
        assert grown / 50 < 4096  # each had a connection already
        await clients[0].send(request("/"))
        assert (await clients[0].answer()).status == 200
