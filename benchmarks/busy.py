"""What a measurement does on a busy machine: it waits for what starts, and tries more gently.

Nothing here is about gateways: who is slow because others have the processors says so, and goes
on for as long as that makes sense.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

PATIENCE_SECONDS = 180.0
"""How long what was started may take to come up, as long as it runs."""

TELL_SECONDS = 10.0
TRIES = 3
WIDEST_SECONDS = 0.5
"""No probe interval is widened beyond: windows are of seconds."""


class NotUpError(Exception):
    """Something that a measurement needs didn't come up; says what and why."""


async def until(
    what: str,
    is_up: Callable[[], Awaitable[bool]],
    *,
    exit_code: Callable[[], int | None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Return once ``is_up``, and tell every ten seconds what is waited for.

    Raises:
        NotUpError: the process has ended, by its ``exit_code``, or is late beyond all patience.
    """
    began = told = clock()
    while not await is_up():
        now = clock()
        if (code := exit_code()) is not None:
            raise NotUpError(f"{what} ended with exit code {code} before it was up")
        if now - began >= PATIENCE_SECONDS:
            raise NotUpError(f"{what} wasn't up after {now - began:.0f} s")
        if now - told >= TELL_SECONDS:
            told = now
            say(f"{what} isn't up after {now - began:.0f} s; it runs, the machine may be busy")
        await sleep(0.05)


def gentler(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Return flags for another try of a run that wasn't valid; ``run`` is one of its report.

    Half the background, and probes that are twice as far apart, or so far that the lag that was
    measured would have been half of what passes (half an interval, validity.py).
    """
    asked = run["header"]["arguments"]
    lag: float = run["lag"]["p99"] or 0.0
    interval = max(
        asked["probe_interval"], min(WIDEST_SECONDS, max(2 * asked["probe_interval"], 4 * lag))
    )
    return (
        f"--probe-interval={1000 * interval:.0f}ms",
        f"--background-rps={asked['background_rps'] / 2:g}",
    )


def say(text: str) -> None:
    """Tell whoever waits at the terminal, beside the load tester's own lines."""
    print(text, file=sys.stderr, flush=True)
