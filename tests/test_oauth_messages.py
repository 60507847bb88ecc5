"""What is read of the OAuth endpoints' messages: table by table."""

import pytest

from gateway.oauth_messages import (
    ACCESS_TOKEN_FIELDS,
    Answer,
    missing_no_store,
    one,
)
from gateway.tokens import token_key


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), (["a"], "a"), (["a", "a"], "a"), (["a", "b"], None)],
)
def test_a_parameter_with_two_values_has_none(values: list[str], expected: str | None) -> None:
    """It is to be there at most once (RFC 6749 §3.2): which the key manager took isn't known."""
    assert one({"username": values}, "username") == expected


def test_fields_name_tokens_in_lists() -> None:
    """WSO2's fields, in any case and repeated, hold tokens separated by commas."""
    answer = Answer(
        200,
        "OK",
        [
            (b"RevokedAccessToken", b"one, two,"),
            (b"DEACTIVATEDACCESSTOKEN", b"three"),
            (b"AuthorizedUser", b"alice"),
            (b"RevokedRefreshToken", b"four"),
        ],
        b"",
    )
    keys = [token_key("one"), token_key("two"), token_key("three")]
    assert answer.named_tokens(ACCESS_TOKEN_FIELDS) == keys


NO_STORE, NO_CACHE = (b"Cache-Control", b"no-store"), (b"Pragma", b"no-cache")


@pytest.mark.parametrize(
    ("headers", "missing"),
    [
        ([], [NO_STORE, NO_CACHE]),
        ([NO_STORE, NO_CACHE], []),
        ([(b"cache-control", b"private, No-Store"), (b"pragma", b"No-Cache")], []),
        ([(b"Cache-Control", b"private"), NO_CACHE], [NO_STORE]),
        ([(b"Cache-Control", b"no-store-please"), NO_CACHE], [NO_STORE]),
    ],
)
def test_what_a_cache_must_be_told_is_missing_or_not(
    headers: list[tuple[bytes, bytes]], missing: list[tuple[bytes, bytes]]
) -> None:
    """RFC 6749 §5.1 asks for both fields, and a directive counts wherever it stands."""
    assert missing_no_store(Answer(200, "OK", headers, b"")) == missing


def test_an_answer_shows_nothing_of_itself() -> None:
    """Its repr, which may end in a log, has no token."""
    assert "secret" not in repr(Answer(200, "OK", [(b"X", b"secret")], b"secret"))
