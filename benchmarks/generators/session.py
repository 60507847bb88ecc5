"""An open loop over aiohttp's ClientSession on uvloop: a task for each request."""

import asyncio
import sys
import time

import aiohttp
import uvloop
from figures import cpu_seconds, say


async def main(url: str, rate: int, seconds: float) -> None:
    """Send what is due every millisecond, and record only the lag."""
    lags: list[float] = []
    errors = 0
    headers = {"Authorization": f"Bearer {'x' * 43}"}
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one(planned: float) -> None:
            nonlocal errors
            # The best case: that a task has begun is taken for its request being sent.
            lags.append(time.monotonic() - planned)
            async with session.get(url) as answer:
                await answer.read()
                errors += answer.status != 200

        async with session.get(url) as warm:
            await warm.read()
        cpu = cpu_seconds()
        begin = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        for number in range(round(rate * seconds)):
            planned = begin + number / rate
            while (wait := planned - time.monotonic()) > 0:
                await asyncio.sleep(max(wait, 0.001))
            task = asyncio.create_task(one(planned))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if number % 64 == 0:
                await asyncio.sleep(0)
        if tasks:
            await asyncio.wait(tasks)
        say(
            requests=len(lags),
            seconds=time.monotonic() - begin,
            cpu=cpu_seconds() - cpu,
            lags=lags,
            errors=errors,
        )


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
