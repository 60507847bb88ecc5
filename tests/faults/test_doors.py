"""Doors that stay open without a good token: each is filled, and a good client watched."""

import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from backends import recording
from proxy.gateways import LogText, count, running, until
from wire import connect, fetch, request

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
