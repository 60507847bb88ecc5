"""The second port as a whole: health and metrics, the API, the live page."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from gateway.admin.access import Access
from gateway.admin.api import AdminApi, Fleet
from gateway.admin.events import StateEvents
from gateway.admin.eviction import Evictor
from gateway.admin.health import Health
from gateway.admin.page import LivePage
from gateway.admin.state import Watched, describe
from gateway.errors import StoreUnavailable
from gateway.listeners import authority
from gateway.settings import Admin

MOST_BODY_BYTES = 64 * 1024
"""What the application of whoever serves it should take at most."""
_SHUTDOWN_SECONDS = 5.0


class AdminPort:
    """Listens where the settings say; ``url`` says where that is once it is open."""

    def __init__(
        self,
        gateway: Watched,
        *,
        health: Health,
        evictor: Evictor,
        ping_store: Callable[[], Awaitable[None]],
        fleet: Fleet | None = None,
    ) -> None:
        self._gateway = gateway
        self._health = health
        self._evictor = evictor
        self._ping_store = ping_store
        self._fleet = fleet
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def open(self, admin: Admin) -> None:
        """Listen.

        Raises:
            OSError: the port is taken or the address isn't this machine's.
        """
        self._runner = web.AppRunner(
            self.build(admin),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, admin.host, admin.port).start()
        self.url = f"http://{authority(self._runner.addresses[0])}"

    def build(self, admin: Admin) -> web.Application:
        """Return everything that the port serves, by these settings."""
        app = web.Application(client_max_size=MOST_BODY_BYTES)
        self.add_to(app, admin)
        return app

    def add_to(self, app: web.Application, admin: Admin) -> None:
        """Add everything to an application that somebody else serves."""
        self._health.add_to(app)
        api = AdminApi(
            self._gateway,
            evictor=self._evictor,
            access=Access(admin),
            fleet=self._fleet,
            events=StateEvents(self._describe, look=self._look),
        )
        api.add_to(app)
        LivePage().add_to(app)

    async def close(self) -> None:
        """Close the port and end the streams of events."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _describe(self) -> dict[str, Any]:
        return describe(self._gateway)

    async def _look(self) -> None:
        """Ask the store, which else is only heard of when requests need it."""
        with suppress(StoreUnavailable):
            await self._ping_store()
