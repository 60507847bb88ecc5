"""A backend's answers for both lanes: a good one, odd in a few respects."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from hypothesis import strategies as st

from lanes.far_ends import Reply


def _ask(line: bytes, *fields: bytes, content: bytes = b"") -> bytes:
    fields = (b"Host: a", b"Authorization: Bearer good", *fields)
    return b"\r\n".join([line, *fields, b"", b""]) + content


ASKS: dict[str, bytes] = {
    "GET": _ask(b"GET /orders HTTP/1.1"),
    "HEAD": _ask(b"HEAD /orders HTTP/1.1"),
    "POST": _ask(b"POST /orders HTTP/1.1", b"Content-Length: 5", content=b"hello"),
    "PUT": _ask(b"PUT /orders HTTP/1.1", b"Content-Length: 5", content=b"hello"),
    "DELETE": _ask(b"DELETE /orders HTTP/1.1"),
    "POST nothing": _ask(b"POST /orders HTTP/1.1", b"Content-Length: 0"),
    "GET and close": _ask(b"GET /orders HTTP/1.1", b"Connection: close"),
    "GET on HTTP/1.0": _ask(b"GET /orders HTTP/1.0"),
    "GET on HTTP/1.0, kept alive": _ask(b"GET /orders HTTP/1.0", b"Connection: keep-alive"),
    "HEAD on HTTP/1.0, kept alive": _ask(b"HEAD /orders HTTP/1.0", b"Connection: keep-alive"),
    "GET of a public path": _ask(b"GET /public HTTP/1.1"),
    "POST in chunks": _ask(
        b"POST /orders HTTP/1.1",
        b"Transfer-Encoding: chunked",
        content=b"5\r\nhello\r\n0\r\n\r\n",
    ),
}
"""Requests by a name that says what they are."""

STATUSES = [
    *[b"204", b"304"] * 4,
    *(b"201", b"206", b"301", b"401", b"404", b"418", b"500", b"503", b"599"),
    *(b"205", b"999", b"600", b"100", b"101", b"102", b"103", b"199", b"20", b"2000", b"abc"),
    *(b"-1", b"099", b"000", b"", b"2 0"),
]
REASONS = [
    *(b" ", b"", b" No \xe9", b" \xc3\xa9", b" a\tb", b" Not  at  all ", b" OK\x01", b" OK\x00"),
    *(b" " + b"r" * 2000, b"  OK"),
]
VERSIONS = [
    *[b"HTTP/1.0"] * 6,
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"http/1.1",
    b"ICY",
    b"HTTP/1",
]
FIELDS = b"""
Set-Cookie: a=1
Set-Cookie: b=2; Path=/
set-cookie: c=3
Content-Type: text/html; charset=utf-8
Content-Encoding: gzip
Server: test/1
Date: Tue, 15 Nov 1994 08:12:31 GMT
date: Tue, 15 Nov 1994 08:12:31 GMT
ETag: "x"
Location: http://127.0.0.1:9000/elsewhere
Location: /a b
WWW-Authenticate: Bearer realm="theirs"
WWW-Authenticate: Basic
Vary: Accept, Origin
Cache-Control: max-age=60
Via: 1.1 theirs
X-Request-ID: theirs
X-Dup: 1
x-dup: 2
X-DUP: 3
X-Empty:
X-No-Space:a
X-Colon: a:b: c
X-Latin: caf\xe9
X-UTF-8: caf\xc3\xa9
X_Under: 1
X-Odd!#$%&'*+.^`|~: 1
Connection: keep-alive
Connection: close
connection: Close
Connection: X-Dup, X-Empty
Connection: Set-Cookie, Content-Length, Date, Via, WWW-Authenticate
Connection: X-Request-ID
Connection:
Keep-Alive: timeout=5
Proxy-Connection: keep-alive
Proxy-Authenticate: Basic
Proxy-Authentication-Info: x
TE: trailers
Trailer: X-T
Upgrade: h2c
Alt-Svc: h3=":443"
""".strip().split(b"\n")
FIELDS += [b"X-Spaces:   a  b   ", b"X-Tab: a\tb\t", b"X-Long: " + b"x" * 9000]
MALFORMED = [
    *(b"X-Control: a\x01b", b"X-DEL: a\x7fb", b"X-NUL: \x00", b"X-Fold: a\r\n b", b"X-CR: a\rb"),
    *(
        b"X-LF: a\nX-Other: b",
        b"no colon",
        b": no name",
        b"X Space: 1",
        b"X-Before : 1",
        b"X-\xe9: 1",
    ),
    *(b" X-Indented: 1", b"X-Bracket[]: 1", b"", b"X-Huge: " + b"x" * 70_000),
    b"\r\n".join([b"X-Many: " + b"x" * 1000] * 70),
    b"\r\n".join([b"X-Many: x"] * 300),
]
_LENGTH = b"Content-Length: %d"
_CHUNKED = b"Transfer-Encoding: chunked"
CONTENTS: list[tuple[list[bytes], bytes]] = [
    *(([_LENGTH % 0], b""), ([], b""), ([], b"until the end"), ([_LENGTH % 5], b"hel")),
    *(([_CHUNKED], b"5\r\nhello\r\n0\r\n\r\n"), ([_CHUNKED], b"0\r\n\r\n")),
    ([_CHUNKED], b"5;ext=1\r\nhello\r\n1 \r\n!\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n"),
    ([_CHUNKED], b"00005\r\nhello\r\n" * 3 + b"0;last\r\n\r\n"),
    ([_CHUNKED], b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
    *(([_CHUNKED], b"5\r\nhel"), ([_CHUNKED], b"5\r\nhello\r\n"), ([_CHUNKED], b"")),
    *(([_CHUNKED], b"Z\r\nhello\r\n0\r\n\r\n"), ([_CHUNKED], b"3\r\nhello\r\n0\r\n\r\n")),
    *(([_CHUNKED], b"5\nhello\n0\n\n"), ([_CHUNKED], b"5\r\nhello0\r\n\r\n")),
    *(([_CHUNKED], b"5\r\nhello\r\n-1\r\n\r\n"), ([_CHUNKED], b"fffffffffffffffff\r\nhello")),
    *(([b"transfer-encoding: Chunked"], b"0\r\n\r\n"), ([_CHUNKED, _CHUNKED], b"0\r\n\r\n")),
    ([b"Transfer-Encoding: gzip, chunked"], b"5\r\nhello\r\n0\r\n\r\n"),
    ([b"Transfer-Encoding: chunked, gzip"], b"5\r\nhello\r\n0\r\n\r\n"),
    ([b"Transfer-Encoding: chunked, chunked"], b"5\r\nhello\r\n0\r\n\r\n"),
    *(([b"Transfer-Encoding: gzip"], b"hello"), ([b"Transfer-Encoding: identity"], b"hello")),
    *(([b"Transfer-Encoding:"], b"hello"), ([_CHUNKED, _LENGTH % 5], b"5\r\nhello\r\n0\r\n\r\n")),
    ([_LENGTH % 5, _CHUNKED], b"5\r\nhello\r\n0\r\n\r\n"),
    *(([_LENGTH % 5, _LENGTH % 5], b"hello"), ([_LENGTH % 5, _LENGTH % 4], b"hello")),
    *(([b"Content-Length: 5, 5"], b"hello"), ([b"Content-Length: +5"], b"hello")),
    *(([b"Content-Length: -5"], b"hello"), ([b"Content-Length: 0x5"], b"hello")),
    *(([b"Content-Length:"], b"hello"), ([b"Content-Length: 00005 "], b"hello")),
    *(([b"Content-Length: 99999999999999999999"], b"hello"), ([b"content-length:3"], b"abc")),
    *(([_LENGTH % 100_000], b"x" * 100_000), ([_LENGTH % 3], b"hello")),
    ([_CHUNKED], b"10000\r\n" + b"y" * 65_536 + b"\r\n0\r\n\r\n"),
]
INTERIM = [
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    *(b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 3),
    *(b"HTTP/1.1 103 \r\nContent-Length: 5\r\n\r\n", b"HTTP/1.0 100 Continue\r\n\r\n"),
    *(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",),
    *(b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n",),
]
PREFIXES = [b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\x00", b"<html>", b"\x15\x03\x01"]
TRAILING = [
    b"\r\n",
    b"x",
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    b"\x00" * 9,
]
SEPARATORS = [b"\n", b"\r\r\n", b"\r"]

GOOD: dict[str, Any] = {
    "interim": b"",
    "prefix": b"",
    "version": b"HTTP/1.1",
    "status": b"200",
    "reason": b" OK",
    "fields": [],
    "malformed": [],
    "content": ([_LENGTH % 5], b"hello"),
    "separator": b"\r\n",
    "trailing": b"",
    "then": "keep",
}
"""The parts of a good answer."""

ODDITIES: dict[str, Sequence[Any]] = {
    "interim": INTERIM,
    "prefix": PREFIXES,
    "version": VERSIONS,
    "status": STATUSES,
    "reason": REASONS,
    "fields": [[line] for line in FIELDS],
    "malformed": [[line] for line in MALFORMED],
    "content": CONTENTS,
    "separator": SEPARATORS,
    "trailing": TRAILING,
    "then": ["close", "reset"],
}
"""What each part may be instead."""


@dataclass(frozen=True)
class Answer:
    """A request, and what the backend says to it.

    With ``early`` it doesn't wait for the request's content. When asked ``again`` it says the
    same, otherwise it answers well. ``connected`` tells that the gateways hold an idle connection.
    """

    asked: str
    reply: Reply
    early: bool
    again: bool
    connected: bool


def build(part: dict[str, Any], lines: Sequence[bytes]) -> bytes:
    """Return the answer of these parts, with these lines for its header section."""
    line = part["version"] + b" " + part["status"] + part["reason"]
    head = part["separator"].join([line, *lines, b"", b""])
    content: bytes = part["content"][1]
    return b"".join([part["interim"], part["prefix"], head, content, part["trailing"]])


def header_lines(part: dict[str, Any]) -> list[bytes]:
    """Return the lines of the header section that these parts make."""
    return [*part["fields"], *part["malformed"], *part["content"][0]]


def plain(
    *pieces: bytes,
    asked: str = "GET",
    then: Literal["keep", "close", "reset"] = "keep",
    connected: bool = False,
) -> Answer:
    """Return an answer in these pieces, each by itself, to be given once."""
    reply = Reply([piece for piece in pieces if piece], then, apart=True)
    return Answer(asked, reply, early=False, again=False, connected=connected)


def fitting(part: dict[str, Any], asked: str) -> dict[str, Any]:
    """Return the parts without content where there is none to be (RFC 9112 §6.3)."""
    if asked.startswith("HEAD") or part["status"] in _BODILESS:
        return part | {"content": (part["content"][0], b"")}
    return part


_BODILESS = {b"100", b"101", b"102", b"103", b"199", b"204", b"304"}
_ODD: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.sampled_from(values) for name, values in ODDITIES.items()},
    "fields": st.lists(st.sampled_from(FIELDS), min_size=1, max_size=6),
}
_OFTEN = ["fields", "content", "status", "interim", "version", "then"]
_RESPECTS = st.lists(st.sampled_from([*_OFTEN * 3, *_ODD]), max_size=4)
_SELDOM = st.sampled_from([False, False, False, False, True])
_ASKED = st.sampled_from(["GET", *ASKS])
_OF_HANDLERS = {name for name in ASKS if "HTTP/1.0" in name or "chunks" in name}


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Build an answer that is odd in a few respects: mostly in one piece, and whole."""
    asked = draw(_ASKED)
    odd = draw(_RESPECTS)
    part = GOOD | {name: draw(strategy) for name, strategy in _ODD.items() if name in odd}
    if not draw(_SELDOM):
        part = fitting(part, asked)
    lines = header_lines(part)
    data = build(part, draw(st.permutations(lines)) if "fields" in odd else lines)
    if draw(_SELDOM):
        behind = len(part["content"][1]) + len(part["trailing"])
        data = data[: len(data) - draw(st.integers(0, draw(st.sampled_from([behind, len(data)]))))]
    cuts: list[int] = []
    if draw(st.booleans()):
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3, unique=True)))
    pieces = tuple(data[start:end] for start, end in pairwise([0, *cuts, len(data)]) if start < end)
    return Answer(
        asked=asked,
        reply=Reply(pieces, part["then"], apart=draw(st.booleans())),
        early=draw(_SELDOM),
        again=draw(_SELDOM),
        # Each lane has idle connections of its own, and these take the handlers on both sides.
        connected=draw(st.booleans()) and asked not in _OF_HANDLERS,
    )
