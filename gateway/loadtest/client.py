"""Send thousands of small requests a second, each at its planned time, on one core.

Written on asyncio's protocols and httptools rather than on aiohttp's ClientSession, and
started on uvloop where it is installed. Measured by ``benchmarks/generator.py`` on two cores,
CPU time of the generator for one request to nginx at 5,000 planned a second: the whole load
tester, plan and record included, 31 to 37 µs; an open loop over ClientSession on uvloop, nothing
recorded, 77 to 126; Locust's FastHttpUser 119 to 142; wrk, which plans nothing, 7. Planned to
sent is 0.7 ms at the median (a plan is followed by the millisecond) and 1.5 ms at the 99th
percentile, on a machine with little else to do. On asyncio's own loop the client takes twice as
long.

A pool never retries, never slows a plan down and never drops a request without a word: one
that finds no free connection waits and is sent late, and one that has waited for as long as an
answer may take comes back unsent.

"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from gateway.loadtest.calls import Call
from gateway.loadtest.connection import Connection, kind_of
from gateway.loadtest.origins import Origin

_SWEEPS_PER_TIMEOUT = 40
_LONGEST_SWEEP_SECONDS = 0.05
_REST_SECONDS = 4.0
"""How long an unused connection is kept: less than servers do (5 s is the least in wide use),
so that a request doesn't meet a connection that the server is closing."""

_RECOVERY_SECONDS = 1.0
"""How long no spare connection is opened after one couldn't be."""

_Done = Callable[[Call], None]
_Clock = Callable[[], float]


class Unreachable(Exception):
    """No connection could be made; ``kind`` is the word that the record has for it."""

    def __init__(self, origin: Origin, kind: str) -> None:
        super().__init__(f"{origin.host}:{origin.port}: {kind}")
        self.kind = kind


def tls_context(*, ca_file: str | None = None, insecure: bool = False) -> ssl.SSLContext:
    """Return what https is spoken with.

    Raises:
        OSError, ssl.SSLError: the file of certificates can't be read.
    """
    context = ssl.create_default_context(cafile=ca_file)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Pool:
    """The connections to one origin: at most ``limit``, kept alive, the last used first.

    ``done`` is called with each call once, when it is answered, has failed, or comes back
    unsent. ``timeout_seconds`` bounds the time to connect, from sent to answered, and from
    planned to sent; each is noticed up to 50 ms late, by one timer for all.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        done: _Done,
        clock: _Clock,
        limit: int,
        timeout_seconds: float,
        tls: ssl.SSLContext | None = None,
        keep_body: bool = False,
    ) -> None:
        self.origin = origin
        self.clock = clock
        self.keep_body = keep_body
        self._done = done
        self._limit = limit
        self._timeout = timeout_seconds
        self._tls = tls if origin.secure else None
        self._addresses: list[str] = []
        self._resting: list[Connection] = []
        self._waiting: deque[Call] = deque()
        self._connections: set[Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._floor = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._failed_at = float("-inf")
        self._last_lost: asyncio.Event | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiting)

    async def start(self, connections: int = 1) -> None:
        """Look the host up, and open so many connections (one at the least) before they matter.

        Raises:
            Unreachable: not one could be opened.
        """
        await self._look_up()
        self._floor = min(max(1, connections), self._limit)
        first = await self._open()
        if isinstance(first, str):
            raise Unreachable(self.origin, first)
        self._use(first)
        for _ in range(self._floor - 1):
            self._open_soon()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._sweep()

    async def close(self) -> None:
        """Close every connection; what is still under way fails as closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        while self._waiting:
            self._done(self._waiting.popleft())
        for connection in list(self._connections):
            connection.fail("closed")
        if self._connections:  # the loop tells of each lost connection in its next round
            self._last_lost = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._last_lost.wait()

    def send(self, call: Call) -> None:
        """Send now, or as soon as there is a connection for it."""
        resting = self._resting
        while resting and not self._waiting:
            connection = resting.pop()
            if not connection.closing:
                connection.start(call)
                return
        self._waiting.append(call)
        self._open_for_those_who_wait()

    # What follows is called by the connections.

    def answered(self, connection: Connection, call: Call, *, reusable: bool) -> None:
        """Take the connection back, use it for who waits, and hand the answer on."""
        if reusable:
            self._use(connection)
        self._done(call)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        if connection in self._resting:
            self._resting.remove(connection)
        if self._last_lost is not None and not self._connections:
            self._last_lost.set()
        self._open_for_those_who_wait()

    # The connections' making and ending.

    def _open_for_those_who_wait(self) -> None:
        if (
            self._opening < len(self._waiting)
            and len(self._connections) + self._opening < self._limit
        ):
            self._open_soon()

    def _open_soon(self) -> None:
        if not self._closed:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._open_and_use())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open_and_use(self) -> None:
        tried_at = self.clock()
        try:
            opened = await self._open()
        finally:
            self._opening -= 1
        if isinstance(opened, Connection):
            self._use(opened)
            return
        self._failed_at = self.clock()
        if self._waiting:
            call = self._waiting.popleft()
            call.sent, call.finished, call.error = tried_at, self._failed_at, opened
            self._done(call)
            self._open_for_those_who_wait()

    async def _open(self) -> Connection | str:
        """Return a new connection, or the word for why there is none."""
        loop = asyncio.get_running_loop()
        error = "dns"
        for address in self._addresses:
            try:
                async with asyncio.timeout(self._timeout):
                    _, connection = await loop.create_connection(
                        lambda: Connection(self),
                        address,
                        self.origin.port,
                        ssl=self._tls,
                        server_hostname=self.origin.host if self._tls else None,
                    )
            except OSError as failure:
                error = kind_of(failure)
            else:
                self._connections.add(connection)
                return connection
        return error

    def _give_up_the_late(self, now: float) -> None:
        while self._waiting and self._waiting[0].planned + self._timeout <= now:
            self._done(self._waiting.popleft())

    def _use(self, connection: Connection) -> None:
        if self._waiting:
            self._give_up_the_late(self.clock())
        if self._waiting:
            connection.start(self._waiting.popleft())
        else:
            connection.rests_since = self.clock()
            self._resting.append(connection)

    async def _look_up(self) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                self.origin.host, self.origin.port, type=1
            )
        except OSError:
            raise Unreachable(self.origin, "dns") from None
        self._addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _sweep(self) -> None:
        now = self.clock()
        self._give_up_the_late(now)
        for connection in list(self._connections):
            call = connection.call
            if call is not None and call.sent is not None and call.sent + self._timeout <= now:
                connection.fail("timeout")
        while self._resting and self._resting[0].rests_since + _REST_SECONDS <= now:
            self._resting.pop(0).abort()
        if self._failed_at + _RECOVERY_SECONDS <= now:
            for _ in range(self._floor - len(self._connections) - self._opening):
                self._open_soon()
        every = min(_LONGEST_SWEEP_SECONDS, self._timeout / _SWEEPS_PER_TIMEOUT)
        self._timer = asyncio.get_running_loop().call_later(every, self._sweep)
