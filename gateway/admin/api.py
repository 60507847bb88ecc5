"""The admin API: the state, what is revoked and still passes, and evictions.

``openapi.json`` beside this file describes it.
"""

import asyncio
import json
from importlib.resources import files
from typing import Any, Protocol

import structlog
from aiohttp import web

from gateway import __version__
from gateway.admin.access import Refusal
from gateway.admin.answers import NO_STORE, SECURITY_HEADERS, refusal_response
from gateway.admin.events import StateEvents
from gateway.admin.eviction import Eviction, Evictor, InvalidEviction, parse_eviction
from gateway.admin.guard import Guard
from gateway.admin.resources import Kind
from gateway.admin.state import Watched, describe, describe_token, page_of
from gateway.errors import StoreUnavailable

log = structlog.stdlib.get_logger(__name__)

MOST_IN_PAGE = 1000
_DESCRIBED_AT_ONCE = 100  # about a millisecond's work


class Fleet(Protocol):
    """All gateways on one store."""

    async def evict(self, eviction: Eviction) -> int | None:
        """Ask all of them to evict; return how many heard it, ``None`` where nobody knows.

        Raises:
            StoreUnavailable: they can't be asked.
        """
        ...


class AdminApi:
    """Answers what is under ``/api/``."""

    def __init__(
        self,
        gateway: Watched,
        *,
        evictor: Evictor,
        guard: Guard,
        events: StateEvents,
        fleet: Fleet | None = None,
    ) -> None:
        self._gateway = gateway
        self._evictor = evictor
        self._guard = guard
        self._fleet = fleet
        self._events = events
        self._document = _openapi()

    def add_to(self, app: web.Application) -> None:
        """Add the resources to an application, whose shutdown ends the streams of events.

        The application's ``client_max_size`` bounds what an eviction may be asked with.
        """
        for path, handler, kind in (
            ("/api/openapi.json", self._openapi, Kind.READING),
            ("/api/state", self._state, Kind.READING),
            ("/api/revoked", self._revoked, Kind.READING),
        ):
            app.router.add_get(path, self._guard.before(handler, kind))
        stream = self._guard.before(self._stream, Kind.READING)
        app.router.add_get("/api/events", stream, allow_head=False)
        app.router.add_post("/api/evict", self._guard.before(self._evict, Kind.CHANGING))
        app.on_shutdown.append(self._close)

    async def _close(self, _app: web.Application) -> None:
        self._events.close()

    async def _openapi(self, _request: web.Request) -> web.Response:
        return _answer(self._document)

    async def _state(self, _request: web.Request) -> web.Response:
        return _answer(describe(self._gateway))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return await stream_state(self._events, request)

    async def _revoked(self, request: web.Request) -> web.Response:
        try:
            limit = _limit(request.query.get("limit", "100"))
            after = request.query.get("after")
            shown, following = page_of(self._gateway, limit=limit, after=after)
        except ValueError:
            description = f"limit is from 1 to {MOST_IN_PAGE}, after the next of another page."
            return refusal_response(Refusal(400, "invalid_request", description))
        tokens: list[dict[str, Any]] = []
        for number, token in enumerate(shown):
            if number % _DESCRIBED_AT_ONCE == _DESCRIBED_AT_ONCE - 1:
                await asyncio.sleep(0)
            tokens.append(describe_token(token))
        count = self._gateway.revoked_count()
        return _answer({"count": count, "tokens": tokens, "next": following})

    async def _evict(self, request: web.Request) -> web.Response:
        # Forms and plain text are what a page of another origin can send unasked (Fetch §2.2.2).
        if request.content_type != "application/json":
            return refusal_response(
                Refusal(415, "unsupported_media_type", "application/json is needed.")
            )
        try:
            eviction = parse_eviction(await request.read())
        except InvalidEviction as fault:
            return refusal_response(Refusal(400, "invalid_request", f"{fault}."))
        if eviction.scope == "fleet" and self._fleet is None:
            description = "The fleet can't be reached from here: revocation.feed is off."
            return refusal_response(Refusal(409, "no_fleet", description))
        evicted = await self._evictor.evict(eviction)
        told: dict[str, Any] = {"scope": eviction.scope, "by": eviction.by, "evicted": evicted}
        if eviction.scope == "fleet" and self._fleet is not None:
            try:
                told["gateways"] = await self._fleet.evict(eviction)
            except StoreUnavailable:
                description = f"Evicted here ({evicted}), but the others can't be asked."
                return refusal_response(Refusal(503, "store_unavailable", description))
        log.info("evicted", **told, remote=request.remote)
        return _answer(told)


async def stream_state(events: StateEvents, request: web.Request) -> web.StreamResponse:
    """Answer with events, unless too many watch."""
    if events.full:
        return refusal_response(Refusal(503, "unavailable", "Nobody more can watch now."))
    return await events.send(request, SECURITY_HEADERS)


def _answer(document: dict[str, Any]) -> web.Response:
    return web.json_response(document, headers=NO_STORE)


def _limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit <= MOST_IN_PAGE:
        raise ValueError("out of range")
    return limit


def _openapi() -> dict[str, Any]:
    text = files("gateway.admin").joinpath("openapi.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    document["info"]["version"] = __version__
    return document
