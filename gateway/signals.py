"""The signals that end a process of the gateway."""

import asyncio
import signal

Ending = asyncio.Queue[signal.Signals]
"""The ending signals, as they come: the first drains, a second one stops at once."""


def catch_ending() -> Ending:
    """Return the queue into which SIGTERM and SIGINT go from now on."""
    ending: Ending = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.put_nowait, number)
    return ending
