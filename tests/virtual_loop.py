"""An event loop whose time is a test's clock: it never waits, and timers run in their order."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

from clocks import FakeClock

_GRAIN = 2.0**-20


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready until nothing is; time passes by ``advance`` alone."""

    _ready: Any  # asyncio's own, in every version so far: what is to run in the next turn,
    _scheduled: Any  # and a heap of timers

    def __init__(self, clock: FakeClock) -> None:
        self._test_clock = clock
        super().__init__()
        self._clock_resolution = _GRAIN / 2

    def time(self) -> float:
        return self._test_clock.monotonic()

    def wall(self) -> float:
        return self._test_clock.wall()

    def call_at(  # type: ignore[override]
        self, when: float, *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        """Round up, to what floats add up exactly.

        Whoever finds a timer early by a rounding error would set it again, for ever.
        """
        return super().call_at(math.ceil(when / _GRAIN) * _GRAIN, *args, **kwargs)

    async def pause(self, seconds: float) -> None:
        """Return when so much time has passed."""
        passed = asyncio.Event()
        self.call_later(seconds, passed.set)
        await passed.wait()

    def settle(self) -> None:
        """Run until nothing is ready."""
        self.call_soon(self._stop_when_idle)
        self.run_forever()

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at each timer on the way."""
        until = math.ceil((self.time() + seconds) / _GRAIN) * _GRAIN
        while (due := self._next_timer()) is not None and due <= until:
            self._test_clock.advance(max(0.0, due - self.time()))
            self.settle()
        self._test_clock.advance(until - self.time())

    def finish(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that waits for no time to pass."""
        task = self.create_task(coroutine)
        self.settle()
        task.result()

    def end(self) -> None:
        """Cancel all that is left, and close."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        self.close()

    def _stop_when_idle(self) -> None:
        if self._ready:
            self.call_soon(self._stop_when_idle)
        else:
            self.stop()

    def _next_timer(self) -> float | None:
        return min(
            (timer.when() for timer in self._scheduled if not timer.cancelled()), default=None
        )
