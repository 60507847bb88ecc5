"""The signals that end a process arrive in order, and end nothing by themselves."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from gateway.signals import catch_ending


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the handlers back that were there before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_signals_are_queued() -> None:
    """Each is there for whoever waits for it, the second one too."""
    ending = catch_ending()
    async with asyncio.timeout(10):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            assert await ending.get() is number
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)
