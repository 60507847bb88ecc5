"""Introspection documents."""

from gateway.keymanager.documents import access_document, refresh_document
from gateway.keymanager.records import RefreshToken


def test_access_document() -> None:
    """Only a token of a user has a subject (RFC 9700 §4.15)."""
    expected = {
        "active": True,
        "client_id": "a",
        "scope": "read",
        "token_type": "Bearer",
        "iat": 1,
        "exp": 2,
    }
    ours = access_document(client_id="a", username=None, scope="read", iat=1, exp=2)
    alices = access_document(client_id="a", username="alice", scope="read", iat=1, exp=2)
    assert (ours, alices) == (expected, {**expected, "sub": "alice", "username": "alice"})


def test_refresh_document() -> None:
    """A refresh token isn't a Bearer token, and its family stays inside."""
    assert refresh_document(RefreshToken("f", "a", None, "read", 1, 2)) == {
        "active": True,
        "client_id": "a",
        "scope": "read",
        "token_type": "refresh_token",
        "iat": 1,
        "exp": 2,
    }
