"""How the supervisor talks HTTP with its workers: through socket pairs, one for a connection.

Each worker inherits one end of a control pair. For each connection the supervisor makes another
pair and sends one end of it through the control pair (``SCM_RIGHTS``), with a byte that says
which of the worker's two applications it is for. Nothing of it has a name: no file has to be
written, and nobody else can connect. A control pair at its end means that the other process is
gone.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import BaseConnector, ClientConnectionError
from aiohttp.client_proto import ResponseHandler

from gateway.settings import Settings

ADMIN: Final = b"a"
"""What the admin port serves: requests of people and machines go there."""
CONTROL: Final = b"c"
"""What only the supervisor itself asks for."""

ProtocolFactory = Callable[[], asyncio.Protocol]


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """What a worker is started with; sockets are inherited file descriptors."""

    number: int
    settings: Settings
    control: int
    plain: tuple[int, ...]
    tls: tuple[int, ...]


class WorkerConnector(BaseConnector):
    """Connects an ``aiohttp.ClientSession`` to one of a worker's applications.

    The host in the URLs doesn't matter. ``control`` doesn't block.
    """

    def __init__(self, control: socket.socket, application: bytes) -> None:
        super().__init__(limit=0)
        self._control = control
        self._application = application

    async def _create_connection(self, *_request: Any) -> ResponseHandler:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [self._application], [theirs.fileno()])
            ours.setblocking(False)
            _, protocol = await self._loop.create_connection(self._factory, sock=ours)
        except BlockingIOError:
            ours.close()
            raise TimeoutError("the worker takes nothing any more") from None
        except OSError as error:
            ours.close()
            raise ClientConnectionError("the worker takes no connections") from error
        return protocol


class Intake:
    """The worker's end: takes connections from the supervisor for its applications.

    ``gone`` is called once, when the supervisor is no more.
    """

    def __init__(
        self,
        control: socket.socket,
        applications: Mapping[bytes, ProtocolFactory],
        *,
        gone: Callable[[], None],
    ) -> None:
        self._control = control
        self._applications = applications
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[Any]] = set()
        control.setblocking(False)
        self._loop.add_reader(control, self._take)

    def close(self) -> None:
        """Take nothing more."""
        self._loop.remove_reader(self._control)

    def _take(self) -> None:
        try:
            # One byte at a time, so that each comes with its own descriptor.
            application, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        except BlockingIOError:
            return
        except OSError:
            application, descriptors = b"", []
        if not application:
            self.close()
            self._gone()
            return
        for descriptor in descriptors:
            connection = socket.socket(fileno=descriptor)
            connection.setblocking(False)
            self._begin(
                self._loop.connect_accepted_socket(self._applications[application], connection)
            )

    def _begin(self, connecting: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(_ignoring_loss(connecting))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)


async def _ignoring_loss(connecting: Coroutine[Any, Any, Any]) -> None:
    with suppress(OSError):  # the supervisor has closed its end already
        await connecting
