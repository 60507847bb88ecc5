"""Sessions begin, end and are forgotten."""

from clocks import FakeClock

from gateway.keymanager.sessions import LIFE_SECONDS, MOST_SESSIONS, Sessions


def test_a_session_lasts_a_quarter_of_an_hour(clock: FakeClock) -> None:
    """Its cookie finds it until then, and no other does."""
    sessions = Sessions(clock)
    cookie = sessions.begin("alice")
    found = sessions.find(cookie)
    assert found is not None
    assert (found.username, sessions.find(cookie + "x"), sessions.find(None)) == (
        "alice",
        None,
        None,
    )
    clock.advance(LIFE_SECONDS)
    assert sessions.find(cookie) is None


def test_signing_out_ends_it(clock: FakeClock) -> None:
    """A copy of the cookie is worth nothing then."""
    sessions = Sessions(clock)
    cookie = sessions.begin("alice")
    sessions.end(cookie)
    assert sessions.find(cookie) is None


def test_sessions_are_bounded(clock: FakeClock) -> None:
    """The oldest ends for a new one, and those that are over go by themselves."""
    sessions = Sessions(clock)
    first, *_, last = [sessions.begin("alice") for _ in range(MOST_SESSIONS + 1)]
    assert (len(sessions), sessions.find(first)) == (MOST_SESSIONS, None)
    assert sessions.find(last) is not None
    clock.advance(LIFE_SECONDS)
    sessions.begin("alice")
    assert len(sessions) == 1


def test_a_cookie_may_hold_anything(clock: FakeClock) -> None:
    """Bytes that aren't UTF-8 are no session, and no fault."""
    assert Sessions(clock).find("\udcff") is None
