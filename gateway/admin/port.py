"""The second port as a whole: health and metrics, the API, the live page."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from gateway.admin.access import Access
from gateway.admin.api import AdminApi, Fleet
from gateway.admin.door import AdminDoor, application
from gateway.admin.events import StateEvents
from gateway.admin.eviction import Evictor
from gateway.admin.guard import Guard
from gateway.admin.health import Health
from gateway.admin.page import LivePage
from gateway.admin.state import Watched, describe
from gateway.clock import Clock
from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.settings import Admin


class AdminPort:
    """Listens where the settings say; ``url`` says where that is once it is open."""

    def __init__(
        self,
        gateway: Watched,
        *,
        health: Health,
        evictor: Evictor,
        ping_store: Callable[[], Awaitable[None]],
        metrics: Metrics,
        clock: Clock,
        fleet: Fleet | None = None,
    ) -> None:
        self._gateway = gateway
        self._health = health
        self._evictor = evictor
        self._ping_store = ping_store
        self._fleet = fleet
        self._metrics = metrics
        self._clock = clock
        self._door: AdminDoor | None = None

    async def open(self, admin: Admin) -> None:
        """Listen.

        Raises:
            OSError: the port is taken or the address isn't this machine's.
        """
        self._door = AdminDoor(self.build(admin), counting=self._metrics, clock=self._clock)
        await self._door.open(admin)

    @property
    def url(self) -> str:
        """Where the port is."""
        return "" if self._door is None else self._door.url

    def build(self, admin: Admin) -> web.Application:
        """Return everything that the port serves, by these settings."""
        app = application(Access(admin))
        self.add_to(app, admin)
        return app

    def add_to(self, app: web.Application, admin: Admin) -> None:
        """Add everything to an application that somebody else serves."""
        self._health.add_to(app)
        api = AdminApi(
            self._gateway,
            evictor=self._evictor,
            guard=Guard(
                Access(admin), refused=self._metrics.admin_token_refused, clock=self._clock
            ),
            fleet=self._fleet,
            events=StateEvents(self._describe, look=self._look),
        )
        api.add_to(app)
        LivePage().add_to(app)

    async def close(self) -> None:
        """Close the port and end the streams of events."""
        if self._door is not None:
            await self._door.close()

    async def _describe(self) -> dict[str, Any]:
        return describe(self._gateway)

    async def _look(self) -> None:
        """Ask the store, which else is only heard of when requests need it."""
        with suppress(StoreUnavailable):
            await self._ping_store()
