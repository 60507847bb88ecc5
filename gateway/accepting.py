"""Accepting connections: some in each turn of the loop, and none beyond the descriptors.

asyncio's own servers accept all that waits at once, log each failure to accept, and start a TLS
handshake, of which nobody knows, for whoever connects.
"""

import asyncio
import errno
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from ctypes import addressof, create_string_buffer
from typing import Any, Protocol

import structlog

from gateway.clock import Clock, SystemClock
from gateway.seldom import Seldom

log = structlog.stdlib.get_logger(__name__)

ProtocolFactory = Callable[[], asyncio.Protocol]

MOST_AT_ONCE = 16
"""Connections accepted in one turn of the loop: about a millisecond of work."""
MOST_HELLOS_AT_ONCE = 4
"""Handshakes begun in one turn: each costs about as much as ten requests."""
MOST_HANDSHAKES = 512
"""Connections that haven't finished their handshake, at a time."""
PAUSE_SECONDS = 0.1
"""How long nothing is accepted after there was no descriptor, or no memory, for it."""
_LAST_SECONDS = 0.05  # for those that are about to be in the queue when it closes

_NONE_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Counting(Protocol):
    """What is counted of connections before they are any: ``metrics.Metrics``."""

    def accept_failed(self) -> None:
        """No connection could be accepted for want of a descriptor, or of memory."""
        ...

    def handshake_began(self) -> None:
        """A connection was accepted that has a TLS handshake before it."""
        ...

    def handshake_ended(self, failure: str | None) -> None:
        """It is done, or failed for a reason: "tls", "gone", "timeout", "displaced" or "full"."""
        ...


class Acceptor:
    """Accepts what waits at a listening socket, and hands it on.

    ``take`` gets each connection, and owns it from then on.
    """

    def __init__(
        self,
        listening: socket.socket,
        take: Callable[[socket.socket], None],
        *,
        counting: Counting,
        clock: Clock | None = None,
    ) -> None:
        self._listening = listening
        self._take = take
        self._counting = counting
        self._seldom = Seldom(1.0, (clock or SystemClock()).monotonic)
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._closed = False
        listening.setblocking(False)
        take_all(listening)  # another process may have drained it, and passed it on
        self._loop.add_reader(listening, self.accept_some)

    @property
    def serving(self) -> bool:
        """Whether clients may connect."""
        return not self._closed

    def accept_some(self) -> int:
        """Accept what waits, so many at most; return how many there were."""
        if self._closed:
            return 0
        for count in range(MOST_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return count
            except ConnectionError:
                continue  # it is gone already
            except OSError as error:
                self._fail(error)
                return count
            connection.setblocking(False)
            self._take(connection)
        return MOST_AT_ONCE

    def close(self) -> None:
        """Accept nothing more; whoever waits is cut off."""
        if not self._closed:
            self._closed = True
            self._pause()
            self._listening.close()

    async def drain(self) -> None:
        """Accept whoever waits, and then nothing more: nobody who has connected is cut off."""
        if self._closed:
            return
        # Those that aren't connected yet are as good as refused now. Else the queue would never
        # be empty while clients go on connecting, and some would be in it when it closes.
        if refuse_more(self._listening):
            await asyncio.sleep(_LAST_SECONDS)
        more = True
        while more:
            more = self.accept_some() == MOST_AT_ONCE
            await asyncio.sleep(0)
        self.close()

    def _fail(self, error: OSError) -> None:
        self._counting.accept_failed()
        if self._seldom.due("accept"):
            log.error(
                "connections can't be accepted",
                reason=error.strerror,
                retried_in_seconds=PAUSE_SECONDS,
                failures_not_logged=self._seldom.held_back("accept"),
            )
        if error.errno in _NONE_LEFT and not self._closed:
            self._pause()
            self._resuming = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _pause(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        self._loop.remove_reader(self._listening)

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listening, self.accept_some)


class PlainEntrance:
    """Makes connections of what is accepted."""

    def __init__(self, factory: ProtocolFactory) -> None:
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """How many there are that are accepted, and no connections yet."""
        return len(self._connecting)

    def take(self, connection: socket.socket) -> None:
        """Make a connection."""
        task = self._loop.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:
            connection.close()

    def close(self) -> None:
        """Nothing more comes."""


class TlsEntrance:
    """Makes connections of what is accepted, after their handshakes.

    A handshake has a time, and begins when the client has sent something: until then it costs
    a socket. Where there are too many, the one that has gone on for longest is cut off; where there
    are as many connections as may be, the one whose client has said nothing for longest. So clients
    that say nothing keep nobody out. ``crowded`` tells that there are as many connections as may
    be, ``full`` that none of them makes room for one more; ``context`` returns what is used for
    new ones.
    """

    def __init__(
        self,
        factory: ProtocolFactory,
        *,
        context: Callable[[], ssl.SSLContext],
        crowded: Callable[[], bool],
        full: Callable[[], bool],
        timeout_seconds: Callable[[], float],
        counting: Counting,
        clock: Clock | None = None,
    ) -> None:
        self._factory = factory
        self._context = context
        self._crowded = crowded
        self._full = full
        self._timeout_seconds = timeout_seconds
        self._counting = counting
        self._seldom = Seldom(1.0, (clock or SystemClock()).monotonic)
        self._loop = asyncio.get_running_loop()
        self._pending: dict[_Handshake, None] = {}  # the oldest first
        self._said_hello: list[_Handshake] = []

    def __len__(self) -> int:
        """How many handshakes there are that haven't ended."""
        return len(self._pending)

    @property
    def silent(self) -> int:
        """Of how many of them the client has said nothing."""
        return sum(not handshake.said_hello for handshake in self._pending)

    def take(self, connection: socket.socket) -> None:
        """Have a connection's handshake begin when its client does."""
        handshake = _Handshake(connection)
        self._counting.handshake_began()
        silent = self._longest_silent() if self._crowded() else None
        self._pending[handshake] = None
        if silent is not None:
            self._end(silent, "displaced")
        elif len(self._pending) > MOST_HANDSHAKES:
            self._end(next(iter(self._pending)), "displaced")
        elif self._full():
            self._end(handshake, "full")
            return
        handshake.deadline = self._loop.call_later(
            self._timeout_seconds(), self._end, handshake, "timeout"
        )
        self._loop.add_reader(connection, self._hello, handshake)

    def close(self) -> None:
        """End those that are under way."""
        for handshake in list(self._pending):
            self._end(handshake, "gone")

    def _longest_silent(self) -> "_Handshake | None":
        return next((each for each in self._pending if not each.said_hello), None)

    def _hello(self, handshake: "_Handshake") -> None:
        handshake.said_hello = True
        self._loop.remove_reader(handshake.connection)
        if not self._said_hello:
            self._loop.call_soon(self._begin_some)
        self._said_hello.append(handshake)

    def _begin_some(self) -> None:
        some, self._said_hello = (
            self._said_hello[:MOST_HELLOS_AT_ONCE],
            self._said_hello[MOST_HELLOS_AT_ONCE:],
        )
        for handshake in some:
            if handshake in self._pending:
                handshake.shaking = self._loop.create_task(self._shake(handshake))
        if self._said_hello:
            self._loop.call_soon(self._begin_some)

    async def _shake(self, handshake: "_Handshake") -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._factory,
                handshake.connection,
                ssl=self._context(),
                # The time is ours, from the beginning of the connection.
                ssl_handshake_timeout=2 * self._timeout_seconds(),
            )
        except ssl.SSLError as error:
            self._end(handshake, "tls", error.reason)
        except (OSError, EOFError):
            self._end(handshake, "gone")
        else:
            self._end(handshake, None)

    def _end(self, handshake: "_Handshake", failure: str | None, reason: str | None = None) -> None:
        if handshake not in self._pending:
            return
        del self._pending[handshake]
        if handshake.deadline is not None:
            handshake.deadline.cancel()
        self._counting.handshake_ended(failure)
        if failure is None:
            return
        if handshake.shaking is None:
            self._loop.remove_reader(handshake.connection)
            handshake.connection.close()
        elif handshake.shaking is not asyncio.current_task():
            handshake.shaking.cancel()
        if self._seldom.due("handshake"):
            log.warning(
                "TLS handshake failed",
                why=failure,
                reason=reason,
                failures_not_logged=self._seldom.held_back("handshake"),
            )


class _Handshake:
    """A connection that is none yet."""

    __slots__ = ("connection", "deadline", "said_hello", "shaking")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.said_hello = False
        self.deadline: asyncio.TimerHandle | None = None
        self.shaking: asyncio.Task[None] | None = None


# Linux's: struct sock_filter and struct sock_fprog (bpf(4) of the BSDs, Linux's filter.txt).
_ATTACH, _DETACH = 26, 27
_FLAGS, _SYN = 13, 0x02  # the byte of the TCP header, and its bit (RFC 9293 §3.1)
_NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, _FLAGS),  # load the byte
        (0x45, 0, 1, _SYN),  # if the bit is set go on, else skip one
        (0x06, 0, 0, 0),  # drop it
        (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
    )
)


def refuse_more(listening: socket.socket) -> bool:
    """Let no new connection begin, those that have begun get into the queue; tell if that worked.

    Their clients try again in a second, and find nobody, or the next who listens.
    """
    if sys.platform != "linux":
        return False
    program = create_string_buffer(_NO_SYN, len(_NO_SYN))
    try:
        listening.setsockopt(
            socket.SOL_SOCKET,
            _ATTACH,
            struct.pack("@HP", len(_NO_SYN) // 8, addressof(program)),
        )
    except OSError:
        return False
    return True


def take_all(listening: socket.socket) -> None:
    """Undo ``refuse_more``."""
    if sys.platform == "linux":
        with suppress(OSError):  # there is none
            listening.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
