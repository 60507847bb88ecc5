"""What passes through the OAuth endpoints, brought into the token store.

A client gets its answer from the token endpoint even if the store is down: the key manager may
have taken its refresh token away for it. What couldn't be written then waits in memory, in the
order in which it came, and is tried again. A revocation that couldn't be written waits as well,
but its client is told (``docs/decisions/0003-revocation-needs-the-store.md``).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import StoreUnavailable
from gateway.grant_book import GrantBook
from gateway.grants import Grant
from gateway.issued import Issued
from gateway.store import TokenStore
from gateway.tokens import TokenKey

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 1.0
MOST_WAITING = 10_000
"""Entries of about a kilobyte: some minutes of a busy token endpoint."""


class RecordingMetrics(Protocol):
    """What is counted of recording."""

    def token_recorded(self, result: str) -> None:
        """An access token passed the token endpoint: "stored", "retried" or "lost"."""
        ...

    def tokens_revoked(self, count: int) -> None:
        """A revocation removed ``count`` tokens from the store."""
        ...

    def store_failure(self, command: str) -> None:
        """A command failed: "record" or "revoke"."""
        ...


class Known(Protocol):
    """What the gateway knows of tokens: ``validator.Validator``."""

    def forget(self, key: TokenKey) -> None:
        """Drop all that is known of a token."""
        ...

    def revoking(self, key: TokenKey) -> None:
        """A token is about to leave the store."""
        ...

    def revoke(self, key: TokenKey, *, since: float) -> None:
        """A token has left the store; it was revoked at ``since`` (monotonic seconds)."""
        ...


@dataclass(frozen=True, slots=True)
class _Withdrawal:
    """A token to be removed from the store; ``cascade`` takes its grant along.

    ``since`` is when it was revoked (monotonic seconds).
    """

    key: TokenKey
    cascade: bool
    since: float


@dataclass(slots=True, eq=False)
class _Attempt:
    """A token on its way into the store; ``revoked`` if it was revoked meanwhile."""

    issued: Issued
    revoked: bool = False


class Recorder:
    """Writes issued tokens into the store and removes revoked ones.

    One for each gateway, whatever becomes of its settings: what waits here is nowhere else. With
    ``revoke_on_refresh``, which may be set at any time, a refresh revokes the grant's earlier
    access tokens.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        known: Known,
        metrics: RecordingMetrics,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        most_waiting: int = MOST_WAITING,
        revoke_on_refresh: bool = False,
    ) -> None:
        self.revoke_on_refresh = revoke_on_refresh
        self._store = store
        self._grants = GrantBook(store, clock)
        self._known = known
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._most_waiting = most_waiting
        self._waiting: OrderedDict[TokenKey, Issued | _Withdrawal] = OrderedDict()
        self._attempts: set[_Attempt] = set()
        self._retrying: asyncio.Task[None] | None = None
        self._closing = False

    async def record(self, issued: Issued) -> None:
        """Write an issued token into the store, now or as soon as the store is there."""
        if self._waiting:
            # In order: what waits may hold the grant that this token's subject comes from.
            self._wait(issued)
            return
        try:
            await self._write(issued)
        except StoreUnavailable:
            self._metrics.store_failure("record")
            self._wait(issued)
        else:
            self._metrics.token_recorded("stored")

    async def revoke(self, keys: Sequence[TokenKey]) -> None:
        """Remove revoked tokens, and with a refresh token the access tokens of its grant.

        Raises:
            StoreUnavailable: they are still in the store. It is tried again in the background,
                but nobody should rely on that: the client must ask again.
        """
        await self._withdraw(keys, cascade=True)

    async def deactivate(self, keys: Sequence[TokenKey]) -> None:
        """Remove access tokens that the key manager ended on its own, now or later."""
        with suppress(StoreUnavailable):
            await self._withdraw(keys, cascade=False)

    async def close(self) -> None:
        """Try what waits one last time; what still can't be written is lost."""
        self._closing = True
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
        await self._write_waiting()
        for key in list(self._waiting):
            self._lose(key, "the gateway stops")

    async def _withdraw(self, keys: Sequence[TokenKey], *, cascade: bool) -> None:
        since = self._clock.monotonic()
        for key in keys:
            self._known.revoking(key)
        for attempt in self._attempts:
            attempt.revoked = attempt.revoked or _touched(attempt.issued, keys, cascade)
        for entry in list(self._waiting.values()):
            if isinstance(entry, Issued) and _touched(entry, keys, cascade):
                del self._waiting[entry.key]
        try:
            await self._remove(keys, cascade=cascade, since=since)
        except StoreUnavailable:
            self._metrics.store_failure("revoke")
            for key in keys:
                self._wait(_Withdrawal(key, cascade, since))
            raise

    # What waits

    def _wait(self, entry: Issued | _Withdrawal) -> None:
        self._waiting[entry.key] = entry
        self._waiting.move_to_end(entry.key)
        if len(self._waiting) > self._most_waiting:
            self._lose(next(iter(self._waiting)), "too many wait")
        if self._closing:
            self._lose(entry.key, "the gateway stops")
        elif self._retrying is None or self._retrying.done():
            self._retrying = asyncio.create_task(self._retry())

    async def _retry(self) -> None:
        while self._waiting:
            await self._sleep(RETRY_SECONDS)
            await self._write_waiting()

    async def _write_waiting(self) -> None:
        """Write what waits, until something can't be."""
        while self._waiting:
            key, entry = next(iter(self._waiting.items()))
            try:
                if isinstance(entry, _Withdrawal):
                    await self._remove([key], cascade=entry.cascade, since=entry.since)
                elif entry.exp > self._clock.wall():
                    await self._write(entry)
                    self._metrics.token_recorded("retried")
                else:
                    self._lose(key, "expired")
            except StoreUnavailable:
                self._metrics.store_failure("record" if isinstance(entry, Issued) else "revoke")
                return
            except Exception as error:  # noqa: BLE001 -- a fault of ours must not hold up the rest
                self._lose(key, type(error).__name__)
            if self._waiting.get(key) is entry:
                del self._waiting[key]

    def _lose(self, key: TokenKey, why: str) -> None:
        if isinstance(self._waiting.pop(key, None), Issued):
            self._metrics.token_recorded("lost")
            log.error("issued token not recorded", token_key=key.hex(), why=why)
        else:
            log.error("revoked token may still be in the store", token_key=key.hex(), why=why)

    # What the store is told

    async def _write(self, issued: Issued) -> None:
        attempt = _Attempt(issued)
        self._attempts.add(attempt)
        grant_revoked = False
        replaced: list[TokenKey] = []
        try:
            grant = Grant()
            if issued.used_refresh_key is not None:
                grant = await self._grants.find(issued.used_refresh_key)
                if self.revoke_on_refresh:
                    replaced = [
                        key for key in grant.living(self._clock.wall()) if key != issued.key
                    ]
            issued = issued.completed(grant)
            life_seconds = issued.exp - self._clock.wall()
            await self._store.put(issued.key, issued.document(), expires_in_seconds=life_seconds)
            self._known.forget(issued.key)
            grant_revoked = await self._grants.link(issued, grant)
        except StoreUnavailable:
            if not attempt.revoked:
                raise
        finally:
            self._attempts.discard(attempt)
        if attempt.revoked or grant_revoked:
            # Looked at after the write: a revocation that came before it found nothing to remove.
            log.info("token revoked while it was recorded", token_key=issued.key.hex())
            await self.deactivate([issued.key])
        if replaced:
            await self.deactivate(replaced)

    async def _remove(self, keys: Iterable[TokenKey], *, cascade: bool, since: float) -> None:
        doomed = dict.fromkeys(keys)
        if cascade:
            for key in list(doomed):
                doomed |= dict.fromkeys(await self._grants.end(key))
        removed = await self._store.delete(list(doomed))
        for key in doomed:
            # In lapse mode cached facts stay until they lapse: that is the revocation window.
            self._known.revoke(key, since=since)
        self._metrics.tokens_revoked(removed)


def _touched(issued: Issued, keys: Sequence[TokenKey], cascade: bool) -> bool:
    return not issued.keys.isdisjoint(keys) if cascade else issued.key in keys
