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

from gateway.admin.access import Access
from gateway.admin.door import AdminDoor, application
from gateway.admin.fleet import FleetAdmin
from gateway.admin.fleet_events import FleetEvents
from gateway.admin.guard import Guard
from gateway.admin.merging import combine_evictions, combine_states
from gateway.clock import Clock, SystemClock
from gateway.errors import SettingsError
from gateway.listeners import Sockets, authority, bind
from gateway.logs import configure_logging
from gateway.metrics import Metrics
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
        self._metrics = Metrics()  # of the admin port alone
        self._guard = Guard(
            Access(settings.admin), refused=self._metrics.admin_token_refused, clock=self._clock
        )
        self._admin = FleetAdmin(
            self._workers,
            {("GET", "/api/state"): combine_states, ("POST", "/api/evict"): combine_evictions},
            guard=self._guard,
            own=self._metrics.of_doors,
        )
        self._ending = asyncio.Event()
        self._how = signal.SIGTERM
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
            door = await self._open_admin()
        except BaseException:
            self._close_sockets()
            raise
        workers = [
            asyncio.create_task(self._keep(worker, sockets))
            for worker, sockets in zip(self._workers, self._sockets, strict=True)
        ]
        reloading = asyncio.create_task(self._reload_when(reload_wanted))
        starting = asyncio.create_task(self._say_when_started(door.url))
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
            await door.close()
        log.info("all workers have ended")
        return 1 if self._failed else 0

    async def _open_admin(self) -> AdminDoor:
        app = application(Access(self._settings.admin))
        FleetEvents(self._admin, self._settings.admin, self._guard).add_to(app)
        self._admin.add_to(app)
        door = AdminDoor(app, counting=self._metrics, clock=self._clock)
        await door.open(self._settings.admin)
        return door

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
        """Start a worker whenever there is none, until it ends too often or all shall end.

        Also when all shall end: clients that have connected to its sockets wait there for one.
        """
        while True:
            late = self._ending.is_set()
            began = self._clock.monotonic()
            code: int | None = None
            pid = None
            try:
                await worker.spawn(self._settings, sockets)
            except OSError as error:
                log.error("worker can't be started", worker=worker.number, reason=str(error))  # noqa: TRY400
            else:
                pid = worker.pid
                if late:
                    sockets.close()
                if await worker.started():
                    log.info("worker started", worker=worker.number, pid=pid)
                    self._changed.set()
                    if self._ending.is_set():
                        worker.signal(self._how)
                code = await worker.ended()
                self._admin.metrics.ended(worker.number)
            if self._ending.is_set():
                self._failed |= code not in {0, -signal.SIGTERM} and not late
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
        self._how = number
        self._ending.set()
        self._admin.terminating = True
        log.info("draining", workers=len(self._workers))
        for worker, sockets in zip(self._workers, self._sockets, strict=True):
            if worker.pid is not None:
                sockets.close()  # it has its own
            if worker.session is not None:
                worker.signal(number)
            # One that is being started hears of it when it serves: clients may wait for it.
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
