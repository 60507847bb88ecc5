"""``make loadtest``: how long does a revoked token live on this gateway, on this machine?

Starts a real Redis, the key manager and the gateway in processes of their own, measures a route
with a window of three seconds and one without, and leaves the reports. Where the machine is too
busy for that, it is tried again with fewer requests, and said.
"""

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from busy import NotUpError
from surroundings import (
    GATEWAY,
    answering,
    backend,
    free_ports,
    key_manager,
    load_test,
    report,
    running,
)

MAX_AGE = "3s"

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
    "run": ("/orders", f"--max-age={MAX_AGE} --tokens=200 --background-rps=300".split()),
    # Without a window it is one round trip: probes have to be close to see that.
    "run-0s": (
        "/payments",
        ["--max-age=0s", "--tokens=30", "--probe-interval=50ms", "--warm-up=1s", "--revoke-rate=5"],
    ),
}


async def measure(folder: Path) -> int:
    """Run both measurements, leave their reports in ``folder``, and return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = dict(zip(("redis", "key_manager", "port"), free_ports(3), strict=True))
    url = f"http://127.0.0.1:{ports['port']}"
    async with AsyncExitStack() as stack:
        ports["backend"] = await stack.enter_async_context(backend())
        private = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = private / "gateway.toml"
        config.write_text(SETTINGS.format(**ports, max_age=MAX_AGE))
        await stack.enter_async_context(key_manager(private, ports["key_manager"], ports["redis"]))
        gateway = await stack.enter_async_context(
            running(*GATEWAY, "serve", "--config", str(config))
        )
        await answering(f"{url}/orders", gateway)
        codes = [
            await load_test(folder / f"{name}.jsonl", url, path, *flags)
            for name, (path, flags) in RUNS.items()
        ]
    records = [folder / f"{name}.jsonl" for name in RUNS]
    return max(*codes, report(folder, records, "html", "json", "png"))


if __name__ == "__main__":
    try:
        code = asyncio.run(measure(Path(sys.argv[1] if len(sys.argv) > 1 else "build/loadtest")))
    except NotUpError as fault:
        sys.exit(f"nothing was measured: {fault}")
    sys.exit(code)
