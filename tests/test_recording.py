"""Issued and revoked tokens on their way into the token store, also while it is down."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import fakeredis
import pytest
from clocks import FakeClock
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.issued import Issued
from gateway.recording import RETRY_SECONDS, Recorder
from gateway.store import TokenStore
from gateway.tokens import TokenKey, token_key

A1, A2, A3 = (token_key(f"access-{number}") for number in (1, 2, 3))
R1, R2 = (token_key(f"refresh-{number}") for number in (1, 2))
LIFE = 3600


class Counts(Counter[str]):
    """What was counted, by name and label."""

    def token_recorded(self, result: str) -> None:
        self[f"recorded {result}"] += 1

    def tokens_revoked(self, count: int) -> None:
        self["revoked"] += count

    def store_failure(self, command: str) -> None:
        self[f"{command} failed"] += 1


class Known:
    """Notes what the validator would be told."""

    def __init__(self) -> None:
        self.forgotten: list[TokenKey] = []
        self.revoking_now: list[TokenKey] = []
        self.revoked: list[TokenKey] = []
        self.since: list[float] = []

    def forget(self, key: TokenKey) -> None:
        self.forgotten.append(key)

    def revoking(self, key: TokenKey) -> None:
        self.revoking_now.append(key)

    def revoke(self, key: TokenKey, *, since: float) -> None:
        self.revoked.append(key)
        self.since.append(since)


class Naps:
    """A sleep that a test ends."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._asleep = asyncio.Event()
        self._ended = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._ended.clear()
        self._asleep.set()
        await self._ended.wait()

    async def end_one(self, sleeper: asyncio.Task[None]) -> None:
        """Let a task go on until it sleeps again or has nothing to do."""
        await self._settled(sleeper)
        self._asleep.clear()
        self._ended.set()
        await self._settled(sleeper)

    async def _settled(self, sleeper: asyncio.Task[None]) -> None:
        asleep = asyncio.create_task(self._asleep.wait())
        async with asyncio.timeout(5):
            await asyncio.wait({asleep, sleeper}, return_when=asyncio.FIRST_COMPLETED)
        asleep.cancel()


class GatedStore(TokenStore):
    """Holds back the answer to each write until the test lets it go."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client, timeout_seconds=5.0)
        self.written = asyncio.Event()
        self.gate = asyncio.Event()
        self.fails = False
        self.deletes = True

    async def put(
        self, key: TokenKey, document: Mapping[str, Any], *, expires_in_seconds: float
    ) -> None:
        await super().put(key, document, expires_in_seconds=expires_in_seconds)
        self.written.set()
        await self.gate.wait()
        if self.fails:
            raise StoreUnavailable

    async def delete(self, keys: Sequence[TokenKey]) -> int:
        if not self.deletes:
            raise StoreUnavailable
        return await super().delete(keys)


class House:
    """A recorder and all that it works with, on an in-memory Redis that can go away."""

    def __init__(self, clock: FakeClock, *, most_waiting: int = 100) -> None:
        self.clock = clock
        self.redis = fakeredis.FakeServer()
        self.client = fakeredis.FakeAsyncRedis(server=self.redis)
        self.store = TokenStore(self.client, timeout_seconds=5.0)
        self.known = Known()
        self.counts = Counts()
        self.naps = Naps()
        self.recorder = self.recorder_on(self.store, most_waiting=most_waiting)

    def recorder_on(self, store: TokenStore, *, most_waiting: int = 100) -> Recorder:
        return Recorder(
            store,
            known=self.known,
            metrics=self.counts,
            clock=self.clock,
            sleep=self.naps.sleep,
            most_waiting=most_waiting,
        )

    def store_is(self, *, up: bool) -> None:
        self.redis.connected = up

    async def retry(self) -> None:
        assert self.recorder._retrying is not None
        await self.naps.end_one(self.recorder._retrying)

    async def document(self, key: TokenKey) -> Any:
        (found,) = await self.store.get_many([key])
        return found and json.loads(found)

    def issued(
        self,
        key: TokenKey,
        *,
        sub: str | None = "alice",
        refresh: TokenKey | None = None,
        used: TokenKey | None = None,
    ) -> Issued:
        now_at = int(self.clock.wall())
        return Issued(
            key=key,
            iat=now_at,
            exp=now_at + LIFE,
            client_id="demo-key",
            sub=sub,
            scope="read",
            refresh_key=refresh,
            used_refresh_key=used,
        )


@pytest.fixture
async def house(clock: FakeClock) -> AsyncIterator[House]:
    house = House(clock)
    yield house
    house.store_is(up=True)
    await house.recorder.close()
    await house.client.aclose()


async def test_an_issued_token_is_in_the_store_for_its_life(house: House) -> None:
    """Its document is there when ``record`` returns, and the negative cache is told."""
    await house.recorder.record(house.issued(A1))
    assert await house.document(A1) == {
        "active": True,
        "client_id": "demo-key",
        "sub": "alice",
        "scope": "read",
        "token_type": "Bearer",
        "iat": int(house.clock.wall()),
        "exp": int(house.clock.wall()) + LIFE,
    }
    life = await house.client.pttl(house.store.name(A1)) / 1000
    assert life == pytest.approx(LIFE, abs=5)
    assert house.known.forgotten == [A1]
    assert house.counts == {"recorded stored": 1}


async def test_no_key_or_value_has_a_token(house: House) -> None:
    """Digests only, in names and in grants."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    everything = repr(
        [(name, await house.client.type(name)) for name in await house.client.keys()]
    ) + repr([await house.store.grant(R1), await house.document(A1)])
    assert "access-" not in everything
    assert "refresh-" not in everything


async def test_a_refreshed_token_keeps_its_subject(house: House) -> None:
    """The second token's answer didn't say whom it is for."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, sub=None, refresh=R2, used=R1))
    await house.recorder.record(house.issued(A3, sub=None, used=R2))
    assert [(await house.document(key))["sub"] for key in (A1, A2, A3)] == ["alice"] * 3


async def test_a_revoked_access_token_goes_alone(house: House) -> None:
    """The others of its grant stay; lookups under way are detached, cached facts are left."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, used=R1))
    await house.recorder.revoke([A1])
    assert await house.document(A1) is None
    assert await house.document(A2) is not None
    assert house.known.revoked == [A1]
    assert house.known.forgotten == [A1, A2]
    assert house.counts["revoked"] == 1


async def test_a_revoked_refresh_token_takes_its_access_tokens_along(house: House) -> None:
    """RFC 7009 §2.1, also for a key manager that has no share in the store."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    await house.recorder.record(house.issued(A3))
    await house.recorder.revoke([R2])
    assert [await house.document(key) is None for key in (A1, A2, A3)] == [True, True, False]
    assert set(house.known.revoked) == {A1, A2, R2}
    assert house.counts["revoked"] == 2


async def test_a_deactivated_token_goes_without_its_grant(house: House) -> None:
    """A key manager that ended one access token has said nothing of the others."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.deactivate([A1, R1])
    await house.recorder.record(house.issued(A2, used=R1))
    assert [await house.document(key) is None for key in (A1, A2)] == [True, False]


async def test_revoking_an_unknown_token_leaves_nothing(house: House) -> None:
    """RFC 7009 §2.2: it is no error, and makes no key."""
    await house.recorder.revoke([A1])
    assert await house.client.keys() == []
    assert house.counts == {"revoked": 0}


async def test_a_token_waits_for_a_store_that_is_down(house: House) -> None:
    """``record`` returns, and the token is written when the store is back."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    await house.retry()
    house.store_is(up=True)
    assert await house.document(A1) is None
    await house.retry()
    assert await house.document(A1) is not None
    assert house.known.forgotten == [A1]
    assert house.naps.seconds == [RETRY_SECONDS, RETRY_SECONDS]
    assert house.counts == {"record failed": 2, "recorded retried": 1}


async def test_tokens_are_written_in_the_order_in_which_they_came(house: House) -> None:
    """A refresh during the outage finds the grant that its subject comes from."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=True)
    await house.recorder.record(house.issued(A2, sub=None, refresh=R2, used=R1))
    await house.retry()
    assert (await house.document(A2))["sub"] == "alice"
    assert house.counts["recorded retried"] == 2
    await house.recorder.record(house.issued(A3, used=R2))
    assert house.counts["recorded stored"] == 1


async def test_a_token_that_expired_while_it_waited_is_lost(house: House) -> None:
    """It would be refused anyway; it is counted, and logged by its key."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    house.clock.advance(LIFE)
    house.store_is(up=True)
    with capture_logs() as logs:
        await house.retry()
    assert await house.document(A1) is None
    assert house.counts == {"record failed": 1, "recorded lost": 1}
    assert [(line["token_key"], line["why"]) for line in logs] == [(A1.hex(), "expired")]


async def test_of_too_many_tokens_the_oldest_is_lost(clock: FakeClock) -> None:
    """What waits is bounded."""
    house = House(clock, most_waiting=2)
    house.store_is(up=False)
    with capture_logs() as logs:
        for key in (A1, A2, A3):
            await house.recorder.record(house.issued(key))
    assert [line["token_key"] for line in logs if "token_key" in line] == [A1.hex()]
    house.store_is(up=True)
    await house.retry()
    assert [await house.document(key) is None for key in (A1, A2, A3)] == [True, False, False]
    assert house.counts["recorded lost"] == 1


@pytest.mark.parametrize("revoked", [A1, R1], ids=["access", "refresh"])
async def test_a_token_revoked_while_it_waits_is_not_written(
    house: House, revoked: TokenKey
) -> None:
    """Neither it nor what its refresh token was revoked for comes back to life."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=True)
    await house.recorder.revoke([revoked])
    await house.retry()
    assert await house.document(A1) is None
    assert house.counts["recorded retried"] == 0


async def test_a_token_deactivated_while_it_waits_is_not_written(house: House) -> None:
    """The key manager replaced it before the store was back."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    house.store_is(up=True)
    await house.recorder.deactivate([A1])
    await house.retry()
    assert await house.document(A1) is None


async def test_a_deactivated_refresh_token_leaves_what_waits(house: House) -> None:
    """A refresh token that was replaced takes nothing with it."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=True)
    await house.recorder.deactivate([R1])
    await house.retry()
    assert await house.document(A1) is not None


async def test_a_revocation_needs_the_store_and_is_tried_again(house: House) -> None:
    """Who revokes is told that it isn't done; it is done when the store is back all the same."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=False)
    with pytest.raises(StoreUnavailable):
        await house.recorder.revoke([R1])
    assert house.known.revoked == []
    house.store_is(up=True)
    await house.retry()
    assert await house.document(A1) is None
    assert set(house.known.revoked) == {A1, R1}
    assert house.counts["revoke failed"] == 1


async def test_a_deactivation_waits_without_a_fault(house: House) -> None:
    """It comes with an answer that the client must get."""
    await house.recorder.record(house.issued(A1))
    house.store_is(up=False)
    await house.recorder.deactivate([A1])
    house.store_is(up=True)
    await house.retry()
    assert await house.document(A1) is None


@pytest.mark.parametrize("revoked", [A1, R1], ids=["access", "refresh"])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_token_revoked_while_it_is_written_is_removed(
    house: House, revoked: TokenKey, fails: bool
) -> None:
    """Whatever Redis did first, and whether or not the write's answer came."""
    store = GatedStore(house.client)
    recorder = house.recorder_on(store)
    writing = asyncio.create_task(recorder.record(house.issued(A1, refresh=R1)))
    await store.written.wait()
    document = await house.client.get(store.name(A1))
    await recorder.revoke([revoked])
    assert document is not None
    # As if the write had reached Redis only now, after the revocation.
    await house.client.set(store.name(A1), document)
    store.fails = fails
    store.gate.set()
    await writing
    assert await house.document(A1) is None
    await recorder.close()


async def test_a_revocation_that_fails_while_a_token_is_written_is_not_forgotten(
    house: House,
) -> None:
    """The token that waited is replaced by its revocation, which then waits in its place."""
    store = GatedStore(house.client)
    house.recorder = recorder = house.recorder_on(store)
    house.store_is(up=False)
    await recorder.record(house.issued(A1))
    house.store_is(up=True)
    retrying = asyncio.create_task(house.retry())
    await store.written.wait()
    store.deletes = False
    with pytest.raises(StoreUnavailable):
        await recorder.revoke([A1])
    store.gate.set()
    await retrying
    assert await house.document(A1) is not None
    store.deletes = True
    await house.retry()
    assert await house.document(A1) is None


async def test_a_token_recorded_while_another_gateway_revokes_is_removed(house: House) -> None:
    """The mark on the grant tells the gateway that recorded too late."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    store = GatedStore(house.client)
    here = house.recorder_on(store)
    writing = asyncio.create_task(here.record(house.issued(A2, used=R1)))
    await store.written.wait()
    there = house.recorder_on(house.store)
    await there.revoke([R1])
    assert await house.document(A2) is not None  # not linked yet: the cascade can't know it
    store.gate.set()
    await writing
    assert await house.document(A2) is None


async def test_closing_tries_one_last_time(house: House) -> None:
    """What waits when the gateway stops is written if it can be."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    house.store_is(up=True)
    await house.recorder.close()
    assert await house.document(A1) is not None


async def test_what_closing_can_not_write_is_lost_and_said(house: House) -> None:
    """Issued and revoked tokens are named by key, and no task stays behind."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    with pytest.raises(StoreUnavailable):
        await house.recorder.revoke([A2])
    with capture_logs() as logs:
        await house.recorder.close()
    assert [line["token_key"] for line in logs if "token_key" in line] == [A1.hex(), A2.hex()]
    assert house.counts["recorded lost"] == 1
    assert house.recorder._retrying is not None
    assert house.recorder._retrying.done()


async def test_a_recorder_that_is_closed_starts_nothing(house: House) -> None:
    """What fails after the end is lost at once, and said."""
    await house.recorder.close()
    house.store_is(up=False)
    with capture_logs() as logs:
        await house.recorder.record(house.issued(A1))
    assert [line["token_key"] for line in logs if "token_key" in line] == [A1.hex()]
    assert house.recorder._retrying is None


async def test_a_fault_of_ours_does_not_hold_up_the_rest(house: House) -> None:
    """An entry that can't be written for any other reason is lost, the next is written."""
    house.store_is(up=False)
    broken = house.issued(A1)
    await house.recorder.record(broken)
    await house.recorder.record(house.issued(A2))
    object.__setattr__(broken, "client_id", {"not", "JSON"})
    house.store_is(up=True)
    await house.retry()
    assert [await house.document(key) is None for key in (A1, A2)] == [True, False]
    assert house.counts["recorded lost"] == 1
    assert house.counts["recorded retried"] == 1


async def test_it_works_on_a_real_redis(clock: FakeClock, redis_url: str) -> None:
    """Recording, refreshing and a revocation with its cascade, as one story."""
    house = House(clock)
    client = Redis.from_url(redis_url)
    store = TokenStore(client, timeout_seconds=5.0)
    recorder = house.recorder_on(store)
    await recorder.record(house.issued(A1, refresh=R1))
    await recorder.record(house.issued(A2, sub=None, refresh=R2, used=R1))
    assert [_sub(value) for value in await store.get_many([A1, A2])] == ["alice", "alice"]
    await recorder.revoke([R2])
    assert await store.get_many([A1, A2]) == [None, None]
    await recorder.close()
    await client.aclose()


def _sub(value: bytes | None) -> Any:
    assert value is not None
    return json.loads(value)["sub"]


@pytest.mark.parametrize("on", [False, True])
async def test_a_refresh_may_revoke_what_was_bought_before(house: House, on: bool) -> None:
    """The grant's earlier access tokens go, those of other grants stay."""
    await house.recorder.record(house.issued(A3, refresh=token_key("another")))
    house.recorder.revoke_on_refresh = on
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    gone = [await house.document(key) is None for key in (A1, A2, A3)]
    assert gone == [on, False, False]
    assert house.known.revoked == ([A1] if on else [])


async def test_since_when_a_token_is_revoked(house: House) -> None:
    """Since the key manager answered, however late the store is told."""
    await house.recorder.record(house.issued(A1))
    house.store_is(up=False)
    with pytest.raises(StoreUnavailable):
        await house.recorder.revoke([A1])
    since = house.clock.monotonic()
    assert (house.known.revoking_now, house.known.revoked) == ([A1], [])
    house.clock.advance(5)
    house.store_is(up=True)
    await house.retry()
    assert (house.known.revoked, house.known.since) == ([A1], [since])
