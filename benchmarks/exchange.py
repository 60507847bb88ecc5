"""What the gateway's own code costs for one exchange on the fast lane, without any network.

    python benchmarks/exchange.py [--profile CASE]

A connection's protocol and an upstream's are fed what sockets would bring, and write into lists.
Prints microseconds of processor time for each exchange, the median and the least of some rounds.
What is left of a real request's cost is the event loop's and the kernel's.
"""

import argparse
import asyncio
import cProfile
import itertools
import os
import pstats
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

from gateway.app import Gateway
from gateway.proxy.server import GatewayConnection
from gateway.proxy.upstream import UpstreamConnection
from gateway.settings import Settings
from gateway.tokens import Facts, token_key

TOKENS = 10_000
EXCHANGES = 20_000
ROUNDS = 7
ORIGIN = "http://127.0.0.1:9"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n"
)


class Written(asyncio.Transport):
    """A transport that keeps what is written, and whose writing never has to wait."""

    def __init__(self, **extra: Any) -> None:
        super().__init__(extra)
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written.append(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Return that nothing waits."""
        return 0

    def is_closing(self) -> bool:
        """Return that it isn't."""
        return False

    def close(self) -> None:
        """Do nothing."""

    abort = pause_reading = resume_reading = close


def request(token: str, path: str = "/orders", *fields: str) -> bytes:
    """Return a request as a client sends it."""
    lines = (f"GET {path} HTTP/1.1", "Host: 127.0.0.1:8080", f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "User-Agent: bench/1", "Accept: */*", *fields, "", ""]).encode()


def cases(tokens: list[str]) -> dict[str, Iterator[bytes]]:
    """Return requests without end, by what repeats in them."""
    paths = [f"/orders/{number}" for number in range(TOKENS)]
    return {
        "the same again": itertools.repeat(request(tokens[0])),
        "another path each time": itertools.cycle([request(tokens[0], path) for path in paths]),
        "another token each time": itertools.cycle([request(token) for token in tokens]),
        "a cookie, so that nothing is kept": itertools.cycle(
            [request(tokens[0], "/orders", f"Cookie: a={number}") for number in range(TOKENS)]
        ),
    }


async def gateway_of(tokens: list[str]) -> Gateway:
    """Return a gateway that has started and knows these tokens."""
    settings = Settings.model_validate(
        {
            "listen": {"port": 0},
            "admin": {"port": 0},
            "store": {"url": "memory://"},
            "logging": {"access_log": False, "level": "error"},
            "routes": [{"path": "/", "upstream": ORIGIN, "scopes": ["read"]}],
        }
    )
    gateway = Gateway(settings)
    await gateway.start()
    scopes = frozenset({"read", "write"})
    for number, token in enumerate(tokens):
        facts = Facts(True, "client-1", f"user-{number}", scopes)
        gateway._cache.put(token_key(token), facts, validated=gateway._clock.monotonic())
    return gateway


def exchange(gateway: Gateway) -> Callable[[bytes], None]:
    """Return what plays one exchange, on one connection of each side."""
    assert gateway._server is not None
    assert gateway._traffic is not None
    lane = gateway._traffic.lane
    assert lane is not None
    client = gateway._server()
    assert isinstance(client, GatewayConnection)
    client_side = Written(peername=("127.0.0.1", 5), sockname=("127.0.0.1", 8080))
    client.connection_made(client_side)
    pool = lane._pools.pool(ORIGIN)
    upstream = UpstreamConnection(pool, lane._pools.known)
    upstream_side = Written()
    upstream.connection_made(upstream_side)
    pool.idle.append(upstream)

    def play(data: bytes) -> None:
        client.data_received(data)
        upstream.data_received(ANSWER)
        if len(client_side.written) > 1000:
            assert client_side.written[-1].startswith(b"HTTP/1.1 200 ")
            client_side.written.clear()
            upstream_side.written.clear()

    return play


def measure(play: Callable[[bytes], None], requests: Iterator[bytes]) -> tuple[float, float]:
    """Return the median and the least of some rounds, in microseconds an exchange."""
    found = []
    for _ in range(ROUNDS):
        batch = list(itertools.islice(requests, EXCHANGES))
        began = time.process_time()
        for data in batch:
            play(data)
        found.append((time.process_time() - began) / EXCHANGES * 1e6)
    return statistics.median(found), min(found)


async def main() -> None:
    """Measure each case, or profile one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", metavar="CASE", help="profile this case instead")
    profiled = parser.parse_args().profile
    tokens = [os.urandom(24).hex() for _ in range(TOKENS)]
    gateway = await gateway_of(tokens)
    if profiled:
        play, requests = exchange(gateway), cases(tokens)[profiled]
        with cProfile.Profile() as profile:
            measure(play, requests)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    else:
        print("| request | median | least |\n| --- | ---: | ---: |")
        for name, requests in cases(tokens).items():
            median, least = measure(exchange(gateway), requests)
            print(f"| {name} | {median:.1f} µs | {least:.1f} µs |")
    os._exit(0)  # what plays the connections can't be closed in good order


if __name__ == "__main__":
    uvloop.run(main())
