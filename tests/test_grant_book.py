"""Grants in the token store, a real Redis and the in-memory one."""

from collections.abc import AsyncIterator
from dataclasses import replace

import fakeredis
import pytest
from clocks import FakeClock
from redis.asyncio import Redis

from gateway.errors import StoreUnavailable
from gateway.grant_book import ENDED_SECONDS, GRANT_SECONDS, GrantBook, Linked
from gateway.grants import CLOCKS_DIFFER_SECONDS, RACE_SECONDS, Grant
from gateway.issued import Issued
from gateway.store import TokenStore
from gateway.tokens import TokenKey, token_key

A1, A2, A3, A4 = (token_key(f"access-{number}") for number in (1, 2, 3, 4))
R1, R2, R3, R4 = (token_key(f"refresh-{number}") for number in (1, 2, 3, 4))
LIFE = 3600


@pytest.fixture(params=["redis", "memory"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    if request.param == "redis":
        client = Redis.from_url(request.getfixturevalue("redis_url"))
    else:
        client = fakeredis.FakeAsyncRedis()
    yield client
    await client.aclose()


@pytest.fixture
def book(client: Redis, clock: FakeClock) -> GrantBook:
    return GrantBook(TokenStore(client, timeout_seconds=5.0), clock)


def issued(
    clock: FakeClock,
    key: TokenKey,
    *,
    refresh: TokenKey | None = None,
    used: TokenKey | None = None,
) -> Issued:
    """A token as a recording hands it over: completed with what its grant knows."""
    now_at = int(clock.wall())
    return Issued(
        key=key,
        iat=now_at,
        exp=now_at + LIFE,
        client_id="demo-key",
        sub="alice",
        scope="read write",
        refresh_key=refresh,
        used_refresh_key=used,
    )


async def link(book: GrantBook, *tokens: Issued) -> Linked:
    """Note tokens, and return what became of the last."""
    return (await book.link(tokens))[-1]


async def find(book: GrantBook, refresh_key: TokenKey) -> Grant:
    (grant,) = await book.find([refresh_key])
    return grant


async def end(book: GrantBook, refresh_key: TokenKey) -> set[TokenKey]:
    return set(await book.end(refresh_key, await find(book, refresh_key)))


async def life(client: Redis, refresh_key: TokenKey) -> float:
    seconds: float = await client.pttl(f"token:grant:{refresh_key.hex()}") / 1000
    return seconds


async def test_a_first_token_begins_the_grant_of_its_refresh_token(
    book: GrantBook, clock: FakeClock
) -> None:
    """The refresh token's hash says whom it is for and which access token it came with."""
    token = issued(clock, A1, refresh=R1)
    assert await link(book, token) == Linked(token)
    exp = int(clock.wall()) + LIFE
    assert await find(book, R1) == Grant("demo-key", "alice", "read write", access={A1: exp})


async def test_a_token_without_a_refresh_token_leaves_nothing(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """Client credentials have no grant to remember."""
    assert (await link(book, issued(clock, A1))).has_ended is False
    assert await client.keys() == []


@pytest.mark.parametrize("repeated", [True, False])
async def test_a_refresh_token_that_stays_collects_its_access_tokens(
    book: GrantBook, clock: FakeClock, repeated: bool
) -> None:
    """Without a new refresh token, or with the same again, the grant grows by the living ones."""
    await link(book, issued(clock, A1, refresh=R1))
    second = issued(clock, A2, refresh=R1 if repeated else None, used=R1)
    assert (await link(book, second)).earlier.keys() == {A1}
    grant = await find(book, R1)
    assert (set(grant.access), grant.was_replaced) == ({A1, A2}, False)


async def test_a_new_refresh_token_belongs_to_the_family_of_the_one_it_replaced(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """The first has the access tokens of all; who was replaced is forgotten before it."""
    await link(book, issued(clock, A1, refresh=R1))
    clock.advance(60)
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    await link(book, issued(clock, A3, refresh=R3, used=R2))
    now_at = int(clock.wall())
    first = await find(book, R1)
    assert first.access == {A1: now_at - 60 + LIFE, A2: now_at + LIFE, A3: now_at + LIFE}
    assert (first.replaced_at, first.was_replaced) == (now_at, True)
    whose = Grant("demo-key", "alice", "read write", family=R1)
    assert await find(book, R3) == whose
    assert await find(book, R2) == replace(whose, replaced_at=now_at)
    lives = [await life(client, key) for key in (R1, R2, R3)]
    assert lives == [
        pytest.approx(seconds, abs=5) for seconds in (GRANT_SECONDS, ENDED_SECONDS, GRANT_SECONDS)
    ]


async def test_replaced_refresh_tokens_may_be_remembered_as_long_as_their_grants(
    client: Redis, clock: FakeClock
) -> None:
    """Else nobody knows, much later, that one is used once more."""
    book = GrantBook(TokenStore(client, timeout_seconds=5.0), clock, remembers_replaced=True)
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    await link(book, issued(clock, A3, refresh=R3, used=R2))
    assert await life(client, R2) == pytest.approx(GRANT_SECONDS, abs=5)


async def test_a_narrowed_token_leaves_the_grant_as_it_is(
    book: GrantBook, clock: FakeClock
) -> None:
    """RFC 6749 §6: a refresh for less than the grant doesn't shrink the next refresh."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, replace(issued(clock, A2, refresh=R2, used=R1), scope="read"))
    assert ((await find(book, R1)).scope, (await find(book, R2)).scope) == ("read write",) * 2


async def test_another_clients_refresh_hands_nothing_on(book: GrantBook, clock: FakeClock) -> None:
    """Neither its token nor the refresh token that came with it has what the grant had."""
    await link(book, issued(clock, A1, refresh=R1))
    other = replace(issued(clock, A2, refresh=R2, used=R1), client_id="other", scope=None, sub=None)
    assert (await link(book, other)).issued.document().keys().isdisjoint({"scope", "sub"})
    grant = await find(book, R2)
    assert (grant.client_id, grant.sub, grant.scope) == ("other", None, None)


async def test_expired_access_tokens_are_taken_out_of_a_grant(
    book: GrantBook, clock: FakeClock
) -> None:
    """Not each by itself, but a grant that is refreshed for a month doesn't grow for a month."""
    most = 0
    for number in range(40):
        await link(book, issued(clock, token_key(f"a{number}"), refresh=R1, used=R1))
        most = max(most, len((await find(book, R1)).access))
        clock.advance(LIFE)
    assert most < 12


@pytest.mark.parametrize("revoked", [R1, R2, R3])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a3_a_refresh_token_used_twice_leaves_one_family(
    book: GrantBook, clock: FakeClock, revoked: TokenKey, at_once: bool
) -> None:
    """In a grace period R1 buys R2 and then R3: revoking any ends the access tokens of all."""
    await link(book, issued(clock, A1, refresh=R1))
    tokens = [issued(clock, A2, refresh=R2, used=R1), issued(clock, A3, refresh=R3, used=R1)]
    for some in [tokens] if at_once else [[token] for token in tokens]:
        await link(book, *some)
    assert await end(book, revoked) == {A1, A2, A3}


@pytest.mark.parametrize("revoked", [R1, R2, R3, R4])
async def test_a3_every_branch_of_a_family_ends(
    book: GrantBook, clock: FakeClock, revoked: TokenKey
) -> None:
    """However deep: R4 was bought with R2, R2 and R3 with R1."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    await link(book, issued(clock, A4, refresh=R4, used=R2))
    await link(book, issued(clock, A3, refresh=R3, used=R1))
    assert await end(book, revoked) == {A1, A2, A3, A4}


@pytest.mark.parametrize("revoked", [R1, R2, R3])
async def test_a_refresh_token_used_before_it_was_known_whose_it_is(
    book: GrantBook, clock: FakeClock, revoked: TokenKey
) -> None:
    """Another gateway notes R2's origin after R2 has been used: what was two families is one."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A3, refresh=R3, used=R2))
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    assert await end(book, revoked) == {A1, A2, A3}
    assert (await find(book, R1)).access.keys() == {A1, A2, A3}


async def test_a_family_that_is_joined_while_a_token_is_noted(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """Whoever notes it in the hash that it had found notes it in the new one too."""
    await link(book, issued(clock, A3, refresh=R3, used=R2))
    await client.hset(f"token:grant:{R2.hex()}", "family", R1.hex())
    await link(book, issued(clock, A4, refresh=R4, used=R3))
    assert (await find(book, R1)).access.keys() == {A3, A4}
    assert await end(book, R4) == {A3, A4}


async def test_tokens_noted_together_in_any_order(book: GrantBook, clock: FakeClock) -> None:
    """One bought with a refresh token that another brought comes after it: it has its subject."""
    second = replace(issued(clock, A2, refresh=R2, used=R1), sub=None)
    first = issued(clock, A1, refresh=R1)
    linked = await book.link([second, first])
    assert [(each.issued.key, each.issued.sub) for each in linked] == [(A2, "alice"), (A1, "alice")]


@pytest.mark.parametrize("revoked", [R1, R2, R3])
async def test_a_grant_of_the_version_before_ends_as_a_whole(
    book: GrantBook, client: Redis, clock: FakeClock, revoked: TokenKey
) -> None:
    """There each refresh token had the access tokens so far, and pointed to the next."""
    exp = int(clock.wall()) + LIFE
    about = ["client_id", "demo-key", "sub", "alice", A1.hex(), str(exp)]
    await client.hset(f"token:grant:{R1.hex()}", items=[*about, "next", R2.hex()])
    await client.hset(f"token:grant:{R2.hex()}", items=[*about, A2.hex(), str(exp)])
    token = replace(issued(clock, A3, refresh=R3, used=R2), sub=None)
    assert (await link(book, token)).issued.sub == "alice"
    assert await end(book, revoked) == {A1, A2, A3}


async def test_ending_a_grant_names_its_access_tokens_and_marks_it(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """The mark stays as long as a gateway may hold what belongs to it, and the rest no longer."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, used=R1))
    assert await end(book, R1) == {A1, A2}
    grant = await find(book, R1)
    assert grant.revoked_at == grant.ended_at == int(clock.wall())
    assert await life(client, R1) == pytest.approx(ENDED_SECONDS, abs=5)


async def test_ending_the_newest_of_a_family_lets_all_of_it_go(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """A user who signs out leaves nothing behind for a month."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    await end(book, R2)
    assert [await life(client, key) for key in (R1, R2)] == [
        pytest.approx(ENDED_SECONDS, abs=5)
    ] * 2


async def test_ending_what_is_not_known_leaves_a_mark(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """Another gateway may hold the token, and its grant: it has to see that they ended."""
    assert await end(book, R1) == set()
    assert await life(client, R1) == pytest.approx(ENDED_SECONDS, abs=5)
    assert (await link(book, issued(clock, A1, refresh=R1))).has_ended
    assert (await link(book, issued(clock, A2, refresh=R2, used=R1))).has_ended


async def test_what_was_revoked_before_it_was_known_takes_its_family_along(
    book: GrantBook, clock: FakeClock
) -> None:
    """R2 was revoked while one gateway alone knew that it came from R1."""
    await link(book, issued(clock, A1, refresh=R1))
    await end(book, R2)
    linked = await link(book, issued(clock, A2, refresh=R2, used=R1))
    assert (linked.has_ended, set(linked.doomed)) == (True, {A1, A2})


async def test_ending_a_replaced_refresh_token_reaches_its_successors(
    book: GrantBook, clock: FakeClock
) -> None:
    """Who revokes the refresh token that a thief has used already ends what the thief got."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    await link(book, issued(clock, A3, refresh=R3, used=R2))
    assert await end(book, R1) == {A1, A2, A3}
    assert (await find(book, R3)).revoked_at is None


async def test_a_client_that_tidies_up_goes_on(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """It revoked the refresh token that it has replaced, and soon uses the new one."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    await end(book, R1)
    assert await life(client, R1) == pytest.approx(GRANT_SECONDS, abs=5)
    clock.advance(CLOCKS_DIFFER_SECONDS - 1)
    assert (await link(book, issued(clock, A3, refresh=R3, used=R2))).has_ended
    clock.advance(1)
    linked = await link(book, replace(issued(clock, A4, refresh=R4, used=R3), sub=None))
    assert (linked.has_ended, linked.issued.sub) == (False, "alice")


async def test_refresh_tokens_that_point_in_a_circle_end(book: GrantBook, clock: FakeClock) -> None:
    """A damaged store can't hold up a revocation, nor tokens that came so a recording."""
    await book.link(
        [issued(clock, A1, refresh=R2, used=R1), issued(clock, A2, refresh=R1, used=R2)]
    )
    assert await end(book, R1) == {A1, A2}


async def test_families_that_point_in_a_circle_end(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """As before, with hashes that no gateway writes."""
    for key, family in ((R1, R2), (R2, R1)):
        await client.hset(f"token:grant:{key.hex()}", "family", family.hex())
    await link(book, issued(clock, A1, refresh=R3, used=R1))
    assert await end(book, R3) == {A1}


@pytest.mark.parametrize("rotates", [True, False])
async def test_a_token_recorded_while_its_refresh_token_was_revoked_must_go(
    book: GrantBook, clock: FakeClock, rotates: bool
) -> None:
    """Though it was asked for before, and its grant is marked only now."""
    await link(book, issued(clock, A1, refresh=R1))
    late = issued(clock, A2, refresh=R2 if rotates else None, used=R1)
    clock.advance(5)
    await end(book, R1)
    assert (await link(book, late)).has_ended


async def test_a_refresh_long_after_the_revocation_is_the_key_managers_will(
    book: GrantBook, clock: FakeClock
) -> None:
    """A key manager that goes on honouring a refresh token isn't overruled for ever."""
    await link(book, issued(clock, A1, refresh=R1))
    await end(book, R1)
    clock.advance(RACE_SECONDS - 1)
    assert (await link(book, issued(clock, A2, used=R1))).has_ended
    clock.advance(1)
    assert not (await link(book, issued(clock, A3, used=R1))).has_ended


async def test_a_store_that_is_down_says_so(clock: FakeClock) -> None:
    """Every way of failing is ``StoreUnavailable``."""
    server = fakeredis.FakeServer()
    server.connected = False
    book = GrantBook(TokenStore(fakeredis.FakeAsyncRedis(server=server)), clock)
    with pytest.raises(StoreUnavailable):
        await book.find([R1])
    with pytest.raises(StoreUnavailable):
        await link(book, issued(clock, A1, refresh=R1))
    with pytest.raises(StoreUnavailable):
        await book.end(R1, Grant())


async def test_a_client_that_decodes_answers_is_read_too(clock: FakeClock) -> None:
    """Whether the client was opened with ``decode_responses`` makes no difference."""
    client = fakeredis.FakeAsyncRedis(decode_responses=True)
    book = GrantBook(TokenStore(client), clock)
    await link(book, issued(clock, A1, refresh=R1))
    assert await end(book, R1) == {A1}
    await client.aclose()
