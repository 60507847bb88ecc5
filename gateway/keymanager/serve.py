"""The key manager as a server of its own, for ``gateway keymanager`` and for the demo."""

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

from gateway.clock import Clock, SystemClock
from gateway.keymanager.app import create_app
from gateway.keymanager.config import KeyManagerConfig
from gateway.keymanager.storage import open_storage


def _announce(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(
    config: KeyManagerConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 9000,
    store_url: str = "redis://127.0.0.1:6379/0",
    key_prefix: str = "token:",
    clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    announce: Callable[[str], None] = _announce,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or ``stop``; requests in flight are answered first.

    ``announce`` gets one line with the address once requests are accepted. ``port`` 0 takes a
    free one.

    Raises:
        OSError: the address can't be listened on.
        ValueError: a ``store_url`` of a kind that isn't known.
    """
    storage = open_storage(store_url, key_prefix=key_prefix)
    stop = stop or asyncio.Event()
    try:
        app = create_app(config, storage, clock)
        with _signals(stop):
            async with serving(app, host=host, port=port) as url:
                announce(f"key manager listening on {url}")
                await stop.wait()
    finally:
        storage.close()


@asynccontextmanager
async def serving(
    app: web.Application, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Serve the application meanwhile; gives its base URL.

    Raises:
        OSError: the address can't be listened on; the message says which and why.
    """
    # No access log and no tracebacks: aiohttp's quote what came in, credentials included.
    runner = web.AppRunner(app, access_log=None, logger=_logger(), shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{name}:{bound[1]}"
    finally:
        await runner.cleanup()


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set ``stop`` on SIGTERM and SIGINT; only the main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT)
    for kind in kinds:
        loop.add_signal_handler(kind, stop.set)
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)


def _logger() -> logging.Logger:
    logger = logging.getLogger(f"{__name__}.http")
    logger.addFilter(_without_traceback)
    return logger


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True
