"""Facts from introspection documents: what authorises, what doesn't, and what isn't one."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens import (
    INACTIVE,
    MOST_DOCUMENT_BYTES,
    Facts,
    MalformedFacts,
    parse_facts,
    split_scope,
    token_key,
)

NOW = 1_700_000_000.0


def parse(**members: Any) -> Facts:
    return parse_facts(json.dumps(members), now_at=NOW)


@pytest.mark.parametrize("token", ["abc", b"abc"])
def test_key_is_the_digest(token: str | bytes) -> None:
    """A token's key is the SHA-256 digest of its bytes, whichever type it comes in."""
    assert sha256(b"abc").digest() == token_key(token)


def test_key_of_text_is_of_its_utf_8() -> None:
    """A token outside ASCII is hashed as UTF-8."""
    assert sha256("ä".encode()).digest() == token_key("ä")


def test_all_members_are_read() -> None:
    """An active document gives all its facts, and members that nobody uses are passed over."""
    expected = Facts(True, "app", "alice", frozenset({"read", "write"}), NOW + 60, NOW)
    assert expected == parse(
        active=True,
        client_id="app",
        sub="alice",
        scope="read write",
        exp=NOW + 60,
        nbf=NOW,
        token_type="Bearer",
        iat=NOW,
        aud=["x", {"y": None}],
        username=7,
    )


@pytest.mark.parametrize(
    "document", [b' {"active": true}', b'{"active": true}\n', b'\t{"active":true} ']
)
def test_space_around_a_document(document: bytes) -> None:
    """Space before and after a document is no fault of it (RFC 8259 §2)."""
    assert Facts(True) == parse_facts(document, now_at=NOW)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"client_id": None, "sub": None, "scope": None, "exp": None, "nbf": None},
        {"token_type": None, "cnf": None},
    ],
)
def test_optional_members_may_be_absent_or_null(members: dict[str, Any]) -> None:
    """Only ``active`` is needed; a null member is an absent one."""
    assert Facts(True) == parse(active=True, **members)


@pytest.mark.parametrize(
    ("members", "active"),
    [
        ({"active": False}, False),
        ({"active": False, "exp": NOW + 60}, False),
        ({"active": True, "exp": NOW - 1}, False),
        ({"active": True, "exp": NOW}, False),
        ({"active": True, "exp": NOW + 0.001}, True),
        ({"active": True, "exp": int(NOW) + 1}, True),
        ({"active": True, "exp": 0}, False),
        ({"active": True, "exp": -1e300}, False),
        ({"active": True, "nbf": NOW}, True),
        ({"active": True, "nbf": NOW + 0.001}, False),
        ({"active": True, "nbf": NOW - 1}, True),
        ({"active": True, "token_type": "Bearer"}, True),
        ({"active": True, "token_type": "bEARER"}, True),
        ({"active": True, "token_type": "DPoP"}, False),
        ({"active": True, "token_type": "mac"}, False),
        ({"active": True, "token_type": ""}, False),
        ({"active": True, "token_type": "Bearer "}, False),
        ({"active": True, "cnf": {"x5t#S256": "…"}}, False),
        ({"active": True, "cnf": {"jkt": "…"}}, False),
        ({"active": True, "cnf": {}}, False),
        ({"active": True, "cnf": "odd"}, False),
    ],
)
def test_what_authorises(members: dict[str, Any], active: bool) -> None:
    """A token is good from ``nbf`` until before ``exp``, as a bearer token bound to no key."""
    facts = parse(**members)
    assert active == facts.active
    assert facts.active or facts is INACTIVE


@pytest.mark.parametrize("exp", [NOW + 1, 10**300, 2**63])
def test_distant_expiry_is_kept(exp: float) -> None:
    """Any finite ``exp`` is taken as it is."""
    assert float(exp) == parse(active=True, exp=exp).exp


_HUGE = "1" + "0" * 400
_ENDLESS = "1" * 5_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "not json",
        "{",
        '{"active": true',
        '{"active": true} x',
        "{'active': true}",
        "null",
        "true",
        "1",
        '"active"',
        "[]",
        '[{"active": true}]',
        "{}",
        '{"active": null}',
        '{"active": 1}',
        '{"active": "true"}',
        '{"active": [true]}',
        '{"Active": true}',
        '{"active": true, "client_id": 1}',
        '{"active": true, "client_id": ["a"]}',
        '{"active": true, "sub": {"a": 1}}',
        '{"active": true, "sub": true}',
        '{"active": true, "scope": ["read"]}',
        '{"active": true, "token_type": 1}',
        '{"active": true, "exp": "1700000060"}',
        '{"active": true, "exp": true}',
        '{"active": true, "exp": []}',
        '{"active": true, "exp": NaN}',
        '{"active": true, "exp": Infinity}',
        '{"active": true, "exp": -Infinity}',
        '{"active": true, "iat": NaN}',
        '{"active": true, "exp": 1e999}',
        f'{{"active": true, "exp": {_HUGE}}}',
        f'{{"active": true, "exp": {_ENDLESS}}}',
        '{"active": true, "nbf": "now"}',
        '{"active": true, "nbf": false}',
        '{"active": true, "nbf": 1e999}',
        '{"active": true, "client_id": "\\ud800"}',
        '{"active": true, "sub": "a\\udfff"}',
        '{"active": true, "scope": "\\ud83d"}',
        '{"active": false, "exp": "never"}',
        "[" * 100_000,
        '{"active":' * 100_000,
    ],
)
def test_malformed_documents(text: str) -> None:
    """What isn't an introspection document with members of the right types is malformed."""
    for document in (text, text.encode()):
        with pytest.raises(MalformedFacts):
            parse_facts(document, now_at=NOW)


@pytest.mark.parametrize(
    ("username", "sub", "expected"),
    [
        ("ALICE", None, "ALICE"),
        ("ALICE", "7", "ALICE"),
        ("", None, ""),
        ("alice", "alice", None),
        (None, None, None),
        (7, None, None),
        (["alice"], None, None),
        ("\ud800", None, None),
    ],
)
def test_h6_a_username_is_told_apart_from_the_subject(
    username: Any, sub: str | None, expected: str | None
) -> None:
    """It identifies nobody: an odd one is as good as none, and the subject's own adds nothing."""
    document = json.dumps({"active": True, "username": username, "sub": sub})
    assert parse_facts(document, now_at=NOW) == Facts(True, None, sub, username=expected)


@pytest.mark.parametrize(
    "document",
    [
        b'{"active": true, "sub": "\xff"}',
        b'{"active": true, "sub": "\xc0\xaf"}',
        b'{"active": true, "sub": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"active": true}',
        '{"active": true}'.encode("utf-16"),
        '{"active": true}'.encode("utf-32-be"),
        b"\x00\x01\x02\x03",
    ],
)
def test_only_utf_8(document: bytes) -> None:
    """A document is UTF-8 and nothing else (RFC 8259 §8.1)."""
    with pytest.raises(MalformedFacts):
        parse_facts(document, now_at=NOW)


@pytest.mark.parametrize("text", ["zoë", "用户", "😀", "\x00", "a\r\nb"])
def test_any_text_is_a_subject(text: str) -> None:
    """A subject is any Unicode text; what becomes of it in a header is decided there."""
    escaped = json.dumps({"active": True, "sub": text})
    raw = json.dumps({"active": True, "sub": text}, ensure_ascii=False).encode()
    assert text == parse_facts(escaped, now_at=NOW).sub == parse_facts(raw, now_at=NOW).sub


@pytest.mark.parametrize(
    "text",
    [
        "[" + "1," * 5_000_000 + "1]",
        '{"active": true, "client_id": "' + "a" * MOST_DOCUMENT_BYTES + '"}',
        '{"active": true}' + " " * MOST_DOCUMENT_BYTES,
        "[" * MOST_DOCUMENT_BYTES,
        '{"a":' * (MOST_DOCUMENT_BYTES // 5),
        '{"active": true, "exp": ' + "1" * 60_000 + "}",
    ],
    ids=["10 MB", "long member", "long space", "deep array", "deep object", "long number"],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_a_value_too_long_or_too_deep_is_malformed(text: str, encoded: bool) -> None:
    """It isn't read at all, or given up at once: to read it would hold up every request."""
    with pytest.raises(MalformedFacts):
        parse_facts(text.encode() if encoded else text, now_at=NOW)


def test_the_longest_document_is_read() -> None:
    """What is just not too long is a document like any other."""
    text = '{"active": true}'
    assert Facts(True) == parse_facts(text.ljust(MOST_DOCUMENT_BYTES), now_at=NOW)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_a_fault_never_quotes_the_value(document: bytes) -> None:
    """Whatever the bytes, they give facts or an error that quotes none of them."""
    try:
        parse_facts(document, now_at=NOW)
    except MalformedFacts as error:
        fault = error
    else:
        return
    assert str(fault) in {"not JSON", "not a JSON object", "active is not true or false"}
    assert fault.__cause__ is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
members = st.fixed_dictionaries(
    {"active": st.booleans() | json_values},
    optional=dict.fromkeys(
        ("client_id", "sub", "scope", "exp", "nbf", "token_type", "cnf"), json_values
    ),
)


@given(members)
def test_only_active_true_authorises(document: dict[str, Any]) -> None:
    """Whatever the members' types, facts are active only by ``active: true``, before ``exp``."""
    try:
        facts = parse_facts(json.dumps(document), now_at=NOW)
    except MalformedFacts:
        return
    if facts.active:
        assert document["active"] is True
        assert facts.exp is None or facts.exp > NOW
        assert document.get("cnf") is None


@pytest.mark.parametrize(
    ("scope", "tokens"),
    [
        ("", set()),
        (" ", set()),
        ("read", {"read"}),
        ("read write", {"read", "write"}),
        ("  read   write read ", {"read", "write"}),
        ("Read read", {"Read", "read"}),
        ("a\tb", {"a\tb"}),
        ("a\nadmin", {"a\nadmin"}),
        ("a\u00a0admin", {"a\u00a0admin"}),
        ("a\x1fadmin", {"a\x1fadmin"}),
    ],
)
def test_scope_is_split_at_spaces(scope: str, tokens: set[str]) -> None:
    """Scope tokens are separated by spaces and by nothing else, and are case-sensitive."""
    assert tokens == split_scope(scope)
