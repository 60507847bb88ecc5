"""Lookups: shared, batched, bounded in time, and never kept once they are out of date."""

import asyncio
from typing import Any

import pytest
from clocks import FakeClock
from scripted import ACTIVE, LookupBench, document, keys, outcome, turns
from structlog.testing import capture_logs

from gateway.lookups import BATCHES_AT_ONCE, MOST_READ_AT_ONCE
from gateway.tokens import INACTIVE, Facts, Found

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


async def test_concurrent_first_uses_share_one_lookup(bench: LookupBench) -> None:
    """35 concurrent first uses of one token are one command with one key."""
    finds = [bench.find(A) for _ in range(35)]
    (await bench.store.sent.get()).answer(ACTIVE)
    assert await asyncio.gather(*finds) == [FACTS] * 35
    assert [command.keys for command in bench.store.commands] == [[A]]
    assert [(A, FACTS, bench.clock.monotonic())] == bench.kept
    assert bench.metrics.batches == [1]


async def test_what_misses_together_is_asked_together(bench: LookupBench) -> None:
    """1,000 concurrent first uses of 1,000 tokens are 8 commands: 7 of ``max_batch`` and a rest."""
    tokens = keys(1_000)
    finds = [bench.find(key) for key in tokens]
    for _ in range(8):
        (await bench.store.sent.get()).answer(ACTIVE)
    assert await asyncio.gather(*finds) == [FACTS] * 1_000
    assert bench.metrics.batches == [128] * 7 + [104]
    assert tokens == [key for command in bench.store.commands for key in command.keys]


async def test_only_so_many_commands_at_once(bench: LookupBench) -> None:
    """``BATCHES_AT_ONCE`` commands are under way, no more; what waits meanwhile fills the next."""
    bench.make(max_batch=3)
    finds = [bench.find(key) for key in keys(20)]
    for _ in range(7):
        command = await bench.store.sent.get()
        await turns()
        under_way = [each for each in bench.store.commands if not each.ended]
        assert len(under_way) <= BATCHES_AT_ONCE
        command.answer(ACTIVE)
    await asyncio.gather(*finds)
    assert bench.metrics.batches == [3] * 6 + [2]


async def test_answers_reach_those_who_asked(bench: LookupBench) -> None:
    """Each caller gets the facts of its own token; an absent document is an inactive token."""
    finds = [bench.find(key) for key in (A, B, C)]
    command = await bench.store.sent.get()
    command.answer(document(sub="first"), None, document(sub="third"))
    assert [Facts(True, "a", "first"), INACTIVE, Facts(True, "a", "third")] == await asyncio.gather(
        *finds
    )


async def test_validated_is_when_the_command_left(bench: LookupBench) -> None:
    """Facts count from the sending of their command, not from its answer."""
    find = bench.find(A)
    command = await bench.store.sent.get()
    sent = bench.clock.monotonic()
    bench.clock.advance(7)
    command.answer(ACTIVE)
    await find
    assert [(A, FACTS, sent)] == bench.kept


async def test_what_is_kept_is_kept_no_longer_than_in_the_store(bench: LookupBench) -> None:
    """How long the store keeps a token is handed on; for ever where it doesn't expire."""
    finds = [bench.find(A), bench.find(B), bench.find(C)]
    (await bench.store.sent.get()).answer(Found(ACTIVE, 2.0), Found(ACTIVE), None)
    await asyncio.gather(*finds)
    assert bench.kept_for == [2.0, LOOSE, LOOSE]


async def test_large_documents_hold_up_nobody(bench: LookupBench) -> None:
    """Of a command's answers no more are read in one turn of the loop than take a millisecond."""
    asked = keys(12)
    large = document(padding="." * (MOST_READ_AT_ONCE // 3))
    turn, read_at = 0, []
    for key in asked:
        bench.lookups.join(key, LOOSE, lambda _: read_at.append(turn))
    (await bench.store.sent.get()).answer(large)
    while len(read_at) < len(asked):
        turn += 1
        await asyncio.sleep(0)
    assert max(read_at.count(turn) for turn in read_at) <= 3


async def test_a_token_that_expires_meanwhile(bench: LookupBench) -> None:
    """``exp`` is judged when the answer comes, not when the question leaves."""
    find = bench.find(A)
    command = await bench.store.sent.get()
    bench.clock.advance(10)
    command.answer(document(exp=bench.clock.wall()))
    assert INACTIVE is await find


async def test_a_cancelled_caller_takes_nobody_along(bench: LookupBench) -> None:
    """A client that goes away, even the one that came first, costs the others nothing."""
    first, second, third = (bench.find(A) for _ in range(3))
    command = await bench.store.sent.get()
    first.cancel()
    third.cancel()
    await turns()
    command.answer(ACTIVE)
    assert await second == FACTS
    assert (first.cancelled(), third.cancelled()) == (True, True)
    assert len(bench.kept) == 1


async def test_a_lookup_goes_on_without_callers(bench: LookupBench) -> None:
    """Once sent, an answer is kept even where all who asked have gone."""
    find = bench.find(A)
    command = await bench.store.sent.get()
    find.cancel()
    await turns()
    command.answer(ACTIVE)
    await turns()
    assert len(bench.kept) == 1


async def test_each_caller_waits_for_itself(bench: LookupBench) -> None:
    """One caller's time-out ends its own wait only: who comes later still gets the answer."""
    bench.make(timeout_seconds=0.01)
    assert await outcome(bench.find(A)) == "store_unavailable"
    bench.lookups._timeout_seconds = 30
    later = bench.find(A)
    await turns()
    assert len(bench.store.commands) == 1
    bench.store.commands[0].answer(ACTIVE)
    assert await later == FACTS


async def test_a_detached_lookup(bench: LookupBench) -> None:
    """A revocation during a lookup: who waits is answered, nothing is kept, who comes asks anew."""
    before = [bench.find(A) for _ in range(3)]
    command = await bench.store.sent.get()
    bench.lookups.detach(A)
    after = bench.find(A)
    second = await bench.store.sent.get()
    command.answer(ACTIVE)
    assert await asyncio.gather(*before) == [FACTS] * 3
    assert bench.kept == []
    second.answer(None)
    assert INACTIVE is await after
    assert [(A, INACTIVE, bench.clock.monotonic())] == bench.kept


async def test_a_lookup_detached_before_it_is_sent(bench: LookupBench) -> None:
    """A revocation while a lookup waits for its command detaches it all the same."""
    busy = [await bench.busy(key) for key in (B, C)]
    before = bench.find(A)
    await turns()
    bench.lookups.detach(A)
    after = bench.find(A)
    await turns()
    busy[0].answer(ACTIVE)
    command = await bench.store.sent.get()
    assert command.keys == [A, A]
    bench.kept.clear()
    command.answer(ACTIVE, None)
    assert (await before, await after) == (FACTS, INACTIVE)
    assert [(A, INACTIVE, bench.clock.monotonic())] == bench.kept
    busy[1].answer(ACTIVE)


async def test_detaching_what_is_not_under_way(bench: LookupBench) -> None:
    """A revocation of a token that nobody looks up changes nothing."""
    find = bench.find(A)
    command = await bench.store.sent.get()
    bench.lookups.detach(B)
    command.answer(ACTIVE)
    await find
    assert len(bench.kept) == 1


@pytest.mark.parametrize(
    ("max_age", "waited", "shared"),
    [(LOOSE, 100.0, True), (5.0, 4.5, True), (5.0, 5.0, False), (0.0, 0.0, False), (0.0, 1, False)],
)
async def test_how_old_a_lookup_may_be_to_be_shared(
    bench: LookupBench, max_age: float, waited: float, shared: bool
) -> None:
    """A command that left a max age ago or longer answers those who were there, no newcomer."""
    early = bench.find(A)
    first = await bench.store.sent.get()
    bench.clock.advance(waited)
    late = bench.find(A, max_age)
    await turns()
    assert (1 if shared else 2) == len(bench.store.commands)
    first.answer(ACTIVE)
    if not shared:
        bench.store.commands[1].answer(None)
    assert (FACTS, FACTS if shared else INACTIVE) == (await early, await late)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_two_answers_the_later_question_counts(
    bench: LookupBench, order: list[int]
) -> None:
    """With two lookups of one token, only the one sent later is kept, whichever ends first."""
    finds = [bench.find(A, 0)]
    commands = [await bench.store.sent.get()]
    bench.clock.advance(1)
    finds.append(bench.find(A, 0))
    commands.append(await bench.store.sent.get())
    for number in order:
        commands[number].answer([ACTIVE, None][number])
        await finds[number]
    assert [(A, INACTIVE, bench.clock.monotonic())] == bench.kept


async def test_max_age_zero_together(bench: LookupBench) -> None:
    """Callers with max age 0 share a command that leaves after all of them came."""
    finds = [bench.find(A, 0) for _ in range(35)]
    (await bench.store.sent.get()).answer(ACTIVE)
    await asyncio.gather(*finds)
    assert len(bench.store.commands) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_asking_just_as_all_commands_end(bench: LookupBench, at_once: bool) -> None:
    """A token asked for in the turn in which every command under way has ended is asked for."""
    commands = [await bench.busy(key) for key in keys(BATCHES_AT_ONCE)]
    found: list[Facts | None] = []

    def ask(_: Facts | None) -> None:
        if at_once:
            bench.lookups.join(C, LOOSE, found.append)
        else:
            asyncio.get_running_loop().call_soon(bench.lookups.join, C, LOOSE, found.append)

    bench.lookups.join(A, LOOSE, ask)
    for command in commands:
        command.answer(ACTIVE)
    await turns()
    assert [command.keys for command in bench.store.commands[BATCHES_AT_ONCE:]] == [[C]]
    bench.store.commands[-1].answer(ACTIVE)
    await turns()
    assert found == [FACTS]


async def test_what_misses_meanwhile_gathers(bench: LookupBench) -> None:
    """While a command is under way, what else is asked for waits, and goes as one."""
    bench.make(second_after_seconds=3600)
    finds = [bench.find(A)]
    first = await bench.store.sent.get()
    finds += [bench.find(key) for key in (B, C, D)]
    await turns()
    assert len(bench.store.commands) == 1
    first.answer(ACTIVE)
    (await bench.store.sent.get()).answer(ACTIVE)
    assert await asyncio.gather(*finds) == [FACTS] * 4
    assert [command.keys for command in bench.store.commands] == [[A], [B, C, D]]


async def test_a_full_command_does_not_wait(bench: LookupBench) -> None:
    """As soon as ``max_batch`` tokens wait for one command, they go in another."""
    bench.make(second_after_seconds=3600, max_batch=2)
    finds = [bench.find(A)]
    await turns()
    finds.append(bench.find(B))
    await turns()
    assert len(bench.store.commands) == 1
    finds.append(bench.find(C))
    await turns()
    assert [command.keys for command in bench.store.commands] == [[A], [B, C]]
    for command in bench.store.commands:
        command.answer(ACTIVE)
    assert await asyncio.gather(*finds) == [FACTS] * 3


async def test_a_slow_command_holds_nobody_up(bench: LookupBench) -> None:
    """Behind a command without an answer another one goes after ``second_after_seconds``."""
    bench.make(second_after_seconds=0.001)
    hangs = bench.find(A)
    first = await bench.store.sent.get()
    behind = bench.find(B)
    (await bench.store.sent.get()).answer(ACTIVE)
    assert await behind == FACTS
    again = bench.find(C)
    (await bench.store.sent.get()).answer(ACTIVE)
    assert await again == FACTS
    assert not hangs.done()
    first.answer(ACTIVE)
    await hangs


async def test_nothing_is_sent_for_those_who_left(bench: LookupBench) -> None:
    """If all who waited behind a command have gone when it is their turn, nothing is asked."""
    first = await bench.busy(A)
    gone = bench.find(B)
    await asyncio.sleep(0)
    gone.cancel()
    await turns()
    first.answer(ACTIVE)
    await turns()
    assert len(bench.store.commands) == 1


async def test_a_caller_that_leaves_as_another_is_told(bench: LookupBench) -> None:
    """Who has left isn't told, even if it is within the same call."""
    found: list[Facts | None] = []

    def leave(_: Facts | None) -> None:
        bench.lookups.leave(lookup, found.append)

    lookup = bench.lookups.join(A, LOOSE, leave)
    bench.lookups.join(A, LOOSE, found.append)
    (await bench.store.sent.get()).answer(ACTIVE)
    await turns()
    assert found == []
    assert bench.kept


async def test_a_caller_that_fails(bench: LookupBench) -> None:
    """One who raises when it is told, which nobody should, takes no answer from the others."""
    found: list[Facts | None] = []

    def fail(_: Facts | None) -> None:
        raise RuntimeError("a bug")

    bench.lookups.join(A, LOOSE, found.append)
    bench.lookups.join(B, LOOSE, fail)
    bench.lookups.join(B, LOOSE, found.append)
    bench.lookups.join(C, LOOSE, found.append)
    with capture_logs() as logs:
        (await bench.store.sent.get()).answer(ACTIVE)
        await turns()
    assert found == [FACTS] * 3
    assert [entry["event"] for entry in logs] == ["a lookup's caller failed"]
