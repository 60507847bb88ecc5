"""How long whoever guesses has to wait, and who else does."""

import pytest
from clocks import FakeClock

from gateway.keymanager.attempts import (
    FORGOTTEN_SECONDS,
    FREE,
    MOST_REMEMBERED,
    Attempts,
    TooManyAttempts,
    wait_seconds,
)

ALICE = ("user", "alice", "192.0.2.1")


def waits(attempts: Attempts, *who: str) -> int:
    """How long a try would have to wait, in seconds."""
    try:
        attempts.admit(*who)
    except TooManyAttempts as error:
        return error.retry_after_seconds
    return 0


@pytest.mark.parametrize(
    ("count", "seconds"), [(1, 0), (4, 0), (5, 1), (6, 2), (10, 32), (11, 60), (10**6, 60)]
)
def test_the_wait_doubles_up_to_a_minute(count: int, seconds: int) -> None:
    """A few mistakes cost nothing, many a minute each."""
    assert wait_seconds(count) == seconds


def test_a_thousand_wrong_passwords_take_hours(clock: FakeClock) -> None:
    """Whoever guesses on gets one guess a minute, and then one more after each wait."""
    attempts, began = Attempts(clock), clock.monotonic()
    for _ in range(1000):
        clock.advance(waits(attempts, *ALICE))
        attempts.admit(*ALICE)
        attempts.failed(*ALICE)
    assert clock.monotonic() - began > 16 * 3600


def test_others_don_t_wait(clock: FakeClock) -> None:
    """The same name from another address, and another name from the same, are let through."""
    attempts = Attempts(clock)
    for _ in range(20):
        attempts.failed(*ALICE)
    others = [("user", "alice", "192.0.2.2"), ("user", "bob", "192.0.2.1"), ("client", *ALICE[1:])]
    assert (waits(attempts, *ALICE), [waits(attempts, *who) for who in others]) == (60, [0, 0, 0])


def test_a_try_that_has_to_wait_makes_no_wait_longer(clock: FakeClock) -> None:
    """Hammering at a name keeps nobody out for longer than one wait."""
    attempts = Attempts(clock)
    for _ in range(FREE + 3):
        attempts.failed(*ALICE)
    for _ in range(100):
        assert waits(attempts, *ALICE) == 8
    clock.advance(7.5)
    assert waits(attempts, *ALICE) == 1
    clock.advance(0.5)
    assert waits(attempts, *ALICE) == 0


def test_the_right_password_clears_the_name(clock: FakeClock) -> None:
    """After it, mistakes are counted from nothing again."""
    attempts = Attempts(clock)
    for _ in range(FREE - 1):
        attempts.failed(*ALICE)
    attempts.succeeded(*ALICE)
    attempts.failed(*ALICE)
    assert waits(attempts, *ALICE) == 0


def test_mistakes_are_forgotten(clock: FakeClock) -> None:
    """A quarter of an hour without one, and they are counted from nothing again."""
    attempts = Attempts(clock)
    for _ in range(FREE):
        attempts.failed(*ALICE)
    clock.advance(FORGOTTEN_SECONDS + 1)
    attempts.failed(*ALICE)
    assert waits(attempts, *ALICE) == 0


def test_memory_is_bounded(clock: FakeClock) -> None:
    """However many names somebody makes up, and however long, so much is remembered."""
    attempts = Attempts(clock)
    for number in range(MOST_REMEMBERED + 10):
        attempts.failed("user", f"{number}" * 100, "192.0.2.1")
    assert len(attempts) == MOST_REMEMBERED
