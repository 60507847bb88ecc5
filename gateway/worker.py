"""One of several processes that serve the same ports: what the supervisor starts.

Its settings come from the supervisor, at the start on standard input, later as
``POST /reload`` of the control application.
"""

import pickle
import signal
import socket
import sys

import structlog
from aiohttp import web

from gateway import event_loop
from gateway.admin.door import application
from gateway.app import Gateway
from gateway.channel import ADMIN, CONTROL, Intake, WorkerStart
from gateway.errors import SettingsError
from gateway.listeners import Inherited, Sockets
from gateway.logs import configure_logging
from gateway.process import run_until_ended, spare_the_collector
from gateway.signals import catch_ending

log = structlog.stdlib.get_logger(__name__)


def main() -> int:
    """Serve until a signal, or until the supervisor is gone; return the exit code."""
    try:
        start = pickle.load(sys.stdin.buffer)  # noqa: S301 (the supervisor's own)
    except EOFError:
        return 1  # it is gone already
    assert isinstance(start, WorkerStart)
    configure_logging(start.settings.logging)
    # Whatever is logged names the worker: tasks take over the context of whoever starts them.
    structlog.contextvars.bind_contextvars(worker=start.number)
    try:
        return event_loop.run(_work(start), start.settings.listen.event_loop)
    except (SettingsError, OSError) as error:
        log.error("worker can't start", reason=str(error))  # noqa: TRY400 (for a person)
        return 1


async def _work(start: WorkerStart) -> int:
    ending = catch_ending()
    # Whoever signals all processes at once means the supervisor.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    admin = application()
    gateway = Gateway(start.settings, inherited=Inherited(_sockets(start), admin))
    control = web.Application(client_max_size=2**24)

    async def reload(request: web.Request) -> web.Response:
        settings = pickle.loads(await request.read())  # noqa: S301 (the supervisor's own)
        try:
            gateway.reload(settings)
        except SettingsError as error:
            return web.json_response({"faults": list(error.faults)}, status=409)
        configure_logging(settings.logging)
        return web.json_response({"faults": []})

    def orphaned() -> None:
        log.error("the supervisor is gone")
        ending.put_nowait(signal.SIGINT)  # without grace: its successor wants the ports

    control.router.add_post("/reload", reload)
    spare_the_collector()
    await gateway.start()
    log.info("event loop", running=event_loop.running())
    runners = {ADMIN: web.AppRunner(admin, access_log=None, handler_cancellation=True)}
    runners[CONTROL] = web.AppRunner(control, access_log=None)
    servers = {}
    for name, runner in runners.items():
        await runner.setup()
        assert runner.server is not None
        servers[name] = runner.server
    with socket.socket(fileno=start.control) as pair:
        intake = Intake(pair, servers, gone=orphaned)
        try:
            return await run_until_ended(gateway, ending)
        finally:
            intake.close()
            for runner in runners.values():
                await runner.cleanup()


def _sockets(start: WorkerStart) -> Sockets:
    plain, tls = (
        tuple(socket.socket(fileno=descriptor) for descriptor in descriptors)
        for descriptors in (start.plain, start.tls)
    )
    return Sockets(plain, tls)


if __name__ == "__main__":
    sys.exit(main())
