"""Lookups that fail, are abandoned or are stopped: nobody waits in vain, nothing piles up."""

import asyncio
import random
from typing import Any

import pytest
from clocks import FakeClock
from scripted import ACTIVE, LookupBench, keys, outcome, turns
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.lookups import BATCHES_AT_ONCE
from gateway.tokens import INACTIVE, Facts

A, B, C, D = keys(4)
LOOSE = float("inf")
FACTS = Facts(True, "a")


@pytest.fixture
def bench(clock: FakeClock) -> LookupBench:
    return LookupBench(clock)


@pytest.fixture(autouse=True)
async def _nothing_goes_unnoticed() -> Any:
    """Fail a test in which a task or a future ends with an exception that nobody took."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    yield
    assert faults == []


async def test_a_failure_reaches_all_and_is_not_kept(bench: LookupBench) -> None:
    """All who wait for a failed command get 503, and the next caller asks again."""
    finds = [bench.find(key) for key in (A, A, B)]
    (await bench.store.sent.get()).fail(StoreUnavailable())
    assert [await outcome(find) for find in finds] == ["store_unavailable"] * 3
    assert (bench.kept, bench.metrics.failures, bench.metrics.batches) == ([], 1, [])
    again = bench.find(A)
    (await bench.store.sent.get()).answer(ACTIVE)
    assert await again == FACTS


async def test_a_failure_after_all_have_gone(bench: LookupBench) -> None:
    """A command that fails with nobody waiting leaves no trace."""
    find = bench.find(A)
    command = await bench.store.sent.get()
    find.cancel()
    await turns()
    command.fail(StoreUnavailable())
    await turns()
    assert (bench.kept, bench.metrics.failures) == ([], 1)


@pytest.mark.parametrize("error", [StoreUnavailable(), RuntimeError("a bug")])
async def test_what_waits_behind_a_failed_batch_is_sent(
    bench: LookupBench, error: Exception
) -> None:
    """Commands that fail, in whichever way, hold up nobody who waits for the next."""
    bench.make(max_batch=1)
    finds = [bench.find(key) for key in keys(6)]
    with capture_logs():
        for _ in range(5):
            (await bench.store.sent.get()).fail(error)
        (await bench.store.sent.get()).answer(ACTIVE)
        assert [await outcome(find) for find in finds] == ["store_unavailable"] * 5 + [FACTS]
    assert bench.metrics.failures == 5


@pytest.mark.parametrize("answers", [[], [ACTIVE], [ACTIVE] * 3])
async def test_the_wrong_number_of_answers(bench: LookupBench, answers: list[bytes]) -> None:
    """A command that doesn't answer what was asked leaves nobody waiting, and is logged."""
    finds = [bench.find(key) for key in (A, B)]
    command = await bench.store.sent.get()
    command.answer_exactly([*answers])
    with capture_logs() as logs:
        found = [await outcome(find) for find in finds]
    assert found[1] in {"store_unavailable", FACTS}
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("lookup failed", "error")]
    assert await _ask_again(bench) == FACTS


async def _ask_again(bench: LookupBench) -> Facts:
    again = bench.find(C)
    await turns()
    bench.store.commands[-1].answer(ACTIVE)
    return await again


async def test_a_malformed_document_is_no_token(bench: LookupBench) -> None:
    """A value that isn't an introspection document is no token, counted, and logged by its key."""
    finds = [bench.find(A), bench.find(B)]
    command = await bench.store.sent.get()
    with capture_logs() as logs:
        command.answer(b'{"active": "s3cret"}', ACTIVE)
        assert await asyncio.gather(*finds) == [INACTIVE, FACTS]
    assert bench.metrics.malformed == 1
    assert [A.hex()] == [entry["token_key"] for entry in logs]
    assert "s3cret" not in repr(logs)


async def test_what_nobody_waits_for_is_not_asked(bench: LookupBench) -> None:
    """A lookup whose callers have all gone before it was sent is dropped, so that none pile up."""
    bench.make(max_batch=1)
    frozen = [bench.find(key) for key in keys(BATCHES_AT_ONCE)]
    await turns()
    gone = [bench.find(key) for key in keys(500)[BATCHES_AT_ONCE:] for _ in range(2)]
    stays = bench.find(keys(501)[500])
    shared = bench.find(keys(10)[9])
    await turns()
    for find in gone:
        find.cancel()
    await turns()
    assert len(bench.lookups._waiting) == 2
    assert len(bench.lookups._under_way) == BATCHES_AT_ONCE + 2
    for _ in range(BATCHES_AT_ONCE + 2):
        (await bench.store.sent.get()).answer(ACTIVE)
    assert await asyncio.gather(*frozen, stays, shared) == [FACTS] * 4
    assert (bench.lookups._waiting, bench.lookups._under_way) == ({}, {})


async def test_time_outs_do_not_pile_up(bench: LookupBench) -> None:
    """With a store that never answers, nothing but the commands under way outlives its callers."""
    bench.make(timeout_seconds=0.01, max_batch=1)
    finds = [outcome(bench.find(key)) for key in keys(50)]
    assert {"store_unavailable"} == set(await asyncio.gather(*finds))
    assert (bench.lookups._waiting, len(bench.lookups._under_way)) == ({}, BATCHES_AT_ONCE)
    await bench.lookups.close()


async def test_an_abandoned_token_is_asked_anew(bench: LookupBench) -> None:
    """After its lookup was dropped unsent, a token is looked up like any other."""
    bench.make(max_batch=1)
    frozen = [bench.find(A), bench.find(B)]
    await turns()
    gone = bench.find(C)
    await turns()
    gone.cancel()
    await turns()
    anew = bench.find(C)
    for _ in range(3):
        (await bench.store.sent.get()).answer(ACTIVE)
    assert await asyncio.gather(*frozen, anew) == [FACTS] * 3


async def test_dropping_an_old_lookup_leaves_the_new_one(bench: LookupBench) -> None:
    """A detached lookup that is abandoned doesn't take its successor along."""
    bench.make(max_batch=1)
    frozen = [bench.find(A), bench.find(B)]
    await turns()
    old = bench.find(C)
    await turns()
    bench.lookups.detach(C)
    new = bench.find(C)
    await turns()
    old.cancel()
    await turns()
    shared = bench.find(C)
    for _ in range(3):
        (await bench.store.sent.get()).answer(ACTIVE)
    assert await asyncio.gather(*frozen, new, shared) == [FACTS] * 4
    assert len(bench.store.commands) == 3


async def test_close_ends_everything(bench: LookupBench) -> None:
    """Closing cancels commands, and tells all who wait, sent or not, that the store is gone."""
    bench.make(max_batch=1)
    finds = [bench.find(key) for key in keys(5)]
    await turns()
    await bench.lookups.close()
    assert [await outcome(find) for find in finds] == ["store_unavailable"] * 5
    assert all(command.cancelled for command in bench.store.commands)


async def test_close_before_the_first_command(bench: LookupBench) -> None:
    """Closing in the very turn of a miss leaves nobody waiting either."""
    find = bench.find(A)
    await asyncio.sleep(0)
    await bench.lookups.close()
    assert await outcome(find) == "store_unavailable"
    assert bench.store.commands == []


async def test_a_batch_cancelled_from_within(bench: LookupBench) -> None:
    """A client library that cancels itself leaves nobody waiting, and the next caller asks anew."""
    bench.make(max_batch=1)
    finds = [bench.find(key) for key in keys(6)]
    await turns()
    for command in list(bench.store.commands):
        command.cancel()
    assert {"store_unavailable"} == {await outcome(find) for find in finds}
    assert await _ask_again(bench) == FACTS


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_of_events_answers_everyone(bench: LookupBench, seed: int) -> None:
    """Whatever the order of misses, answers, failures, revocations and departures, all end."""
    draw = random.Random(seed)
    bench.make(max_batch=2)
    finds: list[asyncio.Task[Facts]] = []
    for _ in range(400):
        match draw.randrange(6):
            case 0 | 1:
                finds.append(bench.find(draw.choice(keys(6)), draw.choice([0.0, 1.0, LOOSE])))
            case 2 if finds:
                draw.choice(finds).cancel()
            case 3:
                bench.lookups.detach(draw.choice(keys(6)))
            case _:
                under_way = [each for each in bench.store.commands if not each.ended]
                if under_way and draw.random() < 0.8:
                    draw.choice(under_way).answer(ACTIVE)
                elif under_way:
                    draw.choice(under_way).fail(StoreUnavailable())
        bench.clock.advance(draw.random())
        await asyncio.sleep(0)
    while not all(find.done() for find in finds):
        for command in bench.store.commands:
            if not command.ended:
                command.answer(ACTIVE)
        await asyncio.sleep(0)
    ends = await asyncio.gather(*finds, return_exceptions=True)
    assert {type(end) for end in ends} <= {Facts, StoreUnavailable, asyncio.CancelledError}
    assert (bench.lookups._waiting, bench.lookups._under_way) == ({}, {})
