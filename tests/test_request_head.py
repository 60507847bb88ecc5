"""A request's header section, as tables: what it says, and what could be said two ways."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    BadRequest,
    ExpectationFailed,
    GatewayError,
    HeadersTooLarge,
    NotImplementedHere,
)
from gateway.request_head import (
    RequestHead,
    addressed,
    connection_options,
    hops_left,
    inspect_request,
    with_hops,
)

Pairs = list[tuple[bytes, bytes]]


def pairs(text: str) -> Pairs:
    """Return the fields written as lines of ``Name: value``."""
    lines = (line.partition(":") for line in text.split("\n") if line)
    return [(name.encode("latin-1"), value[1:].encode("latin-1")) for name, _, value in lines]


def inspect(text: str = "", *, http_1_1: bool = True, **settings: Any) -> RequestHead:
    """Return what a header section says, of a request that has a Host if it needs one."""
    host = "" if "host:" in text.lower() or not http_1_1 else "Host: example.org\n"
    return inspect_request(pairs(host + text), http_1_1=http_1_1, **settings)


def test_fields_keep_spelling_order_and_bytes() -> None:
    """What isn't for this connection only goes on as it came, doubles included."""
    head = inspect("x-A: 1\nX-a:  two\t words \nCookie: a=b\nX-A:\naccept: */*\nContent-Length: 0")
    assert head.fields == (
        (b"x-a", b"x-A", b"1"),
        (b"x-a", b"X-a", b" two\t words "),
        (b"cookie", b"Cookie", b"a=b"),
        (b"x-a", b"X-A", b""),
        (b"accept", b"accept", b"*/*"),
        (b"content-length", b"Content-Length", b"0"),
    )


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate"),
        *("Proxy-Authorization", "TE", "Trailer", "Upgrade", "Host", "X-Request-ID"),
    ],
)
@pytest.mark.parametrize("spelling", [str, str.lower, str.upper])
def test_what_ends_here(name: str, spelling: Any) -> None:
    """Hop-by-hop fields, and those that the gateway writes anew, aren't among ``fields``."""
    assert inspect(f"{spelling(name)}: x\nAccept: y").fields == ((b"accept", b"Accept", b"y"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("Connection: close", {b"close"}),
        ("Connection: Close , X-Foo,,\tx-bar ", {b"close", b"x-foo", b"x-bar"}),
        ("Connection: a\nCONNECTION: B", {b"a", b"b"}),
        ("Connection: ,", set()),
        ("Connection:", set()),
    ],
)
def test_nominated(text: str, expected: set[bytes]) -> None:
    """The options of all Connection fields, in lower case (RFC 9110 §7.6.1)."""
    assert expected == inspect(text).nominated
    assert expected == connection_options([value for _, value in pairs(text)])


@pytest.mark.parametrize(
    ("text", "length", "chunked", "has_body"),
    [
        ("", None, False, False),
        ("Content-Length: 0", 0, False, False),
        ("Content-Length: 5", 5, False, True),
        ("Content-Length: 007", 7, False, True),
        ("Content-Length: 999999999999999999", 999999999999999999, False, True),
        ("Transfer-Encoding: chunked", None, True, True),
        ("transfer-encoding: chunked", None, True, True),
    ],
)
def test_framing(text: str, length: int | None, chunked: bool, has_body: bool) -> None:
    """Content has a length, or is chunked, or there is none (RFC 9112 §6.3)."""
    head = inspect(text)
    assert (length, chunked, has_body) == (head.content_length, head.chunked, head.has_body)


@pytest.mark.parametrize(
    "text",
    [
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nContent-Length: 0",
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked, chunked",
        "Transfer-Encoding: chunked, gzip, chunked",
        "Transfer-Encoding: Chunked, chunked",
        "Transfer-Encoding: chunked;q=1, chunked",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: gzip,, chunked",
        "Transfer-Encoding: gzip chunked",
        "Transfer-Encoding: g(zip, chunked",
        'Transfer-Encoding: gzip;a="b", chunked',
        "Transfer-Encoding: gzip\nTransfer-Encoding: chunked ",
        "Transfer-Encoding: gzip, chunked\nContent-Length: 5",
        "Transfer-Encoding: deflate, gzip",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding:",
        "Transfer-Encoding:  chunked",
        "Transfer-Encoding: chunked ",
        "Transfer-Encoding: \tchunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: 'chunked'",
        "Content-Length: 5\nContent-Length: 5",
        "Content-Length: 5\ncontent-length: 6",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length:",
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 5.0",
        "Content-Length: 5e3",
        "Content-Length: 0x5",
        "Content-Length: 5_0",
        "Content-Length: 5 0",
        "Content-Length: 5 ",
        "Content-Length:  5",
        "Content-Length: \u00b2",
        "Content-Length: 1000000000000000000",
    ],
)
def test_smuggling(text: str) -> None:
    """Framing that two parsers could read differently is 400 and ends the connection."""
    with pytest.raises(BadRequest) as caught:
        inspect(text)
    assert caught.value.close


@pytest.mark.parametrize(("sent", "forwarded"), [("010", b"10"), ("5", b"5"), ("0", b"0")])
def test_lengths_are_forwarded_in_decimal(sent: str, forwarded: bytes) -> None:
    """Without leading zeros, which would make another number where they mean octal."""
    head = inspect(f"content-Length: {sent}")
    assert head.fields == ((b"content-length", b"content-Length", forwarded),)


@pytest.mark.parametrize("name", ["chunked", "Chunked", "CHUNKED", "cHuNkEd"])
def test_chunked_in_any_case(name: str) -> None:
    """Names of transfer codings are case-insensitive (RFC 9112 §7)."""
    assert inspect(f"Transfer-Encoding: {name}").chunked


@pytest.mark.parametrize(
    "text",
    [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: GZip,Chunked",
        "Transfer-Encoding: deflate;a=b\t, gzip , chunked",
        "Transfer-Encoding: something-new, chunked",
        "Transfer-Encoding: gzip\nTransfer-Encoding: chunked",
    ],
)
def test_other_codings_are_not_implemented(text: str) -> None:
    """Where it is sure where the content ends, but not what it is: 501 (RFC 9112 §6.1)."""
    with pytest.raises(NotImplementedHere) as caught:
        inspect(text)
    assert caught.value.close


@pytest.mark.parametrize("text", ["Transfer-Encoding: chunked", "Transfer-Encoding: x"])
def test_no_transfer_coding_on_http_1_0(text: str) -> None:
    """HTTP/1.0 has no Transfer-Encoding (RFC 9112 §6.1)."""
    with pytest.raises(BadRequest):
        inspect(text, http_1_1=False)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "example.org",
            "EXAMPLE.org:8080",
            "a",
            "localhost:",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
        ),
        *("[::ffff:1.2.3.4]:1", "a_b.c", "xn--zo-jma", "a-b~c", "my%20host", ""),
    ],
)
def test_hosts(host: str) -> None:
    """One Host, with a port or without, or empty (RFC 9110 §7.2)."""
    assert host.encode() == inspect(f"Host: {host}").host


@pytest.mark.parametrize(
    "text",
    [
        "Host: a\nHost: a",
        "Host: a\nhost: b",
        "Host: a b",
        "Host: a/b",
        "Host: a?b",
        "Host: a#b",
        "Host: a@b",
        "Host: user:pass@b",
        "Host: a\\b",
        "Host: http://a",
        "Host: a:b",
        "Host: a:80:80",
        "Host: a:-1",
        "Host: :80",
        "Host: [::1",
        "Host: ::1",
        "Host: [::1]x",
        "Host: [x]",
        "Host: [fe80::1%25eth0]",
        "Host: a\tb",
        "Host:  a",
        'Host: "a"',
        "Host: <a>",
        "Host: a|b",
        "Host: a^b",
        "Host: a{b}",
        "Host: a`b",
    ],
)
def test_refused_hosts(text: str) -> None:
    """More than one Host, or what isn't a host and a port, is 400 (RFC 9112 §3.2)."""
    with pytest.raises(BadRequest):
        inspect(text)


def test_host_on_http_1_0() -> None:
    """HTTP/1.1 needs a Host, HTTP/1.0 may have one."""
    with pytest.raises(BadRequest):
        inspect_request([], http_1_1=True)
    assert inspect_request([], http_1_1=False).host is None
    assert inspect_request([(b"Host", b"a")], http_1_1=False).host == b"a"
    with pytest.raises(BadRequest):
        inspect_request([(b"Host", b"a")] * 2, http_1_1=False)


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"",
            b" ",
            b"X A",
            b"X-A ",
            b" X-A",
            b"X\tA",
            b"X:A",
            b"X\x00A",
            b"X\rA",
            b"X\nA",
            b"X(A)",
        ),
        *(b"X\x80", b"X\xe9", b"X/A", b'"X"', b"X,A", b"X;A", b"X=A", b"X@A", b"[X]", b"\x7f"),
    ],
)
def test_refused_names(name: bytes) -> None:
    """A name that isn't a token is 400 (RFC 9110 §5.1)."""
    with pytest.raises(BadRequest):
        inspect_request([(b"Host", b"a"), (name, b"v")], http_1_1=True)


@pytest.mark.parametrize("byte", [*range(0x20), *range(0x7F, 0x100)])
def test_refused_bytes(byte: int) -> None:
    """Control bytes are refused in a value; the tab and opaque bytes pass (RFC 9110 §5.5)."""
    value = b"a%cb" % byte
    headers = [(b"Host", b"a"), (b"X-A", value)]
    if byte == 0x09 or byte >= 0x80:
        assert inspect_request(headers, http_1_1=True).fields == ((b"x-a", b"X-A", value),)
        return
    with pytest.raises(BadRequest) as caught:
        inspect_request(headers, http_1_1=True)
    assert caught.value.description == "A header has bytes that are not allowed."


def test_obsolete_folding() -> None:
    """A folded line is refused, however the parser hands it on (RFC 9112 §5.2)."""
    for value in (b"a\r\n b", b"a\n\tb", b"a\r b"):
        with pytest.raises(BadRequest):
            inspect_request([(b"Host", b"a"), (b"X-A", value)], http_1_1=True)


@pytest.mark.parametrize(
    ("underscores", "names"),
    [("drop", [b"Accept"]), ("allow", [b"X_Forwarded_For", b"Accept", b"_"])],
)
def test_underscores(underscores: str, names: list[bytes]) -> None:
    """Names with an underscore are refused, dropped or taken, as settings say."""
    text = "X_Forwarded_For: 1.2.3.4\nAccept: y\n_: z"
    head = inspect(text, underscores=underscores)
    assert names == [name for _, name, _ in head.fields]
    with pytest.raises(BadRequest):
        inspect(text, underscores="refuse")
    with pytest.raises(BadRequest):
        inspect("X_A: 1")


def test_underscores_frame_nothing() -> None:
    """``Content_Length`` and its like are no framing, whatever settings say."""
    for underscores in ("drop", "allow"):
        head = inspect("Content_Length: 5\nTransfer_Encoding: chunked", underscores=underscores)
        assert (head.content_length, head.chunked) == (None, False)


@pytest.mark.parametrize(
    ("text", "http_1_1", "expected"),
    [
        ("", True, False),
        ("Expect: 100-continue", True, True),
        ("expect: 100-Continue", True, True),
        ("Expect: 100-continue", False, False),
        ("Expect: anything", False, False),
        ("Expect:", True, None),
        ("Expect: 200-ok", True, None),
        ("Expect: 100-continue, x", True, None),
        ("Expect: 100-continue;q=1", True, None),
        ("Expect: 100-continue\nExpect: 100-continue", True, None),
    ],
)
def test_expectations(text: str, http_1_1: bool, expected: bool | None) -> None:
    """Only 100-continue can be expected, and not by HTTP/1.0 (RFC 9110 §10.1.1)."""
    if expected is None:
        with pytest.raises(ExpectationFailed):
            inspect(text, http_1_1=http_1_1)
        return
    head = inspect(text, http_1_1=http_1_1)
    assert expected == head.expects_continue
    assert head.fields == ()


@pytest.mark.parametrize(
    ("text", "http_1_1", "expected"),
    [
        ("", True, None),
        ("Upgrade: websocket\nConnection: Upgrade", True, b"websocket"),
        ("Upgrade: WebSocket\nConnection: keep-alive, upgrade", True, b"websocket"),
        ("Upgrade: h2c\nConnection: upgrade", True, b"h2c"),
        ("Upgrade: websocket", True, None),
        ("Connection: Upgrade", True, None),
        ("Upgrade: websocket\nConnection: Upgrade", False, None),
        ("Upgrade: websocket\nUpgrade: h2c\nConnection: Upgrade", True, None),
        ("Upgrade: websocket, h2c\nConnection: Upgrade", True, b"websocket, h2c"),
    ],
)
def test_upgrades(text: str, http_1_1: bool, expected: bytes | None) -> None:
    """An upgrade is one protocol that Connection nominates, on HTTP/1.1 (RFC 9110 §7.8)."""
    assert expected == inspect(text, http_1_1=http_1_1).upgrade


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("X-Request-ID: abc-123", b"abc-123"),
        ("x-request-id: A.b_c:d+e/f=", b"A.b_c:d+e/f="),
        ("X-Request-ID: " + "a" * 128, b"a" * 128),
        ("X-Request-ID: " + "a" * 129, None),
        ("X-Request-ID:", None),
        ("X-Request-ID: a b", None),
        ('X-Request-ID: a"b', None),
        ("X-Request-ID: a,b", None),
        ("X-Request-ID: ${jndi:ldap}", None),
        ("X-Request-ID: <script>", None),
        ("X-Request-ID: a\nX-Request-ID: b", None),
        ("X-Request-ID: a\nX-Request-ID: a", None),
    ],
)
def test_request_ids(text: str, expected: bytes | None) -> None:
    """A client's request id is kept where it is one, short, and of harmless characters."""
    assert expected == inspect(text).request_id


def test_authorizations() -> None:
    """All Authorization fields are there to be judged, in order."""
    head = inspect("Authorization: Bearer a\nAUTHORIZATION: Basic b")
    assert list(head.authorizations) == [b"Bearer a", b"Basic b"]


def test_size() -> None:
    """The whole section counts, each field with its colon, space and line end."""
    headers = [(b"Host", b"a"), (b"X-A", b"b" * 100)]
    size = len(b"".join(b"%b: %b\r\n" % pair for pair in headers))
    assert inspect_request(headers, http_1_1=True, max_bytes=size).host == b"a"
    with pytest.raises(HeadersTooLarge) as caught:
        inspect_request(headers, http_1_1=True, max_bytes=size - 1)
    assert (caught.value.status, caught.value.close) == (431, True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"X-A"]
            )
            | st.binary(max_size=5),
            st.sampled_from([b"chunked", b"5", b"a", b"100-continue", b"upgrade, x-a"])
            | st.binary(max_size=8),
        ),
        max_size=6,
    ),
    st.booleans(),
    st.sampled_from(["refuse", "drop", "allow"]),
)
def test_what_passes_can_be_read_one_way(headers: Pairs, http_1_1: bool, underscores: str) -> None:
    """Whatever comes, it is refused, or frames the message one way and has no control bytes."""
    try:
        head = inspect_request(headers, http_1_1=http_1_1, underscores=underscores)
    except GatewayError:
        return
    names = [name.lower() for name, _ in headers]
    assert names.count(b"host") == 1 or (not http_1_1 and b"host" not in names)
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert head.chunked == (b"transfer-encoding" in names)
    assert (head.content_length is not None) == (b"content-length" in names)
    for _, name, value in head.fields:
        assert name.isascii()
        assert not set(b"\r\n\0: ") & set(name)
        assert not set(b"\r\n\0") & set(value)


def test_the_host_that_a_request_is_for() -> None:
    """A target's authority goes before ``Host``, an empty one too; else there must be one."""
    head = inspect_request([(b"Host", b"a"), (b"X-A", b"1")], http_1_1=True)
    empty = inspect_request([(b"Host", b"")], http_1_1=True)
    none = inspect_request([], http_1_1=False)
    assert addressed(head, None) is head
    assert addressed(head, "b:80").host == b"b:80"
    assert addressed(head, "b:80").fields == head.fields
    assert addressed(empty, "b").host == b"b"
    assert addressed(none, None).host is None
    assert addressed(none, "b").host == b"b"
    with pytest.raises(BadRequest):
        addressed(empty, None)


def test_hops() -> None:
    """``Max-Forwards`` is one number, and goes on as the one that is told (RFC 9110 §7.6.2)."""
    head = inspect_request([(b"Host", b"a"), (b"max-Forwards", b"007")], http_1_1=True)
    assert hops_left(head) == 7
    assert with_hops(head, 6).fields == ((b"max-forwards", b"max-Forwards", b"6"),)
    assert hops_left(inspect_request([(b"Host", b"a")], http_1_1=True)) is None
    for value in (b"", b"-1", b"+1", b"1.0", b"1 1", b"x", b"\xb2", b"1" * 19):
        odd = inspect_request([(b"Host", b"a"), (b"Max-Forwards", value)], http_1_1=True)
        with pytest.raises(BadRequest):
            hops_left(odd)


def test_many_fields() -> None:
    """431, which says which limit it is (RFC 6585 §5)."""
    headers = [(b"Host", b"a"), *[(b"X-A", b"1")] * 15]
    assert len(inspect_request(headers, http_1_1=True, max_fields=16).fields) == 15
    with pytest.raises(HeadersTooLarge, match=r"limits\.header_fields: 15"):
        inspect_request(headers, http_1_1=True, max_fields=15)
