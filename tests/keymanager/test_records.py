"""Records, as they are stored."""

import pytest

from gateway.keymanager.records import Code, Family, RefreshToken, from_json, to_json

CODE = Code("a", "alice", "read", "https://app.example/", True, "challenge", 60)


def test_round_trip() -> None:
    """A record comes back as it was stored."""
    refresh, family = RefreshToken("f", "a", None, "read", 1, 2), Family("a", None)
    assert from_json(Code, to_json(CODE)) == CODE
    assert from_json(RefreshToken, to_json(refresh)) == refresh
    assert from_json(Family, to_json(family)) == family


@pytest.mark.parametrize(
    "value", [None, b"", b"null", b"[]", b"{}", b'{"client_id": "a"}', b"\xff"]
)
def test_what_is_no_record(value: bytes | None) -> None:
    """Nothing, and what isn't such a record, is no record."""
    assert from_json(Code, value) is None
