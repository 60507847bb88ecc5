"""The story, played against a real gateway: one that keeps its promise, and others."""

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
from rich.console import Console

from gateway.clock import SystemClock
from gateway.demo.calls import opened_calls
from gateway.demo.stack import Stack
from gateway.demo.steps import Unexpected
from gateway.demo.story import Story, play
from gateway.demo.timeline import Timeline

CLOCK = SystemClock()

Run = Callable[..., AbstractAsyncContextManager[Stack]]


class Recorded(Timeline):
    """A timeline that can be asked what was written on it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, CLOCK)
        self.steps: list[tuple[str, int | None]] = []
        self.faults: list[tuple[str, int | None, str]] = []

    def done(self, step: str, status: int | None, says: str) -> None:
        super().done(step, status, says)
        self.steps.append((step, status))

    def failed(self, step: str, status: int | None, says: str) -> None:
        super().failed(step, status, says)
        self.faults.append((step, status, says))


@pytest.fixture
def timeline(console: Console) -> Recorded:
    return Recorded(console)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_story(
    run: Run, timeline: Recorded, kind: str, request: pytest.FixtureRequest
) -> None:
    """Every step is as it should be, in memory and with a real Redis."""
    store = "memory://" if kind == "memory" else request.getfixturevalue("redis_url")
    async with run(max_age_seconds=0.6, store=store) as stack:
        good = await play(stack, timeline, CLOCK)
    assert (good, timeline.faults) == (True, [])
    assert timeline.steps == [
        ("issue", 200),
        ("call", 200),
        ("backend sees", None),
        ("refresh", 200),
        ("call", 200),
        ("old refresh", 400),
        ("new refresh", 400),
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


@pytest.mark.parametrize(
    ("max_age_seconds", "told_seconds", "step", "status", "fault"),
    [
        (9.0, 0.3, "still accepted", 200, r"accepted after max age: 0\.\d\ds after validation"),
        (0.3, 9.0, "still accepted", 401, r"refused before max age: 0\.\d\ds after validation"),
        (0.001, 0.001, "still accepted", 401, r"the window had closed .* a longer --max-age"),
    ],
)
async def test_another_window(
    run: Run,
    timeline: Recorded,
    max_age_seconds: float,
    told_seconds: float,
    step: str,
    status: int,
    fault: str,
) -> None:
    """A window that is longer or shorter than was said, or too short to see, is a fault."""
    async with run(max_age_seconds=max_age_seconds) as stack:
        good = await play(replace(stack, max_age_seconds=told_seconds), timeline, CLOCK)
    ((step_at_fault, status_at_fault, says),) = timeline.faults
    assert (good, step_at_fault, status_at_fault) == (False, step, status)
    assert re.fullmatch(fault, says)


async def test_nobody_answers(run: Run, timeline: Recorded) -> None:
    """A gateway that isn't there is a fault of the first step."""
    async with run() as stack:
        pass
    good = await play(stack, timeline, CLOCK)
    assert (good, timeline.faults) == (
        False,
        [("issue", None, "no answer: ClientConnectorError")],
    )


async def test_nothing_counted(stack: Stack, timeline: Recorded) -> None:
    """Fewer requests counted than were made is a fault; more are not."""
    async with opened_calls(stack, CLOCK) as calls:
        await calls.get("/public", "")
        calls.outcomes.clear()
        story = Story(calls, timeline, CLOCK, max_age_seconds=1.0)
        await story.counters()
        calls.outcomes["proxied"] = 2
        with pytest.raises(Unexpected, match="proxied: expected 2, got 1"):
            await story.counters()
