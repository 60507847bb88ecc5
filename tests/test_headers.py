"""What crosses the proxy in each direction, as transcripts of header sections."""

from collections.abc import Sequence

import pytest

from gateway.headers import HeaderPolicy, client_response, upstream_request
from gateway.request_head import inspect_request
from gateway.settings import Proxy
from gateway.tokens import Facts

Pairs = list[tuple[bytes, bytes]]

ALICE = Facts(True, "app", "alice", frozenset({"read"}))
TRUSTING = HeaderPolicy.from_settings(Proxy(trusted_proxies=("10.0.0.0/8", "fd00::/8")))
ID = b"made-here"


def pairs(text: str) -> Pairs:
    """Return the fields written as lines of ``Name: value``."""
    lines = (line.strip().partition(":") for line in text.splitlines() if line.strip())
    return [(name.encode(), value.strip().encode()) for name, _, value in lines]


def written(fields: Sequence[tuple[bytes, bytes]]) -> list[str]:
    return [f"{name.decode()}: {value.decode()}".rstrip() for name, value in fields]


def forwarded(
    text: str,
    *,
    policy: HeaderPolicy | None = None,
    peer: str | None = "203.0.113.9",
    scheme: str = "http",
    facts: Facts | None = ALICE,
    underscores: str = "refuse",
) -> list[str]:
    """Return what a backend gets of a request that came with these fields."""
    head = inspect_request(pairs(text), http_1_1="Host" in text, underscores=underscores)
    return written(
        upstream_request(
            head,
            policy=policy or HeaderPolicy(),
            peer=peer,
            scheme_name=scheme,
            request_id=ID,
            facts=facts,
        )
    )


def test_a_request() -> None:
    """A request goes on with its own fields, then where it came from, then whose it is."""
    assert forwarded(
        """
        Host: api.example:8080
        user-agent: curl/8
        Accept: */*
        accept: text/html
        Authorization: Bearer abc
        Cookie: a=b
        Connection: keep-alive
        Content-Length: 3
        traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
        X-Request-ID: theirs
        Via: 1.0 edge
        """
    ) == [
        "Host: api.example:8080",
        "user-agent: curl/8",
        "Accept: */*",
        "accept: text/html",
        "Cookie: a=b",
        "Content-Length: 3",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Via: 1.0 edge",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: api.example:8080",
        "Via: 1.1 gateway",
        "X-Request-ID: made-here",
        "X-Token-Client-Id: app",
        "X-Token-Subject: alice",
        "X-Token-Scope: read",
    ]


def test_a_request_without_anything() -> None:
    """HTTP/1.0 without Host, on a public route, from a peer without an address."""
    assert forwarded("", peer=None, scheme="https", facts=None) == [
        "X-Forwarded-Proto: https",
        "Via: 1.1 gateway",
        "X-Request-ID: made-here",
    ]


def test_settings_of_the_policy() -> None:
    """The upstream's own Host, another name in Via and another prefix, where settings say so."""
    policy = HeaderPolicy.from_settings(
        Proxy(preserve_host=False, via="edge", identity_prefix="X-Me-", forward_authorization=True)
    )
    assert forwarded("Host: a\nAuthorization: Bearer t\nX-Token-Subject: x", policy=policy) == [
        "Authorization: Bearer t",
        "X-Token-Subject: x",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: a",
        "Via: 1.1 edge",
        "X-Request-ID: made-here",
        "X-Me-Client-Id: app",
        "X-Me-Subject: alice",
        "X-Me-Scope: read",
    ]


def crosses(field: str, connection: str = "", facts: Facts | None = ALICE) -> bool:
    """Tell whether a client's field reaches the backend."""
    text = f"Host: a\nConnection: {connection}\n{field}"
    return field in forwarded(text, facts=facts, underscores="allow")


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        *((name, True) for name in ("Authorization", "AUTHORIZATION", "Cache-Control", "Cookie")),
        *((name, True) for name in ("Content-Type", "Content-Length", "Date", "Via")),
        *((name, True) for name in ("Set-Cookie", "WWW-Authenticate")),
        *((name, False) for name in ("X-Foo", "x-foo", "Accept", "traceparent", "Origin")),
    ],
)
def test_what_connection_nominates(name: str, stays: bool) -> None:
    """Connection takes its own fields away, and none by which a message is judged."""
    value = "Basic x" if name.lower() == "authorization" else "1"
    field = f"{name}: {value}"
    assert crosses(field, facts=None)
    assert stays == crosses(field, connection=f"close, {name.upper()} ,x", facts=None)


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-For", "X-Request-ID", "X-Token-Subject"])
def test_connection_takes_nothing_of_ours(name: str) -> None:
    """What the gateway writes can't be nominated away."""
    plain = forwarded(f"Host: a\n{name}: x" if name != "Host" else "Host: a")
    assert plain == forwarded(f"Host: a\nConnection: {name}, {name.lower()}")


def test_a_trusted_peers_forwarding_fields_can_not_be_nominated() -> None:
    """A client behind a trusted proxy can't hide its address by Connection."""
    text = "Host: a\nX-Forwarded-For: 1.2.3.4\nX-Real-IP: 1.2.3.4"
    nominating = f"{text}\nConnection: X-Forwarded-For, X-Real-IP"
    assert forwarded(text, policy=TRUSTING, peer="10.0.0.1") == forwarded(
        nominating, policy=TRUSTING, peer="10.0.0.1"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("X-Token-Client-Id", "x-token-client-id", "X-TOKEN-SUBJECT", "X-Token-", "X-Token-New"),
        *("X_Token_Client_Id", "X-Token_Client-Id", "x_token-scope", "X.Token.Subject"),
        *("X-Token~Subject", "x!token!subject", "X_TOKEN_"),
        *("X-Forwarded-For", "x-forwarded-proto", "X-FORWARDED-HOST", "X-Forwarded-Port"),
        *("X-Forwarded-Prefix", "X-Forwarded-Client-Cert", "X_Forwarded_For", "x.forwarded.for"),
        *("Forwarded", "X-Real-IP", "X_Real_IP", "True-Client-IP", "X-Client-IP", "Client-IP"),
        *("CF-Connecting-IP", "X-Cluster-Client-IP", "X-Forwarded", "X-Original-Host"),
        *("X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X_Original_URL", "Proxy"),
        *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x_http_method"),
        *("Content_Length", "Transfer_Encoding", "X_Request_ID", "proxy_connection", "KEEP_ALIVE"),
    ],
)
def test_what_a_client_can_not_say(name: str) -> None:
    """No client says who it is, where it came from or what else it means, in any spelling."""
    assert not crosses(f"{name}: 6.6.6.6")
    assert not crosses(f"{name}: 6.6.6.6", facts=None)


@pytest.mark.parametrize(
    "name",
    ["X-Tokens", "X-Token", "Token-Client-Id", "XToken-Subject", "X-Forwarder", "Real-IP", "X_A"],
)
def test_what_only_looks_like_it(name: str) -> None:
    """Names that merely begin alike are a client's own."""
    assert crosses(f"{name}: 6.6.6.6")


@pytest.mark.parametrize(
    ("authorization", "public", "crossing"),
    [
        ("Bearer abc", True, False),
        ("bearer\tabc", True, False),
        ("BEARER", True, False),
        ("Basic dTpw", True, True),
        ("Digest x", True, True),
        ("Bearer abc", False, False),
        ("Basic dTpw", False, False),
    ],
)
def test_authorization(authorization: str, public: bool, crossing: bool) -> None:
    """A backend sees no bearer token, and on a public route other schemes are its own business."""
    field = f"Authorization: {authorization}"
    assert crossing == crosses(field, facts=None if public else ALICE)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.1", False),
        ("9.255.255.255", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:0a01:0203", True),
        ("::ffff:11.0.0.1", False),
        ("::10.0.0.1", False),
        ("fd00::1", True),
        ("fd00::1%eth0", True),
        ("fe80::1%eth0", False),
        ("::1", False),
        ("127.0.0.1", False),
        ("", False),
        ("unix", False),
        (None, False),
    ],
)
def test_trusted_peers(peer: str | None, trusted: bool) -> None:
    """A peer is trusted by its address, an IPv4 one also where it came mapped into IPv6."""
    assert trusted == TRUSTING.trusts(peer)
    assert not HeaderPolicy().trusts(peer)


GIVEN = """
Host: a
x-forwarded-for: 1.2.3.4, 5.6.7.8
X-Forwarded-For: 9.9.9.9
X-Forwarded-For:
X-Forwarded-Proto: https
Forwarded: for=1.2.3.4
X-Real-IP: 1.2.3.4
X-Forwarded-Port: 444
"""


def test_a_trusted_peers_forwarding_fields() -> None:
    """What a trusted peer says is kept, and its own address appended."""
    assert forwarded(GIVEN, policy=TRUSTING, peer="10.0.0.1", facts=None) == [
        "Host: a",
        "X-Forwarded-Proto: https",
        "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "X-Forwarded-Port: 444",
        "X-Forwarded-For: 1.2.3.4, 5.6.7.8, 9.9.9.9, 10.0.0.1",
        "X-Forwarded-Host: a",
        "Via: 1.1 gateway",
        "X-Request-ID: made-here",
    ]


@pytest.mark.parametrize("peer", ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8::1", "::1"])
def test_another_peers_forwarding_fields(peer: str) -> None:
    """What anybody else says is dropped, and written anew."""
    assert forwarded(GIVEN, policy=TRUSTING, peer=peer, scheme="https", facts=None) == [
        "Host: a",
        f"X-Forwarded-For: {peer}",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: a",
        "Via: 1.1 gateway",
        "X-Request-ID: made-here",
    ]


def test_an_answer() -> None:
    """An answer goes on as it came, less what frames it and what was for the gateway's ears."""
    headers = pairs(
        """
        content-type: text/html
        Content-Length: 5
        Transfer-Encoding: chunked
        Connection: keep-alive, X-Internal, Set-Cookie
        Keep-Alive: timeout=5
        X-Internal: 1
        Set-Cookie: a=b
        set-cookie: c=d
        Server: backend
        Date: Tue, 15 Nov 1994 08:12:31 GMT
        x-request-id: theirs
        Upgrade: h2c
        Proxy-Authenticate: Basic
        Trailer: X-T
        WWW-Authenticate: Basic
        """
    )
    assert written(client_response(headers, request_id=ID, date=b"now")) == [
        "content-type: text/html",
        "Set-Cookie: a=b",
        "set-cookie: c=d",
        "Server: backend",
        "Date: Tue, 15 Nov 1994 08:12:31 GMT",
        "WWW-Authenticate: Basic",
        "X-Request-ID: made-here",
    ]


def test_an_answer_without_a_date() -> None:
    """A missing Date is added (RFC 9110 §6.6.1), and bytes beyond ASCII stay as they are."""
    fields = client_response([(b"X-A", b"\xff\xc3\xa9")], request_id=ID, date=b"D")
    assert fields == [(b"X-A", b"\xff\xc3\xa9"), (b"Date", b"D"), (b"X-Request-ID", ID)]
    assert client_response([(b"dAtE", b"D")], request_id=ID, date=b"E")[0] == (b"dAtE", b"D")
