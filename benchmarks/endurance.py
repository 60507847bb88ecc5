"""Does the gateway's memory stay flat over many requests, and over connections that are dropped?

    python benchmarks/endurance.py [--requests 1000000] [--drops 10000] [--lane fast|handler]

Prints the memory (RSS) of the gateway's process after a warm-up, after the requests, and after
the connections, each of which was dropped midway: half of them in the middle of a request, half
in the middle of an answer. Exits with 1 where it has grown by more than a tenth meanwhile, or
where descriptors stayed open. Everything is on this machine's loopback.
"""

import argparse
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from peers import PEERS, Gateway
from rig import load, probe
from rig.scene import Surroundings, private_folder, surroundings

WARM_UP = 100_000
AT_A_TIME = 100
MIB = 1024 * 1024
ALLOWED_GROWTH = 1.10
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: what is under way is thrown away
AUTHORIZATION = f"Authorization: Bearer {probe.GOOD}\r\n"
CUT_REQUESTS = (
    b"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthoriz",
    f"POST /small HTTP/1.1\r\nHost: 127.0.0.1\r\n{AUTHORIZATION}"
    "Content-Length: 1000\r\n\r\nonly this".encode(),
)
LONG_ANSWER = f"GET /10m HTTP/1.1\r\nHost: 127.0.0.1\r\n{AUTHORIZATION}\r\n".encode()
SHORT_ANSWER = LONG_ANSWER.replace(b"/10m", b"/small")


def resident_bytes(gateway: Gateway) -> int:
    """Return the memory of the gateway's processes (RSS)."""
    pages = sum(
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in gateway.process.pids
    )
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(gateway: Gateway) -> int:
    """Return how many files and connections the gateway's processes have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in gateway.process.pids)


def send(gateway: Gateway, around: Surroundings, count: int, limit_seconds: float = 900) -> None:
    """Send so many requests, with 64 connections; all have to be answered.

    Raises:
        RuntimeError: a request failed, or they took longer than the limit.
    """
    sent = load.Load(stop=count, seconds=limit_seconds)
    came = load.run(sent, gateway.port, around.tokens, around.scene.processors[1])
    if came.fault is not None or came.requests < count - 2 * sent.connections:
        raise RuntimeError(f"{came.requests:.0f} of {count} requests: {came.fault}")
    print(f"  {came.requests:,.0f} requests in {came.seconds:.0f} s", file=sys.stderr)


def drop(gateway: Gateway, count: int) -> None:
    """Open so many connections, some at a time, and drop each in the middle of something."""
    number = 0
    while number < count:
        held = []
        for _ in range(min(AT_A_TIME, count - number)):
            connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
            connection.sendall(_opening(number))
            held.append((number, connection))
            number += 1
        for which, connection in held:
            if which % 4 == 2:
                connection.recv(4096)  # the answer has begun
            if which % 8 >= 4:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            connection.close()


def _opening(number: int) -> bytes:
    return (*CUT_REQUESTS, LONG_ANSWER, SHORT_ANSWER)[number % 4]


def measure(gateway: Gateway, around: Surroundings, requests: int, drops: int) -> Iterator[str]:
    """Yield the lines of the table; the last is "" or says what is wrong."""
    yield "| after | memory MiB | descriptors |"
    yield "| --- | ---: | ---: |"
    send(gateway, around, WARM_UP)
    # The first of everything, so that what is only ever made once is there.
    drop(gateway, AT_A_TIME)
    first, opened = settled(gateway)
    yield f"| a warm-up of {WARM_UP:,} requests | {first / MIB:.1f} | {opened} |"
    send(gateway, around, requests)
    memory, open_now = settled(gateway)
    yield f"| {requests:,} requests more | {memory / MIB:.1f} | {open_now} |"
    drop(gateway, drops)
    send(gateway, around, 1000)
    after, open_after = settled(gateway)
    yield f"| {drops:,} connections dropped midway | {after / MIB:.1f} | {open_after} |"
    if max(memory, after) > first * ALLOWED_GROWTH:
        yield "memory has grown"
    elif open_after > opened + AT_A_TIME:
        yield "descriptors stayed open"
    else:
        yield ""


def settled(gateway: Gateway) -> tuple[int, int]:
    """Return memory and descriptors once connections to the backend have been idle for too long."""
    time.sleep(6)
    return resident_bytes(gateway), descriptors(gateway)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Does the gateway's memory stay flat?")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--drops", type=int, default=10_000)
    parser.add_argument("--lane", choices=("fast", "handler"), default="fast")
    given = parser.parse_args()
    (peer,) = (peer for peer in PEERS if peer.name == f"ours_{given.lane}")
    with (
        private_folder() as folder,
        surroundings(folder, folder, 1) as around,
        peer.running(around.scene, folder / peer.name) as gateway,
    ):
        probe.wait(gateway)
        said = ""
        for said in measure(gateway, around, given.requests, given.drops):
            print(said)
    return int(said != "")


if __name__ == "__main__":
    sys.exit(main())
