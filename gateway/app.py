"""The composition root: builds every object once, and owns the life of both ports."""

import asyncio
from contextlib import suppress
from typing import Self

import structlog
from aiohttp import web

from gateway.admin.eviction import Evictor
from gateway.admin.fleet_evictions import FleetEvictions
from gateway.admin.health import Health
from gateway.admin.port import AdminPort
from gateway.admin.view import GatewayView
from gateway.bound import promised_bounds, widest_max_age
from gateway.cache import FactsCache
from gateway.clock import Clock, SystemClock
from gateway.descriptors import clients_share
from gateway.errors import GatewayError
from gateway.feed import RevocationFeed
from gateway.listeners import Inherited, Listeners
from gateway.metrics import Metrics
from gateway.notices import Notices
from gateway.proxy.server import GatewayServer, require_c_parser
from gateway.recording import Recorder
from gateway.resolver import Resolver
from gateway.revocations import RevokedTokens
from gateway.settings import Settings
from gateway.settings.reloads import applicable
from gateway.settings.render import changed_settings
from gateway.store import TokenStore, open_store
from gateway.traffic import Traffic
from gateway.validator import Validator

log = structlog.stdlib.get_logger(__name__)

_GOODBYE_SECONDS = 0.5
_NEWCOMERS_SECONDS = 1.0
"""What who has connected has for a first request, when nobody may connect any more."""
_SWEEP_INTERVAL_SECONDS = 0.1
SWEEP_ENTRIES = 500
"""Entries that a sweep of each cache removes, at most: about a millisecond of work."""


class Gateway:
    """A gateway, from its settings to its open ports.

    ``store`` is used instead of the one that the settings name, and isn't closed. With what is
    ``inherited`` it opens no port.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        store: TokenStore | None = None,
        inherited: Inherited | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._clock = clock or SystemClock()
        self._resolver = resolver or Resolver(monotonic=self._clock.monotonic)
        self._owns_store = store is None
        self.store = store or open_store(settings.store, resolver=self._resolver)
        self.revoked = RevokedTokens(
            max_age_seconds=widest_max_age(settings), clock=self._clock, metrics=self.metrics
        )
        self._cache, self._negative_cache = self._build_caches()
        self.validator = Validator(
            self.store.find_many,
            cache=self._cache,
            negative_cache=self._negative_cache,
            clock=self._clock,
            metrics=self.metrics,
            timeout_seconds=settings.store.timeout.total_seconds(),
            max_batch=settings.store.max_batch,
            revoked=self.revoked,
            evicts=settings.revocation.on_revoke == "evict",
        )
        self._recorder = Recorder(
            self.store,
            known=self.validator,
            metrics=self.metrics,
            clock=self._clock,
            revoke_on_refresh=settings.revocation.revoke_on_refresh,
            remembers_replaced=settings.revocation.revoke_on_replay,
        )
        self.validator.wait_for(self._recorder.holds)
        self.feed = self._build_feed() if settings.revocation.feed else None
        self.metrics.watch_revoked(self.revoked.__len__)
        self.metrics.promise(promised_bounds(settings))
        self._health = Health(ping_store=self.store.ping, metrics=self.metrics)
        self._traffic: Traffic | None = None
        self._retired: dict[asyncio.Task[None], Traffic] = {}
        self._server: GatewayServer | None = None
        self._listeners = Listeners(counting=self.metrics, clock=self._clock)
        self._inherited = inherited
        self._admin = self._build_admin()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where clients connect, without TLS if there is such a port."""
        return self._listeners.url

    @property
    def tls_url(self) -> str | None:
        """Where clients connect with TLS."""
        return self._listeners.tls_url

    @property
    def admin_url(self) -> str:
        """Where operators connect."""
        return self._admin.url

    async def start(self) -> None:
        """Open both ports; ``url``, ``tls_url`` and ``admin_url`` say where.

        Raises:
            OSError: a port is taken or an address isn't this machine's.
            SettingsError: a certificate or key can't be used.
        """
        require_c_parser()
        try:
            self._traffic = self._build_traffic(self.settings)
            server = self._server = self._build_server()
            self._server.use_lane(self._traffic.lane)
            self._server.max_connections = clients_share(self.settings)
            self.metrics.watch_fast_lane(lambda: server.fast_requests)
            sockets = self._inherited.sockets if self._inherited else None
            await self._listeners.open(self._server, self.settings, sockets)
            if self._inherited:
                self._admin.add_to(self._inherited.admin, self.settings.admin)
            else:
                await self._admin.open(self.settings.admin)
        except BaseException:
            await self.stop()
            raise
        self._sweeper = asyncio.create_task(self._sweep())
        if self.feed is not None:
            self.feed.start()
            self.notices.start()
        if not self._inherited:
            log.info("listening", url=self.url, tls_url=self.tls_url, admin_url=self.admin_url)

    async def stop(self) -> None:
        """Close everything now; what is under way is cut off."""
        self._listeners.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._close_websockets()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(0.1)
        if self.feed is not None:
            await self.feed.stop()
            await self.notices.stop()
        for retired in self._retired:
            retired.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        if self._traffic is not None:
            await self._traffic.close()
        await self._admin.close()
        await self.validator.close()
        await self._recorder.close()
        if self._owns_store:
            await self.store.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def drain(self, *, grace_seconds: float) -> None:
        """Stop as a gateway should that others rely on, then close everything.

        Readiness fails at once, but connections are accepted for ``grace_seconds`` more, because
        whoever sends traffic needs that long to notice. Then the ports close, WebSockets are told,
        and requests under way have ``listen.drain_timeout`` to finish.
        """
        assert self._traffic is not None
        assert self._server is not None
        self._health.terminating = True
        for traffic in self._generations():
            traffic.drain()
        log.info("draining", grace_seconds=grace_seconds)
        await asyncio.sleep(grace_seconds)
        await self._listeners.drain()
        await self._server.hear_newcomers(
            _NEWCOMERS_SECONDS, beginning=lambda: self._listeners.beginning
        )
        self._server.close_idle()
        try:
            async with asyncio.timeout(self.settings.listen.drain_timeout.total_seconds()):
                # Those that don't answer a close frame have no more time than requests have.
                await self._close_websockets()
                await self._traffic.idle()
                await asyncio.gather(*self._retired)
        except TimeoutError:
            log.warning("requests were still under way at the end of listen.drain_timeout")
        await self.stop()

    def reload(self, settings: Settings) -> None:
        """Work by new settings from the next request on; requests under way keep the old ones.

        Raises:
            SettingsError: a certificate or key can't be used; nothing has changed then.
        """
        if self._traffic is None or self._server is None:
            return  # not started, so nothing works by the old ones yet
        settings, fixed = applicable(self.settings, settings)
        changed = changed_settings(self.settings, settings)
        if fixed:
            log.warning("settings that need a restart are left as they were", settings=fixed)
        self._listeners.reload_certificate(settings)
        old, self._traffic = self._traffic, self._build_traffic(settings)
        if self._health.terminating:
            self._traffic.drain()
        self._server.use_lane(self._traffic.lane)
        self.settings = settings
        self._cache.max_age_seconds = settings.cache.max_age.total_seconds()
        self._cache.stale_seconds = settings.cache.stale_if_error.total_seconds()
        self._negative_cache.max_age_seconds = settings.cache.negative_max_age.total_seconds()
        self._recorder.revoke_on_refresh = settings.revocation.revoke_on_refresh
        self._recorder.remembers_replaced = settings.revocation.revoke_on_replay
        self.revoked.set_max_age(widest_max_age(settings))
        self.metrics.promise(promised_bounds(settings))
        self._server.apply(settings.limits)
        self._server.max_connections = clients_share(settings)
        retired = asyncio.create_task(_close_when_idle(old))
        self._retired[retired] = old
        retired.add_done_callback(self._retired.pop)
        log.info("settings reloaded", changed=changed)

    def _generations(self) -> list[Traffic]:
        current = [self._traffic] if self._traffic is not None else []
        return [*self._retired.values(), *current]

    async def _close_websockets(self) -> None:
        await asyncio.gather(*(traffic.websocket.close() for traffic in self._generations()))

    def _build_caches(self) -> tuple[FactsCache, FactsCache]:
        settings = self.settings.cache
        cache = FactsCache(
            max_age_seconds=settings.max_age.total_seconds(),
            stale_seconds=settings.stale_if_error.total_seconds(),
            max_entries=settings.max_entries,
            clock=self._clock,
            left=self.revoked.left,
        )
        negative_cache = FactsCache(
            max_age_seconds=settings.negative_max_age.total_seconds(),
            max_entries=settings.negative_max_entries,
            clock=self._clock,
        )
        self.metrics.watch_cache("positive", cache.__len__, cache.evictions)
        self.metrics.watch_cache("negative", negative_cache.__len__, negative_cache.evictions)
        return cache, negative_cache

    def _build_admin(self) -> AdminPort:
        view = GatewayView(
            current=lambda: self.settings,
            metrics=self.metrics,
            store=self.store,
            clock=self._clock,
            started=self._clock.monotonic(),
            book=self.revoked,
        )
        evictor = Evictor(self.validator)
        fleet = FleetEvictions(evictor)
        interval_seconds = self.settings.revocation.feed_ping_interval.total_seconds()
        fleet.notices = self.notices = Notices(
            self.store, fleet.heard, ping_interval_seconds=interval_seconds
        )
        return AdminPort(
            view,
            health=self._health,
            evictor=evictor,
            ping_store=self.store.ping,
            metrics=self.metrics,
            clock=self._clock,
            fleet=fleet if self.settings.revocation.feed else None,
        )

    def _build_feed(self) -> RevocationFeed:
        settings = self.settings.revocation
        feed = RevocationFeed(
            self.store,
            self.validator,
            clock=self._clock,
            exposure=self.metrics.exposure,
            ping_interval_seconds=settings.feed_ping_interval.total_seconds(),
            down_max_age_seconds=settings.feed_down_max_age.total_seconds(),
            max_batch=self.settings.store.max_batch,
        )
        self.metrics.watch_feed(lambda: (feed.is_up, feed.lag_seconds))
        return feed

    def _build_traffic(self, settings: Settings) -> Traffic:
        return Traffic(
            settings,
            validator=self.validator,
            recorder=self._recorder,
            metrics=self.metrics,
            clock=self._clock,
            resolver=self._resolver,
        )

    def _build_server(self) -> GatewayServer:
        return GatewayServer(
            self._handle, self._refuse, metrics=self.metrics, limits=self.settings.limits
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._traffic is not None
        return await self._traffic.handle(request)

    def _refuse(self, request: web.BaseRequest, error: GatewayError) -> web.StreamResponse:
        assert self._traffic is not None
        return self._traffic.pipeline.refuse(request, error)

    async def _sweep(self) -> None:
        pause = _SWEEP_INTERVAL_SECONDS
        while True:
            await asyncio.sleep(pause)
            self._cache.sweep(SWEEP_ENTRIES)
            self._negative_cache.sweep(SWEEP_ENTRIES)
            # What is left of very many goes between requests.
            pause = 0.0 if self.revoked.lapse() else _SWEEP_INTERVAL_SECONDS


async def _close_when_idle(traffic: Traffic) -> None:
    try:
        await traffic.idle()
    finally:
        await traffic.close()
