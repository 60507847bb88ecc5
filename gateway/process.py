"""The gateway as a process: its signals, and how it ends."""

import asyncio
import gc
import signal
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from gateway import event_loop
from gateway.app import Gateway
from gateway.errors import SettingsError
from gateway.logs import configure_logging
from gateway.settings import Settings, detours
from gateway.signals import Ending, Hangups, catch_ending
from gateway.supervisor import Supervisor

log = structlog.stdlib.get_logger(__name__)


def serve(
    load: Callable[[], Settings], *, hangups: Hangups | None = None, warnings: Iterable[str] = ()
) -> int:
    """Run a gateway until a signal ends it; return the exit code.

    ``hangups`` are those since the process began; ``warnings`` are logged first.

    SIGTERM drains, with ``listen.drain_grace`` first; SIGINT, a person at a terminal, drains
    without. A second one of either stops at once. SIGHUP calls ``load`` again. With
    ``listen.workers`` above one, this process supervises the workers and serves the admin port.

    Raises:
        SettingsError: the settings can't be used.
        OSError: a port is taken.
    """
    hangups = hangups or Hangups()
    settings = load()
    configure_logging(settings.logging)
    for warning in (*warnings, *detours(settings)):
        log.warning(warning)
    if settings.listen.workers > 1:
        # On asyncio's own loop, whatever the workers run on: it serves none of the traffic, and
        # uvloop starts no process in a group of its own.
        return event_loop.run(Supervisor(settings, load, hangups=hangups).run(), "asyncio")
    return event_loop.run(_serve(settings, load, hangups), settings.listen.event_loop)


async def _serve(settings: Settings, load: Callable[[], Settings], hangups: Hangups) -> int:
    gateway = Gateway(settings)
    # Before the ports are open: whoever sees one open may send a signal.
    ending = catch_ending()
    spare_the_collector()
    await gateway.start()
    hangups.hand_to(partial(_reload, gateway, load))
    log.info("event loop", running=event_loop.running())
    return await run_until_ended(gateway, ending)


def spare_the_collector() -> None:
    """Have the garbage collector leave alone what is there already: modules, classes, the gateway.

    Once in the life of a process, before it serves. Each time that it looks for cycles among old
    objects it would walk through 80,000 that stay anyway, and every request would wait for that.
    """
    gc.collect()
    gc.freeze()


async def run_until_ended(gateway: Gateway, ending: Ending) -> int:
    """Let a gateway that has started serve until a signal ends it; return the exit code."""
    first = await ending.get()
    at_once = first is signal.SIGINT
    grace_seconds = 0.0 if at_once else gateway.settings.listen.drain_grace.total_seconds()
    drain = asyncio.create_task(gateway.drain(grace_seconds=grace_seconds))
    again = asyncio.create_task(ending.get())
    await asyncio.wait({drain, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not drain.done():
        log.warning("stopping at once")
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)
        await gateway.stop()
        return 1
    await drain
    log.info("stopped")
    return 0


def _reload(gateway: Gateway, load: Callable[[], Settings]) -> None:
    try:
        settings = load()
        gateway.reload(settings)
    except SettingsError as error:
        # A person is told what to mend; where it was found is of no use to them.
        log.error("settings not reloaded", faults=list(error.faults))  # noqa: TRY400
    else:
        configure_logging(settings.logging)
