"""Which event loop a process gets."""

import sys

import pytest

from gateway import event_loop
from gateway.event_loop import EventLoop

CHOICES: tuple[tuple[EventLoop, str], ...] = (
    ("auto", "uvloop"),
    ("uvloop", "uvloop"),
    ("asyncio", "asyncio"),
)


async def running() -> str:
    return event_loop.running()


@pytest.mark.parametrize(("choice", "kind"), CHOICES)
def test_the_loop_is_as_chosen(choice: EventLoop, kind: str) -> None:
    """Where nothing is said it is uvloop, if that is installed."""
    assert event_loop.run(running(), choice) == kind


def test_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is said it is asyncio's own then."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert event_loop.run(running()) == "asyncio"
