"""What a million cached tokens cost: memory, CPU for an insert and a hit, and the longest pause.

    python benchmarks/cache.py [--tokens 1000000]

Beside the gateway's cache a ``cachetools.TTLCache`` that holds the same facts as objects. Each runs
in a process of its own, which is like a gateway's: all its modules are loaded, and the garbage
collector runs as it does there. A step is what one turn of the event loop does for one token, or
one sweep; every other request may have to wait for the longest. Both its CPU time and its time by
the clock are shown, because on a shared machine the latter says as much of the neighbours.
"""

import argparse
import gc
import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from cachetools import TTLCache

from gateway.app import SWEEP_ENTRIES
from gateway.cache import FactsCache
from gateway.clock import SystemClock
from gateway.metrics import Metrics
from gateway.process import spare_the_collector
from gateway.tokens import INACTIVE, Facts, Found, TokenKey, parse_facts, token_key
from gateway.validator import Validator

MAX_AGE_SECONDS = 900.0
NEGATIVE_ENTRIES = 10_000
HITS = 200_000
ROW = "{:<50}{:>20}{:>20}"


class Subject(Protocol):
    """A cache that is measured."""

    def put(self, key: TokenKey, facts: Facts) -> None:
        """Keep what a lookup learned."""

    def hit(self, key: TokenKey) -> None:
        """Find what a request needs."""

    def flush(self) -> None:
        """Forget everything."""

    def lapse(self) -> None:
        """Have everything be too old."""

    def sweep(self) -> bool:
        """Remove what is too old, as much as is done at a time; whether there is more."""


class Ours:
    """The gateway's, as requests use it: behind its validator."""

    def __init__(self, size: int) -> None:
        clock = SystemClock()
        self.cache = FactsCache(max_age_seconds=MAX_AGE_SECONDS, max_entries=size, clock=clock)
        self.negative = FactsCache(max_age_seconds=1.0, max_entries=NEGATIVE_ENTRIES, clock=clock)
        self.clock = clock
        self.validator = Validator(
            _ask_nobody,
            cache=self.cache,
            negative_cache=self.negative,
            clock=clock,
            metrics=_Uncounted(),
            timeout_seconds=1.0,
        )

    def put(self, key: TokenKey, facts: Facts) -> None:
        """Keep what a lookup learned."""
        self.validator._keep(key, facts, self.clock.monotonic(), float("inf"))

    def hit(self, key: TokenKey) -> None:
        """Find what a request needs."""
        if self.validator.cached(key, 60.0) is not None:
            self.validator.accepted(key, "/")

    def flush(self) -> None:
        """Forget everything."""
        self.validator.flush()

    def lapse(self) -> None:
        """Have everything be too old."""
        self.cache.max_age_seconds = 0.0

    def sweep(self) -> bool:
        """Remove what is too old; whether there is more."""
        self.cache.sweep(SWEEP_ENTRIES)
        return len(self.cache) > 0


class Plain:
    """What one would write at first: facts as they are, in cachetools' own cache with a TTL."""

    def __init__(self, size: int) -> None:
        self.cache: TTLCache[TokenKey, Facts] = TTLCache(size, MAX_AGE_SECONDS)
        self.negative: TTLCache[TokenKey, Facts] = TTLCache(NEGATIVE_ENTRIES, 1.0)

    def put(self, key: TokenKey, facts: Facts) -> None:
        """Keep what a lookup learned."""
        (self.cache if facts.active else self.negative)[key] = facts

    def hit(self, key: TokenKey) -> None:
        """Find what a request needs."""
        self.cache.get(key)

    def flush(self) -> None:
        """Forget everything."""
        self.cache.clear()

    def lapse(self) -> None:
        """It does so in its next step."""

    def sweep(self) -> bool:
        """Remove what is too old; whether there is more."""
        self.cache.expire(time.monotonic() + MAX_AGE_SECONDS)
        return len(self.cache) > 0


async def _ask_nobody(_: object) -> list[Found | None]:
    raise NotImplementedError


class _Uncounted(Metrics):
    def cache_hit(self) -> None:
        """Counting costs the same whatever the cache."""


class Steps:
    """The longest of many steps, and the CPU time of all."""

    def __init__(self) -> None:
        self.cpu_ns = self.longest_cpu_ns = self.longest_wall_ns = self.count = 0

    def take(self, step: Callable[..., object], *arguments: object) -> object:
        """Do a step."""
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        result = step(*arguments)
        cpu = time.thread_time_ns() - cpu
        wall = time.perf_counter_ns() - wall
        self.count += 1
        self.cpu_ns += cpu
        self.longest_cpu_ns = max(self.longest_cpu_ns, cpu)
        self.longest_wall_ns = max(self.longest_wall_ns, wall)
        return result

    def each_us(self) -> str:
        """Return the CPU time of a step in microseconds, without that of its measurement."""
        nothing = Steps()
        for _ in range(20_000):
            nothing.take(int)
        return f"{(self.cpu_ns / self.count - nothing.cpu_ns / nothing.count) / 1000:.2f} µs"

    def longest(self) -> str:
        """Return the longest step in milliseconds: CPU, and by the clock."""
        return f"{self.longest_cpu_ns / 1e6:.2f} / {self.longest_wall_ns / 1e6:.2f} ms"


def key_of(number: int) -> TokenKey:
    """Return the key of a token; digested anew each time, as for each request."""
    return token_key(f"a-token-of-the-benchmark-{number}")


def learned(number: int) -> Facts:
    """Return facts as a lookup does: parsed from a document, with a ``sub`` of its own."""
    document = {
        "active": True,
        "client_id": f"storefront-{number % 10}",
        "sub": f"5f0c7a4e-93d1-4b6f-8a20-{number:012d}",
        "scope": "orders:read orders:write profile",
        "exp": 4_102_444_800 + number,
        "token_type": "Bearer",
    }
    return parse_facts(json.dumps(document).encode(), now_at=0.0)


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def measure(make: Callable[[int], Subject], tokens: int, answer: Connection) -> None:
    """Send what each row of the table says of a cache."""
    rows: dict[str, str] = {}
    subject = make(tokens)
    for number in range(-10_000, 0):  # so that nothing of what follows is the first time
        subject.put(key_of(number), learned(-number))
        subject.hit(key_of(number))
    subject.flush()
    while subject.sweep():
        pass
    spare_the_collector()

    before = resident()
    fill = filled(subject, range(tokens))
    rows["memory for each token"] = f"{(resident() - before) / tokens:.0f} B"
    rows["insert, CPU"] = fill.each_us()
    for among in (1, 3_000, 100_000, tokens):
        rows[f"hit among {among:,}, CPU"] = f"{hits(subject, among):.0f} ns"

    rows["longest step: inserts"] = fill.longest()
    rows["longest step: hits and garbage"] = traffic(subject, tokens).longest()
    steps = Steps()
    steps.take(gc.collect)
    rows["longest step: a full garbage collection"] = steps.longest()
    flood = Steps()
    for number in range(tokens // 5):
        flood.take(subject.put, token_key(f"random-{number}"), INACTIVE)
    rows["longest step: random tokens that are no good"] = flood.longest()
    flood = filled(subject, range(tokens, tokens + tokens // 5))
    rows["longest step: good ones that push others out"] = flood.longest()
    rows["insert that pushes another out, CPU"] = flood.each_us()
    steps = Steps()
    steps.take(subject.flush)
    swept(subject, steps)
    rows["longest step: all flushed"] = steps.longest()
    filled(subject, range(tokens))
    steps = Steps()
    steps.take(subject.lapse)
    swept(subject, steps)
    rows["longest step: all lapse at once"] = steps.longest()
    gc.collect()
    rows["memory for each token afterwards"] = f"{(resident() - before) / tokens:.0f} B"
    answer.send(rows)


def filled(subject: Subject, numbers: Iterable[int]) -> Steps:
    """Put tokens."""
    steps = Steps()
    for number in numbers:
        key, facts = key_of(number), learned(number)
        steps.take(subject.put, key, facts)
    return steps


def hits(subject: Subject, among: int) -> float:
    """Return the nanoseconds of CPU for each hit of tokens taken at random."""
    chosen = random.Random(among)
    keys = [key_of(number) for number in chosen.choices(range(among), k=min(among, HITS))]
    keys *= HITS // len(keys)
    used = []
    for _ in range(4):
        began = time.thread_time_ns()
        for _ in repeat(None, len(keys)):
            pass
        nothing = time.thread_time_ns() - began
        began = time.thread_time_ns()
        for key in keys:
            subject.hit(key)
        used.append((time.thread_time_ns() - began - nothing) / len(keys))
    return min(used[1:])


def traffic(subject: Subject, tokens: int) -> Steps:
    """Take tokens at random, and leave as much for the garbage collector as many requests would."""
    steps = Steps()
    alive: list[object] = []

    def request(number: int) -> None:
        subject.hit(key_of(number))
        cycle: list[object] = [{} for _ in range(20)]
        cycle.append(cycle)
        alive.append(cycle)
        if len(alive) > 100:  # old enough by now to be looked for among old objects
            alive.clear()

    chosen = random.Random(tokens)
    for _ in range(HITS):
        steps.take(request, chosen.randrange(tokens))
    return steps


def swept(subject: Subject, steps: Steps) -> None:
    """Sweep until nothing is left."""
    while steps.take(subject.sweep):
        pass


def main() -> None:
    """Measure each in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    options = parser.parse_args()
    spawning = multiprocessing.get_context("spawn")
    columns: list[dict[str, str]] = []
    for make in (Ours, Plain):
        result, answer = spawning.Pipe(duplex=False)
        process = spawning.Process(target=measure, args=(make, options.tokens, answer))
        process.start()
        answer.close()
        columns.append(result.recv())
        process.join()
    print(ROW.format(f"{options.tokens:,} tokens", "the gateway", "TTLCache"))
    for name in columns[0]:
        print(ROW.format(name, *(column[name] for column in columns)))
    print("a longest step is shown as CPU time / time by the clock")


if __name__ == "__main__":
    main()
