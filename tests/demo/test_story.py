"""The story, played against a real gateway: one that keeps its promise, and others."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
from clocks import FakeClock
from rich.console import Console

from gateway.clock import Clock
from gateway.demo.calls import opened_calls
from gateway.demo.stack import Stack
from gateway.demo.steps import Unexpected
from gateway.demo.story import Story, play
from gateway.demo.timeline import Timeline

Run = Callable[..., AbstractAsyncContextManager[Stack]]


class TickingClock(FakeClock):
    """A clock that moves when it is looked at, as much as a slow machine would take."""

    tick_seconds = 0.0

    def monotonic(self) -> float:
        self.advance(self.tick_seconds)
        return super().monotonic()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class Recorded(Timeline):
    """A timeline that can be asked what was written on it."""

    def __init__(self, console: Console, clock: Clock) -> None:
        super().__init__(console, clock)
        self.steps: list[tuple[str, int | None]] = []
        self.faults: list[tuple[str, int | None, str]] = []

    def done(self, step: str, status: int | None, says: str) -> None:
        super().done(step, status, says)
        self.steps.append((step, status))

    def failed(self, step: str, status: int | None, says: str) -> None:
        super().failed(step, status, says)
        self.faults.append((step, status, says))


@pytest.fixture
def clock() -> TickingClock:
    return TickingClock()


@pytest.fixture
def timeline(console: Console, clock: TickingClock) -> Recorded:
    return Recorded(console, clock)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_story(
    run: Run, timeline: Recorded, clock: TickingClock, kind: str, request: pytest.FixtureRequest
) -> None:
    """Every step is as it should be, in memory and with a real Redis."""
    store = "memory://" if kind == "memory" else request.getfixturevalue("redis_url")
    async with run(clock, max_age_seconds=900.0, store=store) as stack:
        good = await play(stack, timeline, clock, sleep=clock.sleep)
    assert (good, timeline.faults) == (True, [])
    assert timeline.steps == [
        ("password", 200),
        ("client", 200),
        ("allow", 303),
        ("code", 200),
        ("refresh", 200),
        ("implicit", 303),
        ("without", 200),
        ("issue", 200),
        ("call", 200),
        ("backend sees", None),
        ("refresh", 200),
        ("new expiry", None),
        ("call", 200),
        ("old refresh", 400),
        ("new refresh", 400),
        ("issue", 200),
        ("call", 200),
        ("page", 200),
        ("user revokes", 303),
        ("call", 401),
        ("user revokes", 303),
        *[("issue", 200), ("admin revokes", 200), ("call", 401)] * 3,
        ("issue", 200),
        ("call", 200),
        ("revoke", 200),
        ("call", 401),
        ("issue", 200),
        ("call", 200),
        ("revoke", 200),
        ("still accepted", 200),
        ("lapsed", 401),
        ("window", None),
        ("exposure", None),
        ("counted", None),
    ]
    written: str = timeline.console.file.getvalue()  # type: ignore[attr-defined]
    assert not re.search(r"[\w-]{30}", written), "a whole token was shown"
    assert "promised 900s, measured 899.90s to 900.01s" in written


@pytest.mark.parametrize(
    ("max_age_seconds", "told_seconds", "status", "fault"),
    [
        (9.0, 3.0, 200, "accepted after max age: 3.01s after validation"),
        (3.0, 9.0, 401, "refused before max age: 3.00s after validation"),
    ],
)
async def test_another_window(
    run: Run,
    timeline: Recorded,
    clock: TickingClock,
    max_age_seconds: float,
    told_seconds: float,
    status: int,
    fault: str,
) -> None:
    """A window that is longer or shorter than was said is a fault."""
    async with run(clock, max_age_seconds=max_age_seconds) as stack:
        told = replace(stack, max_age_seconds=told_seconds)
        good = await play(told, timeline, clock, sleep=clock.sleep)
    assert (good, timeline.faults) == (False, [("still accepted", status, fault)])


async def test_a_slow_machine(run: Run, timeline: Recorded, clock: TickingClock) -> None:
    """Where calls take long the measurement is coarse, and the story still right."""
    async with run(clock, max_age_seconds=60.0) as stack:
        clock.tick_seconds = 0.5
        assert await play(stack, timeline, clock, sleep=clock.sleep)


async def test_a_window_too_short(run: Run, timeline: Recorded, clock: TickingClock) -> None:
    """A window that closes before anybody can look is said to be too short."""
    async with run(clock, max_age_seconds=1.0) as stack:
        clock.tick_seconds = 0.5
        good = await play(stack, timeline, clock, sleep=clock.sleep)
    fault = "the window had closed before the first call: give a longer --max-age"
    assert (good, timeline.faults) == (False, [("still accepted", 401, fault)])


async def test_nobody_answers(run: Run, timeline: Recorded, clock: TickingClock) -> None:
    """A gateway that isn't there is a fault of the first step."""
    async with run() as stack:
        pass
    good = await play(stack, timeline, clock)
    assert (good, timeline.faults) == (
        False,
        [("password", None, "no answer: ClientConnectorError")],
    )


async def test_nothing_counted(stack: Stack, timeline: Recorded, clock: TickingClock) -> None:
    """Fewer requests counted than were made is a fault; more are not."""
    async with opened_calls(stack, clock) as calls:
        await calls.get("/public", "")
        calls.outcomes.clear()
        story = Story(calls, timeline, clock, clock.sleep, max_age_seconds=1.0)
        await story.counters()
        calls.outcomes["proxied"] = 2
        with pytest.raises(Unexpected, match="proxied: expected 2, got 1"):
            await story.counters()
