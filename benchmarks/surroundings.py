"""What a measured gateway needs around it: a backend, a key manager, and who starts and measures.

Everything listens on loopback, on free ports, and is stopped by the process ids started here.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from busy import TRIES, gentler, say, until
from redis_program import REDIS_SERVER

GATEWAY = (sys.executable, "-m", "gateway")
CLIENT = "load-test"
SECRET = "only-on-loopback"  # of a key manager that lives for a minute
_INVALID = 3


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
        started = await stack.enter_async_context(running(*redis))
        await listening(redis_port, started)
        environ = {"KEYMANAGER_CLIENTS": f"{CLIENT}:{SECRET}"}
        started = await stack.enter_async_context(running(*GATEWAY, *manager, environ=environ))
        await answering(f"http://127.0.0.1:{port}/introspect", started)
        yield


@asynccontextmanager
async def running(
    *command: str, environ: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[Process]:
    """Run a process until the block ends; ``settings`` are subprocess.Popen's."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **(environ or {})}, **settings
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def answering(url: str, process: Process, *, status: int | None = None) -> None:
    """Return once the process that was started answers there, with this status if one is given.

    Raises:
        NotUpError: it has ended, or isn't up for minutes.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:

        async def is_up() -> bool:
            try:
                async with session.get(url) as answer:
                    return status in {None, answer.status}
            except (aiohttp.ClientError, TimeoutError):
                return False

        await until(url, is_up, exit_code=lambda: process.returncode)


async def listening(port: int, process: Process) -> None:
    """Return once the process that was started accepts connections on a port of loopback.

    Raises:
        NotUpError: it has ended, or isn't up for minutes.
    """

    async def is_up() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await until(f"127.0.0.1:{port}", is_up, exit_code=lambda: process.returncode)


async def load_test_once(
    record: Path, gateway: str, path: str, *flags: str
) -> tuple[int, dict[str, Any] | None]:
    """Return the exit code, and the run as its report has it, if there is one."""
    figures = record.with_suffix(".json")
    figures.unlink(missing_ok=True)
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
        f"--json={figures}",
        *flags,
        env={**os.environ, "GATEWAY_LOADTEST_CLIENT_SECRET": SECRET},
    )
    code = await process.wait()
    return code, json.loads(figures.read_text())["runs"][0] if figures.exists() else None


Once = Callable[..., Awaitable[tuple[int, dict[str, Any] | None]]]


async def load_test(
    record: Path, gateway: str, path: str, *flags: str, once: Once = load_test_once
) -> int:
    """Measure one path of the gateway at that URL; the exit code of ``gateway loadtest run``.

    A run that wasn't valid, as on a busy machine, is tried again more gently.
    """
    for left in reversed(range(TRIES)):
        code, run = await once(record, gateway, path, *flags)
        if code != _INVALID or run is None:
            break
        why = "; ".join(run["reasons"])
        if left:
            flags = (*flags, *gentler(run))  # the last of a flag counts
            say(f"{record.stem} wasn't valid: {why}. Again, with {' '.join(flags[-2:])}")
        else:
            say(
                f"{record.stem} wasn't valid in {TRIES} tries: {why}. This says nothing about the "
                "gateway; try on a machine that is less busy"
            )
    return code


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
