"""What stands before the admin API: who may ask is judged before anything is read.

The same in a gateway of one process and in the supervisor of several.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from gateway.admin.access import Access, Refusal
from gateway.admin.answers import refusal_response
from gateway.admin.resources import Kind
from gateway.clock import Clock, SystemClock
from gateway.seldom import Seldom

log = structlog.stdlib.get_logger(__name__)

MOST_BODY_BYTES = 64 * 1024
"""The largest body that the API takes: ``client_max_size`` of the applications that serve it."""
BODY_SECONDS = 10.0
"""How long all of a body may take."""
_CLOSE = (("Connection", "close"),)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Judges requests by the rules of ``access``; ``refused`` counts tokens that are wrong."""

    def __init__(
        self,
        access: Access,
        *,
        refused: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._access = access
        self._refused = refused
        self._seldom = Seldom(1.0, (clock or SystemClock()).monotonic)
        self._body_seconds = body_seconds

    def before(self, handler: Handler, kind: Kind) -> Handler:
        """Return a handler that answers those who may ask, and has their request's body."""
        if kind is Kind.OPEN:
            return handler

        async def guarded(request: web.Request) -> web.StreamResponse:
            refusal = self._access.judge(request.headers, changing=kind is Kind.CHANGING)
            if refusal is None:
                refusal = await self._read(request)
            elif refusal.status == 401 and "Authorization" in request.headers:
                self._note(request)
            return await handler(request) if refusal is None else refusal_response(refusal)

        return guarded

    async def _read(self, request: web.Request) -> Refusal | None:
        """Have the body read, which the request remembers; return what is wrong with it."""
        try:
            async with asyncio.timeout(self._body_seconds):
                await request.read()
        except web.HTTPRequestEntityTooLarge:
            return Refusal(413, "content_too_large", "The body is too large.")
        except TimeoutError:
            return Refusal(408, "request_timeout", "The body took too long.", _CLOSE)
        return None

    def _note(self, request: web.Request) -> None:
        self._refused()
        if self._seldom.due("token"):
            log.warning(
                "admin token refused",
                remote=request.remote,
                not_logged=self._seldom.held_back("token"),
            )
