"""Waiting for what happens in another process: no event tells it, so it is looked for."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(happened: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    """Return as soon as ``happened`` says so."""
    async with asyncio.timeout(seconds):
        while True:
            if await happened():
                return
            await asyncio.sleep(0)
