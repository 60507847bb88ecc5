"""Who may get tokens, and for how long: the clients, the users, the lifetimes."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

GRANT_TYPES = (
    "authorization_code",
    "implicit",
    "password",
    "client_credentials",
    "refresh_token",
)
"""The grants of RFC 6749, by the names that RFC 7591 §2 gives them."""

_VSCHAR = re.compile(r"[\x20-\x7e]+")
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client (RFC 6749 §2). Without a secret it is a public one.

    ``redirect_uris`` are compared with what a request names character by character
    (RFC 9700 §2.1). ``scopes`` are those it may ask for, and what it gets when it asks for
    none. A client without the grant type ``refresh_token`` gets no refresh tokens.

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
            if not urlsplit(uri).scheme or "#" in uri or not uri.isascii():
                raise ValueError(
                    f"redirect_uris: {uri!r}: an absolute URI without a fragment is allowed"
                )
        if not self.scopes or not all(_SCOPE_TOKEN.fullmatch(scope) for scope in self.scopes):
            raise ValueError("scopes: at least one scope token is needed (RFC 6749 §3.3)")
        if unknown := set(self.grant_types) - set(GRANT_TYPES):
            raise ValueError(f"grant_types: {sorted(unknown)}: allowed are {list(GRANT_TYPES)}")


@dataclass(frozen=True, slots=True)
class User:
    """A resource owner, who signs in with a password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyManagerConfig:
    """What the key manager is run with; durations are whole seconds.

    ``issuer`` is sent as ``iss`` in authorization responses when given (RFC 9207).
    ``wso2_headers`` makes ``/revoke`` answer with the headers of WSO2's key manager that name
    the revoked access token and its user. A gateway must use and strip them; leave it off
    without such a gateway in front.

    Raises:
        ValueError: a lifetime that isn't positive, or two clients or users of one name.
    """

    clients: tuple[Client, ...]
    users: tuple[User, ...] = ()
    access_token_expires_in: int = 3600
    refresh_token_expires_in: int = 86_400
    code_expires_in: int = 60
    issuer: str | None = None
    wso2_headers: bool = False

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
