"""Issued and revoked tokens on their way into the token store, also while it is down."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import fakeredis
import pytest
from clocks import FakeClock
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.grant_book import ENDED_SECONDS
from gateway.issued import Issued
from gateway.recording import BATCH, HELD_SECONDS, RETRY_SECONDS, Recorder
from gateway.store import ENDED, NewDocument, TokenStore
from gateway.tokens import TokenKey, token_key

A1, A2, A3 = (token_key(f"access-{number}") for number in (1, 2, 3))
R1, R2, R3 = (token_key(f"refresh-{number}") for number in (1, 2, 3))
LIFE = 3600


class Counts(Counter[str]):
    """What was counted, by name and label."""

    def token_recorded(self, result: str) -> None:
        self[f"recorded {result}"] += 1

    def tokens_revoked(self, count: int) -> None:
        self["revoked"] += count

    def store_failure(self, command: str) -> None:
        self[f"{command} failed"] += 1

    def foreign_revocation(self) -> None:
        self["foreign"] += 1


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
    """Holds back each write of tokens, or the answer to it, until the test lets it go."""

    def __init__(self, client: Redis, *, carries_out_first: bool = True) -> None:
        super().__init__(client, timeout_seconds=5.0)
        self.carries_out_first = carries_out_first
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.fails = False
        self.ends = True

    async def record(self, documents: Sequence[NewDocument]) -> list[bool]:
        written: list[bool] = []
        if self.carries_out_first:
            written = await super().record(documents)
        self.reached.set()
        await self.gate.wait()
        if not self.carries_out_first:
            written = await super().record(documents)
        if self.fails:
            raise StoreUnavailable
        return written

    async def end(self, lives_seconds: Mapping[TokenKey, float]) -> int:
        if not self.ends:
            raise StoreUnavailable
        return await super().end(lives_seconds)


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
        """Return the document of a token that is good, ``None`` of any other."""
        (found,) = await self.store.get_many([key])
        members = found and json.loads(found)
        return members if members and members["active"] else None

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
    ) + repr([await house.store.grants([R1]), await house.document(A1)])
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


async def test_revoking_an_unknown_token_leaves_its_end(house: House) -> None:
    """RFC 7009 §2.2: it is no error, and another gateway may hold it; for a time, not for good."""
    await house.recorder.revoke([A1])
    names = [house.store.name(A1), house.store.grant_name(A1)]
    assert sorted(await house.client.keys()) == sorted(name.encode() for name in names)
    lives = [await house.client.pttl(name) / 1000 for name in names]
    assert lives == pytest.approx([ENDED_SECONDS] * 2, abs=5)
    assert house.counts == {"revoked": 0}
    assert HELD_SECONDS < ENDED_SECONDS


async def test_a_token_waits_for_a_store_that_is_down(house: House) -> None:
    """``record`` returns, and the token is written when the store is back."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    await house.retry()
    house.store_is(up=True)
    assert await house.document(A1) is None
    await house.retry()
    assert await house.document(A1) is not None
    assert house.known.forgotten == [A1, A1]  # when it began to wait, and when it was written
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
@pytest.mark.parametrize("carries_out_first", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_token_revoked_while_it_is_written_is_not_there(
    house: House, revoked: TokenKey, carries_out_first: bool, fails: bool
) -> None:
    """Whatever Redis did first, and whether or not the write's answer came."""
    store = GatedStore(house.client, carries_out_first=carries_out_first)
    house.recorder = recorder = house.recorder_on(store)
    writing = asyncio.create_task(recorder.record(house.issued(A1, refresh=R1)))
    await store.reached.wait()
    await recorder.revoke([revoked])
    store.fails = fails
    store.gate.set()
    await writing
    store.fails = False
    if fails:
        await house.retry()
    assert await house.document(A1) is None
    assert not recorder.holds(A1)


async def test_a_revocation_that_fails_while_a_token_is_written_is_not_forgotten(
    house: House,
) -> None:
    """The token gets there, and its revocation after it."""
    store = GatedStore(house.client)
    house.recorder = recorder = house.recorder_on(store)
    house.store_is(up=False)
    await recorder.record(house.issued(A1))
    house.store_is(up=True)
    retrying = asyncio.create_task(house.retry())
    await store.reached.wait()
    store.ends = False
    with pytest.raises(StoreUnavailable):
        await recorder.revoke([A1])
    store.gate.set()
    await retrying
    assert await house.document(A1) is not None
    store.ends = True
    await house.retry()
    assert await house.document(A1) is None


@pytest.mark.parametrize("revoked", [A1, A2, R1, R2], ids=["A1", "A2", "R1", "R2"])
@pytest.mark.parametrize("while_", ["it waits", "it is about to be written", "it is being written"])
async def test_h1_a_token_revoked_through_another_worker_stays_gone(
    house: House, revoked: TokenKey, while_: str
) -> None:
    """Redis stalls while tokens are issued; each is revoked at once elsewhere, which says 2xx."""
    there = house.recorder_on(house.store)
    store = GatedStore(house.client, carries_out_first=while_ == "it is being written")
    house.recorder = here = house.recorder_on(store)
    house.store_is(up=False)
    tokens = [house.issued(A1, refresh=R1), house.issued(A2, refresh=R2, used=R1)]
    for token in tokens:
        await here.record(token)
    house.store_is(up=True)
    if while_ == "it waits":
        await there.revoke([revoked])
        store.gate.set()
        await house.retry()
    else:
        retrying = asyncio.create_task(house.retry())
        await store.reached.wait()
        await there.revoke([revoked])
        store.gate.set()
        await retrying
    gone = [await house.document(key) is None for key in (A1, A2)]
    by_grant = revoked in {R1, R2}
    assert gone == [by_grant or revoked == A1, by_grant or revoked == A2]
    await there.close()


async def test_h1_a_token_written_twice_because_the_answer_was_late_stays_gone(
    house: House,
) -> None:
    """The write reached Redis, its answer didn't; it was revoked, and the write is tried again."""
    store = GatedStore(house.client)
    house.recorder = here = house.recorder_on(store)
    store.gate.set()
    store.fails = True
    await here.record(house.issued(A1))
    assert await house.document(A1) is not None
    await house.recorder_on(house.store).revoke([A1])
    store.fails = False
    await house.retry()
    assert await house.document(A1) is None
    assert house.counts["recorded revoked"] == 1


async def test_a_token_recorded_while_another_gateway_revokes_its_grant_is_not_there(
    house: House,
) -> None:
    """It was noted in its grant before: the revocation ends it, though it isn't written yet."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    store = GatedStore(house.client, carries_out_first=False)
    here = house.recorder_on(store)
    writing = asyncio.create_task(here.record(house.issued(A2, used=R1)))
    await store.reached.wait()
    there = house.recorder_on(house.store)
    await there.revoke([R1])
    store.gate.set()
    await writing
    assert await house.document(A2) is None


async def test_what_waits_of_one_grant_ends_together(house: House) -> None:
    """R2 is revoked; that A1 and A3 belong to the same grant is known here alone."""
    house.store_is(up=False)
    for token in (
        house.issued(A1, refresh=R1),
        house.issued(A2, refresh=R2, used=R1),
        house.issued(A3, used=R1),
    ):
        await house.recorder.record(token)
    house.store_is(up=True)
    await house.recorder.revoke([R2])
    await house.retry()
    assert [await house.document(key) for key in (A1, A2, A3)] == [None] * 3
    assert house.counts["recorded revoked"] == 3


async def test_whose_grant_it_is_outlives_a_revocation_of_what_waits(house: House) -> None:
    """A2 is revoked while it waits; that R2, which came with it, belongs to R1 is known later."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=False)
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    with pytest.raises(StoreUnavailable):
        await house.recorder.revoke([A2])
    house.store_is(up=True)
    await house.retry()
    assert [await house.document(key) is None for key in (A1, A2)] == [False, True]
    await house.recorder.revoke([R2])
    assert await house.document(A1) is None


async def test_a3_the_refresh_token_of_a_replay_within_grace_takes_all_along(house: House) -> None:
    """R1 bought A2 with R2 and A3 with R3; revoking R3 ends A2 too."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    await house.recorder.record(house.issued(A3, refresh=R3, used=R1))
    await house.recorder.revoke([R3])
    assert [await house.document(key) for key in (A1, A2, A3)] == [None] * 3


async def test_a4_a_replayed_refresh_token_ends_its_grant(house: House) -> None:
    """It was replaced, and the client of the grant used it once more."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    await house.recorder.replayed(R1, by=frozenset({"demo-key"}))
    assert [await house.document(key) for key in (A1, A2)] == [None] * 2


@pytest.mark.parametrize(
    ("refresh_key", "by"),
    [
        (R2, {"demo-key"}),
        (R3, {"demo-key"}),
        (A1, {"demo-key"}),
        (R1, {"another"}),
        (R1, set()),
    ],
    ids=["not replaced", "random", "an access token", "another client", "nobody"],
)
async def test_a4_what_is_no_replay_ends_nothing(
    house: House, refresh_key: TokenKey, by: set[str]
) -> None:
    """Else whoever sends a made-up or an expired refresh token would end others' tokens."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    await house.recorder.replayed(refresh_key, by=frozenset(by))
    assert None not in [await house.document(key) for key in (A1, A2)]
    assert house.counts["foreign"] == 0


async def test_a4_a_replay_waits_for_the_store(house: House) -> None:
    """The client gets its answer, and the grant ends when the store is back."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    house.store_is(up=False)
    await house.recorder.replayed(R1, by=frozenset({"demo-key"}))
    house.store_is(up=True)
    await house.retry()
    assert await house.document(A2) is None


@pytest.mark.parametrize("revoked", [A1, R1, R2], ids=["access", "first refresh", "refresh"])
@pytest.mark.parametrize(
    ("by", "stays"),
    [({"another"}, True), ({"demo-key"}, False), ({"demo-key", "demo key"}, False), (set(), False)],
    ids=["another client", "its client", "its client by two readings", "nobody named"],
)
async def test_a5_a_token_stays_that_another_client_revoked(
    house: House, revoked: TokenKey, by: set[str], stays: bool
) -> None:
    """The key manager said 200 and did nothing (RFC 7009 §2.1); if no name contradicts, it goes."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    await house.recorder.record(house.issued(A2, refresh=R2, used=R1))
    with capture_logs() as logs:
        await house.recorder.revoke([revoked], by=frozenset(by))
    good = [await house.document(key) is not None for key in (A1, A2)]
    assert good == [stays, stays or revoked == A1]
    assert (house.counts["foreign"], len(logs)) == ((1, 1) if stays else (0, 0))


async def test_a5_a_token_whose_client_is_not_known_goes(house: House) -> None:
    """What nobody knows contradicts nothing, and a 2xx that leaves a token good is the worse."""
    await house.recorder.record(replace(house.issued(A1), client_id=None))
    await house.recorder.revoke([A1], by=frozenset({"demo-key"}))
    assert await house.document(A1) is None


async def test_a5_what_the_key_manager_names_goes_whoever_asked(house: House) -> None:
    """It said itself, in a field of its answer, that this token ended."""
    await house.recorder.record(house.issued(A1))
    await house.recorder.revoke([A2], by=frozenset({"another"}), named=[A1])
    assert await house.document(A1) is None


@pytest.mark.parametrize("revoked", [A1, R1], ids=["access", "refresh"])
async def test_a5_a_token_that_waits_stays_that_another_client_revoked(
    house: House, revoked: TokenKey
) -> None:
    """Whose it is, this gateway knows before the store does."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=True)
    await house.recorder.revoke([revoked], by=frozenset({"another"}))
    assert house.counts["foreign"] == 1
    await house.retry()
    assert await house.document(A1) is not None


async def test_a5_a_revocation_that_waits_remembers_who_asked(house: House) -> None:
    """Another client's doesn't become anyone's because the store was down."""
    await house.recorder.record(house.issued(A1))
    house.store_is(up=False)
    with pytest.raises(StoreUnavailable):
        await house.recorder.revoke([A1], by=frozenset({"another"}))
    house.store_is(up=True)
    await house.retry()
    assert await house.document(A1) is not None


async def test_of_revocations_that_wait_none_takes_the_place_of_another(house: House) -> None:
    """The same token, revoked by its client and by another, and then named as an access token."""
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=False)
    for by in ({"demo-key"}, {"another"}):
        with pytest.raises(StoreUnavailable):
            await house.recorder.revoke([R1], by=frozenset(by))
    await house.recorder.deactivate([R1])
    house.store_is(up=True)
    await house.retry()
    assert await house.document(A1) is None
    assert house.counts["foreign"] == 1


async def test_h2_a_backlog_drains_in_batches(house: House) -> None:
    """1,500 tokens issued while Redis was down: a few round trips write them all."""
    house.recorder = house.recorder_on(house.store, most_waiting=2_000)
    house.store_is(up=False)
    tokens = [
        house.issued(
            token_key(f"a{number}"), refresh=token_key(f"r{number}") if number % 2 else None
        )
        for number in range(1_500)
    ]
    for token in tokens:
        await house.recorder.record(token)
    assert all(house.recorder.holds(token.key) for token in tokens)
    house.store_is(up=True)
    calls = count_calls(house.store)
    await house.retry()
    assert not any(house.recorder.holds(token.key) for token in tokens)
    written = await house.store.get_many([token.key for token in tokens])
    assert None not in written
    assert calls["record"] == calls["update_grants"] == -(-1_500 // BATCH)


async def test_h2_a_fresh_token_does_not_wait_for_a_backlog(house: House) -> None:
    """Once the store answers, what has nothing to do with what waits is written at once."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1, refresh=R1))
    house.store_is(up=True)
    await house.store.ping()
    await house.recorder.record(house.issued(A3))
    assert await house.document(A3) is not None
    await house.recorder.record(house.issued(A2, sub=None, refresh=R2, used=R1))
    assert house.recorder.holds(A2)
    await house.retry()
    assert (await house.document(A2))["sub"] == "alice"


async def test_h2_while_the_store_is_down_nobody_waits_for_its_time_out(house: House) -> None:
    """One token found out; the others are held at once."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    calls = count_calls(house.store)
    await house.recorder.record(house.issued(A2))
    assert (house.recorder.holds(A2), calls) == (True, {})


async def test_a_token_that_waited_too_long_is_lost(house: House) -> None:
    """Its end, had it been revoked elsewhere, would be forgotten."""
    house.store_is(up=False)
    await house.recorder.record(replace(house.issued(A1), exp=int(house.clock.wall()) + 2 * 86_400))
    house.clock.advance(HELD_SECONDS)
    house.store_is(up=True)
    await house.retry()
    assert await house.document(A1) is None
    assert house.counts["recorded lost"] == 1


async def test_h3_what_a_key_manager_ended_in_the_shared_store_stays_ended(house: House) -> None:
    """It wrote the token too, and ended it by a document that says so."""
    house.store_is(up=False)
    await house.recorder.record(house.issued(A1))
    house.store_is(up=True)
    await house.store.put(A1, {"active": False}, expires_in_seconds=60)
    await house.retry()
    assert await house.document(A1) is None


async def test_a_document_of_the_key_manager_itself_stays(house: House) -> None:
    """It knows more than an answer of the token endpoint says."""
    document = {"active": True, "sub": "alice@example", "exp": int(house.clock.wall()) + LIFE}
    await house.store.put(A1, document, expires_in_seconds=60)
    await house.recorder.record(house.issued(A1, sub=None))
    assert await house.document(A1) == document
    assert house.counts == {"recorded stored": 1}


def count_calls(store: TokenStore) -> Counter[str]:
    """Count the calls of a store that cost a round trip or more."""
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        call = getattr(store, name)

        async def count(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return await call(*args, **kwargs)

        setattr(store, name, count)

    for name in ("record", "update_grants", "grants", "end", "get_many"):
        counted(name)
    return calls


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
    await recorder.record(house.issued(A3, refresh=R3, used=R2))
    ended = [ENDED.encode(), ENDED.encode(), None]
    assert await store.get_many([A1, A2, A3]) == ended
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
