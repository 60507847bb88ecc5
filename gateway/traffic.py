"""Everything between a request and its backend that a reload of the settings replaces."""

import asyncio
from typing import TYPE_CHECKING

import structlog
from aiohttp import ClientSession, web

from gateway.clock import Clock
from gateway.failures import UpstreamFailures
from gateway.headers import HeaderPolicy
from gateway.metrics import Metrics
from gateway.oauth import OAuthEndpoints
from gateway.proxy.http import HttpProxy, reuse_trace
from gateway.proxy.pipeline import Pipeline
from gateway.proxy.private_names import missing_names
from gateway.proxy.websocket import WebSocketProxy
from gateway.recording import Recorder
from gateway.resolver import Resolver
from gateway.routes import Routes
from gateway.settings import Settings
from gateway.upstream import open_session, origin
from gateway.validator import Validator

if TYPE_CHECKING:
    from gateway.proxy.fast import FastLane

log = structlog.stdlib.get_logger(__name__)


class Traffic:
    """One generation of the pipeline, with the connections it holds to upstreams.

    After a reload the old generation finishes what it began.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        validator: Validator,
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
        resolver: Resolver,
    ) -> None:
        limits, proxy = settings.limits, settings.proxy
        policy = HeaderPolicy.from_settings(proxy)
        session = open_session(
            connect_timeout_seconds=limits.connect_timeout.total_seconds(),
            read_timeout_seconds=limits.read_timeout.total_seconds(),
            idle_timeout_seconds=limits.upstream_idle_timeout.total_seconds(),
            connections=limits.upstream_connections,
            ca_file=proxy.ca_file,
            resolver=resolver,
            most_fields=limits.header_fields,
            accept_incomplete_close=proxy.accept_incomplete_close,
            upstreams=len({origin(route.upstream) for route in settings.routes}),
            trace=reuse_trace(),
        )
        key_manager = open_session(
            connect_timeout_seconds=settings.key_manager.connect_timeout.total_seconds(),
            read_timeout_seconds=settings.key_manager.read_timeout.total_seconds(),
            idle_timeout_seconds=settings.key_manager.idle_timeout.total_seconds(),
            connections=limits.upstream_connections,
            ca_file=settings.key_manager.ca_file,
            resolver=resolver,
            most_fields=limits.header_fields,
        )
        self._sessions: tuple[ClientSession, ...] = (session, key_manager)
        failures = UpstreamFailures(metrics, monotonic=clock.monotonic)
        self._oauth = OAuthEndpoints(
            settings.key_manager,
            session=key_manager,
            recorder=recorder,
            metrics=metrics,
            clock=clock,
            limits=limits,
            policy=policy,
            revokes_on_replay=settings.revocation.revoke_on_replay,
        )
        http = HttpProxy(
            session,
            policy=policy,
            metrics=metrics,
            failures=failures,
            max_body=limits.body,
            body_timeout_seconds=limits.body_timeout.total_seconds(),
        )
        self.websocket = WebSocketProxy(http, most_message=limits.websocket_message)
        routes = Routes.from_settings(settings.routes)
        self.pipeline = Pipeline(
            routes=routes,
            validator=validator,
            http=http,
            websocket=self.websocket,
            oauth=self._oauth,
            metrics=metrics,
            failures=failures,
            clock=clock,
            realm=proxy.realm,
            max_header_bytes=limits.headers,
            max_header_fields=limits.header_fields,
            underscores=proxy.headers_with_underscores,
            access_log_enabled=settings.logging.access_log,
            revalidate_seconds=limits.revalidate_streams.total_seconds(),
        )
        lane_class = _fast_lane() if settings.proxy.fast_lane else None
        self.lane = None
        if lane_class is not None:
            self.lane = lane_class(
                settings,
                routes=routes,
                policy=policy,
                validator=validator,
                endpoint=self._oauth.endpoint,
                metrics=metrics,
                failures=failures,
                clock=clock,
                idle=self._tell_if_idle,
                resolver=resolver,
                log_access=self.pipeline.log_fast if settings.logging.access_log else None,
            )
        self._in_flight = 0
        self._idle: asyncio.Future[None] | None = None

    def drain(self) -> None:
        """Let each answer be the last on its connection, because the gateway stops."""
        self.pipeline.draining = True
        if self.lane is not None:
            self.lane.draining = True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self._in_flight += 1
        try:
            return await self.pipeline.handle(request)
        finally:
            self._in_flight -= 1
            self._tell_if_idle()

    async def idle(self) -> None:
        """Return when nothing is under way."""
        if not self._is_idle():
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def _is_idle(self) -> bool:
        return not self._in_flight and (self.lane is None or not self.lane.in_flight)

    def _tell_if_idle(self) -> None:
        if self._idle is not None and self._is_idle():
            self._idle.set_result(None)
            self._idle = None

    async def close(self) -> None:
        """Finish what clients have left behind, and close the connections to upstreams."""
        await self._oauth.close()
        if self.lane is not None:
            await self.lane.close()
        for session in self._sessions:
            await session.close()


def _fast_lane() -> "type[FastLane] | None":
    missing = missing_names()
    if missing:
        log.warning("this aiohttp isn't known to the fast lane, which stays off", missing=missing)
        return None
    # Only now: what it leans on may not even be there to import.
    from gateway.proxy.fast import FastLane  # noqa: PLC0415

    return FastLane
