"""The addresses of names: one lookup for all who ask, in threads of its own.

The loop's own way is a few threads that everything shares: on uvloop also connections to numeric
addresses. Where a name's server is silent each lookup holds one of them for a minute or more, and
soon nobody connects to anything (docs/isolation.md).
"""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Any, TypeAlias

from aiohappyeyeballs import start_connection

from gateway.clock import SystemClock
from gateway.event_loop import running

FRESH_SECONDS = 30.0
"""For so long the addresses of a name aren't looked up again."""
KEPT_SECONDS = 3600.0
"""For so long they serve where a new lookup fails or hangs."""
RETRY_SECONDS = 1.0
"""For so long a lookup that failed isn't tried again."""
PATIENCE_SECONDS = 4.0
"""The longest wait for a lookup where no address is known; less than the default to connect."""
_SHORT_PATIENCE_SECONDS = 0.25  # where addresses are known that were good a moment ago
_MOST_THREADS = 64
_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305 §5

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""An address as ``socket.getaddrinfo`` gives it."""


class Verdict(Enum):
    """What whoever asks for the addresses of a name is to do."""

    USE = "use what is known"
    LOOK_UP = "look it up, and wait"
    WAIT = "wait for the lookup under way"
    FAIL = "give up"


@dataclass(slots=True)
class Name:
    """What is known of a name; times are monotonic, ``None`` is never."""

    addresses: Sequence[AddressInfo] = ()
    found_at: float | None = None
    failed_at: float | None = None
    asked_at: float | None = None
    """When the lookup under way began."""


def judge(name: Name, now: float) -> tuple[Verdict, float]:
    """Return what to do, and for how many seconds to wait where that is to be done."""
    age = None if name.found_at is None else now - name.found_at
    if age is not None and age < FRESH_SECONDS:
        return Verdict.USE, 0.0
    serves = age is not None and age < KEPT_SECONDS
    otherwise = Verdict.USE if serves else Verdict.FAIL
    patience = _SHORT_PATIENCE_SECONDS if serves else PATIENCE_SECONDS
    if name.asked_at is not None:
        left = name.asked_at + patience - now
        return (Verdict.WAIT, left) if left > 0 else (otherwise, 0.0)
    if name.failed_at is not None and now - name.failed_at < RETRY_SECONDS:
        return otherwise, 0.0
    return Verdict.LOOK_UP, patience


def look_up(host: str) -> list[AddressInfo]:
    """Ask the system, which may take minutes; raises ``OSError``."""
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))


class Resolver:
    """Resolves names for all upstreams, of one event loop.

    A name has one lookup under way at most, so one that hangs holds one thread. ``look_up`` is
    called there.
    """

    def __init__(
        self,
        *,
        look_up: Callable[[str], Sequence[AddressInfo]] = look_up,
        monotonic: Callable[[], float] = SystemClock.monotonic,
    ) -> None:
        self._look_up = look_up
        self._monotonic = monotonic
        self._names: dict[str, Name] = {}
        self._lookups: dict[str, asyncio.Future[None]] = {}

    async def addresses(self, host: str, port: int) -> list[AddressInfo]:
        """Return where a host is; raises ``OSError`` if nobody knows, or not in time.

        A numeric one is there at once.
        """
        if is_numeric(host):
            return list(
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            )
        key = host.lower()
        name = self._names.setdefault(key, Name())
        verdict, seconds = judge(name, self._monotonic())
        if verdict is Verdict.LOOK_UP and not self._begin(key, name):
            verdict = Verdict.FAIL
        if verdict in {Verdict.LOOK_UP, Verdict.WAIT}:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await asyncio.shield(self._lookups[key])
            verdict, _ = judge(name, self._monotonic())
        if verdict is Verdict.FAIL or not name.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "the name does not resolve")
        return [
            (family, kind, protocol, "", (address[0], port, *address[2:]))
            for family, kind, protocol, _, address in name.addresses
        ]

    def _begin(self, key: str, name: Name) -> bool:
        """Begin a lookup; return whether there is a thread for it."""
        if len(self._lookups) >= _MOST_THREADS:
            return False
        loop = asyncio.get_running_loop()
        done = self._lookups[key] = loop.create_future()
        name.asked_at = self._monotonic()

        def ask() -> None:
            found: Sequence[AddressInfo] = ()
            with suppress(OSError, UnicodeError):
                found = self._look_up(key)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(end, found)

        def end(found: Sequence[AddressInfo]) -> None:
            now = self._monotonic()
            name.asked_at = None
            if found:
                name.addresses, name.found_at, name.failed_at = tuple(found), now, None
            else:
                name.failed_at = now
            del self._lookups[key]
            if not done.done():
                done.set_result(None)

        # A daemon, so that one that hangs doesn't keep the process from ending.
        threading.Thread(target=ask, name=f"resolver: {key}", daemon=True).start()
        return True


def is_numeric(host: str) -> bool:
    """Whether a host is an address; a name needs a lookup."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def open_socket(addresses: Sequence[AddressInfo]) -> socket.socket:
    """Connect to the first of these addresses that answers (RFC 8305); raises ``OSError``."""
    loop: Any = asyncio.get_running_loop()
    if running() == "uvloop":
        loop = _ConnectingLoop(loop)
    return await start_connection(
        list(addresses),
        happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
        interleave=1,
        loop=loop,
    )


class _ConnectingLoop:
    """uvloop, but it connects a socket without looking its numeric address up.

    Which uvloop does, in the threads that it shares among all lookups: where these hang it
    connects to nothing. All else is the loop's own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def sock_connect(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Connect; raises ``OSError``."""
        failure = sock.connect_ex(address)
        if failure in {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}:
            connected = self._loop.create_future()
            descriptor = sock.fileno()
            self._loop.add_writer(descriptor, _set, connected)
            try:
                await connected
            finally:
                self._loop.remove_writer(descriptor)
            failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, os.strerror(failure))


def _set(connected: asyncio.Future[None]) -> None:
    if not connected.done():
        connected.set_result(None)
