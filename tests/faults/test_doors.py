"""Doors that stay open without a good token: each is filled, and a good client watched."""

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from backends import recording
from proxy.gateways import LogText, count, running, seed, settings_for, until
from wire import connect, fetch, request

from gateway.app import Gateway
from gateway.demo.certificate import write_certificate


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
