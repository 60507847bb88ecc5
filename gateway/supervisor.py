"""Several processes that serve the same ports, and the one that looks after them.

The supervisor opens the ports before any worker starts, and serves none of the traffic: it
starts workers, starts them again when they end, hands signals on, and serves the admin port.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from gateway.admin.fleet import FleetAdmin
from gateway.admin.fleet_events import FleetEvents
from gateway.admin.merging import combine_evictions, combine_states
from gateway.clock import Clock, SystemClock
from gateway.errors import SettingsError
from gateway.listeners import Sockets, authority, bind
from gateway.logs import configure_logging
from gateway.settings import Settings, changed_settings
from gateway.settings.reloads import applicable
from gateway.signals import Ending, Hangups, catch_ending
from gateway.worker_process import COMMAND, WorkerProcess

log = structlog.stdlib.get_logger(__name__)

_LAST_SECONDS = 10.0  # beyond the time that a worker may take to drain, or to stop at once


class Supervisor:
    """Runs as many workers as the settings say, until a signal ends them."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        clock: Clock | None = None,
        command: tuple[str, ...] = COMMAND,
        hangups: Hangups | None = None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._clock = clock or SystemClock()
        self._hangups = hangups or Hangups()
        count = settings.listen.workers
        self._workers = [WorkerProcess(number + 1, command) for number in range(count)]
        self._sockets: list[Sockets] = []
        self._admin = FleetAdmin(
            self._workers,
            {("GET", "/api/state"): combine_states, ("POST", "/api/evict"): combine_evictions},
        )
        self._ending = asyncio.Event()
        self._changed = asyncio.Event()
        self._failed = False

    async def run(self) -> int:
        """Return the exit code: 0 after a drain, 1 if it wasn't one.

        Raises:
            OSError: a port is taken or an address isn't this machine's.
        """
        signals = catch_ending()
        reload_wanted = asyncio.Event()
        self._hangups.hand_to(reload_wanted.set)
        try:
            self._sockets = await bind(self._settings, len(self._workers))
            runner, admin_url = await self._open_admin()
        except BaseException:
            self._close_sockets()
            raise
        workers = [
            asyncio.create_task(self._keep(worker, sockets))
            for worker, sockets in zip(self._workers, self._sockets, strict=True)
        ]
        reloading = asyncio.create_task(self._reload_when(reload_wanted))
        starting = asyncio.create_task(self._say_when_started(admin_url))
        first = asyncio.create_task(signals.get())
        try:
            await asyncio.wait([first, *workers], return_when=asyncio.FIRST_COMPLETED)
            reloading.cancel()
            starting.cancel()
            # A worker that can't be kept ends them all, without grace: nobody asked for it.
            number = first.result() if first.done() else signal.SIGINT
            await self._end(number, signals, workers)
        finally:
            first.cancel()
            self._close_sockets()
            await runner.cleanup()
        log.info("all workers have ended")
        return 1 if self._failed else 0

    async def _open_admin(self) -> tuple[web.AppRunner, str]:
        app = web.Application()
        FleetEvents(self._admin, self._settings.admin).add_to(app)
        self._admin.add_to(app)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        admin = self._settings.admin
        try:
            await web.TCPSite(runner, admin.host, admin.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        return runner, f"http://{authority(runner.addresses[0])}"

    async def _say_when_started(self, admin_url: str) -> None:
        while not all(worker.session for worker in self._workers):
            await self._changed.wait()
            self._changed.clear()
        self._admin.started = True
        plain, tls = self._sockets[0].plain, self._sockets[0].tls
        url = f"http://{authority(plain[0].getsockname())}" if plain else None
        tls_url = f"https://{authority(tls[0].getsockname())}" if tls else None
        log.info(
            "listening",
            url=url or tls_url,
            tls_url=tls_url,
            admin_url=admin_url,
            workers=len(self._workers),
        )

    async def _keep(self, worker: WorkerProcess, sockets: Sockets) -> None:
        """Start a worker whenever there is none, until it ends too often or all shall end."""
        while not self._ending.is_set():
            began = self._clock.monotonic()
            code: int | None = None
            pid = None
            try:
                await worker.spawn(self._settings, sockets)
            except OSError as error:
                log.error("worker can't be started", worker=worker.number, reason=str(error))  # noqa: TRY400
            else:
                pid = worker.pid
                if await worker.started():
                    log.info("worker started", worker=worker.number, pid=pid)
                    self._changed.set()
                code = await worker.ended()
                self._admin.metrics.ended(worker.number)
            if self._ending.is_set():
                self._failed |= code not in {0, -signal.SIGTERM}
                return
            delay_seconds = worker.delay_after(self._clock.monotonic() - began)
            if delay_seconds is None:
                log.error(
                    "a worker ends again and again, so all are stopped",
                    worker=worker.number,
                    exit_code=code,
                )
                self._failed = True
                return
            log.warning(
                "worker ended",
                worker=worker.number,
                pid=pid,
                exit_code=code,
                restart_in_seconds=delay_seconds,
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_seconds):
                    await self._ending.wait()

    async def _end(
        self, number: signal.Signals, signals: Ending, workers: list[asyncio.Task[None]]
    ) -> None:
        self._ending.set()
        self._admin.terminating = True
        log.info("draining", workers=len(self._workers))
        self._close_sockets()  # the workers have theirs
        for worker in self._workers:
            # One that doesn't serve yet may not know what to do with another signal.
            worker.signal(number if worker.session else signal.SIGTERM)
        listen = self._settings.listen
        longest = listen.drain_grace + listen.drain_timeout
        again = asyncio.create_task(signals.get())
        gone = asyncio.gather(*workers)
        waiting: set[asyncio.Future[Any]] = {again, gone}
        await asyncio.wait(
            waiting,
            timeout=longest.total_seconds() + _LAST_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        again.cancel()
        if not gone.done():
            self._failed = True
            log.warning("stopping at once")
            for worker in self._workers:
                worker.signal(signal.SIGTERM)
            await asyncio.wait({gone}, timeout=_LAST_SECONDS)
            for worker in self._workers:
                worker.signal(signal.SIGKILL)
        await gone

    async def _reload_when(self, wanted: asyncio.Event) -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            try:
                await self._reload()
            except Exception:  # the next one may go better
                log.exception("settings not reloaded")

    async def _reload(self) -> None:
        """Have the workers take new settings, one after the other; none takes bad ones."""
        try:
            settings, fixed = applicable(self._settings, self._load())
        except SettingsError as error:
            log.error("settings not reloaded", faults=list(error.faults))  # noqa: TRY400
            return
        if fixed:
            log.warning("settings that need a restart are left as they were", settings=fixed)
        old, self._settings = self._settings, settings  # for workers that start meanwhile
        configure_logging(settings.logging)
        for worker in self._workers:
            if worker.session is None:
                continue
            try:
                faults = await worker.reload(settings)
            except (aiohttp.ClientError, TimeoutError):
                if worker.session is None:
                    continue  # it has ended, and starts with the new ones
                faults = ["the worker doesn't answer"]
            if faults:
                self._settings = old
                log.error(
                    "settings not reloaded by this worker and those after it",
                    worker=worker.number,
                    faults=faults,
                )
                return
        log.info(
            "settings reloaded",
            changed=changed_settings(old, settings),
            workers=len(self._workers),
        )

    def _close_sockets(self) -> None:
        for sockets in self._sockets:
            sockets.close()
