"""Events of several workers as one stream: their states, asked for once a second and merged."""

import json
from typing import Any

from aiohttp import web

from gateway.admin.api import stream_state
from gateway.admin.events import NothingToTell, StateEvents
from gateway.admin.fleet import FleetAdmin
from gateway.admin.guard import Guard
from gateway.admin.merging import merge_states
from gateway.admin.resources import Kind
from gateway.settings import Admin


class FleetEvents:
    """Answers ``GET /api/events`` in front of the workers."""

    def __init__(self, fleet: FleetAdmin, admin: Admin, guard: Guard) -> None:
        self._fleet = fleet
        self._guard = guard
        # The workers judge a request as this port's own page would make it.
        self._headers = {"Host": "localhost"}
        if admin.token is not None:
            self._headers["Authorization"] = f"Bearer {admin.token.get_secret_value()}"
        self._events = StateEvents(self._describe)

    def add_to(self, app: web.Application) -> None:
        """Add the resource to an application, before the fleet's own."""
        stream = self._guard.before(self._stream, Kind.READING)
        app.router.add_get("/api/events", stream, allow_head=False)
        app.on_shutdown.append(self._close)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return await stream_state(self._events, request)

    async def _describe(self) -> dict[str, Any]:
        answers = await self._fleet.ask_all("GET", "/api/state", headers=self._headers)
        states = [json.loads(answer.body) for answer in answers if answer.status == 200]
        if not states:
            raise NothingToTell
        return merge_states(states)

    async def _close(self, _app: web.Application) -> None:
        self._events.close()
