"""Who is asking: client credentials out of a request, and whether secrets are right."""

import binascii
import hmac
import secrets
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from oauthlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError

from gateway.keymanager.config import Client, User


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What a client said of itself; nothing of it has been checked."""

    client_id: str | None
    client_secret: str | None = field(repr=False)


def client_credentials(authorization: Sequence[str], form: Mapping[str, str]) -> ClientCredentials:
    """Return the credentials in the ``Authorization`` headers or in the form (RFC 6749 §2.3.1).

    A ``client_id`` in the form beside HTTP Basic is not a second method while both say the same.

    Raises:
        InvalidRequestError: more than one method of authentication.
        InvalidClientError: an ``Authorization`` that isn't well-formed HTTP Basic.
    """
    client_id, client_secret = form.get("client_id"), form.get("client_secret")
    if not authorization:
        return ClientCredentials(client_id, client_secret)
    if len(authorization) > 1 or client_secret is not None:
        raise InvalidRequestError("Only one method of client authentication is allowed.")
    basic = _basic(authorization[0])
    if client_id not in {None, basic.client_id}:
        raise InvalidRequestError("client_id differs from the one in the Authorization header.")
    return basic


def _basic(authorization: str) -> ClientCredentials:
    scheme, _, encoded = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        raise InvalidClientError("Client authentication by HTTP Basic is supported.")
    try:
        pair = b64decode(encoded.strip(), validate=True).decode()
        # Both are form-urlencoded before they are joined: RFC 6749 §2.3.1.
        client_id, colon, client_secret = (
            unquote_plus(part, errors="strict") for part in pair.partition(":")
        )
    except (binascii.Error, ValueError):
        raise InvalidClientError("The Authorization header is malformed.") from None
    if not colon or not client_id:
        raise InvalidClientError("The Authorization header is malformed.")
    return ClientCredentials(client_id, client_secret or None)


class Directory:
    """The clients and users, and the comparison of their secrets.

    Secrets come from configuration and are kept only as HMAC-SHA-256 digests under a salt
    made at start. Digests of equal length are compared in constant time, and an unknown name
    costs the same comparison, so that time tells neither a secret nor who is registered.
    """

    def __init__(self, clients: Iterable[Client], users: Iterable[User]) -> None:
        self._salt = secrets.token_bytes(32)
        self._clients = {client.client_id: client for client in clients}
        self._secrets = {
            client.client_id: self._digest(client.client_secret)
            for client in self._clients.values()
            if client.client_secret is not None
        }
        self._passwords = {user.username: self._digest(user.password) for user in users}
        self._nobody = secrets.token_bytes(32)

    def client(self, client_id: str | None) -> Client | None:
        """Return a client by its identifier, which isn't proof of anything."""
        return self._clients.get(client_id or "")

    def authenticate_client(self, client_id: str | None, secret: str | None) -> Client | None:
        """Return the confidential client whose secret this is."""
        known = self._secrets.get(client_id or "")
        right = hmac.compare_digest(known or self._nobody, self._digest(secret or ""))
        return self.client(client_id) if right and known is not None else None

    def authenticate_user(self, username: str, password: str) -> bool:
        """Return whether the password is the user's."""
        known = self._passwords.get(username)
        right = hmac.compare_digest(known or self._nobody, self._digest(password))
        return right and known is not None

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._salt, secret.encode(), "sha256")
