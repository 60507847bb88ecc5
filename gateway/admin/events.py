"""The state, once a second, to everybody who watches: server-sent events (HTML §9.2).

What is sent is made once for all of them, and nothing is made while nobody watches. Each event
is a whole state, so a slow reader misses some and catches up with the latest. There is one
every second whatever happens, which makes it the heartbeat as well.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

log = structlog.stdlib.get_logger(__name__)

INTERVAL_SECONDS = 1.0
MOST_WATCHERS = 32
_WRITE_SECONDS = 10.0
_RETRY = b"retry: 2000\n\n"
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect events
}

_Mailbox = asyncio.Queue[bytes | None]


class NothingToTell(Exception):
    """There is no state to be had now; the next may be."""


class StateEvents:
    """Sends what ``describe`` tells to all watchers.

    ``look`` runs between events, while anybody watches.
    """

    def __init__(
        self,
        describe: Callable[[], Awaitable[dict[str, Any]]],
        *,
        look: Callable[[], Awaitable[None]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        write_seconds: float = _WRITE_SECONDS,
    ) -> None:
        self._describe = describe
        self._look = look or _nothing
        self._sleep = sleep
        self._write_seconds = write_seconds
        self._watchers: set[_Mailbox] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._latest: bytes | None = None
        self._closed = False

    @property
    def full(self) -> bool:
        """Whether nobody more may watch."""
        return self._closed or len(self._watchers) >= MOST_WATCHERS

    async def send(
        self, request: web.Request, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        """Answer with events until the client goes or ``close`` is called."""
        mailbox: _Mailbox = asyncio.Queue(1)
        self._watchers.add(mailbox)
        try:
            response = web.StreamResponse(headers={**_HEADERS, **(headers or {})})
            await response.prepare(request)
            await response.write(_RETRY)
            self._tick_on(mailbox)
            while (event := await mailbox.get()) is not None:
                async with asyncio.timeout(self._write_seconds):
                    await response.write(event)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._watchers.discard(mailbox)
            if not self._watchers and self._ticker is not None:
                self._ticker.cancel()
                self._ticker = self._latest = None
        return response

    def close(self) -> None:
        """End all streams, and let none begin."""
        self._closed = True
        for mailbox in self._watchers:
            _post(mailbox, None)

    def _tick_on(self, mailbox: _Mailbox) -> None:
        if self._closed:
            self.close()
        elif self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())
        elif self._latest is not None:
            _post(mailbox, self._latest)  # at once, rather than with the next tick

    async def _tick(self) -> None:
        while True:
            await self._publish()
            await asyncio.gather(self._look(), self._sleep(INTERVAL_SECONDS))

    async def _publish(self) -> None:
        try:
            state = json.dumps(await self._describe(), separators=(",", ":"))
        except NothingToTell:
            return
        except Exception:
            log.exception("the state can't be told")
            return
        self._latest = f"event: state\ndata: {state}\n\n".encode()
        for mailbox in self._watchers:
            _post(mailbox, self._latest)


def _post(mailbox: _Mailbox, event: bytes | None) -> None:
    """Leave an event in place of one that wasn't taken yet, unless that ends the stream."""
    if mailbox.full() and mailbox.get_nowait() is None:
        event = None
    mailbox.put_nowait(event)


async def _nothing() -> None:
    return
