"""Credentials of a request, and the challenges that answer it (RFC 6750)."""

from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bearer import authorize, credentials, scheme
from gateway.errors import GatewayError, InsufficientScope, InvalidRequest, InvalidToken
from gateway.tokens import INACTIVE, Facts

REALM = "gateway"
BARE = 'Bearer realm="gateway"'


def refusal(authorizations: list[bytes], query: str | None = None) -> tuple[int, str, str]:
    """Return the status, the code and the challenge with which credentials are refused."""
    with pytest.raises(GatewayError) as caught:
        credentials(authorizations, query, realm=REALM)
    ((name, challenge),) = caught.value.headers
    assert name == "WWW-Authenticate"
    return caught.value.status, caught.value.code, challenge


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        (b"Bearer abc", b"abc"),
        (b"bearer abc", b"abc"),
        (b"BEARER abc", b"abc"),
        (b"bEaReR abc", b"abc"),
        (b"Bearer    abc", b"abc"),
        (b"Bearer a", b"a"),
        (b"Bearer abc=", b"abc="),
        (b"Bearer abc==", b"abc=="),
        (b"Bearer AZaz09-._~+/==", b"AZaz09-._~+/=="),
        (b"Bearer " + b"x" * 8_000, b"x" * 8_000),
        (b"Bearer Bearer", b"Bearer"),
    ],
)
def test_a_bearer_token(authorization: bytes, token: bytes) -> None:
    """One Authorization field with the Bearer scheme, in any case, and a b64token."""
    assert token == credentials([authorization], None, realm=REALM)


@pytest.mark.parametrize(
    "authorizations",
    [
        [],
        [b""],
        [b" "],
        [b"Basic dXNlcjpwYXNz"],
        [b"basic"],
        [b"Digest username=x"],
        [b"DPoP abc"],
        [b"Bearerabc"],
        [b"Bearer-abc"],
        [b"XBearer abc"],
        [b"Bear er"],
        [b"abc"],
        [b"Basic Bearer abc"],
    ],
)
def test_no_credentials(authorizations: list[bytes]) -> None:
    """Without a bearer token: 401 and a challenge without an error code (RFC 6750 §3.1)."""
    assert refusal(authorizations) == (401, "unauthorized", BARE)


@pytest.mark.parametrize(
    "authorizations",
    [
        [b"Bearer"],
        [b"bearer"],
        [b"Bearer "],
        [b"Bearer   "],
        [b"Bearer\tabc"],
        [b"Bearer \tabc"],
        [b"Bearer abc "],
        [b" Bearer abc"],
        [b"Bearer a b"],
        [b"Bearer abc, Bearer def"],
        [b"Bearer abc,def"],
        [b"Bearer ,"],
        [b"Bearer a\x00b"],
        [b"Bearer a\r\nb"],
        [b"Bearer abc\n"],
        [b"Bearer 1|abcdef "],
        [b"Bearer\t1|abcdef"],
        [b'Bearer realm="x", charset="y"'],
    ],
)
def test_malformed_credentials(authorizations: list[bytes]) -> None:
    """The Bearer scheme with anything but one word: 400 ``invalid_request``."""
    status, code, challenge = refusal(authorizations)
    assert (status, code) == (400, "invalid_request")
    assert challenge.startswith(BARE + ', error="invalid_request", error_description="')


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer 1|abcdef",
        b"bearer   1|abcdef",
        b'Bearer "abc"',
        b"Bearer =abc",
        b"Bearer ab=c",
        b"Bearer ==",
        b"Bearer t\xc3\xb6ken",
        b"Bearer abc%2B",
        b"Bearer abc;x",
        b"Bearer {abc}",
        b"Bearer \xff",
        b'Bearer realm="x"',
        b"Bearer " + b"|" * 8_000,
    ],
)
def test_a9_a_malformed_token_is_an_invalid_token(authorization: bytes) -> None:
    """RFC 6750 §3.1 names "malformed" there: a client gets a new one, and need not mend itself."""
    status, code, challenge = refusal([authorization])
    assert (status, code) == (401, "invalid_token")
    assert challenge == (
        BARE + ', error="invalid_token", error_description="The bearer token is malformed."'
    )


@pytest.mark.parametrize(
    "authorizations",
    [
        [b"Bearer abc", b"Bearer abc"],
        [b"Bearer abc", b"Bearer def"],
        [b"Bearer abc", b"Basic dXNlcjpwYXNz"],
        [b"Basic dXNlcjpwYXNz", b"Bearer abc"],
        [b"", b""],
        [b"Bearer abc"] * 3,
    ],
)
def test_more_than_one_field(authorizations: list[bytes]) -> None:
    """Two parties could each take another of two fields: 400, even where both are the same."""
    assert refusal(authorizations)[:2] == (400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "access_token=abc",
        "access_token=",
        "access_token",
        "a=b&access_token=abc",
        "a=b;access_token=abc",
        "access_token=abc&a=b",
        "access%5Ftoken=abc",
        "access%5ftoken=abc",
        "%61%63%63%65%73%73%5F%74%6F%6B%65%6E=abc",
        "acces%73_token",
        "&&access_token=abc&&",
    ],
)
def test_a_token_in_the_query(query: str) -> None:
    """The query parameter is refused, however spelt, alone or beside a good field."""
    assert refusal([], query)[:2] == (400, "invalid_request")
    assert refusal([b"Bearer abc"], query)[:2] == (400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        None,
        "",
        "a=b",
        "a=access_token",
        "my_access_token=abc",
        "access_tokens=abc",
        "access_token_type=x",
        "Access_Token=abc",
        "access-token=abc",
        "access%255Ftoken=abc",
        "q=%61%zz%",
        "%",
        "=access_token",
    ],
)
def test_other_queries(query: str | None) -> None:
    """Any other query is the backend's business."""
    assert credentials([b"Bearer abc"], query, realm=REALM) == b"abc"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Bearer abc", b"bearer"),
        (b"bearer\tabc", b"bearer"),
        (b"  Bearer abc", b"bearer"),
        (b"Basic", b"basic"),
        (b"", b""),
        (b"  ", b""),
    ],
)
def test_scheme(value: bytes, expected: bytes) -> None:
    """The scheme is what stands before the first white space, in lower case."""
    assert scheme(value) == expected


@given(st.lists(st.binary(max_size=30) | st.just(b"Bearer s3cret, Bearer"), max_size=3), st.text())
def test_a_refusal_quotes_nothing(authorizations: list[bytes], query: str) -> None:
    """Whatever was sent, the answer is one of a few fixed texts."""
    try:
        credentials(authorizations, query, realm=REALM)
    except GatewayError as error:
        refused = error
    else:
        return
    assert refused.description in {
        "A bearer token is needed.",
        "A token in the query is not accepted.",
        "More than one Authorization field.",
        "The bearer token is malformed.",
        "The Authorization field is malformed.",
    }
    assert refused.__context__ is None


@given(st.binary(max_size=40))
def test_only_token_characters_come_out(value: bytes) -> None:
    """Whatever follows the scheme, a token consists of b64token characters alone."""
    try:
        token = credentials([b"Bearer " + value], None, realm=REALM)
    except (InvalidRequest, InvalidToken):
        return
    assert token
    assert not set(token.rstrip(b"=")) - set(b"%b0123456789-._~+/" % ascii_letters.encode())


@pytest.mark.parametrize(
    ("held", "needed", "passes"),
    [
        ("", "", True),
        ("read", "", True),
        ("read", "read", True),
        ("read write", "read", True),
        ("read write", "read write", True),
        ("read", "read write", False),
        ("", "read", False),
        ("READ", "read", False),
        ("reader", "read", False),
        ("read:all", "read", False),
    ],
)
def test_scopes(held: str, needed: str, passes: bool) -> None:
    """A token passes with every scope of the route, compared exactly."""
    facts = Facts(True, "app", scopes=frozenset(held.split()))
    needs = frozenset(needed.split())
    if passes:
        authorize(facts, needs, realm=REALM)
        return
    with pytest.raises(InsufficientScope):
        authorize(facts, needs, realm=REALM)


def test_the_challenge_names_the_scopes() -> None:
    """403 ``insufficient_scope`` says in ``scope`` what the route needs (RFC 6750 §3.1)."""
    with pytest.raises(InsufficientScope) as caught:
        authorize(Facts(True), frozenset({"write", "admin"}), realm="my api")
    assert caught.value.status == 403
    ((_, challenge),) = caught.value.headers
    assert challenge == (
        'Bearer realm="my api", error="insufficient_scope", '
        'error_description="The token lacks a scope that this needs.", scope="admin write"'
    )


@pytest.mark.parametrize("facts", [INACTIVE, Facts(False, scopes=frozenset({"read"}))])
@pytest.mark.parametrize("scopes", [frozenset[str](), frozenset({"read"})])
def test_an_inactive_token_is_invalid(facts: Facts, scopes: frozenset[str]) -> None:
    """A token that is no good is 401 ``invalid_token``, whatever its scopes."""
    with pytest.raises(InvalidToken) as caught:
        authorize(facts, scopes, realm=REALM)
    assert caught.value.status == 401
    ((_, challenge),) = caught.value.headers
    assert challenge == (
        'Bearer realm="gateway", error="invalid_token", '
        'error_description="The token is unknown, expired or revoked."'
    )
