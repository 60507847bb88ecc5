"""Requests to the OAuth endpoints, and what is made of their answers."""

from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr

from gateway.loadtest.options import ClientAuth, Grant
from gateway.loadtest.tokens import Granted, Refused, Requests, read_grant
from loadtest.told import SECRET, options


def form_of(request: bytes) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(request.partition(b"\r\n\r\n")[2].decode()).items()}


BASIC = b64encode(b"m%3Ae:a+secret%2C+not+to+be+shown")


@pytest.mark.parametrize(
    ("given", "form", "basic"),
    [
        ({"scope": "read write"}, {"scope": "read write"}, True),
        (
            {"client_auth": ClientAuth.BODY},
            {"client_id": "m:e", "client_secret": SECRET},
            False,
        ),
        (
            {"grant": Grant.PASSWORD, "username": "alice", "password": SecretStr("p&w")},
            {"username": "alice", "password": "p&w"},
            True,
        ),
        (
            {
                "grant": Grant.REFRESH_TOKEN,
                "refresh_token": SecretStr("r=0"),
                "client_secret": None,
            },
            {"refresh_token": "r=0", "client_id": "m:e"},
            False,
        ),
    ],
)
def test_asking_for_a_token(given: dict[str, Any], form: dict[str, str], basic: bool) -> None:
    """Each grant has its form, and the client shows itself by Basic or in it (RFC 6749 §2.3.1)."""
    told = options(**{"client_id": "m:e", **given})
    request = Requests(told).issue()
    assert {"grant_type": str(told.grant), **form} == form_of(request)
    assert (b"\r\nAuthorization: Basic " + BASIC + b"\r\n" in request) is basic
    assert request.startswith(b"POST /token HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")


def test_the_next_of_a_chain() -> None:
    """A chain goes on with the refresh token that came last."""
    told = options(grant=Grant.REFRESH_TOKEN, refresh_token=SecretStr("r0"))
    assert form_of(Requests(told).issue("r1"))["refresh_token"] == "r1"


def test_revoking() -> None:
    """A revocation names the token and its kind, and the client shows itself (RFC 7009 §2.1)."""
    request = Requests(options(client_id="m:e")).revoke("t/1+2")
    assert form_of(request) == {"token": "t/1+2", "token_type_hint": "access_token"}
    assert b"Authorization: Basic " + BASIC in request


def test_revoking_without_a_client() -> None:
    """Tokens issued elsewhere may be revoked without authentication."""
    told = options(
        given_tokens=(SecretStr("a"), SecretStr("b")),
        token_url=None,
        client_id=None,
        client_secret=None,
    )
    request = Requests(told).revoke("a")
    assert b"Authorization" not in request
    assert form_of(request) == {"token": "a", "token_type_hint": "access_token"}


def test_a_probe() -> None:
    """A probe has the token and the headers that were given, at its own target."""
    told = options(
        targets=("http://one/a", "http://two/b?c"),
        headers=(("X-Key", SecretStr("k")), ("Host", SecretStr("gate.example"))),
        method="DELETE",
    )
    request = Requests(told).probe(1, "t1")
    assert request.startswith(
        b"DELETE /b?c HTTP/1.1\r\nX-Key: k\r\nHost: gate.example\r\nAuthorization: Bearer t1\r\n"
    )


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"access_token": "t", "token_type": "bearer"}', Granted("t")),
        (201, b'{"access_token": "t"}', Granted("t")),
        (
            200,
            b'{"access_token": "t", "token_type": "Bearer", "refresh_token": "r"}',
            Granted("t", "r"),
        ),
        (200, b'{"access_token": "t", "refresh_token": ""}', Granted("t")),
        (400, b'{"error": "invalid_grant"}', Refused("HTTP status 400", "invalid_grant")),
        (401, b'{"error": "a secret, not to be shown"}', Refused("HTTP status 401")),
        (502, b"<html>", Refused("HTTP status 502")),
        (302, b"", Refused("HTTP status 302")),
        (200, b"[]", Refused("HTTP status 200 without a usable access_token")),
        (200, b'{"access_token": 1}', Refused("HTTP status 200 without a usable access_token")),
        (
            200,
            b'{"access_token": "t\\r\\nX: y"}',
            Refused("HTTP status 200 without a usable access_token"),
        ),
        (
            200,
            b'{"access_token": "t", "token_type": "mac"}',
            Refused("HTTP status 200 with a token_type other than Bearer"),
        ),
        (None, b"", Refused("no answer (timeout)")),
    ],
)
def test_reading_a_grant(status: int | None, body: bytes, expected: Granted | Refused) -> None:
    """A token that can be used is taken; otherwise it is said why, and nothing secret with it."""
    assert expected == read_grant(status, "timeout", body)


def test_a_grant_hides_its_tokens() -> None:
    """Neither token is in the repr."""
    assert repr(Granted("t", "r")) == "Granted()"
