"""``make fleet``: three gateways of two workers each on one Redis, in both modes of revocation.

With "evict" a token revoked through one gateway is to be refused by all within milliseconds;
with "lapse", within its max age, and the gateways' own count of what revoked tokens still passed
is to be what the load tester saw from outside. Two cores carry six workers, the key manager,
Redis and the load tester here: what is late is late for want of processors. Where that is too
late, it is tried again with fewer requests, and said.
"""

import asyncio
import json
import re
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
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

GATEWAYS = 3
MAX_AGE = {"evict": "15m", "lapse": "3s"}
FLAGS = {
    # Probes close enough to see milliseconds, of few tokens at a time.
    "evict": "--tokens=40 --revoke-rate=2 --warm-up=500ms --probe-interval=25ms --watch=1s "
    "--background-rps=300",
    "lapse": "--tokens=60 --revoke-rate=4 --max-age=3s --background-rps=300",
}

SETTINGS = """
[listen]
port = {port}
workers = 2
drain_grace = "0s"
[admin]
port = {admin}
[key_manager]
url = "http://127.0.0.1:{key_manager}"
record_tokens = false
[store]
url = "redis://127.0.0.1:{redis}/0"
[cache]
max_age = "{max_age}"
[revocation]
on_revoke = "{mode}"
[logging]
access_log = false
level = "warning"
[[routes]]
path = "/orders"
upstream = "http://127.0.0.1:{backend}"
"""


async def measure(folder: Path, mode: str) -> tuple[Path, int, float]:
    """Measure one mode; the record, the load tester's exit code, the gateways' stale accepts."""
    redis, manager, *ports = free_ports(2 + 2 * GATEWAYS)
    listen, admin = ports[:GATEWAYS], ports[GATEWAYS:]
    record = folder / f"{mode}.jsonl"
    async with AsyncExitStack() as stack:
        places: dict[str, Any] = {"redis": redis, "key_manager": manager}
        places["backend"] = await stack.enter_async_context(backend())
        private = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await stack.enter_async_context(key_manager(private, manager, redis))
        gateways: list[Process] = []
        for number in range(GATEWAYS):
            config = private / f"gateway-{number}.toml"
            config.write_text(
                SETTINGS.format(
                    **places,
                    port=listen[number],
                    admin=admin[number],
                    max_age=MAX_AGE[mode],
                    mode=mode,
                )
            )
            gateways.append(
                await stack.enter_async_context(running(*GATEWAY, "serve", "--config", str(config)))
            )
        for port, gateway in zip(admin, gateways, strict=True):
            # Ready is one whose workers have all come up.
            await answering(f"http://127.0.0.1:{port}/readyz", gateway, status=200)
        targets = [f"--target=http://127.0.0.1:{port}/orders" for port in listen[1:]]
        code = await load_test(
            record, f"http://127.0.0.1:{listen[0]}", "/orders", *targets, *FLAGS[mode].split()
        )
        counted = sum([await stale_accepts(port) for port in admin])
    return record, code, counted


async def stale_accepts(admin: int) -> float:
    """Return how many requests of revoked tokens a gateway counts as accepted."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{admin}/metrics") as answer,
    ):
        text = await answer.text()
    found = re.findall(r"^gateway_stale_accepts_total\{[^}]*\} (\S+)$", text, re.MULTILINE)
    return sum(float(number) for number in found)


def stale(run: Mapping[str, Any], counted: float) -> str:
    """Compare what the gateways count of stale accepts with what the load tester saw."""
    seen = run["stale_accepts"]
    return (
        f"stale accepts: {counted:.0f} counted by the gateways, "
        f"{seen['accepted']} to {seen['accepted_since_sent']} seen from outside"
    )


def disagreement(run: Mapping[str, Any]) -> str:
    """Say how often the two workers of a gateway disagreed, and that it is no fault."""
    found = run["flapping"]
    if not found["windows"]:
        return "no token was accepted again after a refusal"
    return (
        f"{found['windows']} of {run['counts']['windows']} windows had a token accepted again "
        f"after a refusal, for {found['longest']:.3f} s at most. The two workers of a gateway "
        "have a cache each, a probe meets either, and the later of them ends the window "
        "(docs/scaling.md)"
    )


async def main(folder: Path) -> int:
    """Measure both modes, leave the reports, and say how the two counts compare."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = {mode: await measure(folder, mode) for mode in ("evict", "lapse")}
    records = [record for record, _, _ in measured.values()]
    code = report(folder, records, "html", "json", "png")
    runs = json.loads((folder / "report.json").read_text())["runs"]
    for (mode, (_, _, counted)), run in zip(measured.items(), runs, strict=True):
        print(f"{mode}: {stale(run, counted)}")
        print(f"{mode}: {disagreement(run)}")
    return max(code, *(code for _, code, _ in measured.values()))


if __name__ == "__main__":
    try:
        code = asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/fleet")))
    except NotUpError as fault:
        sys.exit(f"nothing was measured: {fault}")
    sys.exit(code)
