"""Who calls, as the gateway tells backends, and nobody else can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fields import render
from gateway.headers import HeaderPolicy, upstream_request
from gateway.identity import identity_headers, rendered_identity
from gateway.request_head import inspect_request
from gateway.tokens import Facts

Pairs = list[tuple[bytes, bytes]]

ALICE = Facts(True, "app", "alice", frozenset({"read"}))
ID = b"made-here"


def written(fields: Pairs) -> list[str]:
    return [f"{name.decode()}: {value.decode()}".rstrip() for name, value in fields]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(True), []),
        (Facts(True, "app"), ["X-Token-Client-Id: app"]),
        (Facts(True, "", ""), ["X-Token-Client-Id:", "X-Token-Subject:"]),
        (Facts(True, sub="zoë"), ["X-Token-Subject: zo%C3%AB"]),
        (Facts(True, username="ALICE"), ["X-Token-Username: ALICE"]),
        (
            Facts(True, sub="7", username="a\nb"),
            ["X-Token-Subject: 7", "X-Token-Username: a%0Ab"],
        ),
        (Facts(True, sub="100%"), ["X-Token-Subject: 100%25"]),
        (Facts(True, sub="%0d%0a"), ["X-Token-Subject: %250d%250a"]),
        (Facts(True, sub="a b"), ["X-Token-Subject: a%20b"]),
        (Facts(True, sub="a\tb\0"), ["X-Token-Subject: a%09b%00"]),
        (Facts(True, sub="a\r\nB: c"), ["X-Token-Subject: a%0D%0AB:%20c"]),
        (Facts(True, sub="😀"), ["X-Token-Subject: %F0%9F%98%80"]),
        (Facts(True, sub='a,b;c="d"/e?f'), ['X-Token-Subject: a,b;c="d"/e?f']),
        (Facts(True, sub="\x7f"), ["X-Token-Subject: %7F"]),
        (Facts(True, scopes=frozenset({"w", "r:all"})), ["X-Token-Scope: r:all w"]),
        (Facts(True, scopes=frozenset({"ä", "a\nb"})), ["X-Token-Scope: %C3%A4 a%0Ab"]),
    ],
)
def test_identity(facts: Facts, expected: list[str]) -> None:
    """Whatever a key manager put into a document stays one value of one field."""
    fields = identity_headers(facts, b"X-Token-")
    assert expected == written(fields)
    assert rendered_identity(facts, b"X-Token-") == render(fields)


texts = st.none() | st.text()


@given(texts, texts, st.frozensets(st.text(min_size=1).filter(lambda text: " " not in text)))
def test_identity_is_visible_ascii(
    client_id: str | None, sub: str | None, scopes: frozenset[str]
) -> None:
    """Identity values are visible ASCII; the only spaces are those between scopes."""
    fields = identity_headers(Facts(True, client_id, sub, scopes), b"X-")
    assert len({name for name, _ in fields}) == len(fields)
    for name, value in fields:
        assert all(0x21 <= byte <= 0x7E or byte == 0x20 for byte in value)
        assert value.count(b" ") == (len(scopes) - 1 if name == b"X-Scope" else 0)


def protected(name: bytes) -> bool:
    """Tell whether a CGI would take a name for one that only the gateway may use."""
    plain = "".join(c if c.isalnum() else "-" for c in name.decode().lower())
    return plain.startswith(("x-token-", "x-forwarded-")) or plain in {"forwarded", "x-real-ip"}


_separators = st.sampled_from(["-", "_", ".", "~"])
_spelt = st.tuples(
    st.sampled_from(["X-Token-A", "X-Forwarded-For", "X-Real-IP", "Forwarded", "Authorization"]),
    _separators,
    st.sampled_from([str.lower, str.upper, str.title]),
).map(lambda drawn: drawn[2](drawn[0].replace("-", drawn[1])))
_names = _spelt | st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)


@given(
    st.lists(
        st.tuples(
            _names.filter(lambda name: name.lower() not in {"host", "expect", "transfer-encoding"}),
            st.sampled_from(["evil", "6.6.6.6", "Bearer evil"]),
        ).map(lambda pair: (pair[0].encode(), pair[1].encode())),
        max_size=8,
    ),
    st.lists(_names, max_size=3),
    st.sampled_from([ALICE, Facts(True), None]),
)
def test_nothing_of_a_client_counts_as_ours(
    headers: Pairs, nominated: list[str], facts: Facts | None
) -> None:
    """Whatever an untrusted client sends, identity and forwarding fields are the gateway's own."""
    connection = (b"Connection", ", ".join(nominated).encode())
    headers = [h for h in headers if h[0].lower() != b"content-length"]
    headers = [(b"Host", b"a"), *headers, connection]
    head = inspect_request(headers, http_1_1=True, underscores="allow")
    fields = upstream_request(
        head, policy=HeaderPolicy(), peer="1.1.1.1", scheme_name="http", request_id=ID, facts=facts
    )
    ours = {
        (b"X-Forwarded-For", b"1.1.1.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"a"),
        *(identity_headers(facts, b"X-Token-") if facts else ()),
    }
    assert ours == {field for field in fields if protected(field[0])}
    authorizations = {value for name, value in fields if name.lower() == b"authorization"}
    assert authorizations <= (set() if facts else {b"evil", b"6.6.6.6"})
