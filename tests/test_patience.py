"""A time-out that counts only the time in which the loop turned."""

import asyncio
import threading
from contextlib import suppress

import pytest

from gateway.patience import Patience


async def test_what_never_comes_is_given_up() -> None:
    """A wait without end ends in TimeoutError."""
    with pytest.raises(TimeoutError):
        async with Patience(0.01):
            await asyncio.Event().wait()


async def test_what_comes_in_time_ends_the_wait() -> None:
    """A block that ends by itself leaves no timer that could hit what follows."""
    async with Patience(0.01) as patience:
        await asyncio.sleep(0)
    assert patience._timer is not None
    assert patience._timer.cancelled()


async def test_other_errors_pass() -> None:
    """What the block raises isn't changed."""
    with pytest.raises(KeyError):
        async with Patience(1):
            raise KeyError


async def test_a_cancelled_block_stays_cancelled() -> None:
    """Cancellation from outside isn't mistaken for the time-out."""

    async def wait() -> None:
        async with Patience(10):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stalled_loop_does_not_use_the_time_up() -> None:
    """The loop stalls for many times the time-out; an answer that is there by then is taken.

    ``asyncio.timeout`` fails this: its timer is due when the loop turns again.
    """
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    def stall() -> None:
        threading.Event().wait(0.2)  # the stall itself, which nothing can end sooner
        steps = iter(range(5))

        def turn() -> None:
            # Reading an answer off a socket takes some turns of the loop.
            if next(steps, None) is None:
                answer.set_result("here")
            else:
                loop.call_soon(turn)

        turn()

    async with Patience(0.05):
        loop.call_soon(stall)
        assert await answer == "here"


async def test_a_cancellation_that_was_lost_is_raised() -> None:
    """Whatever is waited for in the block may forget that it was cancelled."""
    began = asyncio.Event()

    async def forgetful() -> None:
        async with Patience(60):
            began.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()  # for ever

    task = asyncio.create_task(forgetful())
    await began.wait()
    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([task])
    assert task.cancelled()
