"""Who may get tokens, and for how long: the clients, the users, the lifetimes."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.keymanager.addresses import LOOPBACK, parse_networks

GRANT_TYPES = (
    "authorization_code",
    "implicit",
    "password",
    "client_credentials",
    "refresh_token",
)
"""The grants of RFC 6749, by the names that RFC 7591 §2 gives them."""

_URI = re.compile(r"[\x21\x22\x24-\x7e]+")
_LOOPBACK = re.compile(
    r"http://(?P<host>127\.0\.0\.1|\[::1\])(?::(?P<port>[0-9]{1,5}))?(?P<rest>(?:[/?].*)?)"
)
_VSCHAR = re.compile(r"[\x20-\x7e]+")
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client (RFC 6749 §2). Without a secret it is a public one.

    ``redirect_uris`` are compared with what a request names character by character
    (RFC 9700 §2.1), but for the port of a loopback address. ``scopes`` are those it may ask
    for, and what it gets when it asks for none. A client without the grant type
    ``refresh_token`` gets no refresh tokens.

    Raises:
        ValueError: an identifier, redirect URI, scope or grant type that OAuth doesn't allow.
    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("read", "write")
    grant_types: tuple[str, ...] = GRANT_TYPES

    def __post_init__(self) -> None:
        if not _VSCHAR.fullmatch(self.client_id):
            raise ValueError("client_id: printable ASCII is allowed (RFC 6749 appendix A.1)")
        if self.client_secret is not None and not _VSCHAR.fullmatch(self.client_secret):
            raise ValueError("client_secret: printable ASCII is allowed (RFC 6749 appendix A.2)")
        for uri in self.redirect_uris:
            if not _URI.fullmatch(uri) or not urlsplit(uri).scheme:
                raise ValueError(
                    f"redirect_uris: {uri!r}: an absolute URI without a fragment is allowed"
                )
        if not self.scopes or not all(_SCOPE_TOKEN.fullmatch(scope) for scope in self.scopes):
            raise ValueError("scopes: at least one scope token is needed (RFC 6749 §3.3)")
        if unknown := set(self.grant_types) - set(GRANT_TYPES):
            raise ValueError(f"grant_types: {sorted(unknown)}: allowed are {list(GRANT_TYPES)}")

    def may_redirect(self, uri: str) -> bool:
        """Return whether a browser may be sent there.

        An app on the user's own machine listens on a port that it gets when it starts, so any
        port of 127.0.0.1 and [::1] will do, with http (RFC 8252 §7.3). Not of ``localhost``,
        which may be another machine (§8.3).
        """
        return uri in self.redirect_uris or any(
            _without_port(uri) == registered
            for registered in map(_without_port, self.redirect_uris)
            if registered is not None
        )


def _without_port(uri: str) -> tuple[str, str] | None:
    """Return host and the rest of a loopback redirect URI; ``None`` for any other URI."""
    found = _LOOPBACK.fullmatch(uri)
    if found is None or not 0 < int(found["port"] or 80) <= 65535:
        return None
    return found["host"], found["rest"]


@dataclass(frozen=True, slots=True)
class User:
    """A resource owner, who signs in with a password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyManagerConfig:
    """What the key manager is run with; durations are whole seconds.

    ``refresh_tokens`` false issues none, whatever a client is registered for: they are optional
    (RFC 6749 §1.5). ``admins`` may end anyone's grants; they aren't users. ``trusted_proxies``
    are believed what ``X-Forwarded-For`` says. ``issuer`` is sent as ``iss`` in authorization
    responses when given (RFC 9207).
    ``wso2_headers`` makes ``/revoke`` answer with the headers of WSO2's key manager that name
    the revoked access token and its user. A gateway must use and strip them; leave it off
    without such a gateway in front.

    Raises:
        ValueError: a lifetime that isn't positive, two clients, users or administrators of one
            name, or a proxy that isn't an address or a network.
    """

    clients: tuple[Client, ...]
    users: tuple[User, ...] = ()
    access_token_expires_in: int = 3600
    refresh_token_expires_in: int = 86_400
    code_expires_in: int = 60
    refresh_tokens: bool = True
    issuer: str | None = None
    wso2_headers: bool = False
    admins: tuple[User, ...] = ()
    trusted_proxies: tuple[str, ...] = LOOPBACK

    def __post_init__(self) -> None:
        lifetimes = (
            self.access_token_expires_in,
            self.refresh_token_expires_in,
            self.code_expires_in,
        )
        if min(lifetimes) < 1:
            raise ValueError("lifetimes of at least one second are allowed")
        if len({client.client_id for client in self.clients}) != len(self.clients):
            raise ValueError("clients: each client_id is allowed once")
        if len({user.username for user in self.users}) != len(self.users):
            raise ValueError("users: each username is allowed once")
        if len({admin.username for admin in self.admins}) != len(self.admins):
            raise ValueError("admins: each name is allowed once")
        try:
            parse_networks(self.trusted_proxies)
        except ValueError as error:
            raise ValueError(f"trusted_proxies: {error}") from None
