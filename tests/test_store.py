"""TokenStore: one contract, in memory and on each kind of real Redis that a URL can name."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis_server import RedisServer
from scripted import keys

from gateway import store as store_module
from gateway.settings import Store
from gateway.store import ENDED, GrantUpdate, NewDocument, TokenStore, open_store
from gateway.tokens import Found, TokenKey, token_key

A, B, C, D = keys(4)
DOCUMENT = {"active": True, "client_id": "app", "scope": "read write", "exp": 2_000_000_000}
KINDS = ["memory", "redis", "unix", "sentinel", "cluster"]


@pytest.fixture(scope="module")
def unix_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis on a Unix socket."""
    directory = tmp_path_factory.mktemp("unix")
    server = RedisServer(directory, "--unixsocket", str(directory / "redis.sock")).start()
    yield f"unix://{directory}/redis.sock?db=1"
    server.stop()


@pytest.fixture(scope="module")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis found through a Sentinel."""
    directory = tmp_path_factory.mktemp("sentinel")
    master = RedisServer(directory).start()
    settings = directory / "sentinel.conf"
    settings.write_text(f"sentinel monitor tokens 127.0.0.1 {master.port} 1\n")
    sentinel = RedisServer(directory, str(settings), "--sentinel").start()
    yield f"redis+sentinel://127.0.0.1:{sentinel.port}/tokens/2"
    sentinel.stop()
    master.stop()


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis Cluster of one node, which refuses commands across slots like any."""
    server = RedisServer(tmp_path_factory.mktemp("cluster"), "--cluster-enabled", "yes").start()
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER ADDSLOTS", *range(16_384))
        while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            pass
    yield f"redis+cluster://127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture(params=KINDS)
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a store of each kind."""
    if request.param == "memory":
        return "memory://"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[TokenStore]:
    """An empty store, which has the time that a busy machine may need."""
    opened = open_store(Store(url=SecretStr(store_url), timeout="10s", key_prefix="t:"))
    await opened.client.flushdb()
    yield opened
    await opened.close()


async def raw(store: TokenStore, *command: Any) -> Any:
    return await store.client.execute_command(*command)


def test_name() -> None:
    """A token's Redis key is the prefix and the digest of the token in hexadecimal."""
    store = open_store(Store(url=SecretStr("memory://"), key_prefix="eu:tokens:"))
    assert "eu:tokens:" + sha256(b"abc").hexdigest() == store.name(token_key("abc"))


async def test_what_was_put_is_found(store: TokenStore) -> None:
    """``get_many`` returns documents in the order asked, ``None`` where there is none."""
    await store.put(A, DOCUMENT, expires_in_seconds=60)
    await store.put(C, {"active": False}, expires_in_seconds=60)
    found = await store.get_many([C, B, A, A])
    documents = [value and json.loads(value) for value in found]
    assert documents == [{"active": False}, None, DOCUMENT, DOCUMENT]
    assert all(value is None or isinstance(value, bytes) for value in found)


async def test_what_is_found_says_for_how_long(store: TokenStore) -> None:
    """``find_many`` tells the life of each key, for ever where it has none, in the order asked."""
    await store.put(A, DOCUMENT, expires_in_seconds=60)
    await raw(store, "SET", store.name(B), b"x")
    await raw(store, "RPUSH", store.name(D), b"no string")
    expiring, for_ever, absent, odd = await store.find_many([A, B, C, D])
    assert expiring is not None
    assert json.loads(expiring.document) == DOCUMENT
    assert 50 < expiring.life_seconds <= 60
    assert (for_ever, absent, odd) == (Found(b"x", math.inf), None, None)


async def test_many_lives_at_once(store: TokenStore) -> None:
    """Each is told of its own token, in a whole batch too."""
    many = keys(128)
    for number, key in enumerate(many):
        if number % 3:
            document = {"active": True, "sub": str(number)}
            await store.put(key, document, expires_in_seconds=1_000 * number)
    found = await store.find_many(many)
    for number, one in enumerate(found):
        if number % 3:
            assert one is not None
            assert json.loads(one.document)["sub"] == str(number)
            assert 1_000 * number - 500 < one.life_seconds <= 1_000 * number
        else:
            assert one is None


async def test_many_at_once(store: TokenStore) -> None:
    """A whole batch comes back in order, on a cluster too, whose slots are asked apart."""
    many = keys(128)
    for number, key in enumerate(many):
        if number % 3:
            await store.put(key, {"active": True, "sub": str(number)}, expires_in_seconds=60)
    found = await store.get_many(many)
    subjects = [value and json.loads(value)["sub"] for value in found]
    assert [str(number) if number % 3 else None for number in range(128)] == subjects


@pytest.mark.parametrize(
    ("expires_in", "least", "most"),
    [(60, 50_000, 60_000), (1.5, 1, 1_500), (86_400.4, 1, 86_400_400)],
)
async def test_redis_forgets_it_in_time(
    store: TokenStore, expires_in: float, least: int, most: int
) -> None:
    """The remaining life is the key's expiry in Redis, in milliseconds."""
    await store.put(A, DOCUMENT, expires_in_seconds=expires_in)
    assert least <= await raw(store, "PTTL", store.name(A)) <= most


@pytest.mark.parametrize("expires_in", [0, -5, 0.0001])
async def test_no_life_left(store: TokenStore, expires_in: float) -> None:
    """A token without any life left gets the least there is, and never stays for good."""
    await store.put(A, DOCUMENT, expires_in_seconds=expires_in)
    assert await raw(store, "PTTL", store.name(A)) in {-2, 0, 1}


async def test_put_again_replaces_all(store: TokenStore) -> None:
    """A second document replaces the first, and so does its life."""
    await store.put(A, DOCUMENT, expires_in_seconds=1_000)
    await store.put(A, {"active": True}, expires_in_seconds=60)
    assert await store.get_many([A]) == [b'{"active":true}']
    assert await raw(store, "PTTL", store.name(A)) <= 60_000


async def test_delete(store: TokenStore) -> None:
    """``delete`` removes what is there and counts it."""
    for key in (A, B, C):
        await store.put(key, DOCUMENT, expires_in_seconds=60)
    assert (await store.delete([]), await store.delete([A, B, D]), await store.delete([A])) == (
        0,
        2,
        0,
    )
    assert [value is None for value in await store.get_many([A, C])] == [True, False]


def new(key: TokenKey, *, seconds: float = 60, **members: Any) -> NewDocument:
    return NewDocument(key, {"active": True, **members}, seconds)


async def test_what_was_recorded_is_found(store: TokenStore) -> None:
    """Many at once, each with its life, on a cluster too."""
    many = [new(key, sub=str(number)) for number, key in enumerate(keys(100))]
    assert await store.record(many) == [True] * 100
    found = await store.get_many([each.key for each in many])
    assert [value and json.loads(value)["sub"] for value in found] == [str(n) for n in range(100)]
    assert 50_000 < await raw(store, "PTTL", store.name(many[50].key)) <= 60_000
    assert await store.record([]) == []


async def test_h1_nothing_is_recorded_over_an_end(store: TokenStore) -> None:
    """Whether the token was there before or not, until its end is forgotten."""
    await store.record([new(A)])
    assert await store.end({A: 60, B: 0.001, C: 30}) == 1
    assert await store.record([new(A), new(C), new(D)]) == [False, False, True]
    found = await store.get_many([A, C])
    assert found == [ENDED.encode()] * 2
    assert 50_000 < await raw(store, "PTTL", store.name(A)) <= 60_000
    while await store.get_many([B]) != [None]:
        pass
    assert await store.record([new(B)]) == [True]
    assert await store.end({}) == 0


async def test_h3_the_end_that_another_program_wrote_counts_too(store: TokenStore) -> None:
    """It is a document that says so, however it is spelt."""
    await raw(store, "SET", store.name(A), b'{ "active" : false, "sub": "a" }')
    assert await store.record([new(A)]) == [False]


@pytest.mark.parametrize(
    ("there", "exp", "stays"),
    [
        ({"active": True, "sub": "known"}, 9, True),
        ({"active": True, "exp": 9}, 9, True),
        ({"active": True, "exp": 9}, 8, True),
        ({"active": True, "exp": 9}, 10, False),
        ({"active": "yes"}, 9, False),
        (["active"], 9, False),
        ("not JSON", 9, False),
    ],
)
async def test_a_document_that_is_there_stays_unless_it_ends_sooner(
    store: TokenStore, there: Any, exp: int, stays: bool
) -> None:
    """Who wrote it may know more; a key manager that issues the same token again prolongs it."""
    value = there.encode() if isinstance(there, str) else json.dumps(there).encode()
    await raw(store, "SET", store.name(A), value)
    assert await store.record([new(A, exp=exp)]) == [True]
    (found,) = await store.get_many([A])
    assert found == (value if stays else new(A, exp=exp).value.encode())


async def test_a_value_of_another_type_is_replaced(store: TokenStore) -> None:
    """By a token and by its end: it is no token."""
    for key in (A, B):
        await raw(store, "HSET", store.name(key), "f", "v")
    assert await store.record([new(A)]) == [True]
    assert await store.end({B: 60}) == 0
    assert await store.get_many([A, B]) == [new(A).value.encode(), ENDED.encode()]


async def test_a_revocation_between_the_two_looks_of_a_recording_wins(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document there ends sooner, so it would be replaced; but it was ended just then."""
    await raw(store, "SET", store.name(A), new(A, exp=9).value)
    watched = store_module._watched
    ends = [{A: 60.0}]

    async def watched_and_ended(pipe: Any, name: str) -> Any:
        found = await watched(pipe, name)
        if ends:
            await store.end(ends.pop())
        return found

    monkeypatch.setattr(store_module, "_watched", watched_and_ended)
    assert await store.record([new(A, exp=10)]) == [False]
    assert await store.get_many([A]) == [ENDED.encode()]


async def test_grants_by_single_fields(store: TokenStore) -> None:
    """What is updated comes back whole, in order, and keeps its life where none is given."""
    updates = [GrantUpdate(A, {"a": "1", "b": "2"}, expires_in_seconds=60), GrantUpdate(B, {})]
    assert await store.update_grants(updates) == [{"a": "1", "b": "2"}, {}]
    updates = [GrantUpdate(B, {"c": "3"}), GrantUpdate(A, {"b": "4"}, without=["a"])]
    assert await store.update_grants(updates) == [{"c": "3"}, {"b": "4"}]
    assert await store.grants([A, C, B]) == [{"b": "4"}, {}, {"c": "3"}]
    assert 50_000 < await raw(store, "PTTL", store.grant_name(A)) <= 60_000
    assert (await store.grants([]), await store.update_grants([])) == ([], [])


async def test_what_another_program_wrote(store: TokenStore) -> None:
    """A document that was set under the documented key is found, byte for byte."""
    value = b'{ "active" : true,\n "sub": "zo\xc3\xab" }'
    await raw(store, "SET", store.name(A), value)
    assert [value] == await store.get_many([A])


@pytest.mark.parametrize("command", [("HSET", "f", "v"), ("RPUSH", "v"), ("SADD", "v")])
async def test_a_value_of_another_type(store: TokenStore, command: tuple[str, ...]) -> None:
    """A key that holds no string holds no token, and spoils no other lookup."""
    await store.put(B, DOCUMENT, expires_in_seconds=60)
    await raw(store, command[0], store.name(A), *command[1:])
    absent, present = await store.get_many([A, B])
    assert (absent, present is not None) == (None, True)


async def test_ping(store: TokenStore) -> None:
    """``ping`` returns when the store answers."""
    await store.ping()


async def test_no_token_is_in_it(store: TokenStore) -> None:
    """Neither keys nor values have the token."""
    await store.put(token_key("s3cret-token"), DOCUMENT, expires_in_seconds=60)
    names = await raw(store, "KEYS", "*")
    assert [f"t:{sha256(b's3cret-token').hexdigest()}".encode()] == names
    assert b"s3cret" not in await raw(store, "GET", names[0])


async def test_more_callers_than_connections(store_url: str) -> None:
    """Calls beyond ``max_connections`` wait for their turn."""
    store = open_store(Store(url=SecretStr(store_url), timeout="10s", max_connections=2))
    found = await asyncio.gather(*(store.get_many([A]) for _ in range(50)))
    assert found == [[None]] * 50
    await store.close()


async def test_two_stores_in_memory_are_two(tmp_path: Path) -> None:
    """What one gateway keeps in memory no other sees."""
    first, second = (open_store(Store(url=SecretStr("memory://"))) for _ in range(2))
    await first.put(A, DOCUMENT, expires_in_seconds=60)
    assert await second.get_many([A]) == [None]
    await first.close()
    await second.close()
