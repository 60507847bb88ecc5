"""What a JWT says of itself, however it is written."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwts import base64url, jwt

from gateway.jwt_claims import Doubled, claims_of, is_bound

CNF = {"sub": "alice", "cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}
ALG = base64url(b'{"alg":"none"}')


@pytest.mark.parametrize(
    ("token", "claims"),
    [
        (jwt({"sub": "alice", "scope": "read"}), {"sub": "alice", "scope": "read"}),
        (jwt({"exp": 1_700_000_000}), {"exp": 1_700_000_000}),
        (jwt(b'\xef\xbb\xbf{"sub": "alice"}'), {"sub": "alice"}),
        (f"{ALG}.{base64url(b'{}')}.", {}),
        (jwt({"sub": "alice"}) + "~disclosure~", {"sub": "alice"}),
        (jwt(b'{"sub": "a", "sub": "a"}'), {"sub": "a"}),
        ("opaque", {}),
        ("a.b.c", {}),
        ("", {}),
        (jwt(b"[]"), {}),
        (jwt(b"{"), {}),
        (jwt(b'{"a":' * 100_000), {}),
        (jwt({"sub": "alice"}) + ".more", {}),
        (f"{base64url(b'{}')}.{base64url(b'{}')}.x", {}),
        (f"{base64url(b'[]')}.{base64url(b'{}')}.x", {}),
    ],
)
def test_claims_are_those_of_a_signed_jwt(token: str, claims: dict[str, object]) -> None:
    """Anything else, what is encrypted too, says nothing."""
    assert claims_of(token) == claims


def test_a_claim_that_is_there_twice_says_nothing() -> None:
    """Which of the two another reader takes isn't known."""
    claims = claims_of(jwt(b'{"sub": "alice", "sub": "root", "scope": "read"}'))
    assert isinstance(claims["sub"], Doubled)
    assert claims["scope"] == "read"


def padded(token: str) -> str:
    return ".".join(part + "=" * (-len(part) % 4) for part in token.split("."))


def other_alphabet(token: str) -> str:
    return token.translate(str.maketrans("-_", "+/"))


@pytest.mark.parametrize(
    "token",
    [
        jwt(CNF),
        padded(jwt(CNF)),
        other_alphabet(jwt(CNF | {"pad": "\u00ff\u00fe???>>>"})),
        b64encode(json.dumps(CNF).encode()).decode() + ".x.y",
        jwt(b"\xef\xbb\xbf" + json.dumps(CNF).encode()),
        jwt(b'{"cnf": {"jkt": "x"}, "cnf": null}'),
        jwt(b'{"cnf": null, "cnf": {"jkt": "x"}}'),
        jwt(b'{"cnf": {}, "big": ' + b"9" * 5_000 + b"}"),
        jwt(b'{"cnf": {}, "odd": NaN}'),
        jwt(jwt(CNF).encode(), cty="JWT"),
        jwt(jwt(jwt(CNF).encode(), cty="JWT").encode(), cty="JWT"),
        jwt(json.dumps(jwt(CNF)).encode()),
        jwt({"sub": "alice"}, cnf={"jkt": "x"}),
        ".".join([base64url(b'{"alg":"dir","enc":"A256GCM","cnf":{}}'), "", "iv", "text", "tag"]),
        jwt(CNF) + "~WyJzYWx0Iiwic3ViIiwiYSJd~" + jwt({"nonce": "n"}),
        jwt({"_sd": ["x"]}) + "~" + base64url(b'["salt", "cnf", {"jkt": "x"}]') + "~",
    ],
)
def test_a6_a_token_says_that_it_is_bound_however_it_is_written(token: str) -> None:
    """``cnf`` anywhere that a resource server may read it (RFC 7800 §3.1, decision 0005)."""
    assert is_bound(token)


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "",
        "...",
        jwt({"sub": "alice"}),
        jwt({"cnf": None}),
        jwt({"note": "cnf"}),
        jwt({"within": {"cnf": {}}}),
        jwt({"sub": "alice"}) + "~" + base64url(b'["salt", "sub", "cnf"]'),
    ],
)
def test_other_tokens_are_not_bound(token: str) -> None:
    """The word alone doesn't do it."""
    assert not is_bound(token)


@given(st.text("abc.~=-_+/ey", max_size=60) | st.text(max_size=30))
def test_no_token_is_too_odd(token: str) -> None:
    """Whatever a key manager issues: reading it fails on none."""
    claims_of(token)
    is_bound(token)
