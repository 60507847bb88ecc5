"""A time-out that doesn't blame others for the gateway's own slowness."""

import asyncio
from types import TracebackType
from typing import Self

_SLICES = 5


class Patience:
    """Like ``asyncio.timeout``, but a stall of the event loop counts only once, and little.

    A thousand requests that arrive together keep the loop busy for longer than Redis takes to
    answer. An ordinary time-out is then over before the answer, which has long arrived, is
    read, and good tokens are refused. This one waits in slices, each set when the one before has
    passed: however long the loop stalls, no more than a slice goes by.

    A cancellation that the block lost is raised when it ends. In Python 3.11 ``asyncio.wait_for``,
    with which redis-py sends commands, returns as if nothing had happened when it is cancelled just
    as what it waits for is done; what goes on for ever would then never stop.

    Raises ``TimeoutError`` from the block after ``seconds`` in which the loop kept turning.
    """

    def __init__(self, seconds: float) -> None:
        self._slice_seconds = seconds / _SLICES
        self._slices_left = _SLICES
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled_before = 0

    async def __aenter__(self) -> Self:
        self._cancelled_before = _cancellations()
        await self._timeout.__aenter__()
        self._start_slice()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(exc_type, exc, traceback)
        if exc_type is None and _cancellations() > self._cancelled_before:
            raise asyncio.CancelledError

    def _start_slice(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._slice_seconds, self._slice_passed)

    def _slice_passed(self) -> None:
        self._slices_left -= 1
        if self._slices_left:
            self._start_slice()
        else:
            self._timeout.reschedule(asyncio.get_running_loop().time())


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
