"""The key manager as a server of its own, for ``gateway keymanager`` and for the demo."""

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.clock import Clock, SystemClock
from gateway.keymanager.app import create_app
from gateway.keymanager.config import KeyManagerConfig
from gateway.keymanager.page import NOT_STORED
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
    writes_store: bool = True,
    clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    announce: Callable[[str], None] = _announce,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or ``stop``; requests in flight are answered first.

    ``announce`` gets one line with the address once requests are accepted. ``port`` 0 takes a
    free one. ``writes_store`` is for a gateway that doesn't record tokens itself; see ``Storage``.

    Raises:
        OSError: the address can't be listened on.
        ValueError: a ``store_url`` of a kind that isn't known.
    """
    storage = open_storage(store_url, key_prefix=key_prefix, writes_store=writes_store)
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
    runner = _Runner(app, access_log=None, logger=_logger(), shutdown_timeout=5)
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


class _Connection(RequestHandler):
    """aiohttp's, whose answer to what it can't parse would repeat it, credentials included."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Answer in our own words."""
        super().handle_error(request, status, exc)  # which logs, and sees whether it can answer
        code = "invalid_request" if status < 500 else "server_error"
        response = web.json_response({"error": code}, status=status, headers=NOT_STORED)
        response.force_close()
        return response


class _Server(web.Server):
    def __init__(self, server: web.Server, **kwargs: Any) -> None:
        super().__init__(server.request_handler, request_factory=server.request_factory, **kwargs)
        self._arguments = kwargs

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._arguments)


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), **self._kwargs)


def _logger() -> logging.Logger:
    logger = logging.getLogger(f"{__name__}.http")
    logger.addFilter(_without_traceback)
    return logger


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = record.exc_text = None
    return True
