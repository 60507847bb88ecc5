"""RFC 7662 documents: what is said of a token to whoever may know."""

from typing import Any

from gateway.keymanager.records import RefreshToken


def access_document(
    *, client_id: str, username: str | None, scope: str, iat: int, exp: int
) -> dict[str, Any]:
    """Return the introspection document of a new access token; instants are epoch seconds.

    Without a user there is no ``sub``: a client must not be able to pass for a user by the
    choice of its identifier (RFC 9700 §4.15).
    """
    return {
        "active": True,
        "client_id": client_id,
        "scope": scope,
        "token_type": "Bearer",
        "iat": iat,
        "exp": exp,
    } | _subject(username)


def refresh_document(token: RefreshToken) -> dict[str, Any]:
    """Return the introspection document of a refresh token that is good.

    Its ``token_type`` isn't ``Bearer``, so that nobody takes it for an access token.
    """
    return {
        "active": True,
        "client_id": token.client_id,
        "scope": token.scope,
        "token_type": "refresh_token",
        "iat": token.iat,
        "exp": token.exp,
    } | _subject(token.username)


def _subject(username: str | None) -> dict[str, str]:
    return {} if username is None else {"sub": username, "username": username}
