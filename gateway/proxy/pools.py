"""All connections to upstreams: how many, how long each is kept, and to whom."""

import asyncio
import ssl
from pathlib import Path

from gateway.answer_head import MOST_FIELDS
from gateway.proxy.answers import AnswerHeads
from gateway.proxy.pool import UpstreamPool
from gateway.resolver import Resolver
from gateway.shares import room
from gateway.suspects import Suspects

_RENEWAL_SECONDS = 30.0
"""After so long a connection to a host that has a name is replaced: the name may mean another."""


class UpstreamPools:
    """One pool for each upstream, and the bound that they share.

    Time is counted in ticks of ``tick_seconds``, for which whoever owns the pools calls ``tick``
    while there is anything in them: not a timer each, and a loop that stalls ages nothing.
    """

    def __init__(
        self,
        *,
        connections: int,
        connect_timeout_seconds: float,
        idle_timeout_seconds: float,
        tick_seconds: float,
        ca_file: Path | None = None,
        resolver: Resolver | None = None,
        most_fields: int = MOST_FIELDS,
        accept_incomplete_close: bool = False,
        upstreams: int = 1,
    ) -> None:
        self._upstreams = upstreams
        self.accepts_incomplete_close = accept_incomplete_close
        self.suspects = Suspects(asyncio.get_running_loop().time)
        self.resolver = resolver or Resolver()
        self.connect_timeout_seconds = connect_timeout_seconds
        self.renewal_ticks = int(_RENEWAL_SECONDS / tick_seconds)
        self.ticks = 0
        self.closed = False
        self.most_fields = most_fields  # of an answer
        self.known = AnswerHeads(most_fields)
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        # Rather too early than when the upstream closes it.
        self._idle_ticks = max(1, int(idle_timeout_seconds / tick_seconds))
        self._limit = connections
        self._open = 0
        self._pools: dict[str, UpstreamPool] = {}

    @property
    def tls(self) -> ssl.SSLContext:
        """Whom connections with TLS trust."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._ca_file)
        return self._tls

    @property
    def open_connections(self) -> int:
        """How many there are, those that are being opened among them."""
        return self._open

    def pool(self, origin: str) -> UpstreamPool:
        """Return the pool for an upstream, by its scheme, host and port as in a URL."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = UpstreamPool(self, origin)
        return pool

    def starves(self, other: UpstreamPool) -> bool:
        """Whether exchanges wait for an upstream that has no connection, and can't have one.

        Unless ``other`` gives one of its own up, for which there may be no end of exchanges.
        """
        return self.is_full and any(
            pool.waiting and not pool.connections
            for pool in self._pools.values()
            if pool is not other
        )

    def admit(self, asking: UpstreamPool) -> bool:
        """Whether a pool may open one more connection; it is counted then."""
        if self.closed or not self._has_share(asking):
            return False
        if self._open >= self._limit:
            # Nobody waits for one that is idle, or it wouldn't be; it makes room.
            idle = next((pool for pool in self._pools.values() if pool.idle), None)
            if idle is None:
                return False
            idle.discard(idle.idle[0])
            if self._open >= self._limit:
                return False  # whoever was to have the room has it by now
        self._open += 1
        return True

    def _has_share(self, asking: UpstreamPool) -> bool:
        # Those that are idle make room.
        own, *others = (
            pool.connections - len(pool.idle)
            for pool in (asking, *(pool for pool in self._pools.values() if pool is not asking))
        )
        others = [count for count in others if count]
        upstreams = max(self._upstreams, len(self._pools))
        used = own + sum(others)
        return room(self._limit, used=used, own=own, others=others, upstreams=upstreams) > 0

    def release(self, giver: UpstreamPool) -> None:
        """A pool has a connection less: there is room, first of all where there is none yet."""
        self._open -= 1
        self.make_room(giver)

    def make_room(self, giver: UpstreamPool) -> None:
        """A pool can spare a connection: those that wait may have room for one of their own."""
        for pool in sorted(
            self._pools.values(), key=lambda pool: (pool.connections, pool is giver)
        ):
            if pool.waiting:
                pool.connect()

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self._open >= self._limit

    def tick(self) -> bool:
        """Let a tick pass; return whether there is any connection left."""
        self.ticks += 1
        for pool in self._pools.values():
            pool.discard_idle(self._idle_ticks)
        return self._open > 0

    async def close(self) -> None:
        """Close what is idle, and the others when they become so."""
        self.closed = True
        for pool in self._pools.values():
            await pool.close()
