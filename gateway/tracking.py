"""Which tokens have changed in Redis, as Redis itself tells it: ``CLIENT TRACKING`` (Redis 6).

On each server one connection, in RESP2, that redirects the invalidations of its own broadcast
tracking to itself, and then subscribes to the channel on which they arrive. So there is one
connection to lose, not two, and its ``PONG`` says that all that came before it has arrived. (See
``docs/decisions/0008-one-connection-that-redirects-to-itself.md``.)

Two ways in which all tokens change at once are told to nobody: ``SWAPDB``, and a server that is
made another's replica. A second connection asks for what tells of them, as often as the first is
tested. (See ``docs/decisions/0018-what-redis-does-not-tell.md``.)
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import (
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from gateway.clock import Clock
from gateway.patience import Patience
from gateway.redis_faults import reason_of
from gateway.tokens import TokenKey

log = structlog.stdlib.get_logger(__name__)

CHANNEL = "__redis__:invalidate"
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 1.0
OPEN_SECONDS = 5.0
"""The longest time to connect to all servers and have them track."""
KEYS_AT_ONCE = 512
"""Invalidations handled before others have their turn: about a millisecond of work."""
MESSAGE_WEIGHT = 15
"""What a message costs besides, in invalidations."""

_UNTOLD = re.compile(rb"(cmdstat_swapdb:calls=\d+|role:\w+|master_replid:\w+)")
"""What differs after something that Redis doesn't tell of, in two answers to ``INFO``."""
_SLICES = 5
_DIGEST_LENGTH = 64
_FAULTS = (RedisError, RedisClusterException, OSError, EOFError)


_Servers = dict[tuple[str, int], Callable[[], AbstractConnection]]
"""How to connect to each server, by its address."""


class Lost(Exception):
    """The servers can't be listened to, or no longer. Says why, and quotes nothing."""


class Listener(Protocol):
    """Who is told; ``feed.RevocationFeed``. Each call is synchronous and does bounded work."""

    def up(self) -> None:
        """From now on every change is told; those before may have been missed."""
        ...

    def down(self, why: str) -> None:
        """Changes are missed from now on, or have been for a while."""
        ...

    def invalidated(self, keys: Sequence[TokenKey]) -> None:
        """These have changed: written, removed, or expired."""
        ...

    def invalidated_all(self) -> None:
        """Everything has changed (FLUSHALL, FLUSHDB)."""
        ...

    def complete(self, as_of: float) -> None:
        """All that changed before ``as_of`` (monotonic seconds) has been told."""
        ...


class Tracking:
    """Listens until cancelled; connects again, sooner or later, whatever happens.

    A connection that is dead without saying so is noticed within ``ping_interval_seconds`` and
    ``timeout_seconds``; so is that databases were swapped, or a server became a replica.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        listener: Listener,
        *,
        key_prefix: str,
        ping_interval_seconds: float,
        timeout_seconds: float,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._listener = listener
        self._key_prefix = key_prefix.encode()
        self._ping_interval_seconds = ping_interval_seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._sleep = sleep
        self._delay_seconds = FIRST_DELAY_SECONDS
        self._told = 0  # since others had their turn
        self._may_ask = True
        # When each connection's last question that was answered was sent, and how many there are.
        self._answered: dict[AbstractConnection, float] = {}
        self._asked = 0

    async def run(self) -> None:
        """Listen, for ever."""
        while True:
            heed_cancellation()
            connections: list[AbstractConnection] = []
            try:
                await self._listen(connections)
            except Exception as fault:  # noqa: BLE001 -- whatever it was, the feed is down
                self._lost(fault)
            finally:
                for connection in connections:
                    await _close(connection)
            # Not all gateways at once, and not in step.
            await self._sleep(self._delay_seconds * random.uniform(0.5, 1))  # noqa: S311
            self._delay_seconds = min(2 * self._delay_seconds, LONGEST_DELAY_SECONDS)

    async def _listen(self, connections: list[AbstractConnection]) -> None:
        try:
            async with Patience(OPEN_SECONDS):
                servers = await self._servers()
                for connect in servers.values():
                    connection = connect()
                    connections.append(connection)
                    await _track(connection, self._key_prefix)
                listening = list(connections)
                asking = await self._ask_for_untold(servers, connections)
        except TimeoutError:
            raise Lost("no connection in time") from None
        heed_cancellation()
        self._delay_seconds = FIRST_DELAY_SECONDS
        self._answered.clear()
        self._asked = len(connections)
        self._listener.up()
        tasks = [asyncio.create_task(self._read(connection)) for connection in listening]
        if asking is not None:
            tasks.append(asyncio.create_task(self._watch_untold(*asking)))
        if self._may_move:
            tasks.append(asyncio.create_task(self._watch(set(servers))))
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # Before anything is tidied up: from now on it counts.
            self._lost(ended.pop().exception())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _lost(self, fault: BaseException | None) -> None:
        """Tell the listener; a fault of ours is logged in full."""
        if isinstance(fault, Lost):
            self._listener.down(str(fault))
            return
        if not isinstance(fault, _FAULTS):
            log.error("revocation feed failed", exc_info=fault)
        self._listener.down("it ended" if fault is None else reason_of(fault))

    # What one server says

    async def _read(self, connection: AbstractConnection) -> None:
        """Hand on what a connection brings, and ping it; raises ``Lost`` when it is dead.

        The time-out is cut into slices, as ``Patience`` does: a stall of the event loop costs one.
        """
        now = asyncio.get_running_loop().time
        ping_due = now()
        slice_ends, slices_left, sent = 0.0, 0, 0.0
        waiting = False
        while True:
            heed_cancellation()
            if not waiting and now() >= ping_due:
                ping_due = now() + self._ping_interval_seconds
                slice_ends, slices_left = now() + self._timeout_seconds / _SLICES, _SLICES
                waiting, sent = True, self._clock.monotonic()
                await connection.send_command("PING", check_health=False)
            until = slice_ends if waiting else ping_due
            message = await connection.read_response(timeout=max(0.001, until - now()))
            if message is not None:
                if message[0] in {b"pong", "pong"}:
                    waiting = False
                    self._note_answer(connection, sent)
                else:
                    await self._tell(message)
            if waiting and now() >= slice_ends:
                slices_left -= 1
                slice_ends = now() + self._timeout_seconds / _SLICES
                if not slices_left:
                    raise Lost("no answer to a ping")

    def _note_answer(self, connection: AbstractConnection, sent: float) -> None:
        self._answered[connection] = sent
        if len(self._answered) == self._asked:
            self._listener.complete(min(self._answered.values()))

    async def _tell(self, message: Any) -> None:
        names = message[2]
        if names is None:
            self._listener.invalidated_all()
            return
        for start in range(0, len(names), KEYS_AT_ONCE):
            keys = self._keys(names[start : start + KEYS_AT_ONCE])
            if keys:
                self._listener.invalidated(keys)
            # What has arrived already is read without waiting: others must have their turn.
            self._told += min(len(names), KEYS_AT_ONCE) + MESSAGE_WEIGHT
            if self._told >= KEYS_AT_ONCE:
                self._told = 0
                await asyncio.sleep(0)

    def _keys(self, names: Sequence[bytes | str]) -> list[TokenKey]:
        """Return the tokens among these Redis keys; grants have the same prefix."""
        prefix = len(self._key_prefix)
        keys = []
        for name in names:
            if len(name) == prefix + _DIGEST_LENGTH:
                digest = name[prefix:]
                try:
                    key = bytes.fromhex(digest.decode() if isinstance(digest, bytes) else digest)
                except ValueError:
                    continue
                keys.append(TokenKey(key))
        return keys

    # What no server says by itself

    async def _ask_for_untold(
        self, servers: _Servers, connections: list[AbstractConnection]
    ) -> tuple[AbstractConnection, bytes] | None:
        """Return a connection to ask on, and the first answer, where this can be needed."""
        if isinstance(self._client, RedisCluster):
            return None  # has one database, and which are its masters is watched
        (connect,) = servers.values()
        connection = connect()
        await connection.connect()  # type: ignore[no-untyped-call]
        connections.append(connection)
        try:
            return connection, await _untold(connection)
        except NoPermissionError:
            connections.remove(connection)
            await _close(connection)
        if self._may_ask:
            self._may_ask = False
            log.warning(
                "the store's user may not run INFO, so that SWAPDB would go unnoticed",
                remedy="grant it +info, or take +swapdb from everyone",
            )
        return None

    async def _watch_untold(self, connection: AbstractConnection, known: bytes) -> None:
        """Tell that all has changed whenever the answer is another one."""
        now = asyncio.get_running_loop().time
        due = now()
        while True:
            due = max(now(), due + self._ping_interval_seconds)
            await self._sleep(due - now())
            sent = self._clock.monotonic()
            try:
                async with Patience(self._timeout_seconds):
                    found = await _untold(connection)
            except TimeoutError:
                raise Lost("no answer to INFO") from None
            heed_cancellation()
            if found != known:
                known = found
                log.warning("databases were swapped, or the store became another's replica")
                self._listener.invalidated_all()
            self._note_answer(connection, sent)

    # Which servers there are

    @property
    def _may_move(self) -> bool:
        return isinstance(self._client, RedisCluster) or isinstance(
            self._client.connection_pool, SentinelConnectionPool
        )

    async def _servers(self) -> _Servers:
        """Return what to listen to, by address: each of a Cluster's masters, with slots or not."""
        client = self._client
        if isinstance(client, RedisCluster):
            await client.initialize()
            node = client.get_default_node()
            found = await client.cluster_nodes()
            return {
                address: lambda address=address: node.connection_class(  # type: ignore[misc]
                    **{**node.connection_kwargs, "host": address[0], "port": address[1]}
                )
                for address in _masters(found)
            }
        pool = client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            address = await pool.get_master_address()  # type: ignore[no-untyped-call]
            return {address: pool.make_connection}
        return {("", 0): pool.make_connection}

    async def _watch(self, listened_to: set[tuple[str, int]]) -> None:
        """Raise ``Lost`` when other servers than these are the masters now."""
        while True:
            await self._sleep(self._ping_interval_seconds)
            try:
                async with Patience(OPEN_SECONDS):
                    servers = await self._servers()
            except (TimeoutError, *_FAULTS):
                # Whether the servers are there is what their own connections tell.
                servers = {}
            heed_cancellation()
            if servers and set(servers) != listened_to:
                raise Lost("other servers are the masters now")


def _masters(nodes: dict[str, dict[str, Any]]) -> list[tuple[str, int]]:
    """Return the addresses of the masters in a parsed ``CLUSTER NODES``."""
    addresses = []
    for address, node in nodes.items():
        flags = node["flags"].split(",")
        if "master" in flags and not {"fail", "noaddr", "handshake"} & set(flags):
            host, _, port = address.rpartition(":")
            addresses.append((host, int(port)))
    return addresses


async def _track(connection: AbstractConnection, prefix: bytes) -> None:
    """Connect, and have the server tell this connection of every change below ``prefix``."""
    await connection.connect()  # type: ignore[no-untyped-call]
    try:
        client_id = await _ask(connection, "CLIENT", "ID")
        await _ask(
            connection,
            *("CLIENT", "TRACKING", "ON", "REDIRECT", client_id, "BCAST", "PREFIX", prefix),
        )
        await _ask(connection, "SUBSCRIBE", CHANNEL)
    except ResponseError:
        raise Lost("the server refuses CLIENT TRACKING, which Redis 6 has, or SUBSCRIBE") from None


async def _untold(connection: AbstractConnection) -> bytes:
    """Return what differs after a change that no server tells of."""
    found = b""
    for section in ("commandstats", "replication"):
        answer = await _ask(connection, "INFO", section)
        found += answer.encode() if isinstance(answer, str) else answer
    return b"\n".join(_UNTOLD.findall(found))


async def _ask(connection: AbstractConnection, *command: Any) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()


async def _close(connection: AbstractConnection) -> None:
    try:
        await connection.disconnect(nowait=True)
    except (TimeoutError, *_FAULTS):
        log.debug("feed connection did not close", exc_info=True)


def heed_cancellation() -> None:
    """Raise ``CancelledError`` if this task was cancelled, and something else came of that.

    In Python 3.11 ``asyncio.wait_for``, with which redis-py sends commands, returns as if nothing
    had happened when it is cancelled just as what it waits for is done. A loop without an end
    must look for itself, or the gateway never stops.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
