"""Wait for what happens elsewhere, not for how long it may take."""

import asyncio
from collections.abc import Callable


async def until(happened: Callable[[], bool]) -> None:
    """Let the loop run until it has happened; raises TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 (what is waited for is a server's own state)
            await asyncio.sleep(0)
