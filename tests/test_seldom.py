"""Log lines about what happens again and again."""

from clocks import FakeClock

from gateway.seldom import Seldom


def test_the_first_is_logged_at_once_and_the_next_in_a_while(clock: FakeClock) -> None:
    """What comes between is counted, each thing for itself."""
    seldom = Seldom(1.0, clock.monotonic)
    assert [seldom.due("a"), seldom.held_back("a")] == [True, 0]
    assert [seldom.due("a"), seldom.due("a"), seldom.due("b")] == [False, False, True]
    clock.advance(0.9)
    assert not seldom.due("a")
    clock.advance(0.1)
    assert [seldom.due("a"), seldom.held_back("a"), seldom.held_back("a")] == [True, 3, 0]
