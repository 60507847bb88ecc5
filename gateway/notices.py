"""Notices from one gateway to all others on its store: Redis's publish and subscribe.

At most once: who isn't there at the moment doesn't hear of it. So nothing relies on them but
what an operator can ask for again.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio import RedisCluster
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError

from gateway.errors import StoreUnavailable
from gateway.patience import Patience
from gateway.redis_faults import reason_of
from gateway.store import TokenStore
from gateway.tracking import heed_cancellation

log = structlog.stdlib.get_logger(__name__)

_FAULTS = (RedisError, RedisClusterException, OSError, EOFError)
_RETRY_SECONDS = 1.0

Heard = Callable[[Any], Awaitable[None]]


class Notices:
    """Tells all gateways, and hears what others tell; JSON values both ways.

    ``heard`` is called with each, one after the other; those of this gateway aren't heard here.
    A connection that is dead without saying so is noticed within two ``ping_interval_seconds``.
    """

    def __init__(
        self,
        store: TokenStore,
        heard: Heard,
        *,
        ping_interval_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._heard = heard
        self._ping_interval_seconds = ping_interval_seconds
        self._sleep = sleep
        self._channel = f"{store.key_prefix}notices"
        self._ours = secrets.token_hex(8)
        self._listening: asyncio.Task[None] | None = None
        self._said = False
        self.up = asyncio.Event()

    def start(self) -> None:
        """Begin to listen; a store in memory is one gateway's own, with nobody to hear."""
        if self._store.in_memory:
            return
        self._listening = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """Listen no longer."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def tell(self, notice: Any) -> int | None:
        """Send a notice; return how many others got it, ``None`` where a Cluster can't say.

        Raises:
            StoreUnavailable: it can't be sent.
        """
        if self._store.in_memory:
            return 0
        message = json.dumps({"from": self._ours, "notice": notice})
        try:
            receivers = await self._store.publish(self._channel, message)
        except StoreUnavailable as error:
            cause = error.__context__  # which the store doesn't show beyond itself
            log.warning(
                "other gateways can't be told",
                why=type(cause).__name__,
                remedy=self._remedy(cause, "+publish"),
            )
            raise
        if isinstance(self._store.client, RedisCluster):
            return None  # each node counts its own
        return max(0, receivers - self.up.is_set())

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except _FAULTS as error:
                if self.up.is_set() or not self._said:
                    self._said = True
                    log.warning(
                        "notices of other gateways aren't heard",
                        why=reason_of(error),
                        remedy=self._remedy(error, "+subscribe"),
                    )
            finally:
                self.up.clear()
            heed_cancellation()
            await self._sleep(_RETRY_SECONDS)

    def _remedy(self, error: BaseException | None, command: str) -> str | None:
        """Return what a store's user lacks, if that is why."""
        if not isinstance(error, NoPermissionError):
            return None
        return f"grant the store's user {command} &{self._channel}"

    async def _hear(self) -> None:
        pubsub = self._store.client.pubsub()
        try:
            async with Patience(self._store.timeout_seconds):
                await pubsub.subscribe(self._channel)
            pinged = False
            while True:
                heed_cancellation()
                message = await pubsub.get_message(timeout=self._ping_interval_seconds)
                if message is not None:
                    pinged = False
                    await self._take(message)
                elif pinged:
                    raise TimeoutError
                else:
                    async with Patience(self._store.timeout_seconds):
                        await pubsub.ping()
                    pinged = True
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self.up.set()
        if message["type"] != "message":
            return
        try:
            told = json.loads(message["data"])
            if told["from"] != self._ours:
                await self._heard(told["notice"])
        except (ValueError, TypeError, KeyError, RecursionError):
            log.warning("a notice that makes no sense")
