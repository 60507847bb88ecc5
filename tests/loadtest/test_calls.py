"""A request on its way."""

from gateway.loadtest.calls import Call, Kind


def test_a_call_hides_what_it_carries() -> None:
    """Neither the request nor the body is in the repr: both hold tokens."""
    call = Call(Kind.PROBE, 1, 0, 2.0, b"GET / hidden", body=b"hidden too")
    assert "hidden" not in repr(call)


def test_lag() -> None:
    """Lag is from planned to sent, and none before that."""
    call = Call(Kind.PROBE, 1, 0, 2.0, b"")
    assert call.lag == 0.0
    call.sent = 2.5
    assert call.lag == 0.5


def test_kinds_are_the_record_s_words() -> None:
    """A kind is written as its row's type."""
    assert [str(kind) for kind in Kind] == ["token", "probe", "revoke", "background"]
