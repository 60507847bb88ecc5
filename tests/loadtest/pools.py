"""Pools for tests: each collects what comes back."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.loadtest.calls import Call, Kind
from gateway.loadtest.client import Pool
from gateway.loadtest.origins import Endpoint


class Collected:
    """The calls that a pool has given back, and a way to wait for them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._more = asyncio.Event()

    def __call__(self, call: Call) -> None:
        self.calls.append(call)
        self._more.set()

    async def wait_for(self, count: int) -> list[Call]:
        """Return the first so many calls; raises TimeoutError after five seconds."""
        async with asyncio.timeout(5):
            while len(self.calls) < count:
                self._more.clear()
                await self._more.wait()
        return self.calls[:count]


@asynccontextmanager
async def open_pool(
    port: int,
    *,
    limit: int = 4,
    timeout: float = 10.0,  # noqa: ASYNC109 (of the pool)
    connections: int = 1,
    tls: ssl.SSLContext | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Pool, Collected]]:
    """Give a started pool for a port of this machine, and what it collects."""
    collected = Collected()
    zero = time.monotonic()
    pool = Pool(
        Endpoint.of(f"http{'s' if tls else ''}://127.0.0.1:{port}/").origin,
        done=collected,
        clock=lambda: time.monotonic() - zero,
        limit=limit,
        timeout_seconds=timeout,
        tls=tls,
        **more,
    )
    try:
        await pool.start(connections)
        yield pool, collected
    finally:
        await pool.close()


def probe(planned: float = 0.0, path: str = "/") -> Call:
    """Return a call to be sent."""
    request = Endpoint.of(f"http://127.0.0.1{path}").compose("GET", [])
    return Call(Kind.PROBE, 0, 0, planned, request)
