"""Evictions: what a body may ask for, and which facts go."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from clocks import FakeClock
from scripted import ScriptedStore, ValidatorBench, document, turns

from gateway.admin.eviction import Eviction, Evictor, InvalidEviction, parse_eviction
from gateway.tokens import Facts, TokenKey, token_key

KEY = token_key("a").hex()
MINUTE = 60.0


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"token": "a"}, Eviction("token_key", KEY)),
        ({"token": "é"}, Eviction("token_key", token_key("é").hex())),
        ({"token_key": KEY}, Eviction("token_key", KEY)),
        ({"client_id": "c", "scope": "gateway"}, Eviction("client_id", "c")),
        ({"sub": "s", "scope": "fleet"}, Eviction("sub", "s", "fleet")),
        ({"all": True}, Eviction("all")),
    ],
)
def test_a_body_says_what_to_evict(members: dict[str, Any], expected: Eviction) -> None:
    """By token, key, client, subject, or all; a token is a key from then on."""
    assert parse_eviction(json.dumps(members).encode()) == expected


def test_an_eviction_reads_back_as_it_was_written() -> None:
    """So that it can be passed on to other gateways."""
    for eviction in (Eviction("token_key", KEY), Eviction("sub", "s", "fleet"), Eviction("all")):
        assert parse_eviction(json.dumps(eviction.document()).encode()) == eviction


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"scope": "gateway"}',
        b'{"token": "s3cret", "all": true}',
        b'{"token": "s3cret", "token": "other"}',
        b'{"token": "s3cret", "scope": "world"}',
        b'{"token": "s3cret", "scope": null}',
        b'{"token": "s3cret", "extra": 1}',
        b'{"token": ""}',
        b'{"token": 1}',
        b'{"token": "s3cret\\ud800"}',
        b'{"token": ["s3cret"]}',
        b'{"s3cret": "x"}',
        b'{"token_key": "s3cret"}',
        b'{"token_key": "' + KEY.upper().encode() + b'"}',
        b'{"client_id": null}',
        b'{"all": 1}',
        b'{"all": "true"}',
        b'{"all": false}',
    ],
)
def test_a_body_that_asks_for_nothing_or_too_much_is_refused(body: bytes) -> None:
    """And what it says isn't repeated: it may be a token."""
    with pytest.raises(InvalidEviction) as fault:
        parse_eviction(body)
    assert "s3cret" not in str(fault.value)


@pytest.fixture
async def bench(clock: FakeClock) -> ValidatorBench:
    """A validator that knows four good tokens and an unknown one."""
    documents = {
        token_key("a"): document(client_id="one", sub="alice"),
        token_key("b"): document(client_id="one", sub="bob"),
        token_key("c"): document(client_id="two", sub="alice"),
        token_key("d"): document(client_id="alice", sub="one"),
    }
    bench = ValidatorBench(clock, documents)
    for name in "abcdx":
        await bench.validator.validate(token_key(name), MINUTE)
    return bench


def known(bench: ValidatorBench) -> str:
    return "".join(name for name in "abcdx" if bench.validator.cached(token_key(name), MINUTE))


@pytest.mark.parametrize(
    ("eviction", "evicted", "left"),
    [
        (Eviction("token_key", KEY), 1, "bcdx"),
        (Eviction("token_key", token_key("x").hex()), 1, "abcd"),
        (Eviction("token_key", token_key("never seen").hex()), 0, "abcdx"),
        (Eviction("client_id", "one"), 2, "cdx"),
        (Eviction("sub", "alice"), 2, "bdx"),
        (Eviction("sub", "nobody"), 0, "abcdx"),
        (Eviction("all"), 5, ""),
    ],
)
async def test_what_is_chosen_goes_and_nothing_else(
    bench: ValidatorBench, eviction: Eviction, evicted: int, left: str
) -> None:
    """The answer says of how many tokens anything was known."""
    assert await Evictor(bench.validator).evict(eviction) == evicted
    assert known(bench) == left


async def test_h6_a_subject_is_chosen_by_the_name_that_was_typed_too(clock: FakeClock) -> None:
    """An operator who ends a user's access doesn't know what the key manager has named."""
    documents = {token_key("a"): document(username="alice"), token_key("b"): document(sub="bob")}
    bench = ValidatorBench(clock, documents)
    for name in "ab":
        await bench.validator.validate(token_key(name), MINUTE)
    assert await Evictor(bench.validator).evict(Eviction("sub", "alice")) == 1
    assert known(bench) == "b"


async def test_requests_are_served_while_many_entries_are_looked_at(clock: FakeClock) -> None:
    """The walk makes way after every thousand at most."""
    bench = ValidatorBench(clock, {})
    validator = bench.make(max_entries=5000)
    keys = [token_key(str(number)) for number in range(5000)]
    bench.store.documents = dict.fromkeys(keys, document(client_id="one"))
    await asyncio.gather(*(validator.validate(key, MINUTE) for key in keys))
    eviction = asyncio.create_task(Evictor(validator).evict(Eviction("client_id", "one")))
    left = []
    while not eviction.done():
        await asyncio.sleep(0)
        left.append(sum(map(len, validator.cached_parts())))
    assert await eviction == 5000
    assert max(before - after for before, after in pairwise([5000, *left])) <= 1000
    assert left[-1] == 0


@pytest.mark.parametrize("eviction", [Eviction("all"), Eviction("sub", "s")])
async def test_a_lookup_under_way_keeps_nothing(clock: FakeClock, eviction: Eviction) -> None:
    """It may have read the store before the reason for which the operator evicts."""
    store = ScriptedStore()
    validator = ValidatorBench(clock, {}).make(store.get_many)
    asked = asyncio.create_task(validator.validate(token_key("a"), MINUTE))
    command = await store.sent.get()
    assert await Evictor(validator).evict(eviction) == 0
    command.answer(document(sub="s"))
    assert (await asked).active
    assert validator.cached(token_key("a"), MINUTE) is None


async def test_what_is_put_while_walking_stays(clock: FakeClock) -> None:
    """It was validated after the eviction began, so the next request need not ask again."""
    late = token_key("late")

    class Known:
        def __init__(self) -> None:
            self.keys = [token_key(str(number)) for number in range(1500)]

        def cached_parts(self) -> Iterator[list[TokenKey]]:
            yield list(self.keys)

        def peek(self, key: TokenKey) -> Facts | None:
            return Facts(True, sub="s") if key in self.keys else None

        def evict(self, key: TokenKey) -> bool:
            self.keys.remove(key)
            return True

        def evict_all(self) -> int:
            raise NotImplementedError

        def detach_all(self) -> None:
            pass

    known = Known()
    eviction = asyncio.create_task(Evictor(known).evict(Eviction("sub", "s")))
    await turns(1)
    known.keys.append(late)
    assert (await eviction, known.keys) == (1500, [late])
