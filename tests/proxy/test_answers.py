"""Header sections of answers: which are simple, what they say, and what is kept of them."""

import tracemalloc
from dataclasses import replace

import pytest

from gateway.answer_head import inspect_answer
from gateway.errors import UpstreamInvalid
from gateway.proxy import answers
from gateway.proxy.answers import AnswerHead, AnswerHeads, read_head, render_interim
from gateway.proxy.remembered import ANSWERS_BYTES

OK = b"HTTP/1.1 200 OK"


SIMPLE = AnswerHead(
    status=200,
    start=b"HTTP/1.1 200 OK\r\n",
    dated=False,
    framed=b"Content-Length: 2\r\n",
    chunked=False,
    content_length=2,
    bodiless=False,
    closes=False,
)


def heads() -> AnswerHeads:
    return AnswerHeads()


def section(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line, *fields])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            section(OK, b"Content-Length: 2", b"Content-Type: a/b"),
            replace(SIMPLE, start=b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n"),
        ),
        (
            section(b"HTTP/1.1 404 Nope, sorry", b"Date: now", b"Content-Length: 0"),
            replace(
                SIMPLE,
                status=404,
                start=b"HTTP/1.1 404 Nope, sorry\r\nDate: now\r\n",
                dated=True,
                framed=b"Content-Length: 0\r\n",
                content_length=0,
            ),
        ),
        (
            section(OK, b"Connection: close, X-Hop", b"X-Hop: a", b"content-length: 3"),
            replace(SIMPLE, framed=b"Content-Length: 3\r\n", content_length=3, closes=True),
        ),
        (
            section(b"HTTP/1.0 200 OK", b"Content-Length: 3"),
            replace(SIMPLE, framed=b"Content-Length: 3\r\n", content_length=3, closes=True),
        ),
        (
            section(b"HTTP/1.1 204 No Content", b"X-A: b"),
            replace(
                SIMPLE,
                status=204,
                start=b"HTTP/1.1 204 No Content\r\nX-A: b\r\n",
                framed=b"",
                content_length=None,
                bodiless=True,
            ),
        ),
        (
            section(b"HTTP/1.1 304 Not Modified", b'ETag: "a"', b"Content-Length: 9"),
            replace(
                SIMPLE,
                status=304,
                start=b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n',
                framed=b"Content-Length: 9\r\n",
                content_length=9,
                bodiless=True,
            ),
        ),
        (
            section(OK, b"Content-Length : 2", b"X-A\t:\tb\x01c "),
            replace(SIMPLE, start=b"HTTP/1.1 200 OK\r\nX-A: b c\r\n"),
        ),
        (
            section(b"HTTP/1.1 204 No Content", b"Content-Length: 7"),
            replace(
                SIMPLE,
                status=204,
                start=b"HTTP/1.1 204 No Content\r\n",
                framed=b"",
                content_length=None,
                bodiless=True,
                closes=True,
            ),
        ),
    ],
    ids=lambda given: given.split(b"\r\n")[0].decode() if isinstance(given, bytes) else "",
)
async def test_what_is_simple(given: bytes, expected: AnswerHead) -> None:
    """One final answer whose content has a length, or that has none."""
    assert heads().find(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        section(OK),
        section(OK, b"Transfer-Encoding: chunked"),
        section(OK, b"Transfer-Encoding: gzip"),
        section(OK, b"Transfer-Encoding: chunked", b"Content-Length: 3"),
        section(OK, b"Content-Length: 3", b"Content-Length: 4"),
        section(OK, b"Content-Length: 3, 3"),
        section(OK, b"Content-Length: -3"),
        section(OK, b"Content-Length: x"),
        section(b"HTTP/1.1 100 Continue"),
        section(b"HTTP/1.1 103 Early Hints", b"Content-Length: 0"),
        section(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: a"),
        section(b"HTTP/2 200 OK", b"Content-Length: 3"),
        section(b"HTTP/1.2 200 OK", b"Content-Length: 3"),
        section(b"ICY 200 OK", b"Content-Length: 3"),
        section(b"HTTP/1.1 OK", b"Content-Length: 3"),
        section(b"\r\nHTTP/1.1 200 OK", b"Content-Length: 3"),
        section(OK, b"no colon", b"Content-Length: 3"),
        section(OK, b"X-A: \0", b"Content-Length: 3"),
        b"",
        b"\x16\x03\x01",
    ],
    ids=lambda given: given.decode("latin-1").replace("\r\n", " | "),
)
async def test_what_is_not(given: bytes) -> None:
    """All else takes a parser of its own, and each time again the same is said of it."""
    known = heads()
    assert [known.find(given), known.find(given)] == [None, None]


async def test_what_is_known_is_not_learned_again() -> None:
    """A section that comes again is found; one that differs in a single byte is another."""
    known = heads()
    given = section(OK, b"Content-Length: 2")
    assert known.find(given) is known.find(given)
    other = known.find(section(OK, b"Content-Length: 3"))
    assert other is not None
    assert other.content_length == 3


@pytest.mark.parametrize(
    "field",
    [
        b"Set-Cookie: session=s3cret",
        b"set-cookie: a=s3cret",
        b"X-Auth-Token: s3cret",
        b"Authentication-Info: s3cret",
        b"WWW-Authenticate: Digest nonce=s3cret",
        b"X-Api-Key: s3cret",
        b"X-New-Password: s3cret",
        b"X-CSRF-TOKEN: s3cret",
        b"X-Secret: s3cret",
        b"X-Session-Id: s3cret",
        b"X-Credential: s3cret",
    ],
    ids=lambda field: field.decode(),
)
@pytest.mark.parametrize("line", [OK, b"HTTP/1.1 OK"])
async def test_what_may_be_secret_is_not_kept(field: bytes, line: bytes) -> None:
    """By a field's name: it is read each time, whether it is simple or not."""
    known = heads()
    given = section(line, b"Content-Length: 2", field)
    head = known.find(given)
    assert (head is not None) == (line == OK)
    if head is not None:
        assert b"s3cret" in head.start
    assert len(known._known) == 0


@pytest.mark.parametrize(
    ("given", "known", "secret"),
    [
        (b"\r\nHost: a\r\nAccept: token", 0, False),
        (b"\r\nAuthorization: x", 0, True),
        (b"\r\nAuthorization: x", 1, False),
        (b"\r\nAuthorization: x\r\nCookie: a", 1, True),
        (b"\r\nX-A: b\nCookie: a", 0, True),
        (b"\r\nX-A: b\rCookie: a", 0, True),
        (b"\r\nX-Author: a", 0, True),  # rather too many
        (b"\r\nUser-Agent: a\r\nAccept-Encoding: gzip", 0, False),
    ],
)
def test_which_names_are_secret(given: bytes, known: int, secret: bool) -> None:
    """Names count, not values; those that are known to be harmless are not counted."""
    assert answers.names_secret(given, known=known) is secret


@pytest.mark.parametrize("size", [10, 1000, 3000, 15_000])
async def test_new_answers_each_time_cost_what_is_known_not_memory(size: int) -> None:
    """An upstream that says something new each time fills a bounded part."""
    known = heads()
    tracemalloc.start()
    try:
        for number in range(4 * ANSWERS_BYTES // (size + 400)):
            known.find(section(OK, b"Content-Length: %d" % number, b"X-A: " + b"x" * size))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert known._known.held_bytes <= ANSWERS_BYTES
    assert taken < 1.25 * ANSWERS_BYTES + 100_000


@pytest.mark.parametrize(
    ("given", "to_head", "framed", "chunked"),
    [
        (
            section(OK, b"Transfer-Encoding: chunked"),
            False,
            b"Transfer-Encoding: chunked\r\n",
            True,
        ),
        (
            section(OK, b"Transfer-Encoding: Chunked"),
            False,
            b"Transfer-Encoding: chunked\r\n",
            True,
        ),
        (section(OK), False, b"Transfer-Encoding: chunked\r\n", True),
        (section(OK), True, b"", False),
        (section(OK, b"Transfer-Encoding: chunked"), True, b"", False),
        (section(OK, b"Content-Length: 7"), True, b"Content-Length: 7\r\n", False),
        (section(b"HTTP/1.1 204 No Content", b"Content-Length: 7"), False, b"", False),
    ],
)
async def test_how_an_answer_is_framed_for_the_client(
    given: bytes, to_head: bool, framed: bytes, chunked: bool
) -> None:
    """Without a length in chunks, and with none of it where there is no content."""
    head = read_head(inspect_answer(given + b"\r\n\r\n", to_head=to_head), to_head=to_head)
    assert (head.framed, head.chunked) == (framed, chunked)


def test_a_protocol_that_nobody_asked_for() -> None:
    """A switch of protocols can't be passed on."""
    given = section(b"HTTP/1.1 101 Switching Protocols", b"Connection: upgrade", b"Upgrade: a")
    with pytest.raises(UpstreamInvalid):
        read_head(inspect_answer(given + b"\r\n\r\n"), to_head=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            section(b"HTTP/1.1 103 Early Hints", b"Link: </a>", b"Connection: X-A", b"X-A: b"),
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        ),
        (section(b"HTTP/1.0 102 Processing"), b"HTTP/1.1 102 Processing\r\n\r\n"),
        (section(b"HTTP/1.1 103 x", b"Content-Length: 5"), b"HTTP/1.1 103 x\r\n\r\n"),
        (section(b"HTTP/1.1 103 x", b"X-Request-ID: y"), b"HTTP/1.1 103 x\r\n\r\n"),
        (section(b"HTTP/1.1 100 Continue", b"X-A: b"), b""),
    ],
    ids=lambda given: given.decode().replace("\r\n", "|"),
)
def test_an_interim_answer(given: bytes, expected: bytes) -> None:
    """It goes on without what is for one connection; 100 does not: the gateway says it itself."""
    assert render_interim(inspect_answer(given + b"\r\n\r\n")) == expected
