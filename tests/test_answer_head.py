"""Header sections of upstreams' answers: what they say, and which could say two things."""

import pytest

from gateway.answer_head import ReceivedHead, inspect_answer
from gateway.errors import UpstreamInvalid

OK = b"HTTP/1.1 200 OK\r\n"


def fields(*lines: bytes) -> list[tuple[bytes, bytes]]:
    return list(inspect_answer(OK + b"".join([line + b"\r\n" for line in lines]) + b"\r\n").fields)


def refused(section: bytes) -> str:
    with pytest.raises(UpstreamInvalid) as caught:
        inspect_answer(section)
    return caught.value.cause


@pytest.mark.parametrize(
    ("line", "version", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", (1, 1), 200, b"OK"),
        (b"HTTP/1.0 404 Not at all", (1, 0), 404, b"Not at all"),
        (b"HTTP/1.1 200 ", (1, 1), 200, b""),
        (b"HTTP/1.1 200", (1, 1), 200, b""),
        (b"HTTP/1.1 999 x", (1, 1), 999, b"x"),
        (b"HTTP/1.1 200 caf\xe9 \xc3\xa9", (1, 1), 200, b"caf\xe9 \xc3\xa9"),
        (b"HTTP/1.1 200 a\tb", (1, 1), 200, b"a\tb"),
        (b"HTTP/1.1 200 a\x01b\x7f\x1bc", (1, 1), 200, b"a b  c"),
    ],
)
def test_a_status_line(line: bytes, version: tuple[int, int], status: int, reason: bytes) -> None:
    """Its reason passes in any encoding, with spaces for control bytes."""
    head = inspect_answer(line + b"\r\n\r\n")
    assert (head.version, head.status, head.reason) == (version, status, reason)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"HTTP/1.2 200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1 200 O\0K",
        b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"ICY 200 OK",
    ],
)
def test_no_status_line(line: bytes) -> None:
    """What isn't that of HTTP/1.0 or 1.1 is no answer, nor is one with NUL."""
    assert refused(line + b"\r\n\r\n") in {"status_line", "field"}


@pytest.mark.parametrize(
    "line",
    [b"Content-Length : 5", b"Content-Length\t: 5", b"content-length \t :5", b"Content-Length: 5 "],
)
def test_space_before_the_colon_hides_no_length(line: bytes) -> None:
    """It is removed, and the field judged and passed on as any other (RFC 9112 §5.1)."""
    head = inspect_answer(OK + line + b"\r\n\r\n")
    assert head.content.length == 5
    assert [(name.lower(), value) for name, value in head.fields] == [(b"content-length", b"5")]


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"transfer-encoding"])
def test_space_before_the_colon_hides_no_chunks(name: bytes) -> None:
    """A length beside them is refused, though the space would hide it from a lenient parser."""
    assert inspect_answer(OK + name + b" : chunked\r\n\r\n").content.chunked
    assert refused(OK + name + b" : chunked\r\nContent-Length: 5\r\n\r\n") == "framing"


def test_space_before_the_colon_hides_no_option() -> None:
    """``Connection`` is obeyed, and a cookie is a cookie."""
    assert inspect_answer(OK + b"Connection : close\r\nContent-Length: 0\r\n\r\n").closes
    assert fields(b"Set-Cookie : a=1") == [(b"Set-Cookie", b"a=1")]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"X: caf\xe9 \xff\xc3\xa9\x80", b"caf\xe9 \xff\xc3\xa9\x80"),
        (b"X:  a\tb \t", b"a\tb"),
        (b"X:", b""),
        (b"X: a\x01b\x1b[2J\x7f", b"a b [2J"),
        (b"X: a\x0bb\x0cc", b"a b c"),
        (b"X: a\r\n b", b"a b"),
        (b"X: a\r\n\t b\r\n  c", b"a b c"),
        (b"X: a\r\n ", b"a"),
        (b"X: /a?b=c:d", b"/a?b=c:d"),
    ],
)
def test_a_value(line: bytes, value: bytes) -> None:
    """Bytes from 0x80 pass, control bytes and folds are spaces (RFC 9110 §5.5, RFC 9112 §5.2)."""
    assert fields(line) == [(b"X", value)]


@pytest.mark.parametrize(
    "line",
    [
        b"X: a\0b",
        b"no colon",
        b": no name",
        b"X Y: a",
        b"X[]: a",
        b"X-\xe9: a",
        b"X\x01: a",
        b" X: folded onto nothing",
        b"Content-Length: 5\x01",
        b"Content-Length: \x0b5",
        b"Transfer-Encoding: chunked\x0c",
        b"Connection: close\x01",
    ],
)
def test_what_is_no_field(line: bytes) -> None:
    """NUL, a name that is none, and control bytes in what frames a message are refused."""
    assert refused(OK + line + b"\r\n\r\n") == "field"


@pytest.mark.parametrize(
    "line",
    [
        b"Location: /x\nSet-Cookie: evil=1",
        b"Location: /x\rSet-Cookie: evil=1",
        b"Location: /x\n\rSet-Cookie: evil=1",
        b"Location: /x\r\r\nSet-Cookie: evil=1",
        b"X: a\n",
        b"\rX: a",
        b"X: a\n\tb",
    ],
)
def test_a_line_end_within_a_value_makes_no_field(line: bytes) -> None:
    """A line feed or a carriage return alone was put there by somebody: there is no answer."""
    assert refused(OK + line + b"\r\n\r\n") == "line_end"


def test_a_line_feed_in_the_reason_makes_no_field() -> None:
    """A reason phrase isn't the place either."""
    assert refused(b"HTTP/1.1 200 OK\nSet-Cookie: a=1\r\n\r\n") == "line_end"


def test_line_feeds_alone() -> None:
    """Where all lines end so, as old scripts have it, they are lines (RFC 9112 §2.2)."""
    head = inspect_answer(b"HTTP/1.1 200 OK\nX: a\nContent-Length: 2\n\n")
    assert head.fields == ((b"X", b"a"), (b"Content-Length", b"2"))
    assert refused(b"HTTP/1.1 200 OK\nX: a\n\r\n") == "line_end"


@pytest.mark.parametrize(
    ("section", "closes"),
    [
        (OK + b"Content-Length: 0\r\n", False),
        (OK + b"Content-Length: 0\r\nConnection: x, Close\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: keep-alive\r\nConnection: close\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n", False),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: Keep-Alive\r\n", True),
        (OK, True),
        (b"HTTP/1.1 204 No Content\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\n", False),
    ],
)
def test_whether_a_connection_goes_on(section: bytes, closes: bool) -> None:
    """It does unless the answer says otherwise, or leaves a doubt where it ends."""
    assert inspect_answer(section + b"\r\n").closes is closes


def test_an_answer_to_head_without_a_length_keeps_its_connection() -> None:
    """There is no content that could end with it."""
    assert not inspect_answer(OK + b"\r\n", to_head=True).closes


def test_too_many_fields() -> None:
    """There is a bound, which can be another one."""
    section = OK + b"X: a\r\n" * 4 + b"\r\n"
    assert len(inspect_answer(section, most_fields=4).fields) == 4
    with pytest.raises(UpstreamInvalid) as caught:
        inspect_answer(section, most_fields=3)
    assert caught.value.cause == "too_many_fields"


@pytest.mark.parametrize(
    ("status", "interim"), [(100, True), (101, False), (103, True), (199, True), (200, False)]
)
def test_which_answers_are_interim(status: int, interim: bool) -> None:
    """All below 200, but for a switch of protocols, after which there is no other answer."""
    head: ReceivedHead = inspect_answer(b"HTTP/1.1 %d x\r\n\r\n" % status)
    assert head.is_interim is interim
