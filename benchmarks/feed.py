"""What the revocation feed costs a gateway while tokens are issued that it never sees.

    python benchmarks/feed.py redis://127.0.0.1:6379/0 [--rate 1000 2000 ...] [--seconds 5]

Another process writes tokens into the store, as the key manager would, each with its own ``SET``.
This one listens as a gateway does, with 10,000 tokens cached that nobody changes, and reports the
CPU time that it used, above what it uses at rest, for each token issued. Also: the time from a
``DEL`` in Redis until the facts are gone here.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable

import redis
from redis.asyncio import Redis as AsyncRedis

from gateway.app import Gateway
from gateway.settings import Settings
from gateway.tokens import TokenKey, token_key

HELD = 10_000
DOCUMENT = '{"active":true,"client_id":"bench","scope":"read","exp":4102444800}'


def issue(url: str, rate: int, seconds: float, prefix: str) -> None:
    """Write tokens at a steady rate."""
    with redis.Redis.from_url(url) as client:
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            wait = began + number / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            client.set(f"token:{token_key(f'{prefix}-{number}').hex()}", DOCUMENT, px=600_000)


async def measure(url: str, rates: list[int], seconds: float) -> None:
    """Print a line for each rate."""
    settings = Settings.model_validate(
        {
            "listen": {"port": 0},
            "admin": {"port": 0},
            "store": {"url": url},
            "revocation": {"on_revoke": "evict"},
            "routes": [{"path": "/", "upstream": "http://127.0.0.1:9"}],
        }
    )
    async with Gateway(settings) as gateway:
        assert gateway.feed is not None
        while not gateway.feed.is_up:
            await asyncio.sleep(0.01)
        keys = [token_key(f"held-{number}") for number in range(HELD)]
        await fill(gateway, url, keys)
        rest = await cpu_during(asyncio.sleep(seconds))
        print(f"at rest: {rest / seconds * 1000:.2f} ms of CPU a second")
        for rate in rates:
            writer = multiprocessing.get_context("spawn").Process(
                target=issue, args=(url, rate, seconds, f"{rate}-{time.time()}")
            )
            writer.start()
            began = time.monotonic()
            used = await cpu_during(asyncio.to_thread(writer.join))
            took = time.monotonic() - began
            each = (used - rest / seconds * took) / (rate * seconds)
            print(
                f"{rate:>6} issued a second (took {took:.1f} s): {each * 1e6:.0f} µs of CPU each, "
                f"{each * rate:.1%} of a core; up: {gateway.feed.is_up}"
            )
        await lag(gateway, url, keys[:200])


async def fill(gateway: Gateway, url: str, keys: list[TokenKey]) -> None:
    """Have the gateway cache tokens."""
    with redis.Redis.from_url(url) as client:
        for start in range(0, len(keys), 1000):
            names = [gateway.store.name(key) for key in keys[start : start + 1000]]
            client.mset(dict.fromkeys(names, DOCUMENT))
    await asyncio.sleep(1)  # until the feed has told of them: what is under way isn't kept
    for start in range(0, len(keys), 100):
        batch = keys[start : start + 100]
        await asyncio.gather(*(gateway.validator.validate(key, 900.0) for key in batch))


async def lag(gateway: Gateway, url: str, keys: list[TokenKey]) -> None:
    """Print how long a revocation takes to get here."""
    waits = []
    async with AsyncRedis.from_url(url) as client:
        for key in keys:
            assert gateway.validator.entry(key) is not None
            began = time.perf_counter()
            await client.delete(gateway.store.name(key))
            while gateway.validator.entry(key) is not None:
                await asyncio.sleep(0)
            waits.append(time.perf_counter() - began)
    cuts = statistics.quantiles(waits, n=100)
    print(f"DEL sent until evicted: p50 {cuts[49] * 1000:.2f} ms, p99 {cuts[98] * 1000:.2f} ms")


async def cpu_during(waited_for: Awaitable[object]) -> float:
    """Return the seconds of CPU that this process used meanwhile."""
    began = time.process_time()
    await waited_for
    return time.process_time() - began


def main() -> None:
    """Parse, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--rate", type=int, nargs="+", default=[250, 1000, 2000])
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    asyncio.run(measure(options.url, options.rate, options.seconds))


if __name__ == "__main__":
    main()
