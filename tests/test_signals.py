"""The signals that end a process arrive in order, and end nothing by themselves."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from gateway.signals import Hangups, catch_ending


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the handlers back that were there before."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
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


async def test_a_hangup_before_there_is_anything_to_reload_is_kept() -> None:
    """By default it would end the process; it is acted upon once that can be."""
    hangups = Hangups()
    os.kill(os.getpid(), signal.SIGHUP)
    reloads: asyncio.Queue[None] = asyncio.Queue()
    hangups.hand_to(lambda: reloads.put_nowait(None))
    async with asyncio.timeout(10):
        await reloads.get()
        os.kill(os.getpid(), signal.SIGHUP)
        await reloads.get()
    assert reloads.empty()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_no_hangup_reloads_nothing() -> None:
    """Only one that came is acted upon."""
    reloads: list[None] = []
    Hangups().hand_to(lambda: reloads.append(None))
    for _ in range(3):
        await asyncio.sleep(0)
    assert reloads == []
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
