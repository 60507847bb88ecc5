"""Who may: the clients, what each is registered for, and the users.

This half of oauthlib's interface looks only at configuration; ``request_validator`` has the
half that looks at what was issued.
"""

# ruff: noqa: ARG002 - oauthlib's interface hands over more than each answer needs

from typing import Any

import structlog
from oauthlib.common import Request
from oauthlib.oauth2 import RequestValidator

from gateway.keymanager.credentials import Directory

log = structlog.stdlib.get_logger(__name__)

RESPONSE_TYPE_GRANTS = {"code": "authorization_code", "token": "implicit"}
"""The response types of ``/authorize``, and the grant type that a client needs for each."""


ADDRESS = "X-Address"
"""How a request's address gets past oauthlib, which hands on nothing but headers."""


def address_of(request: Request) -> str:
    """Return where the client's request came from."""
    address: str = request.headers.get(ADDRESS, "")
    return address


class Registrations(RequestValidator):
    """What oauthlib asks of clients and users."""

    def __init__(self, directory: Directory) -> None:
        super().__init__()
        self._directory = directory

    # The client

    def client_authentication_required(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Only a public client that gave no secret goes without (RFC 6749 §3.2.1)."""
        client = self._directory.client(request.client_id)
        public = client is not None and client.client_secret is None
        return not (public and request.client_secret is None)

    def authenticate_client(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Whether it is the confidential client it says."""
        request.client = self._directory.authenticate_client(
            request.client_id, request.client_secret, address_of(request)
        )
        if request.client is None:
            log.warning("client authentication failed")
        return request.client is not None

    def authenticate_client_id(
        self, client_id: str, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether there is such a public client."""
        client = self._directory.client(client_id)
        if client is None or client.client_secret is not None:
            return False
        request.client = client
        return True

    def validate_client_id(
        self, client_id: str, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether there is such a client, for ``/authorize``."""
        request.client = self._directory.client(client_id)
        return request.client is not None

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Request, *args: Any, **kw: Any
    ) -> bool:
        """Whether the client may use the grant."""
        return grant_type in client.grant_types

    def validate_response_type(
        self, client_id: str, response_type: str, client: Any, request: Request, *a: Any, **kw: Any
    ) -> bool:
        """Whether the client may use the response type."""
        return RESPONSE_TYPE_GRANTS.get(response_type) in client.grant_types

    def get_default_scopes(
        self, client_id: str, request: Request, *args: Any, **kwargs: Any
    ) -> list[str]:
        """All that the client may have (RFC 6749 §3.3 leaves the default to the server)."""
        client = self._directory.client(client_id)
        return list(client.scopes) if client else []

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Any, request: Request, *a: Any, **kw: Any
    ) -> bool:
        """Whether the client may have all of the scopes."""
        request.scopes = list(dict.fromkeys(scopes))
        return set(scopes) <= set(client.scopes)

    # The resource owner

    def validate_user(
        self, username: str, password: str, client: Any, request: Request, *a: Any, **kw: Any
    ) -> bool:
        """Whether the password is right; a wrong one is logged (RFC 6749 §4.3.2)."""
        if not self._directory.authenticate_user(username, password, address_of(request)):
            log.warning("password refused", client_id=client.client_id)
            return False
        request.user = username
        return True

    def get_default_redirect_uri(
        self, client_id: str, request: Request, *args: Any, **kwargs: Any
    ) -> str:
        """The client's redirect URI if it has just one; "" is none (RFC 6749 §3.1.2.3)."""
        client = self._directory.client(client_id)
        uris = client.redirect_uris if client else ()
        return uris[0] if len(uris) == 1 else ""

    def validate_redirect_uri(
        self, client_id: str, redirect_uri: str, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether the client registered this (RFC 9700 §2.1)."""
        client = self._directory.client(client_id)
        return client is not None and client.may_redirect(redirect_uri)

    def is_pkce_required(self, client_id: str, request: Request) -> bool:
        """Always (RFC 9700 §2.1.1)."""
        return True
