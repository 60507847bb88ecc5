"""The event loop that a process runs on: uvloop, which is an extra, or asyncio's own."""

import asyncio
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any, Literal, TypeVar

EventLoop = Literal["auto", "asyncio", "uvloop"]

_T = TypeVar("_T")


def run(main: Coroutine[Any, Any, _T], choice: EventLoop = "auto") -> _T:
    """Run a coroutine to its end as ``asyncio.run`` does, on the loop of this choice.

    ``"auto"`` is uvloop where it is installed.

    Raises:
        ModuleNotFoundError: uvloop is asked for and isn't installed; settings refuse that.
    """
    factory = None
    if choice == "uvloop" or (choice == "auto" and find_spec("uvloop") is not None):
        import uvloop  # noqa: PLC0415 (optional)

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def running() -> str:
    """Return which kind of loop is running: ``"uvloop"`` or ``"asyncio"``."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
