"""The gateway as a process: its signals, and how it ends."""

import asyncio
import signal
from collections.abc import Callable

import structlog

from gateway.app import Gateway
from gateway.errors import SettingsError
from gateway.logs import configure_logging
from gateway.settings import Settings

log = structlog.stdlib.get_logger(__name__)


def serve(load: Callable[[], Settings]) -> int:
    """Run a gateway until a signal ends it; return the exit code.

    SIGTERM drains, with ``listen.drain_grace`` first; SIGINT, a person at a terminal, drains
    without. A second one of either stops at once. SIGHUP calls ``load`` again.

    Raises:
        SettingsError: the settings can't be used.
        OSError: a port is taken.
    """
    settings = load()
    configure_logging(settings.logging)
    return asyncio.run(_serve(settings, load))


async def _serve(settings: Settings, load: Callable[[], Settings]) -> int:
    gateway = Gateway(settings)
    loop = asyncio.get_running_loop()
    ending: asyncio.Queue[signal.Signals] = asyncio.Queue()
    # Before the ports are open: whoever sees one open may send a signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.put_nowait, number)
    loop.add_signal_handler(signal.SIGHUP, _reload, gateway, load)
    await gateway.start()
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
