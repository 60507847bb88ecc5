"""Is the load tester the bottleneck? Side by side with Locust, wrk and aiohttp, on one target.

    python benchmarks/generator.py [--rate 5000] [--seconds 8] [--rounds 3]

Each round runs all of them, one after another, so that noise of the machine meets all alike;
the table has the median of the rounds. The target answers fixed bytes: nginx with one worker
where it is installed, else a protocol on uvloop. All of it is on this machine's loopback.

- ours: the whole load tester, plan, record and all, with tokens that are never refused
- session: an open loop over aiohttp's ClientSession, a task for each request, nothing recorded
- locust: 100 users of Locust's FastHttpUser, each with its part of the rate
- wrk: as fast as it can, 64 connections: what a request costs when nothing is planned

Lag is from planned to sent. wrk plans nothing, so it has none. CPU is user and system time of
the generator alone, after it has started.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent / "generators"
CONTESTANTS = ("ours", "session", "locust", "wrk")
NGINX = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{{"active":true}}'; }}
  }}
}}
"""


def free_port() -> int:
    """Return a port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def target() -> Iterator[tuple[str, str]]:
    """Run the target meanwhile; gives its URL and what it is."""
    port = free_port()
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    with tempfile.TemporaryDirectory() as folder:
        if nginx:
            Path(folder).chmod(0o755)
            config = Path(folder) / "nginx.conf"
            config.write_text(NGINX.format(folder=folder, port=port), encoding="utf-8")
            command, kind = [nginx, "-c", str(config), "-e", f"{folder}/error.log"], "nginx"
        else:
            command = [sys.executable, str(HERE / "fixed_answers.py"), str(port)]
            kind = "a uvloop protocol"
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                wait_for(port)
                yield f"http://127.0.0.1:{port}/orders", kind
            finally:
                process.terminate()


def wait_for(port: int) -> None:
    """Wait until something listens; raises ConnectionRefusedError after ten seconds."""
    for attempt in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            if attempt == 199:
                raise
            time.sleep(0.05)
        else:
            return


def compete(name: str, url: str, rate: int, seconds: float) -> dict[str, Any]:
    """Run one contestant in a process of its own; returns its figures."""
    module = HERE / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(module), url, str(rate), str(seconds)],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def middle(rounds: list[dict[str, Any]], name: str) -> float | None:
    """Return the median of a figure, None where there is none."""
    values = [figures[name] for figures in rounds if figures.get(name) is not None]
    return median(values) if values else None


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = [name for name in arguments.only if name != "wrk" or shutil.which("wrk")]
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with target() as (url, kind):
        print(f"target: {kind}; planned: {arguments.rate}/s; cores: {os.cpu_count()}")
        for number in range(arguments.rounds):
            for name in names:
                load = os.getloadavg()[0]
                figures = compete(name, url, arguments.rate, arguments.seconds)
                rounds[name].append({**figures, "load_before": load})
                print(f"  round {number + 1} {name}: {json.dumps(figures)}", flush=True)
    columns = ("rate", "cpu_us", "lag_p50_ms", "lag_p99_ms", "lag_max_ms", "errors")
    print("\n| median of rounds | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for name in names:
        values = [middle(rounds[name], column) for column in columns]
        cells = ["none" if value is None else f"{value:,.2f}" for value in values]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rounds, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
