"""Whether the gateway lives, whether it should get traffic, and what it has counted."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.errors import StoreUnavailable
from gateway.metrics import Metrics

_NO_STORE = {"Cache-Control": "no-store"}


class Health:
    """Answers ``/livez``, ``/readyz`` and ``/metrics``.

    Life depends on nothing else, or an outage of Redis would have every gateway restarted.
    Readiness depends on the store, and ends when ``terminating`` is set.
    """

    def __init__(self, *, ping_store: Callable[[], Awaitable[None]], metrics: Metrics) -> None:
        self._ping_store = ping_store
        self._metrics = metrics
        self.terminating = False

    def add_to(self, app: web.Application) -> None:
        """Add the three resources to an application."""
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._render_metrics)

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"}, headers=_NO_STORE)

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self.terminating:
            return self._unready("terminating")
        try:
            await self._ping_store()
        except StoreUnavailable:
            return self._unready("store unreachable")
        return web.json_response({"status": "ready"}, headers=_NO_STORE)

    async def _render_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(),
            headers={**_NO_STORE, "Content-Type": self._metrics.content_type},
        )

    def _unready(self, reason: str) -> web.Response:
        return web.json_response(
            {"status": "unready", "reason": reason}, status=503, headers=_NO_STORE
        )
