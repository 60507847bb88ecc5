"""Threads beside the event loop."""

import asyncio
import threading

import pytest

from gateway.keymanager.threads import Threads


async def test_the_loop_goes_on() -> None:
    """While a function blocks, the loop runs; its result and its errors come back."""
    threads, release = Threads(), threading.Event()
    blocked = asyncio.create_task(threads.run(release.wait, 30))
    assert await threads.run(threading.current_thread) is not threading.current_thread()
    assert not blocked.done()
    release.set()
    assert await blocked is True
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    threads.stop()
