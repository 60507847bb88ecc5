"""What is read of the OAuth endpoints' messages: table by table."""

from base64 import b64encode

import pytest

from gateway.oauth_messages import (
    ACCESS_TOKEN_FIELDS,
    MAX_PARAMETERS,
    Answer,
    Parameters,
    missing_no_store,
    named_client,
    one,
    parse_parameters,
)
from gateway.request_head import inspect_request
from gateway.tokens import token_key

FORM = b"application/x-www-form-urlencoded"


def parameters(
    body: bytes, *, query: str | None = None, types: list[bytes] | None = None
) -> Parameters:
    headers = [(b"Host", b"x")]
    headers += [(b"Content-Type", value) for value in ([FORM] if types is None else types)]
    return parse_parameters(inspect_request(headers, http_1_1=True), query, body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {}),
        (
            b"token=abc&token_type_hint=access_token",
            {"token": ["abc"], "token_type_hint": ["access_token"]},
        ),
        (b"token=a%2Bb+c", {"token": ["a+b c"]}),
        (b"token=", {}),
        (b"token", {}),
        (b"token=a&token=b", {"token": ["a", "b"]}),
        (b"username=%C3%A4", {"username": ["ä"]}),
        (b"username=%E4", {}),
        (b"\xff=1", {}),
        (b"&".join([b"a=1"] * (MAX_PARAMETERS + 1)), {}),
    ],
)
def test_a_form_is_read(body: bytes, expected: Parameters) -> None:
    """RFC 6749 appendix B: UTF-8, form-urlencoded; what isn't that says nothing."""
    assert parameters(body) == expected


def test_the_query_counts_too() -> None:
    """A key manager that reads both must not see another user than the gateway does."""
    assert parameters(b"username=alice", query="username=root&x=1") == {
        "username": ["root", "alice"],
        "x": ["1"],
    }


@pytest.mark.parametrize(
    ("types", "read"),
    [
        ([], True),
        ([FORM], True),
        ([b"Application/X-WWW-Form-Urlencoded ; charset=UTF-8"], True),
        ([b"application/json"], False),
        ([b"multipart/form-data; boundary=x"], False),
        ([FORM, b"application/json"], False),
    ],
)
def test_only_a_form_is_read_as_one(types: list[bytes], read: bool) -> None:
    """A JSON body with an ampersand in it isn't a form with parameters of the client's choice."""
    assert parameters(b"token=abc", types=types) == ({"token": ["abc"]} if read else {})


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), (["a"], "a"), (["a", "a"], "a"), (["a", "b"], None)],
)
def test_a_parameter_with_two_values_has_none(values: list[str], expected: str | None) -> None:
    """It is to be there at most once (RFC 6749 §3.2): which the key manager took isn't known."""
    assert one({"username": values}, "username") == expected


def basic(user_and_password: bytes) -> bytes:
    return b"Basic " + b64encode(user_and_password)


@pytest.mark.parametrize(
    ("authorizations", "form", "expected"),
    [
        ([], {}, None),
        ([basic(b"demo-key:demo-secret")], {}, "demo-key"),
        ([b"bAsIc\t" + b64encode(b"demo-key:s")], {}, "demo-key"),
        ([basic(b"a%3Ab+c:secret")], {}, "a:b c"),
        ([basic(b"demo-key")], {}, "demo-key"),
        ([], {"client_id": ["public"]}, "public"),
        ([basic(b"demo-key:s")], {"client_id": ["demo-key"]}, "demo-key"),
        ([basic(b"demo-key:s")], {"client_id": ["other"]}, None),
        ([], {"client_id": ["one", "other"]}, None),
        ([basic(b"one:s"), basic(b"other:s")], {}, None),
        ([b"Basic !"], {}, None),
        ([b"Basic !"], {"client_id": ["public"]}, None),
        ([b"Basic"], {}, None),
        ([basic(b"\xff:s")], {}, None),
        ([basic(b"%ff:s")], {}, None),
        ([basic(b":s")], {}, None),
        ([b"Bearer abc"], {"client_id": ["public"]}, "public"),
    ],
)
def test_the_client_is_named_by_basic_or_in_the_form(
    authorizations: list[bytes], form: Parameters, expected: str | None
) -> None:
    """RFC 6749 §2.3.1; a request that names two clients names none."""
    assert named_client(authorizations, form) == expected


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
