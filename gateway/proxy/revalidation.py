"""Long exchanges, looked at again: one whose token is no longer good is cut off.

A WebSocket or an answer without end is judged when it begins, and would otherwise go on for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import structlog

from gateway.errors import GatewayError, StoreUnavailable

log = structlog.stdlib.get_logger(__name__)

UNANSWERED_CHECKS = 2
"""Checks in a row that the store leaves unanswered, after which the exchange is cut off. A single
failure would cut off every stream at once for a restart of Redis."""


class Revalidation:
    """Runs a check at each interval while a block is under way; ends the exchange when it fails.

    ``check`` raises a ``GatewayError`` when the token is no longer good. ``end`` is called once,
    and has the exchange end. With an interval of 0 nothing is checked. Until the first interval
    has passed it costs one timer.
    """

    def __init__(
        self,
        interval_seconds: float,
        *,
        check: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self._interval_seconds = interval_seconds
        self._check = check
        self._end = end
        self._timer: asyncio.TimerHandle | None = None
        self._checking: asyncio.Task[None] | None = None
        self.ended = False

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self._checking is not None:
            await asyncio.gather(self._checking, return_exceptions=True)

    def start(self) -> None:
        """Begin to check."""
        if self._interval_seconds:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval_seconds, self._begin)

    def stop(self) -> None:
        """Check no more, unless ``end`` was called already."""
        if self._timer is not None:
            self._timer.cancel()
        if self._checking is not None and not self.ended:  # else it sees to the exchange's end
            self._checking.cancel()

    def _begin(self) -> None:
        self._checking = asyncio.create_task(self._repeat())

    async def _repeat(self) -> None:
        unanswered = 0
        while True:
            try:
                await self._check()
            except StoreUnavailable:
                unanswered += 1
                if unanswered == UNANSWERED_CHECKS:
                    break
            except GatewayError:
                break
            else:
                unanswered = 0
            await asyncio.sleep(self._interval_seconds)
        self.ended = True
        await self._end()
