"""Grants in the token store, a real Redis and the in-memory one."""

from collections.abc import AsyncIterator
from dataclasses import replace

import fakeredis
import pytest
from clocks import FakeClock
from redis.asyncio import Redis

from gateway.errors import StoreUnavailable
from gateway.grant_book import GRANT_SECONDS, RACE_SECONDS, REVOKED_SECONDS, GrantBook
from gateway.grants import Grant
from gateway.issued import Issued
from gateway.store import TokenStore
from gateway.tokens import TokenKey, token_key

A1, A2, A3 = (token_key(f"access-{number}") for number in (1, 2, 3))
R1, R2, R3 = (token_key(f"refresh-{number}") for number in (1, 2, 3))
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


async def link(book: GrantBook, token: Issued) -> bool:
    grant = Grant() if token.used_refresh_key is None else await book.find(token.used_refresh_key)
    return await book.link(token, grant)


async def test_a_first_token_begins_the_grant_of_its_refresh_token(
    book: GrantBook, clock: FakeClock
) -> None:
    """The refresh token's hash says whom it is for and which access token it came with."""
    assert await link(book, issued(clock, A1, refresh=R1)) is False
    exp = int(clock.wall()) + LIFE
    assert await book.find(R1) == Grant("demo-key", "alice", "read write", access={A1: exp})


async def test_a_token_without_a_refresh_token_leaves_nothing(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """Client credentials have no grant to remember."""
    assert await link(book, issued(clock, A1)) is False
    assert await client.keys() == []


@pytest.mark.parametrize("repeated", [True, False])
async def test_a_refresh_token_that_stays_collects_its_access_tokens(
    book: GrantBook, clock: FakeClock, repeated: bool
) -> None:
    """Without a new refresh token, or with the same again, the grant grows by the living ones."""
    await link(book, issued(clock, A1, refresh=R1))
    clock.advance(LIFE / 2)
    second = issued(clock, A2, refresh=R1 if repeated else None, used=R1)
    await link(book, second)
    assert (await book.find(R1)).access.keys() == {A1, A2}
    clock.advance(LIFE / 2)
    await link(book, issued(clock, A3, used=R1))
    assert (await book.find(R1)).access.keys() == {A2, A3}


async def test_a_new_refresh_token_takes_over_the_living_access_tokens(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """Rotation moves the grant; the used refresh token points on while its tokens may live."""
    await link(book, issued(clock, A1, refresh=R1))
    clock.advance(60)
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    now_at = int(clock.wall())
    access = {A1: now_at - 60 + LIFE, A2: now_at + LIFE}
    assert await book.find(R2) == Grant("demo-key", "alice", "read write", access=access)
    assert (await book.find(R1)).successor == R2
    lives = [await client.pttl(f"token:grant:{key.hex()}") / 1000 for key in (R1, R2)]
    assert lives == [pytest.approx(LIFE, abs=5), pytest.approx(GRANT_SECONDS, abs=5)]


async def test_a_narrowed_token_leaves_the_grant_as_it_is(
    book: GrantBook, clock: FakeClock
) -> None:
    """RFC 6749 §6: a refresh for less than the grant doesn't shrink the next refresh."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, replace(issued(clock, A2, refresh=R2, used=R1), scope="read"))
    assert (await book.find(R2)).scope == "read write"


async def test_ending_a_grant_names_its_access_tokens_and_marks_it(
    book: GrantBook, client: Redis, clock: FakeClock
) -> None:
    """The mark stays as long as an access token could have, so that a late recording sees it."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, used=R1))
    clock.advance(LIFE - 60)
    assert await book.end(R1) == {A1, A2}
    assert (await book.find(R1)).revoked_at == int(clock.wall())
    life = await client.pttl(f"token:grant:{R1.hex()}") / 1000
    assert life == pytest.approx(REVOKED_SECONDS, abs=5)


async def test_ending_what_is_no_grant_leaves_nothing(book: GrantBook, client: Redis) -> None:
    """The token of a revocation may be an access token or unknown: no key is made for it."""
    assert await book.end(A1) == set()
    assert await client.keys() == []


async def test_ending_a_replaced_refresh_token_reaches_its_successors(
    book: GrantBook, clock: FakeClock
) -> None:
    """Who revokes the refresh token that a thief has used already ends what the thief got."""
    await link(book, issued(clock, A1, refresh=R1))
    await link(book, issued(clock, A2, refresh=R2, used=R1))
    await link(book, issued(clock, A3, refresh=R3, used=R2))
    assert await book.end(R1) == {A1, A2, A3}
    assert (await book.find(R3)).revoked_at is None


async def test_refresh_tokens_that_point_in_a_circle_end(book: GrantBook, clock: FakeClock) -> None:
    """A damaged store can't hold up a revocation."""
    await link(book, issued(clock, A1, refresh=R2, used=R1))
    await link(book, issued(clock, A2, refresh=R1, used=R2))
    assert await book.end(R1) == {A1, A2}


@pytest.mark.parametrize("rotates", [True, False])
async def test_a_token_recorded_while_its_refresh_token_was_revoked_must_go(
    book: GrantBook, clock: FakeClock, rotates: bool
) -> None:
    """The revocation came between the reading of the grant and the linking of the token."""
    await link(book, issued(clock, A1, refresh=R1))
    grant = await book.find(R1)
    late = issued(clock, A2, refresh=R2 if rotates else None, used=R1)
    await book.end(R1)
    assert await book.link(late, grant) is True


async def test_a_refresh_long_after_the_revocation_is_the_key_managers_will(
    book: GrantBook, clock: FakeClock
) -> None:
    """A key manager that goes on honouring a refresh token isn't overruled for ever."""
    await link(book, issued(clock, A1, refresh=R1))
    await book.end(R1)
    clock.advance(RACE_SECONDS - 1)
    assert await link(book, issued(clock, A2, used=R1)) is True
    clock.advance(1)
    assert await link(book, issued(clock, A3, used=R1)) is False


async def test_two_updates_of_one_grant_keep_both(book: GrantBook, clock: FakeClock) -> None:
    """Gateways that read the grant at the same time don't undo each other's tokens."""
    await link(book, issued(clock, A1, refresh=R1))
    grant = await book.find(R1)
    await book.link(issued(clock, A2, used=R1), grant)
    await book.link(issued(clock, A3, used=R1), grant)
    assert await book.end(R1) == {A1, A2, A3}


async def test_a_store_that_is_down_says_so(clock: FakeClock) -> None:
    """Every way of failing is ``StoreUnavailable``."""
    server = fakeredis.FakeServer()
    server.connected = False
    book = GrantBook(TokenStore(fakeredis.FakeAsyncRedis(server=server)), clock)
    with pytest.raises(StoreUnavailable):
        await book.find(R1)
    with pytest.raises(StoreUnavailable):
        await link(book, issued(clock, A1, refresh=R1))


async def test_a_client_that_decodes_answers_is_read_too(clock: FakeClock) -> None:
    """Whether the client was opened with ``decode_responses`` makes no difference."""
    client = fakeredis.FakeAsyncRedis(decode_responses=True)
    book = GrantBook(TokenStore(client), clock)
    await link(book, issued(clock, A1, refresh=R1))
    assert await book.end(R1) == {A1}
    await client.aclose()
