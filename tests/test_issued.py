"""What is known of an issued token: from the answer, the request, the grant."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.grants import Grant
from gateway.issued import LONGEST_SECONDS, Issued, Unreadable, read_issued
from gateway.oauth_messages import Answer, Parameters
from gateway.tokens import Facts, parse_facts, token_key

NOW = 1_700_000_000.75


def read(
    members: dict[str, Any] | bytes,
    *,
    form: Parameters | None = None,
    client_id: str | None = "demo-key",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> Issued | None:
    if isinstance(members, dict):
        members = {"access_token": "secret-1", "token_type": "Bearer", **members}
        members = json.dumps(members).encode()
    return read_issued(
        Answer(200, "OK", headers or [], members),
        parameters={} if form is None else form,
        client_id=client_id,
        now_at=NOW,
        default_expires_in_seconds=3600,
    )


def recorded(issued: Issued | None, grant: Grant | None = None) -> dict[str, Any]:
    assert issued is not None
    return issued.completed(grant or Grant()).document()


PASSWORD = {"grant_type": ["password"], "username": ["alice"], "scope": ["read write"]}
CLIENT = {"grant_type": ["client_credentials"], "scope": ["read"]}
REFRESH = {"grant_type": ["refresh_token"], "refresh_token": ["refresh-1"]}
CODE = {"grant_type": ["authorization_code"], "code": ["c"], "scope": ["admin"]}
ALWAYS = {
    "active": True,
    "client_id": "demo-key",
    "token_type": "Bearer",
    "iat": 1_700_000_000,
    "exp": 1_700_003_600,
}
GRANT = Grant(client_id="demo-key", sub="alice", scope="read write")


@pytest.mark.parametrize(
    ("form", "scope", "expected"),
    [
        (PASSWORD, "read", {"sub": "alice", "username": "alice", "scope": "read"}),
        (PASSWORD, None, {"sub": "alice", "username": "alice", "scope": "read write"}),
        (PASSWORD, "", {"sub": "alice", "username": "alice", "scope": ""}),
        (CLIENT, None, {"sub": "demo-key", "scope": "read"}),
        ({"grant_type": ["client_credentials"]}, None, {"sub": "demo-key"}),
        (CODE, "read", {"scope": "read"}),
        (CODE, None, {}),
        ({"grant_type": ["urn:ietf:params:oauth:grant-type:device_code"]}, None, {}),
        ({}, "read", {"scope": "read"}),
    ],
    ids=lambda value: value.get("grant_type", [""])[0] if isinstance(value, dict) else value,
)
def test_a_document_says_what_the_grant_says(
    form: Parameters, scope: str | None, expected: dict[str, str]
) -> None:
    """Scope: the answer's, else the one requested where that is the token endpoint's to hear."""
    members = {} if scope is None else {"scope": scope}
    assert recorded(read(members, form=form)) == ALWAYS | expected


@pytest.mark.parametrize(
    ("answered", "requested", "granted", "scope"),
    [
        (None, None, "read write", "read write"),
        (None, "read", "read write", "read"),
        (None, "read admin", "read write", "read"),
        (None, "read", None, "read"),
        (None, None, None, None),
        ("read", None, "read write", "read"),
        ("read admin", "read", "read write", "read admin"),
    ],
)
def test_a_refreshed_token_has_the_scope_of_its_grant_at_most(
    answered: str | None, requested: str | None, granted: str | None, scope: str | None
) -> None:
    """RFC 6749 §6; only the key manager's own word goes beyond what the gateway knows."""
    form = REFRESH if requested is None else REFRESH | {"scope": [requested]}
    issued = read({} if answered is None else {"scope": answered}, form=form)
    document = recorded(issued, replace(GRANT, scope=granted))
    assert document.get("scope") == scope


def test_a_refreshed_token_keeps_the_subject_of_its_grant() -> None:
    """The answer to a refresh doesn't name the user; the token before did."""
    assert recorded(read({}, form=REFRESH, client_id=None), GRANT) == ALWAYS | {
        "sub": "alice",
        "scope": "read write",
    }


def test_the_refresh_tokens_are_known_by_digest() -> None:
    """The one that was used, and the one that came: both as token keys."""
    issued = read({"refresh_token": "refresh-2"}, form=REFRESH)
    assert issued is not None
    assert issued.keys == {token_key("secret-1"), token_key("refresh-1"), token_key("refresh-2")}
    assert "secret-1" not in repr(issued)


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": ["password"], "username": ["alice", "root"]},
        {"grant_type": ["password", "client_credentials"], "username": ["alice"]},
        {"grant_type": ["client_credentials"], "username": ["root"]},
        {"username": ["root"]},
    ],
)
def test_a_request_can_not_lend_a_token_another_user(form: Parameters) -> None:
    """A user name counts only where it is the one whose password was checked."""
    assert recorded(read({}, form=form)).get("sub") in {None, "demo-key"}


@pytest.mark.parametrize("grant_type", ["authorization_code", "client_credentials", "odd"])
def test_a_refresh_token_counts_only_in_a_refresh(grant_type: str) -> None:
    """Elsewhere the key manager ignores it, and with it somebody else's grant."""
    issued = read({}, form=REFRESH | {"grant_type": [grant_type]})
    assert issued is not None
    assert issued.used_refresh_key is None


def test_two_requested_scopes_are_none() -> None:
    """Which of the two the key manager took can't be known."""
    assert recorded(read({}, form=CLIENT | {"scope": ["read", "admin"]}))["scope"] == ""


@pytest.mark.parametrize(
    ("expires_in", "exp"),
    [
        (None, 1_700_003_600),
        (60, 1_700_000_060),
        (60.5, 1_700_000_061),
        ("60", 1_700_000_060),
        ("60.5", 1_700_000_061),
        (9_223_372_036_854_775, 1_700_000_000 + LONGEST_SECONDS),
        ("999999999999999999", 1_700_000_000 + LONGEST_SECONDS),
        (float("inf"), 1_700_000_000 + LONGEST_SECONDS),
        (10**400, 1_700_000_000 + LONGEST_SECONDS),
    ],
)
def test_a_life_is_counted_from_the_request(expires_in: Any, exp: int) -> None:
    """In whole seconds, never beyond what Redis can hold; the setting's where there is none."""
    assert recorded(read({"expires_in": expires_in}))["exp"] == exp


@pytest.mark.parametrize(
    "members",
    [
        {"expires_in": 0},
        {"expires_in": -1},
        {"expires_in": True},
        {"expires_in": "soon"},
        {"expires_in": "-5"},
        {"expires_in": float("nan")},
        {"expires_in": [60]},
        {"scope": ["read"]},
        {"scope": "\ud800"},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "\ud800"},
        {"refresh_token": {}},
        {"token_type": None},
        {"token_type": 1},
        b"",
        b"not JSON",
        b"\xff",
        b"[]",
        b'"text"',
        b"[" * 100_000,
    ],
)
def test_an_answer_that_makes_no_sense_is_unreadable(members: dict[str, Any] | bytes) -> None:
    """It is never recorded by halves, and the fault doesn't quote it."""
    with pytest.raises(Unreadable) as caught:
        read(members)
    assert "secret" not in str(caught.value)


def test_a_compressed_answer_is_unreadable() -> None:
    """The gateway asked for identity, and decodes nothing."""
    with pytest.raises(Unreadable):
        read({}, headers=[(b"Content-Encoding", b"gzip")])
    assert read({}, headers=[(b"Content-Encoding", b"identity")]) is not None


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_bearer_in_any_case_is_recorded(token_type: str) -> None:
    """RFC 6749 §5.1: the value is case-insensitive."""
    assert recorded(read({"token_type": token_type}))["token_type"] == "Bearer"


@pytest.mark.parametrize("token_type", ["DPoP", "mac", "N_A"])
def test_a_token_of_another_type_is_none_for_the_store(token_type: str) -> None:
    """A bearer may not use it, so nothing is to be known of it."""
    assert read({"token_type": token_type}) is None


def test_a_document_is_read_back_as_the_facts() -> None:
    """What is written is what ``tokens.parse_facts`` accepts."""
    document = json.dumps(recorded(read({"scope": "read"}, form=PASSWORD)))
    assert parse_facts(document, now_at=NOW) == Facts(
        True, "demo-key", "alice", frozenset({"read"}), 1_700_003_600.0
    )
