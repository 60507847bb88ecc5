"""What must happen once happens once, also between threads and after a lost answer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import ceil
from typing import Any

import fakeredis
import pytest
from redis import Redis

from gateway.errors import StoreUnavailable
from gateway.keymanager.documents import access_document
from gateway.keymanager.records import Code, Issue, RefreshToken
from gateway.keymanager.storage import ATTEMPTS, SCANNED, Storage, open_storage
from gateway.store import TokenStore
from gateway.tokens import TokenKey, parse_facts, token_key

NOW_AT = 1_700_000_000
CODE = Code("a", "alice", "read", "https://app.example/", True, "challenge", NOW_AT + 60)
SPENT = token_key("spent")


def issue_of(name: str, family: str | None = "f") -> Issue:
    """Tokens with these names; the access token lives for 10 s, the refresh token for 100 s."""
    document = access_document(
        client_id="a", username=None, scope="read", iat=NOW_AT, exp=NOW_AT + 10
    )
    if family is None:
        return Issue(token_key(f"access {name}"), document)
    refresh = RefreshToken(family, "a", None, "read", NOW_AT, NOW_AT + 100)
    return Issue(
        token_key(f"access {name}"), document, family, token_key(f"refresh {name}"), refresh
    )


def refresh_key(name: str) -> TokenKey:
    return token_key(f"refresh {name}")


def live(storage: Storage, *names: str) -> list[bool]:
    """Whether the access tokens with these names are in the token store."""
    return [storage.access_document(token_key(f"access {name}")) is not None for name in names]


def test_expiry_in_redis(storage: Storage, redis_client: Redis) -> None:
    """Each key lives as long as it is of use: the family as long as the last of its tokens."""
    storage.put_code(SPENT, CODE, now_at=NOW_AT)
    before = redis_client.pttl(f"km:code:{SPENT.hex()}")
    storage.redeem(SPENT, issue_of("1"), now_at=NOW_AT)
    expected = {"km:code": 100, "km:family": 100, "km:access": 100, "km:refresh": 100, "token": 10}
    lives = {}
    for name in redis_client.scan_iter():
        assert isinstance(name, bytes)
        lives[name.decode().rpartition(":")[0]] = ceil(redis_client.pttl(name) / 1000)
    assert (ceil(before / 1000), lives) == (60, expected)


def test_prefixes(redis_client: Redis) -> None:
    """Both prefixes are parameters."""
    storage = Storage(redis_client, key_prefix="t/", own_prefix="k/")
    storage.issue(issue_of("1"), now_at=NOW_AT)
    names = {name[:2] for name in redis_client.scan_iter() if isinstance(name, bytes)}
    assert names == {b"t/", b"k/"}


def test_an_implicit_token_has_no_family(storage: Storage, redis_client: Redis) -> None:
    """A token that nothing can follow leaves only itself."""
    storage.issue(issue_of("1", family=None), now_at=NOW_AT)
    assert (live(storage, "1"), redis_client.dbsize()) == ([True], 1)


def test_racing_rotations(storage: Storage) -> None:
    """Of threads that use one refresh token, one wins, and the others end the family."""
    names = ["1", "2", "3", "4"]
    for _ in range(20):
        storage.issue(issue_of("0"), now_at=NOW_AT)
        with ThreadPoolExecutor(4) as threads:
            won = list(
                threads.map(
                    lambda name: storage.rotate(refresh_key("0"), issue_of(name), now_at=NOW_AT),
                    names,
                )
            )
        assert sorted(won) == [False, False, False, True]
        assert live(storage, "0", *names) == [False] * 5


def test_racing_redemptions(storage: Storage) -> None:
    """Of threads that use one code, one wins, and the others revoke what it got."""
    names = ["1", "2", "3", "4"]
    for _ in range(20):
        storage.put_code(SPENT, CODE, now_at=NOW_AT)
        with ThreadPoolExecutor(4) as threads:
            won = list(
                threads.map(
                    lambda name: storage.redeem(SPENT, issue_of(name, family=name), now_at=NOW_AT),
                    names,
                )
            )
        assert sorted(won) == [False, False, False, True]
        assert live(storage, *names) == [False] * 4


def test_rotation_against_revocation(storage: Storage) -> None:
    """However a rotation and a revocation interleave, no token of the family is left."""
    for _ in range(20):
        storage.issue(issue_of("0"), now_at=NOW_AT)
        with ThreadPoolExecutor(2) as threads:
            rotation = threads.submit(
                storage.rotate, refresh_key("0"), issue_of("1"), now_at=NOW_AT
            )
            threads.submit(storage.revoke_family, "f").result()
            rotation.result()
        assert live(storage, "0", "1") == [False, False]


def test_once_only_uses_that_come_too_late(storage: Storage) -> None:
    """What is unknown, expired or revoked can't be used, and that is no replay."""
    storage.issue(issue_of("0"), now_at=NOW_AT)
    storage.put_code(SPENT, CODE, now_at=NOW_AT)
    refused = [
        storage.rotate(refresh_key("unknown"), issue_of("1"), now_at=NOW_AT),
        storage.rotate(refresh_key("0"), issue_of("1"), now_at=NOW_AT + 100),
        storage.redeem(token_key("unknown"), issue_of("1"), now_at=NOW_AT),
        storage.redeem(SPENT, issue_of("1"), now_at=NOW_AT + 60),
    ]
    assert (refused, live(storage, "0", "1")) == ([False] * 4, [True, False])
    storage.revoke_family("f")
    assert storage.rotate(refresh_key("0"), issue_of("1"), now_at=NOW_AT) is False
    assert live(storage, "1") == [False]


def test_expired_access_tokens_leave_the_family(storage: Storage, redis_client: Redis) -> None:
    """A family that is refreshed for long doesn't pile up the digests of expired tokens."""
    storage.issue(issue_of("0"), now_at=NOW_AT)
    for number in range(1, 4):
        later = issue_of(str(number))
        exp = NOW_AT + 20 * number + 10
        later = replace(later, access_document={**later.access_document, "exp": exp})
        storage.rotate(refresh_key(str(number - 1)), later, now_at=NOW_AT + 20 * number)
    digests = redis_client.zrange("km:access:f", 0, -1)
    assert digests == [token_key("access 3").hex().encode()]


class Interrupted(Storage):
    """A storage whose transactions are disturbed; ``script`` says how, one entry an attempt.

    ``touch`` is called before each entry's EXEC; "lost" lets the EXEC through and then loses
    its answer, as redis-py reports it: by a WatchError.
    """

    def __init__(self, client: Redis, script: list[str], touch: str = "") -> None:
        super().__init__(client)
        self.script = script
        self.touch = touch

    def _write(self, pipe: Any, issue: Issue, now_at: float) -> None:
        super()._write(pipe, issue, now_at)
        step = self.script.pop(0) if self.script else "through"
        if step == "changed":
            self._client.pexpire(self.touch, 90_000)
        elif step == "lost":
            pipe.execute()
            pipe.watch("anything")
            pipe.multi()
            self._client.set("anything", "changed")
            pipe.set("anything", "ours")


@pytest.fixture
def family(storage: Storage) -> str:
    """The Redis key of a family."""
    storage.issue(issue_of("0"), now_at=NOW_AT)
    return "km:family:f"


def test_a_disturbed_rotation_is_done_again(family: str, redis_client: Redis) -> None:
    """A family that was touched meanwhile, but whose refresh token is still good, is rotated."""
    storage = Interrupted(redis_client, ["changed", "changed"], touch=family)
    assert storage.rotate(refresh_key("0"), issue_of("1"), now_at=NOW_AT) is True
    assert live(storage, "0", "1") == [True, True]


def test_a_rotation_whose_answer_was_lost(family: str, redis_client: Redis) -> None:
    """A rotation that was carried out isn't taken for a replay when its answer is lost."""
    storage = Interrupted(redis_client, ["lost"])
    assert storage.rotate(refresh_key("0"), issue_of("1"), now_at=NOW_AT) is True
    assert live(storage, "0", "1") == [True, True]


def test_a_redemption_whose_answer_was_lost(storage: Storage, redis_client: Redis) -> None:
    """A code that was redeemed isn't taken for replayed when the answer is lost."""
    storage.put_code(SPENT, CODE, now_at=NOW_AT)
    interrupted = Interrupted(redis_client, ["lost"])
    assert interrupted.redeem(SPENT, issue_of("1"), now_at=NOW_AT) is True
    assert live(storage, "1") == [True]


def test_disturbed_without_end(family: str, redis_client: Redis) -> None:
    """A transaction that never gets through is given up, and has changed nothing."""
    storage = Interrupted(redis_client, ["changed"] * ATTEMPTS, touch=family)
    with pytest.raises(StoreUnavailable):
        storage.rotate(refresh_key("0"), issue_of("1"), now_at=NOW_AT)
    assert live(storage, "0", "1") == [True, False]


async def test_memory_is_shared_with_the_gateway() -> None:
    """On one FakeServer, the gateway's asynchronous client sees what is issued and revoked."""
    server = fakeredis.FakeServer()
    storage = Storage(fakeredis.FakeRedis(server=server))
    key = token_key("access 1")
    async with fakeredis.FakeAsyncRedis(server=server) as client:
        store = TokenStore(client)
        storage.issue(issue_of("1"), now_at=NOW_AT)
        issued = await store.get_many([key])
        storage.revoke_family("f")
        revoked = await store.get_many([key])
    assert [parse_facts(value or b"", now_at=NOW_AT).client_id for value in issued] == ["a"]
    assert revoked == [None]


def test_two_storages_in_memory_are_apart() -> None:
    """Each memory:// is a store of its own."""
    one, two = open_storage("memory://"), open_storage("memory://")
    one.issue(issue_of("1"), now_at=NOW_AT)
    assert (live(one, "1"), live(two, "1")) == ([True], [False])
    one.close()
    two.close()


@pytest.fixture
def beside(redis_client: Redis) -> Storage:
    """A storage beside a gateway that records tokens itself."""
    return Storage(redis_client, writes_store=False)


def test_a_gateway_that_records_tokens_is_the_only_writer(
    beside: Storage, redis_client: Redis
) -> None:
    """What the key manager issues is nowhere under the gateway's prefix."""
    beside.issue(issue_of("1"), now_at=NOW_AT)
    assert (live(beside, "1"), list(redis_client.scan_iter("token:*"))) == ([True], [])


@pytest.mark.parametrize("recorded", ["before", "not yet"])
def test_a_gateway_that_records_tokens_is_told_what_ended(
    beside: Storage, redis_client: Redis, recorded: str
) -> None:
    """The token's value says so for the rest of its life, whether the gateway was first or not."""
    name = f"token:{token_key('access 1').hex()}"
    if recorded == "before":
        redis_client.set(name, '{"active":true}')
    beside.issue(issue_of("1"), now_at=NOW_AT)
    beside.revoke_family("f")
    assert (live(beside, "1"), redis_client.get(name)) == ([False], b'{"active":false}')
    assert 9_000 < redis_client.pttl(name) <= 10_000


def test_a_gateway_is_told_of_one_token(beside: Storage, redis_client: Redis) -> None:
    """An access token that ends alone is told too; one that is unknown isn't."""
    beside.issue(issue_of("1"), now_at=NOW_AT)
    beside.delete_access_token(token_key("access 1"))
    beside.delete_access_token(token_key("access 2"))
    assert list(redis_client.scan_iter("token:*")) == [
        f"token:{token_key('access 1').hex()}".encode()
    ]


def test_grants_of_nobody(storage: Storage) -> None:
    """Who names neither user nor client gets no grants, and never all of them."""
    storage.issue(issue_of("1"), now_at=NOW_AT)
    assert storage.families(now_at=NOW_AT) == []
    assert len(storage.families(now_at=NOW_AT, client_id="a")) == 1


def test_more_grants_than_one_command_looks_at(storage: Storage) -> None:
    """All are found, however many there are."""
    for number in range(SCANNED + 5):
        storage.issue(issue_of(str(number), family=f"f{number}"), now_at=NOW_AT)
    assert len(storage.families(now_at=NOW_AT, client_id="a")) == SCANNED + 5


class Repeating(Storage):
    """A storage whose Redis tells each key twice, as SCAN may while it grows."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        scan = client.scan_iter
        client.scan_iter = lambda *args, **kw: iter([*scan(*args, **kw)] * 2)  # type: ignore[method-assign]


def test_a_key_that_is_told_twice(redis_client: Redis) -> None:
    """A grant is listed once all the same."""
    storage = Repeating(redis_client)
    storage.issue(issue_of("1"), now_at=NOW_AT)
    assert len(storage.families(now_at=NOW_AT, client_id="a")) == 1
