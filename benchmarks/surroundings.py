"""What a measured gateway needs around it: a backend, a key manager, and who starts and measures.

Everything listens on loopback, on free ports, and is stopped by the process ids started here.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from redis_program import REDIS_SERVER

GATEWAY = (sys.executable, "-m", "gateway")
CLIENT = "load-test"
SECRET = "only-on-loopback"  # of a key manager that lives for a minute


class _Backend(asyncio.Protocol):
    """Answers every request alike, as cheaply as it can: it isn't what is measured."""

    _ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._ANSWER * data.count(b"\r\n\r\n"))


@asynccontextmanager
async def backend() -> AsyncIterator[int]:
    """Serve a backend until the block ends; its port."""
    server = await asyncio.get_running_loop().create_server(_Backend, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def key_manager(folder: Path, port: int, redis_port: int) -> AsyncIterator[None]:
    """Run the key manager and a Redis until the block ends; ``folder`` is Redis's."""
    redis = [REDIS_SERVER, "--port", str(redis_port), "--dir", str(folder)]
    redis += ["--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"]
    manager = ["keymanager", "--port", str(port), "--log-level=warning"]
    manager += ["--writes-store"]
    manager += ["--store", f"redis://127.0.0.1:{redis_port}/0"]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(*redis))
        await listening(redis_port)
        environ = {"KEYMANAGER_CLIENTS": f"{CLIENT}:{SECRET}"}
        await stack.enter_async_context(running(*GATEWAY, *manager, environ=environ))
        await answering(f"http://127.0.0.1:{port}/introspect")
        yield


@asynccontextmanager
async def running(
    *command: str, environ: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[None]:
    """Run a process until the block ends; ``settings`` are subprocess.Popen's."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **(environ or {})}, **settings
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def answering(url: str) -> None:
    """Return once something answers there."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def listening(port: int) -> None:
    """Return once something accepts connections on a port of loopback."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def load_test(record: Path, gateway: str, path: str, *flags: str) -> int:
    """Measure one path of the gateway at that URL; the exit code of ``gateway loadtest run``."""
    process = await asyncio.create_subprocess_exec(
        *GATEWAY,
        "loadtest",
        "run",
        f"--target={gateway}{path}",
        f"--token-url={gateway}/token",
        f"--revoke-url={gateway}/revoke",
        f"--client-id={CLIENT}",
        "--slo=false_refusals==0",
        f"--out={record}",
        *flags,
        env={**os.environ, "GATEWAY_LOADTEST_CLIENT_SECRET": SECRET},
    )
    return await process.wait()


def report(folder: Path, records: Sequence[Path], *kinds: str) -> int:
    """Leave ``report.<kind>`` for each kind; the exit code of ``gateway loadtest report``."""
    outputs = [f"--{kind}={folder / f'report.{kind}'}" for kind in kinds]
    command = [*GATEWAY, "loadtest", "report", *map(str, records), *outputs]
    return subprocess.run(command, check=False).returncode


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
