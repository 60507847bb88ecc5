"""The token store: Redis, where it stands what is true of a token now.

The value of a token is an RFC 7662 introspection document; ``docs/store.md`` describes it
for whoever writes it. Every call ends within the store's time-out, and every way in which
Redis can fail ends as ``StoreUnavailable``: a store that is down says nothing of a token.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from gateway.errors import StoreUnavailable
from gateway.tokens import TokenKey

log = structlog.stdlib.get_logger(__name__)

Client = Redis | RedisCluster
"""redis-py's asyncio clients; fakeredis' is a ``Redis`` too."""


class TokenStore:
    """Introspection documents by token key, in Redis.

    Raises ``StoreUnavailable`` from each method when Redis can't be reached, refuses, or
    doesn't answer within ``timeout_seconds``.
    """

    def __init__(
        self, client: Client, *, key_prefix: str = "token:", timeout_seconds: float = 0.5
    ) -> None:
        self.key_prefix = key_prefix
        self.timeout_seconds = timeout_seconds
        self._client = client
        self._reachable = True

    def name(self, key: TokenKey) -> str:
        """Return the Redis key of a token: the prefix and the digest in hexadecimal."""
        return self.key_prefix + key.hex()

    async def get_many(self, keys: Sequence[TokenKey]) -> list[bytes | None]:
        """Return the document of each token, in order; ``None`` where there is none."""
        names = [self.name(key) for key in keys]
        async with self._answering():
            if isinstance(self._client, RedisCluster):
                found = await self._client.mget_nonatomic(names)
            else:
                found = await self._client.mget(names)
        return [value.encode() if isinstance(value, str) else value for value in found]

    async def put(
        self, key: TokenKey, document: Mapping[str, Any], *, expires_in_seconds: float
    ) -> None:
        """Write the document of a token, which Redis forgets after ``expires_in_seconds``."""
        milliseconds = max(1, round(expires_in_seconds * 1000))
        value = json.dumps(document, separators=(",", ":"))
        async with self._answering():
            await self._client.set(self.name(key), value, px=milliseconds)

    async def delete(self, keys: Sequence[TokenKey]) -> int:
        """Remove tokens; return how many there were."""
        if not keys:
            return 0
        async with self._answering():
            removed: int = await self._client.delete(*(self.name(key) for key in keys))
        return removed

    async def ping(self) -> None:
        """Return when the store answers."""
        async with self._answering():
            await self._client.ping()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Hold a call to its time-out and turn every way of failing into one error."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                yield
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._note(error)
            raise StoreUnavailable from None
        self._note(None)

    def _note(self, error: Exception | None) -> None:
        """Log the changes between reachable and not, and only those."""
        if error is None and not self._reachable:
            log.info("token store reachable again")
        elif error is not None and self._reachable:
            log.warning("token store unreachable", error=type(error).__name__)
        self._reachable = error is None
