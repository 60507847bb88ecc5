"""Threads for what is synchronous, oauthlib and its Redis client, so that the loop never waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Threads:
    """A few threads of our own: a store that hangs must not use up the loop's default ones."""

    def __init__(self, count: int = 8) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="keymanager")

    async def run(
        self,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Return what ``function`` returns; it runs to its end even if nobody waits any more."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: function(*args, **kwargs)
        )

    def stop(self) -> None:
        """Let the threads end, without waiting for them."""
        self._executor.shutdown(wait=False, cancel_futures=True)
