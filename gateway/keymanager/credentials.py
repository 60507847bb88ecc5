"""Who is asking: client credentials out of a request, and whether secrets are right."""

import binascii
import hmac
import secrets
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from oauthlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError

from gateway.clock import Clock, SystemClock
from gateway.keymanager.attempts import Attempts
from gateway.keymanager.config import Client, User


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What a client said of itself; nothing of it has been checked. ``address``: where from."""

    client_id: str | None
    client_secret: str | None = field(repr=False)
    address: str = ""


def client_credentials(
    authorization: Sequence[str], form: Mapping[str, str], address: str = ""
) -> ClientCredentials:
    """Return the credentials in the ``Authorization`` headers or in the form (RFC 6749 §2.3.1).

    A ``client_id`` in the form beside HTTP Basic is not a second method while both say the same.

    Raises:
        InvalidRequestError: more than one method of authentication.
        InvalidClientError: an ``Authorization`` that isn't well-formed HTTP Basic.
    """
    client_id, client_secret = form.get("client_id"), form.get("client_secret")
    if not authorization:
        return ClientCredentials(client_id, client_secret, address)
    if len(authorization) > 1 or client_secret is not None:
        raise InvalidRequestError("Only one method of client authentication is allowed.")
    basic = _basic(authorization[0], address)
    if client_id not in {None, basic.client_id}:
        raise InvalidRequestError("client_id differs from the one in the Authorization header.")
    return basic


def admin_credentials(authorization: Sequence[str], address: str = "") -> ClientCredentials:
    """Return the name and password of an administrator, who sends them by HTTP Basic.

    Raises:
        InvalidClientError: anything else.
    """
    if len(authorization) != 1:
        raise InvalidClientError("An administrator's name and password are needed.")
    # As they are (RFC 7617 §2); only an OAuth client form-urlencodes them.
    name, password = _basic_pair(authorization[0])
    return ClientCredentials(name, password or None, address)


def _basic(authorization: str, address: str) -> ClientCredentials:
    pair = _basic_pair(authorization)
    try:
        # Both are form-urlencoded before they are joined: RFC 6749 §2.3.1.
        client_id, client_secret = (unquote_plus(part, errors="strict") for part in pair)
    except ValueError:
        raise InvalidClientError("The Authorization header is malformed.") from None
    return ClientCredentials(client_id, client_secret or None, address)


def _basic_pair(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        raise InvalidClientError("Authentication by HTTP Basic is supported.")
    try:
        name, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise InvalidClientError("The Authorization header is malformed.") from None
    if not colon or not name:
        raise InvalidClientError("The Authorization header is malformed.")
    return name, secret


class Directory:
    """The clients, users and administrators, and the comparison of their secrets.

    Secrets come from configuration and are kept only as HMAC-SHA-256 digests under a salt
    made at start. Digests of equal length are compared in constant time, and an unknown name
    costs the same comparison, so that time tells neither a secret nor who is registered.

    Whoever sends wrong ones has to wait: what authenticates raises ``TooManyAttempts``.
    """

    def __init__(
        self,
        clients: Iterable[Client],
        users: Iterable[User],
        admins: Iterable[User] = (),
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    ) -> None:
        self._salt = secrets.token_bytes(32)
        self._clients = {client.client_id: client for client in clients}
        self._secrets = {
            "client": {
                client.client_id: self._digest(client.client_secret)
                for client in self._clients.values()
                if client.client_secret is not None
            },
            "user": {user.username: self._digest(user.password) for user in users},
            "admin": {admin.username: self._digest(admin.password) for admin in admins},
        }
        self._nobody = secrets.token_bytes(32)
        self._attempts = Attempts(clock)

    def client(self, client_id: str | None) -> Client | None:
        """Return a client by its identifier, which isn't proof of anything."""
        return self._clients.get(client_id or "")

    def has_user(self, username: str) -> bool:
        """Return whether there still is such a user."""
        return username in self._secrets["user"]

    def authenticate_client(
        self, client_id: str | None, secret: str | None, address: str = ""
    ) -> Client | None:
        """Return the confidential client whose secret this is."""
        right = self._is_right("client", client_id or "", secret or "", address)
        return self.client(client_id) if right else None

    def authenticate_user(self, username: str, password: str, address: str = "") -> bool:
        """Return whether the password is the user's."""
        return self._is_right("user", username, password, address)

    def authenticate_admin(self, credentials: ClientCredentials) -> bool:
        """Return whether the password is the administrator's."""
        name, password = credentials.client_id or "", credentials.client_secret or ""
        return self._is_right("admin", name, password, credentials.address)

    def _is_right(self, kind: str, name: str, secret: str, address: str) -> bool:
        if not secret:
            return False  # no guess; it tells nothing and counts for nothing
        self._attempts.admit(kind, name, address)
        known = self._secrets[kind].get(name)
        same = hmac.compare_digest(known or self._nobody, self._digest(secret))
        if not same or known is None:
            self._attempts.failed(kind, name, address)
            return False
        self._attempts.succeeded(kind, name, address)
        return True

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._salt, secret.encode(errors="surrogatepass"), "sha256")
