"""What can a client without a good token do to a worker, doing its worst for a minute?

    python benchmarks/doors.py [--seconds 60] [--connections 500] [--loop asyncio] [ATTACK...]

For each attack a gateway of its own, with the attackers' connections beside one good client, each
in a process of its own. Prints by how much the worker's memory grew at most (RSS), the longest
turn of its loop, and the longest that the good client waited; exits with 1 where a worker's memory
grew by more than 8 MiB and 8 KiB for each connection, its loop stood for more than 10 ms, or the
good client waited for more than 1 s. A turn counts by the processor time that it took, if that is
less than the time that went by: what else runs on the machine isn't the gateway's.
"""

import argparse
import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import event_loop
from gateway.app import Gateway
from gateway.demo.certificate import write_certificate
from gateway.process import spare_the_collector
from gateway.settings import Settings
from gateway.tokens import token_key

ALLOWED_BYTES = 8 * 1024 * 1024
ALLOWED_BYTES_EACH = 8 * 1024
ALLOWED_STALL_SECONDS = 0.010
ALLOWED_WAIT_SECONDS = 1.0
LONG = 15_000
MIB = 1024 * 1024
GOOD = "good-token"


# The gateway, in a process of its own.


async def gateway(settings: dict[str, Any]) -> None:
    """Serve, and say every tenth of a second how much memory there is, and the longest turn."""
    async with Gateway(Settings.model_validate(settings)) as served:
        document = {"active": True, "client_id": "app", "sub": "alice", "scope": "read"}
        await served.store.put(token_key(GOOD), document, expires_in_seconds=3600)
        spare_the_collector()
        say({"url": served.url, "tls_url": served.tls_url, "admin_url": served.admin_url})
        stall = 0.0
        told = time.monotonic()
        while True:
            due, used = time.monotonic() + 0.002, time.thread_time()
            await asyncio.sleep(0.002)
            late = time.monotonic() - due
            stall = max(stall, min(late, time.thread_time() - used))
            if time.monotonic() - told > 0.1:
                told = time.monotonic()
                say({"memory": resident_bytes(), "stall": stall})
                stall = 0.0


def resident_bytes() -> int:
    """Return this process's memory (RSS)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def say(what: dict[str, Any]) -> None:
    """Tell the process that started this one."""
    print(json.dumps(what), flush=True)


# What is behind it.


async def far_ends() -> None:
    """Serve as backend and as key manager: small answers, and a long one at /public/long."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length: " in head:
                    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                    while length > 0:
                        length -= len(await reader.read(min(length, 65536)))
                body = b"x" * 50_000_000 if b"/public/long" in head else b"ok"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
    say({"port": server.sockets[0].getsockname()[1]})
    await asyncio.Event().wait()


# The good client.


async def good_client(url: str) -> None:
    """Ask all the time, on one connection and on new ones; say the longest wait, each second."""
    host, port = place(url)
    request = head("GET", "/orders", token=GOOD)
    longest, told, faults = 0.0, time.monotonic(), 0
    reader, writer = await asyncio.open_connection(host, port)
    number = 0
    while True:
        number += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(20):
                if number % 5 == 0:
                    other = await asyncio.open_connection(host, port)
                    other[1].write(request)
                    line = await other[0].readline()
                    other[1].transport.abort()
                else:
                    writer.write(request)
                    line = await reader.readline()
                    await reader.readuntil(b"\r\n\r\nok")
            faults += not line.startswith(b"HTTP/1.1 200")
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            faults += 1
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
        longest = max(longest, time.monotonic() - began)
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            say({"wait": longest, "faults": faults})
        await asyncio.sleep(0.02)


# The attackers.


def place(url: str) -> tuple[str, int]:
    """Return host and port."""
    host, _, port = url.partition("://")[2].partition(":")
    return host, int(port)


def head(method: str, target: str, *fields: str, token: str | None = "unknown") -> bytes:
    """Return a header section."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway.test", *fields]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


class Target:
    """Where attackers go, and for how long."""

    def __init__(self, urls: dict[str, Any], seconds: float) -> None:
        self.urls = urls
        self.until = time.monotonic() + seconds
        self.count = 0
        self.refused = 0

    @property
    def going(self) -> bool:
        """Whether it isn't over yet."""
        return time.monotonic() < self.until

    @asynccontextmanager
    async def connect(
        self, which: str = "url", **options: Any
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect; an attacker that is thrown out comes again."""
        reader, writer = await asyncio.open_connection(*place(self.urls[which]), **options)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def answers(self, reader: asyncio.StreamReader) -> None:
        """Read an answer, whatever it is."""
        section = await reader.readuntil(b"\r\n\r\n")
        self.count += 1
        for line in section.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))

    async def rest(self) -> None:
        """Do nothing more."""
        while self.going:
            await asyncio.sleep(0.25)


async def differing(target: Target, number: int, make: Callable[[int], bytes]) -> None:
    """Send requests that differ, one after the other."""
    async with target.connect() as (reader, writer):
        step = number * 1_000_000
        while target.going:
            step += 1
            writer.write(make(step))
            await writer.drain()
            await target.answers(reader)


async def paths(target: Target, number: int) -> None:
    """Long paths that differ, with an unknown token."""
    await differing(target, number, lambda n: head("GET", f"/{n}" + "p" * LONG))


async def fields(target: Target, number: int) -> None:
    """Long header fields that differ, with an unknown token."""
    await differing(target, number, lambda n: head("GET", "/a", f"X-A: {n}" + "f" * LONG))


async def public_paths(target: Target, number: int) -> None:
    """Long paths and fields that differ, on a public route."""
    await differing(
        target,
        number,
        lambda n: head("GET", f"/public/{n}" + "p" * 7000, f"X-A: {n}" + "f" * 7000, token=None),
    )


async def public_small(target: Target, number: int) -> None:
    """Short paths and fields that differ, on a public route."""
    await differing(target, number, lambda n: head("GET", f"/public/{n}", f"X-A: {n}", token=None))


async def tokens(target: Target, number: int) -> None:
    """Tokens that differ, and are unknown."""
    await differing(target, number, lambda n: head("GET", "/a", token=f"{n}" * 20))


async def odd(target: Target, number: int) -> None:
    """What the fast lane leaves to the handlers."""
    await differing(
        target,
        number,
        lambda n: head("GET", f"/{n}" + "p" * 7000, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    )


async def idle(target: Target, number: int) -> None:
    """One long request, and then nothing."""
    async with target.connect() as (reader, writer):
        writer.write(head("GET", f"/{number}" + "p" * LONG))
        await target.answers(reader)
        await target.rest()


async def odd_idle(target: Target, number: int) -> None:
    """One long request that takes the handler lane, and then nothing."""
    async with target.connect() as (reader, writer):
        writer.write(
            head("GET", f"/{number}" + "p" * LONG, "Transfer-Encoding: chunked") + b"0\r\n\r\n"
        )
        await target.answers(reader)
        await target.rest()


async def halves(target: Target, number: int) -> None:
    """Header sections that never end, a byte at a time."""
    async with target.connect() as (_reader, writer):
        writer.write(head("GET", f"/{number}", "X-A: " + "h" * LONG)[:-4])
        while target.going and not writer.is_closing():
            await asyncio.sleep(2)
            writer.write(b"h")
            await writer.drain()


async def bodies(target: Target, number: int) -> None:
    """Bodies to a route that needs a token, which stop before their end."""
    async with target.connect() as (reader, writer):
        writer.write(head("POST", f"/{number}", "Content-Length: 10000000") + b"b" * 400_000)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                await target.answers(reader)
        await asyncio.sleep(0.2)


async def public_bodies(target: Target, _number: int) -> None:
    """Bodies to a public route, which stop before their end."""
    async with target.connect() as (_reader, writer):
        writer.write(
            head("POST", "/public", "Content-Length: 10000000", token=None) + b"b" * 400_000
        )
        while target.going and not writer.is_closing():
            await asyncio.sleep(2)
            writer.write(b"b")
            await writer.drain()


async def token_bodies(target: Target, _number: int) -> None:
    """Bodies to the token endpoint, which stop before their end."""
    async with target.connect() as (_reader, writer):
        form = "Content-Type: application/x-www-form-urlencoded"
        writer.write(head("POST", "/token", form, "Content-Length: 1000000", token=None))
        writer.write(b"a=" + b"b" * 900_000)
        while target.going and not writer.is_closing():
            await asyncio.sleep(2)
            writer.write(b"b")
            await writer.drain()


async def pipelined(target: Target, _number: int) -> None:
    """Many requests at once, without a token."""
    async with target.connect() as (reader, writer):
        many = head("GET", "/a", token=None) * 2000
        while target.going:
            writer.write(many)
            for _ in range(2000):
                await target.answers(reader)


async def pipelined_behind(target: Target, _number: int) -> None:
    """Many requests at once, whose answers nobody reads."""
    async with target.connect(limit=1) as (_reader, writer):
        many = head("GET", "/a", token=None) * 4000
        writer.transport.pause_reading()
        writer.write(many)
        await target.rest()


async def unread(target: Target, _number: int) -> None:
    """A long answer of a public route, which nobody reads."""
    async with target.connect(limit=1) as (_reader, writer):
        writer.transport.pause_reading()
        writer.write(head("GET", "/public/long", token=None))
        await target.rest()


async def comers(target: Target, _number: int) -> None:
    """Connections that come and go."""
    while target.going:
        async with target.connect() as (reader, writer):
            writer.write(head("GET", "/a"))
            await target.answers(reader)


async def websockets(target: Target, number: int) -> None:
    """WebSocket handshakes, which are refused."""
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    await differing(target, number, lambda n: head("GET", f"/{n}", *upgrade, key))


async def silent_tls(target: Target, _number: int) -> None:
    """Connections to the TLS port that say nothing."""
    async with target.connect("tls_url") as (reader, _writer):
        await reader.read()


async def handshakes(target: Target, _number: int) -> None:
    """Handshakes over and over."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while target.going:
        async with target.connect("tls_url", ssl=context):
            target.count += 1


async def admin(target: Target, _number: int) -> None:
    """Half requests to the admin port."""
    async with target.connect("admin_url") as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHo")
        await reader.read()


Attack = Callable[[Target, int], Awaitable[None]]
ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        *(paths, fields, public_paths, public_small, tokens, odd, idle, odd_idle, halves, bodies),
        *(public_bodies, token_bodies, pipelined, pipelined_behind, unread, comers, websockets),
        *(silent_tls, handshakes, admin),
    )
}


async def again(attack: Attack, target: Target, number: int) -> None:
    """Attack until the time is up; whoever is thrown out comes again."""
    await asyncio.sleep(number * 0.001)
    while target.going:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await attack(target, number)
        await asyncio.sleep(0.05)
        target.refused += 1


# All together.


class Child:
    """A process of ours, and what it said last and worst."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
        )

    def first(self) -> dict[str, Any]:
        """Return what it says when it is ready."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                said: dict[str, Any] = json.loads(line)
                return said
        raise RuntimeError("it ended")

    def sayings(self) -> Iterator[dict[str, Any]]:
        """Stop it, and yield all that it said."""
        self.process.kill()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                yield json.loads(line)


@dataclass
class Found:
    """What became of a worker."""

    grown: int
    stall: float
    wait: float
    faults: int
    requests: int

    def within(self, connections: int) -> bool:
        """Whether all of it is as it should be."""
        return (
            self.grown <= ALLOWED_BYTES + connections * ALLOWED_BYTES_EACH
            and self.stall <= ALLOWED_STALL_SECONDS
            and self.wait <= ALLOWED_WAIT_SECONDS
            and not self.faults
        )


def run(name: str, seconds: float, connections: int, loop: str, folder: Path) -> Found:
    """Attack a new gateway."""
    files = write_certificate(folder, "localhost", now_at=time.time())
    behind = Child("--far-ends")
    upstream = f"http://127.0.0.1:{behind.first()['port']}"
    settings = {
        "listen": {"port": 0, "tls_port": 0, "event_loop": loop,
                   "tls_certificate": str(files.certificate), "tls_key": str(files.key)},
        "admin": {"port": 0},
        "store": {"url": "memory://"},
        "logging": {"access_log": False, "level": "error"},
        "limits": {"connections": connections + 50},
        "key_manager": {"url": upstream},
        "routes": [
            {"path": "/", "upstream": upstream, "scopes": ["read"]},
            {"path": "/public", "upstream": upstream, "public": True},
        ],
    }  # fmt: skip
    served = Child("--gateway", json.dumps(settings))
    urls = served.first()
    good = Child("--good-client", urls["url"])
    good.first()
    time.sleep(1.5)  # the first of everything

    async def attack() -> Target:
        target = Target(urls, seconds)
        await asyncio.gather(
            *(again(ATTACKS[name], target, number) for number in range(connections))
        )
        return target

    target = asyncio.run(attack())
    waits = list(good.sayings())
    sayings = [said for said in served.sayings() if "memory" in said]
    behind.process.kill()
    first = sayings[15]["memory"]
    return Found(
        grown=max(said["memory"] for said in sayings) - first,
        stall=max(said["stall"] for said in sayings[15:]),
        wait=max(said["wait"] for said in waits),
        faults=waits[-1]["faults"],
        requests=target.count,
    )


def main() -> int:
    """Run the attacks, or one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--loop", choices=("auto", "uvloop", "asyncio"), default="auto")
    parser.add_argument("--gateway", help=argparse.SUPPRESS)
    parser.add_argument("--good-client", help=argparse.SUPPRESS)
    parser.add_argument("--far-ends", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.gateway:
        settings = json.loads(given.gateway)
        event_loop.run(gateway(settings), settings["listen"]["event_loop"])
    elif given.good_client:
        asyncio.run(good_client(given.good_client))
    elif given.far_ends:
        asyncio.run(far_ends())
    else:
        print("| attack | requests | memory MiB | longest turn ms | longest wait ms | faults | |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
        well = True
        for name in given.attacks or ATTACKS:
            with tempfile.TemporaryDirectory(prefix="doors-") as folder:
                found = run(name, given.seconds, given.connections, given.loop, Path(folder))
            within = found.within(given.connections)
            well &= within
            print(
                f"| {name} | {found.requests:,} | {found.grown / MIB:.1f} "
                f"| {found.stall * 1e3:.1f} | {found.wait * 1e3:.0f} | {found.faults} "
                f"| {'' if within else 'too much'} |",
                flush=True,
            )
        return 0 if well else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
