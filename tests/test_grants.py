"""What is known of a grant, as fields of a hash and back."""

import pytest

from gateway.grants import Grant
from gateway.tokens import TokenKey, token_key

NOW = 1_700_000_000
ACCESS, LATER, NEXT = token_key("access"), token_key("later"), token_key("next")

WHOLE = Grant(
    client_id="demo-key",
    sub="alice",
    scope="read write",
    access={ACCESS: NOW + 60, LATER: NOW + 120},
    successor=NEXT,
    revoked_at=NOW,
)


@pytest.mark.parametrize("grant", [Grant(), Grant(sub="älice"), Grant(scope=""), WHOLE])
def test_a_grant_survives_its_way_through_the_store(grant: Grant) -> None:
    """Fields made of a grant are read as the same grant."""
    assert Grant.from_fields(grant.fields()) == grant


def test_fields_are_those_of_the_schema() -> None:
    """The names are the documented ones; an access token is a digest with its expiry."""
    assert WHOLE.fields() == {
        "client_id": "demo-key",
        "sub": "alice",
        "scope": "read write",
        ACCESS.hex(): str(NOW + 60),
        LATER.hex(): str(NOW + 120),
        "next": NEXT.hex(),
        "revoked": str(NOW),
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"next": "not a digest"},
        {"revoked": "yes"},
        {"revoked": "-1"},
        {ACCESS.hex(): "soon"},
        {ACCESS.hex(): "9" * 5000},
        {ACCESS.hex().upper(): "1"},
        {"something": "else"},
    ],
)
def test_fields_that_make_no_sense_are_left_out(fields: dict[str, str]) -> None:
    """A damaged hash is read as far as it can be, and never raises."""
    assert Grant.from_fields(fields) == Grant()


@pytest.mark.parametrize(
    ("now_at", "living"),
    [
        (NOW, {ACCESS: NOW + 60, LATER: NOW + 120}),
        (NOW + 60, {LATER: NOW + 120}),
        (NOW + 120, {}),
    ],
)
def test_an_access_token_lives_until_its_expiry(now_at: float, living: dict[TokenKey, int]) -> None:
    """From ``exp`` on, a token isn't among the living."""
    assert WHOLE.living(now_at) == living
