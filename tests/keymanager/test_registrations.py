"""What clients are registered for."""

import pytest
from oauthlib.common import Request

from gateway.keymanager.config import Client
from gateway.keymanager.credentials import Directory
from gateway.keymanager.registrations import Registrations

ONE = Client("one", "secret", redirect_uris=("https://a.example/",), scopes=("read", "write"))
TWO = Client("two", redirect_uris=("https://a.example/", "https://b.example/"))
REGISTRATIONS = Registrations(Directory((ONE, TWO), ()))


def request_of(**parameters: str) -> Request:
    return Request("https://key-manager.invalid/", "POST", parameters, {})


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"client_id": "one"}, True),
        ({"client_id": "two"}, False),
        ({"client_id": "two", "client_secret": "x"}, True),
        ({"client_id": "nobody"}, True),
        ({}, True),
    ],
)
def test_who_must_authenticate(parameters: dict[str, str], expected: bool) -> None:
    """All but a public client that shows no secret (RFC 6749 §3.2.1)."""
    request = request_of(**parameters)
    assert REGISTRATIONS.client_authentication_required(request) is expected


@pytest.mark.parametrize(
    ("client_id", "expected"), [("one", False), ("two", True), ("nobody", False)]
)
def test_identification_without_a_secret(client_id: str, expected: bool) -> None:
    """An identifier alone is enough for a public client only."""
    assert REGISTRATIONS.authenticate_client_id(client_id, request_of()) is expected


@pytest.mark.parametrize(
    ("client_id", "expected"), [("one", "https://a.example/"), ("two", ""), ("nobody", "")]
)
def test_default_redirect_uri(client_id: str, expected: str) -> None:
    """Only one registered redirect URI makes a default (RFC 6749 §3.1.2.3)."""
    assert REGISTRATIONS.get_default_redirect_uri(client_id, request_of()) == expected


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["read"], (True, ["read"])),
        (["write", "read", "write"], (True, ["write", "read"])),
        (["read", "admin"], (False, ["read", "admin"])),
        ([""], (False, [""])),
    ],
)
def test_scopes(scopes: list[str], expected: tuple[bool, list[str]]) -> None:
    """A client may ask for its own scopes; each is named once."""
    request = request_of()
    assert (
        REGISTRATIONS.validate_scopes("one", scopes, ONE, request),
        request.scopes,
    ) == expected
