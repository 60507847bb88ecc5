"""What is known of a grant, as fields of a hash and back."""

import pytest

from gateway.grants import CLOCKS_DIFFER_SECONDS, RACE_SECONDS, Grant
from gateway.tokens import TokenKey, token_key

NOW = 1_700_000_000
ACCESS, LATER, NEXT = token_key("access"), token_key("later"), token_key("next")
FIRST = token_key("first")

WHOLE = Grant(
    client_id="demo-key",
    sub="alice",
    scope="read write",
    access={ACCESS: NOW + 60, LATER: NOW + 120},
    family=FIRST,
    replaced_at=NOW - 2,
    revoked_at=NOW - 1,
    ended_at=NOW,
    successor=NEXT,
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
        "family": FIRST.hex(),
        "replaced": str(NOW - 2),
        "revoked": str(NOW - 1),
        "ended": str(NOW),
        "next": NEXT.hex(),
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"next": "not a digest"},
        {"family": "nor this"},
        {"replaced": "1.5"},
        {"ended": ""},
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


@pytest.mark.parametrize(
    ("grant", "replaced"),
    [(Grant(sub="a"), False), (Grant(replaced_at=NOW), True), (Grant(successor=NEXT), True)],
)
def test_a_refresh_token_was_replaced_or_not(grant: Grant, replaced: bool) -> None:
    """By what is written now, and by what the version before wrote."""
    assert grant.was_replaced is replaced


@pytest.mark.parametrize(
    ("grant", "after", "by_this", "has_ended"),
    [
        (Grant(), 0, True, False),
        (Grant(revoked_at=NOW), -1, True, True),
        (Grant(revoked_at=NOW), RACE_SECONDS - 1, True, True),
        (Grant(revoked_at=NOW), RACE_SECONDS, True, False),
        (Grant(revoked_at=NOW), -1, False, False),
        (Grant(ended_at=NOW), CLOCKS_DIFFER_SECONDS - 1, False, True),
        (Grant(ended_at=NOW), CLOCKS_DIFFER_SECONDS, True, False),
    ],
)
def test_an_access_token_ends_with_a_grant_that_was_revoked_after_it_was_asked_for(
    grant: Grant, after: float, by_this: bool, has_ended: bool
) -> None:
    """With a margin for clocks, and a larger one where it was this refresh token's."""
    assert grant.has_ended_for(NOW + after, by_this=by_this) is has_ended
