"""The signals that end a process of the gateway, and the one that reloads its settings."""

import asyncio
import signal
from collections.abc import Callable

Ending = asyncio.Queue[signal.Signals]
"""The ending signals, as they come: the first drains, a second one stops at once."""


def catch_ending() -> Ending:
    """Return the queue into which SIGTERM and SIGINT go from now on."""
    ending: Ending = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.put_nowait, number)
    return ending


class Hangups:
    """SIGHUP, from now on: it ends nothing, and one that comes too early isn't lost.

    While a process starts there is nothing yet that could be reloaded, and what it does by default
    is to end. Whoever has changed a setting since it was read is heard once there is.
    """

    def __init__(self) -> None:
        self._early = False
        signal.signal(signal.SIGHUP, lambda *_: self._keep())

    def _keep(self) -> None:
        self._early = True

    def hand_to(self, reload: Callable[[], None]) -> None:
        """Have the running loop call ``reload`` at each one, and soon if there was one already."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, reload)
        if self._early:
            loop.call_soon(reload)
