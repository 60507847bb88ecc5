"""What an answer of the token endpoint says, and when it says nothing that can be relied upon."""

import gzip
import json
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwts import jwt

from gateway.oauth_messages import Answer
from gateway.token_response import (
    LONGEST_SECONDS,
    MOST_BYTES,
    TokenResponse,
    Unrecorded,
    read_token_response,
)

Headers = list[tuple[bytes, bytes]]
PLAIN = {"access_token": "secret-1", "token_type": "Bearer"}
TEXT = json.dumps(PLAIN).encode()
FORM: Headers = [(b"Content-Type", b"application/x-www-form-urlencoded; charset=utf-8")]


def read(content: bytes | dict[str, Any], headers: Headers | None = None) -> TokenResponse:
    if isinstance(content, dict):
        content = json.dumps(PLAIN | content).encode()
    return read_token_response(Answer(200, "OK", headers or [], content))


def refusal(content: bytes | dict[str, Any], headers: Headers | None = None) -> str:
    with pytest.raises(Unrecorded) as caught:
        read(content, headers)
    assert "secret" not in str(caught.value)
    return caught.value.reason


def coded(*codings: bytes) -> Headers:
    return [(b"Content-Encoding", b", ".join(codings))]


def raw_deflate(content: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(content) + deflater.flush()


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (TEXT, []),
        (TEXT, coded(b"identity")),
        (gzip.compress(TEXT), coded(b"gzip")),
        (gzip.compress(TEXT), coded(b"X-GZip")),
        (zlib.compress(TEXT), coded(b"deflate")),
        (raw_deflate(TEXT), coded(b"deflate")),
        (gzip.compress(zlib.compress(TEXT)), coded(b"deflate", b"gzip")),
        (b"\xef\xbb\xbf" + TEXT, []),
        (TEXT.decode().encode("utf-16"), []),
        (b" \r\n" + TEXT + b"\n", [(b"Content-Type", b"text/html; charset=odd")]),
        (b'{"access_token":"secret-1","token_type":"bearer","access_token":"secret-1"}', []),
        (b'{"x":1,"x":2,"access_token":"secret-1","token_type":"BEARER"}', []),
        (b"access_token=secret-1&token_type=bearer", FORM),
        (b"\xef\xbb\xbfaccess_token=secret-1&token_type=bearer&", FORM),
    ],
    ids=range(14),
)
def test_b4_an_odd_answer_is_understood_where_it_can_only_mean_one_thing(
    content: bytes, headers: Headers
) -> None:
    """Compressed in spite of what was asked, in another encoding, as a form."""
    assert read(content, headers) == TokenResponse("secret-1")


BOMB = gzip.compress(b"0" * (64 * MOST_BYTES))


@pytest.mark.parametrize(
    ("content", "headers", "reason"),
    [
        (TEXT, coded(b"br"), "content_coding"),
        (TEXT, coded(b"gzip"), "content_coding"),
        (gzip.compress(TEXT)[:-9], coded(b"gzip"), "content_coding"),
        (gzip.compress(TEXT) * 2, coded(b"gzip"), "content_coding"),
        (BOMB, coded(b"gzip"), "content_coding"),
        (gzip.compress(BOMB), coded(b"gzip", b"gzip"), "content_coding"),
        (TEXT, coded(b"gzip", b"gzip", b"gzip"), "content_coding"),
        (b"", [], "syntax"),
        (b"not JSON", [], "syntax"),
        (b"\xff", [], "syntax"),
        (b"[]", [], "syntax"),
        (b'"text"', [], "syntax"),
        (b"[" * 100_000, [], "syntax"),
        (b'{"a":NaN}', [], "syntax"),
        (b'{"a":' + b"9" * 5_000 + b"}", [], "syntax"),
        (TEXT + b"{}", [], "syntax"),
        (b'{"access_token":"a","access_token":"b","token_type":"Bearer"}', [], "syntax"),
        (b'{"access_token":"a","token_type":"Bearer","scope":"r","scope":"w"}', [], "syntax"),
        (b"access_token=a&access_token=b&token_type=bearer", FORM, "syntax"),
        (b"access_token=%ff&token_type=bearer", FORM, "syntax"),
        (b"access_token=secret-1&token_type=bearer", [], "syntax"),
        (TEXT, FORM, "access_token"),
    ],
    ids=range(22),
)
def test_b4_an_answer_that_can_not_be_understood_is_unrecorded(
    content: bytes, headers: Headers, reason: str
) -> None:
    """Of a compressed one no more is unpacked than an answer may have, a bomb or not."""
    assert refusal(content, headers) == reason


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"access_token": None}, "access_token"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": 7}, "access_token"),
        ({"access_token": "\ud800"}, "access_token"),
        ({"access_token": "1|secret"}, "access_token"),
        ({"token_type": None}, "token_type"),
        ({"token_type": 1}, "token_type"),
        ({"token_type": "DPoP"}, "token_type"),
        ({"token_type": "mac"}, "token_type"),
        ({"token_type": "N_A"}, "token_type"),
        ({"token_type": "pop"}, "token_type"),
        ({"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "token_type"),
        ({"issued_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "token_type"),
        ({"cnf": {"jkt": "x"}}, "bound"),
        ({"access_token": jwt({"cnf": {"x5t#S256": "x"}})}, "bound"),
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": -1}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"expires_in": ""}, "expires_in"),
        ({"expires_in": "-5"}, "expires_in"),
        ({"expires_in": "+5"}, "expires_in"),
        ({"expires_in": "5e3"}, "expires_in"),
        ({"expires_in": "0x10"}, "expires_in"),
        ({"expires_in": "١٢"}, "expires_in"),
        ({"expires_in": float("nan")}, "syntax"),
        ({"expires_in": float("inf")}, "syntax"),
        ({"expires_in": [60]}, "expires_in"),
        ({"expires_in": {}}, "expires_in"),
        ({"scope": {}}, "scope"),
        ({"scope": 7}, "scope"),
        ({"scope": True}, "scope"),
        ({"scope": ["read", 7]}, "scope"),
        ({"scope": ["read write"]}, "scope"),
        ({"scope": ["read", ""]}, "scope"),
        ({"scope": ["\ud800"]}, "scope"),
        ({"scope": "\ud800"}, "scope"),
        ({"refresh_token": {}}, "refresh_token"),
    ],
)
def test_an_answer_that_makes_no_sense_is_unrecorded(members: dict[str, Any], reason: str) -> None:
    """It is never recorded by halves, and the fault doesn't quote it."""
    assert refusal(members) == reason


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_bearer_in_any_case_is_bearer(token_type: str) -> None:
    """RFC 6749 §5.1: the value is case-insensitive."""
    assert read({"token_type": token_type}).access_token == "secret-1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", ""),
        ("read write", "read write"),
        ([], ""),
        (["read"], "read"),
        (["read", "write"], "read write"),
    ],
)
def test_b4_a_scope_may_be_a_list(value: Any, expected: str | None) -> None:
    """Of scope tokens, one by one; an empty one grants nothing."""
    assert read({"scope": value}).scope == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (60, 60),
        (60.5, 60.5),
        ("60", 60),
        ("60.5", 60.5),
        (9_223_372_036_854_775, LONGEST_SECONDS),
        ("999999999999999999", LONGEST_SECONDS),
        (10**400, LONGEST_SECONDS),
    ],
)
def test_a_life_is_a_positive_number(value: Any, seconds: float | None) -> None:
    """Or a string of one, as some write it; never beyond what Redis can hold."""
    assert read({"expires_in": value}).expires_in_seconds == seconds


@given(
    st.binary(max_size=50) | st.just(TEXT) | st.binary(max_size=20).map(gzip.compress),
    st.lists(st.sampled_from([b"gzip", b"deflate", b"br", b"identity", b""]), max_size=3),
    st.sampled_from([[], FORM, [(b"Content-Type", b"application/json")]]),
)
def test_no_answer_is_too_odd(content: bytes, codings: list[bytes], types: Headers) -> None:
    """Whatever a key manager sends: reading it fails in one way only."""
    with suppress(Unrecorded):
        read(content, coded(*codings) + types)


def test_the_jwts_of_an_answer_are_read() -> None:
    """An ID token that is none, or no text, says nothing."""
    response = read({"access_token": jwt({"sub": "a"}), "id_token": jwt({"sub": "b"})})
    assert (response.claims, response.id_claims) == ({"sub": "a"}, {"sub": "b"})
    assert [read({"id_token": odd}).id_claims for odd in ("x", 7, None)] == [{}, {}, {}]


def test_what_a_token_exchange_issued_may_be_an_access_token() -> None:
    """RFC 8693 §2.2.1 names what it is."""
    for name in ("access_token", "jwt"):
        kind = f"urn:ietf:params:oauth:token-type:{name}"
        assert read({"issued_token_type": kind}).access_token == "secret-1"


def test_a_response_shows_no_token() -> None:
    """Its repr, which may end in a log, has none."""
    assert "secret" not in repr(read({"refresh_token": "secret-2", "id_token": "secret-3"}))
