"""Load by wrk: one thread, so many connections, HTTP/1.1 keep-alive; what it saw of the answers."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.processes import pinned

SCRIPT = Path(__file__).parent / "wrk" / "requests.lua"
WRK = shutil.which("wrk")


@dataclass(frozen=True)
class Load:
    """What is sent, for how long.

    ``tokens`` are by number: the first and how many. ``token`` is sent instead of those, where
    given. A run with ``stop`` ends after so many requests if its seconds aren't over by then.
    """

    path: str = "/small"
    method: str = "GET"
    body_bytes: int = 0
    tokens: tuple[int, int] = (0, 1)
    token: str | None = None
    connections: int = 64
    seconds: float = 3
    stop: int | None = None
    status: int = 200
    tls: bool = False
    answer_bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of it; latencies in seconds. ``fault`` says why it doesn't count, if it doesn't."""

    requests: float
    seconds: float
    p50: float
    p99: float
    longest: float
    fault: str | None


def outcome(said: str, load: Load) -> Outcome:
    """Return what wrk's script said on its last line, held against what was to come.

    Raises:
        ValueError: it isn't what the script writes.
    """
    lines = said.strip().splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if "requests" not in found:
        raise ValueError(f"wrk said {said!r}")
    requests: float = found["requests"]
    if load.answer_bytes:
        # Of few and long answers many are on their way when the time is up.
        requests = max(requests, found["bytes"] / load.answer_bytes)
    return Outcome(
        requests,
        found["microseconds"] / 1e6,
        found["p50"] / 1e6,
        found["p99"] / 1e6,
        found["max"] / 1e6,
        _fault(found, load),
    )


def _fault(found: dict[str, Any], load: Load) -> str | None:
    for name in ("connect", "read", "write", "timeout"):
        if found[name]:
            return f"{name} failed {found[name]} times"
    if found["requests"] == 0:
        return "no answers"
    if load.status == 200 and found["refused"]:
        return f"{found['refused']} of {found['requests']} refused"
    if load.status != 200 and (found["wrong"] or found["refused"] != found["requests"]):
        return f"{found['wrong']} of {found['requests']} weren't {load.status}"
    if load.answer_bytes and found["bytes"] < found["requests"] * load.answer_bytes:
        return "answers were cut"
    return None


def run(load: Load, port: int, tokens: Path, on: Iterable[int]) -> Outcome:
    """Load the gateway at a port of loopback; ``tokens`` is the file of them."""
    assert WRK is not None
    first, count = load.tokens
    arguments = {
        "path": load.path,
        "method": load.method,
        "body": load.body_bytes,
        "tokens": tokens,
        "first": first,
        "count": count,
        "token": load.token,
        "stop": load.stop,
        "expect": load.status if load.status != 200 else None,
    }
    given = [f"{name}={value}" for name, value in arguments.items() if value is not None]
    seconds = max(1, round(load.seconds))
    command = [WRK, "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout=20s"]
    command += ["--latency", f"-s{SCRIPT}", f"http{'s' * load.tls}://127.0.0.1:{port}", "--"]
    done = subprocess.run(
        pinned([*command, *given], on),
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    if done.returncode:
        raise RuntimeError(f"wrk: {done.stdout[-500:]}{done.stderr[-1000:]}")
    return outcome(done.stdout, load)
