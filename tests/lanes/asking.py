"""Requests for both lanes: a good one, odd in a few respects."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from lanes.pair import BACKEND, DOCUMENTS, REVOKED, Setting

UPSTREAM = f"http://{BACKEND[0]}:{BACKEND[1]}"
DOWN = "http://127.0.0.1:9"

_ROUTES: list[dict[str, Any]] = [
    {"path": "/", "upstream": UPSTREAM, "scopes": ["read"]},
    {"path": "/admin", "upstream": f"{UPSTREAM}/base", "scopes": ["read", "admin"]},
    {"path": "/get", "upstream": UPSTREAM, "methods": ["GET"]},
    {"path": "/get", "upstream": f"{UPSTREAM}/put", "methods": ["PUT", "POST"], "name": "putting"},
    {"path": "/strip/it", "upstream": f"{UPSTREAM}/base", "strip_prefix": True},
    {"path": "/public", "upstream": UPSTREAM, "public": True},
    {"path": "/fresh", "upstream": UPSTREAM, "max_age": "0s"},
    {"path": "/down", "upstream": DOWN},
]
WORLDS: dict[str, dict[str, Any]] = {
    "default": {"routes": _ROUTES},
    "behind a proxy": {
        "routes": _ROUTES,
        "proxy": {
            "trusted_proxies": ["127.0.0.0/8"],
            "forward_authorization": True,
            "preserve_host": False,
            "headers_with_underscores": "drop",
        },
    },
    "another": {
        # None has all paths, and pages may read the errors of some.
        "routes": [
            {**_ROUTES[0], "path": "/orders", "cors_origins": ["http://a", "https://b"]},
            *_ROUTES[1:3],
            {**_ROUTES[3], "cors_origins": ["*"]},
            {**_ROUTES[4], "cors_origins": ["http://a"], "cors_credentials": True},
            *_ROUTES[5:],
        ],
        "proxy": {
            "headers_with_underscores": "allow",
            "identity_prefix": "Auth-",
            "realm": "another realm",
            "via": "edge",
        },
        "limits": {"body": "64B", "headers": "2KiB"},
        "key_manager": {"url": f"{UPSTREAM}/oauth"},
        "logging": {"access_log": False},
    },
    "revalidating": {"routes": _ROUTES, "limits": {"revalidate_streams": "5s", "body": "0B"}},
}

METHODS = [
    *("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "BREW"),
    *(
        "QUERY",
        "LINK",
        "PURGE",
        "CONNECT",
        "TRACE",
        "PRI",
        "get",
        "GeT",
        "trace",
        "G(T",
        "GET ",
        "",
    ),
]
TARGETS: list[bytes] = [
    *(b"/orders", b"/", b"/orders/1?x=1&y=%20", b"/orders?a=b?c", b"/orders?=", b"/orders?%zz"),
    *(b"/?", b"/orders?", b"/public?", b"/orders??", b"/strip/it?", b'/orders?a="<>{}|^`[]\\'),
    *(b"/admin", b"/admin/x", b"/adminx", b"/%61dmin", b"/get/x", b"/strip/it", b"/strip/it/a/b?q"),
    *(b"/strip/%69t/%61", b"/strip/it/", b"/public", b"/public/x?y", b"/fresh", b"/fresh/x"),
    *(b"/down", b"/token", b"/revoke", b"/orders/", b"/orders/~a!$&'()*+,=:@", b"/caf%C3%A9"),
    *(b"/a//b", b"//a", b"/a/../b", b"/a/./b", b"/..", b"/a/%2e%2e/b", b"/a%2fb", b"/a%5Cb"),
    *(b"/a%00", b"/a\\b", b"/orders;v=1", b"/admin;v=1", b"/;/admin", b"/%252e", b"/a%", b"/%zz"),
    *(b"/%c0%ae", b"/a#b", b"/a?b#c", b"/caf\xc3\xa9", b"/a\tb", b"/a b", b"/a\x00", b"/a?\xe9"),
    *(b"/?access_token=good", b"/x?a=1;access%5ftoken=good", b"/public?access_token=good"),
    *(b"http://a/orders?", b"HTTP://a:80/get/x", b"http://a", b"http://u@a/orders", b"ftp://a/"),
    *(b"*", b"http://gateway.test/orders", b"gateway.test:443", b"http://[::1]:99@/", b"orders"),
    *(b"/" + b"x" * 3000, b"/" + b"x" * 20_000, b"/?" + b"y" * 9000, b"/" + b"a/" * 500, b""),
]
VERSIONS = [
    *[b"HTTP/1.0"] * 10,  # the only other one that is good
    *(b"HTTP/1.0", b"HTTP/1.1", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.01", b"http/1.1"),
    *(b"HTTP/x", b"HTTP/1.1 ", b"", b"RTSP/1.0"),
]
HOSTS: list[list[bytes]] = [
    *([b"Host: gateway.test:80"], [b"host: a"], [b"Host:"], [b"Host: [::1]:80"], []),
    *([b"Host: a", b"Host: a"], [b"Host: a", b"Host: b"], [b"Host: a/b"], [b"Host: a b"]),
    *([b"Host: user@a"], [b"Host: a:b"], [b"Host : a"], [b"HOST:  gateway.test  "]),
]
TOKENS = [*DOCUMENTS, REVOKED, "unknown"]
AUTHORIZATIONS: list[list[bytes]] = [
    *([], [b"Authorization:"], [b"Authorization: Bearer"], [b"Authorization: Bearer "]),
    *([b"authorization: bearer good"], [b"AUTHORIZATION: BEARER good"]),
    *([b"Authorization: Bearer  good"], [b"Authorization:   Bearer good \t"]),
    *([b"Authorization:Bearer good"], [b"Authorization: Bearer\tgood"]),
    *([b"Authorization: Bearer good, Bearer good"], [b"Authorization: Bearer {good}"]),
    *([b"Authorization: Bearer good good"], [b"Authorization: Bearer good=="]),
    *([b"Authorization: Bearer g\xc3\xb6\xc3\xb6d"], [b"Authorization: Basic YTpi"]),
    *([b"Authorization: Digest x", b"Authorization: Bearer good"], [b"Authorization: good"]),
    *([b"Authorization: Bearer good", b"Authorization: Bearer good"],),
    *([b"Authorization: Bearer good", b"authorization: Bearer bad"],),
    *([b"Authorization: Bearer good", b"Authorization:"], [b"Authorization : Bearer good"]),
    *([b"X-Authorization: Bearer good"], [b"Authorization: Bearer good\r\n more"]),
    *([b"Proxy-Authorization: Bearer good"], [b"Authorization_: Bearer good"]),
    *([b"Authorization: Bearer " + b"x" * 5000], [b"Authorization: Bearer 1|good"]),
]
FIELDS = b"""
Accept: */*
User-Agent: test/1
Accept-Encoding: gzip, br
Accept:
X-Empty:
X-Dup: 1
x-dup: 2
X-DUP: 3
Cookie: a=1
Cookie: b=2; c=3
cookie: d=4
X-Tab:\ta
X-No-Space:a
X-Colon: a:b: c
X-Odd!#$%&'*+.^`|~: 1
x_under: 1
X_Forwarded_For: 9.9.9.9
Content_Length: 5
Transfer_Encoding: chunked
X.Forwarded.For: 9.9.9.9
X-Forwarded-For: 9.9.9.9
X-Forwarded-For: 8.8.8.8, 7.7.7.7
x-forwarded-for:
X-Forwarded-Proto: https
X-Forwarded-Host: evil.test
X-Forwarded-Port: 1
Forwarded: for=9.9.9.9
X-Real-IP: 9.9.9.9
True-Client-IP: 9.9.9.9
Via: 1.0 a
Via: 1.1 b, 1.1 gateway
X-Original-URL: /admin
X-HTTP-Method-Override: DELETE
Proxy: a
X-Token-Client-Id: evil
x-token-scope: admin
X_Token_Subject: root
X.Token.Subject: root
Auth-Subject: root
AUTH_SUBJECT: root
X-Token: 1
X-Request-ID: mine-1
x-request-id: a b
X-Request-ID:
traceparent: 00-0af7-b7ad-01
Range: bytes=0-1
Max-Forwards: 0
Date: Tue, 15 Nov 1994 08:12:31 GMT
Content-Type: text/plain
Content-Encoding: gzip
Content-Language: de
Origin: http://a
Origin: null
Access-Control-Request-Method: PUT
Referer: http://a/?x
Priority: u=1, i
TE: trailers
TE: gzip
Trailer: X-T
Keep-Alive: timeout=5
Upgrade: h2c
HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA
Proxy-Connection: keep-alive
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
X-Quoted: "a, \\"b\\""
If-None-Match: "x"
""".strip().split(b"\n")
FIELDS += [
    b"X-Spaces:   a  b   ",
    b"X-Tab: a\tb\t",
    b"X-Long: " + b"x" * 1500,
    b"X-" + b"n" * 300 + b": 1",
]
FIELDS += [b"X-Request-ID: " + b"r" * 200]
FIELDS += [b"X-Latin: caf\xe9", b"Cookie: n=M\xc3\xbcller", b"X-Request-ID: caf\xe9"]
FIELDS += [b"X-Forwarded-For: caf\xe9", b"X-C1: \x80\x9f\xa0\xff"]
MALFORMED = [
    b"X-Control: a\x01b",
    b"X-DEL: a\x7fb",
    b"X-NUL: \x00",
    b"X-Fold: a\r\n b",
    b"X-Fold: a\r\n\tb",
    b"X-CR: a\rb",
    b"X-LF: a\nX-Other: b",
    b"no colon",
    b": no name",
    b"X Space: 1",
    b"X-Before : 1",
    b"X-\xe9: 1",
    b" X-Indented: 1",
    b"X-Bracket[]: 1",
    b"X-Huge: " + b"x" * 20_000,
]
CONNECTIONS = [
    *([b"Connection: close"], [b"Connection: keep-alive"], [b"connection: Close"]),
    *([b"Connection: keep-alive, close"], [b"Connection: close", b"Connection: keep-alive"]),
    *([b"Connection: X-Dup, X-Spaces"], [b"Connection: Authorization, Host, Cookie"]),
    *([b"Connection: x-forwarded-for, via, x-request-id, x-token-client-id"], [b"Connection:"]),
    *([b"Connection: Upgrade", b"Upgrade: websocket"], [b"Connection: upgrade"]),
    *([b"Connection: Upgrade", b"Upgrade: h2c"], [b"Upgrade: websocket"]),
    *([b"Connection: content-length, te", b"TE: trailers"], [b"Connection: ,,, a b ,"]),
]
EXPECTATIONS = [b"Expect: 100-continue", b"expect: 100-Continue", b"Expect: 200-ok", b"Expect:"]

_LENGTH = b"Content-Length: %d"
_CHUNKED = b"Transfer-Encoding: chunked"
BODIES: list[tuple[list[bytes], bytes]] = [
    *(([_LENGTH % 5], b"hello"), ([_LENGTH % 0], b""), ([_LENGTH % 64], b"x" * 64)),
    *(([b"content-length:3"], b"abc"), ([_LENGTH % 3000], b"y" * 3000)),
    *(([_LENGTH % 65], b"x" * 65), ([_LENGTH % 99_999_999], b"too large"), ([_LENGTH % 5], b"hel")),
    *(([_LENGTH % 3], b"hello"), ([], b"hello"), ([_LENGTH % 0], b"hello")),
    *(([_LENGTH % 2], b"okGET /public/after HTTP/1.1\r\nHost: a\r\n\r\n"),),
    *(
        ([b"Content-Length: 5", b"Content-Length: 5"], b"hello"),
        ([b"Content-Length: +5"], b"hello"),
    ),
    *(
        ([b"Content-Length: 5", b"Content-Length: 4"], b"hello"),
        ([b"Content-Length: 5, 5"], b"hello"),
    ),
    *(([b"Content-Length: -5"], b"hello"), ([b"Content-Length: 0x5"], b"hello")),
    *(([b"Content-Length:"], b"hello"), ([b"Content-Length: 5 "], b"hello")),
    *(
        ([b"Content-Length: 00005"], b"hello"),
        ([b"Content-Length: 99999999999999999999"], b"hello"),
    ),
    *(([_CHUNKED], b"5\r\nhello\r\n0\r\n\r\n"), ([_CHUNKED], b"0\r\n\r\n")),
    *(([_CHUNKED], b"5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n"),),
    *(([_CHUNKED], b"50\r\n" + b"x" * 80 + b"\r\n0\r\n\r\n"), ([_CHUNKED], b"5\r\nhel")),
    *(([_CHUNKED], b"5\r\nhello\r\n"), ([_CHUNKED], b"Z\r\nhello\r\n0\r\n\r\n")),
    *(([_CHUNKED], b"5\nhello\n0\n\n"), ([_CHUNKED], b"3\r\nhello\r\n0\r\n\r\n")),
    *(([b"transfer-encoding: Chunked"], b"0\r\n\r\n"), ([_CHUNKED, _CHUNKED], b"0\r\n\r\n")),
    *(([b"Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n"), ([b"Transfer-Encoding: gzip"], b"x")),
    *(([b"Transfer-Encoding: identity"], b""), ([b"Transfer-Encoding:"], b"")),
    *(([_CHUNKED, _LENGTH % 5], b"0\r\n\r\n"), ([_LENGTH % 5, _CHUNKED], b"0\r\n\r\n")),
]
SEPARATORS = [b"\n", b"\r\r\n", b"\r"]
PREFIXES = [b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\x00", b"\x16\x03\x01"]


@dataclass(frozen=True)
class Ask:
    """One request as bytes; ``tokens`` are those that it shows."""

    data: bytes
    to_head: bool = False
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Talk:
    """What a client sends, and when.

    ``segments`` arrive one by one, ``apart`` if each only after all that the one before it led
    to. With ``held`` the backend answers only when all is sent. ``ending`` is what the client
    does before it has all answers: "stay", or "leave" or "vanish" without them.
    """

    world: str
    asks: tuple[Ask, ...]
    segments: tuple[bytes, ...]
    apart: bool
    held: bool
    ending: str
    setting: Setting

    def __repr__(self) -> str:
        lines = ",\n    ".join(repr(segment) for segment in self.segments)
        return (
            f"Talk in {self.world!r}: [\n    {lines}\n], apart={self.apart}, held={self.held}, "
            f"ending={self.ending!r}, {self.setting}"
        )


GOOD: dict[str, Any] = {
    "method": "GET",
    "target": b"/orders",
    "version": b"HTTP/1.1",
    "host": [b"Host: gateway.test"],
    "token": "good",
    "fields": [],
    "malformed": [],
    "arbitrary": [],
    "connection": [],
    "expectation": [],
    "body": ([], b""),
    "separator": b"\r\n",
    "prefix": b"",
}
"""The parts of a good request."""

ODDITIES: dict[str, Sequence[Any]] = {
    "method": METHODS,
    "target": TARGETS,
    "version": VERSIONS,
    "host": HOSTS,
    "token": TOKENS,
    "authorization": AUTHORIZATIONS,
    "fields": [[line] for line in FIELDS],
    "malformed": [[line] for line in MALFORMED],
    "connection": CONNECTIONS,
    "expectation": [[line] for line in EXPECTATIONS],
    "body": BODIES,
    "separator": SEPARATORS,
    "prefix": PREFIXES,
}
"""What each part may be instead."""


def distinct(values: Sequence[Any]) -> list[Any]:
    """Return each value once; those to be met often stand there several times."""
    return [value for place, value in enumerate(values) if value not in values[:place]]


def build(part: dict[str, Any], lines: Sequence[bytes]) -> Ask:
    """Return the request of these parts, with these lines for its header section."""
    line = b" ".join([part["method"].encode(), part["target"], part["version"]])
    head = part["separator"].join([line, *lines, b"", b""])
    return Ask(
        part["prefix"] + head + part["body"][1],
        part["method"] == "HEAD",
        tuple(token for token in TOKENS if token.encode() in head),
    )


def header_lines(part: dict[str, Any]) -> list[bytes]:
    """Return the lines of the header section that these parts make."""
    names = ("fields", "malformed", "arbitrary", "connection", "expectation")
    return [
        *part["host"],
        *part.get("authorization", [f"Authorization: Bearer {part['token']}".encode()]),
        *(line for name in names for line in part[name]),
        *part["body"][0],
    ]


def talk_of(ask: Ask, world: str = "default", *, cached: bool = True, cut: int = 0) -> Talk:
    """Return the plain conversation that is one request, or one in two segments."""
    return Talk(
        world=world,
        asks=(ask,),
        segments=tuple(piece for piece in (ask.data[:cut], ask.data[cut:]) if piece),
        apart=True,
        held=False,
        ending="stay",
        setting=Setting(ask.tokens if cached else ()),
    )


_NAMES = st.sampled_from(
    [b"X-A", b"Host", b"Authorization", b"Content-Length", b"Connection", b"Via"]
)
_ODD: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.sampled_from(values) for name, values in ODDITIES.items()},
    "fields": st.lists(st.sampled_from(FIELDS), min_size=1, max_size=6),
    "arbitrary": st.builds(
        lambda name, value: [name + b":" + value], _NAMES, st.binary(max_size=8)
    ),
}
_OFTEN = ["fields", "body", "token", "target", "method", "version", "connection"]
_RESPECTS = st.lists(st.sampled_from([*_OFTEN * 4, *_ODD]), max_size=3)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Build a request that is odd in a few respects."""
    odd = draw(_RESPECTS)
    part = GOOD | {name: draw(strategy) for name, strategy in _ODD.items() if name in odd}
    lines = header_lines(part)
    return build(part, draw(st.permutations(lines)) if "fields" in odd else lines)


_ONE = st.lists(asks(), min_size=1, max_size=1)
_SEVERAL = st.lists(asks(), min_size=2, max_size=3)
_SELDOM = st.sampled_from([False, False, False, False, True])
_ENDINGS = st.sampled_from([*["stay"] * 6, "leave", "vanish"])
_WORLDS = st.sampled_from(list(WORLDS))


@st.composite
def talks(draw: st.DrawFn) -> Talk:
    """Build a conversation: mostly one request in one segment, also several, and split ones."""
    asked = tuple(draw(_SEVERAL if draw(_SELDOM) else _ONE))
    pieces = [ask.data for ask in asked]
    if draw(st.booleans()):
        data = b"".join(pieces)
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=2, unique=True)))
        pieces = [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
    tokens = {token for ask in asked for token in ask.tokens}
    return Talk(
        world=draw(_WORLDS),
        asks=asked,
        segments=tuple(piece for piece in pieces if piece),
        apart=draw(st.booleans()),
        held=draw(st.booleans()),
        ending=draw(_ENDINGS),
        setting=Setting(
            cached=() if draw(_SELDOM) else sorted(tokens),
            connected=draw(st.booleans()),
            store_fails=draw(_SELDOM),
        ),
    )
