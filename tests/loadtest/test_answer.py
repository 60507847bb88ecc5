"""Answers read from bytes."""

import pytest

from gateway.loadtest.answer import LARGEST_BODY, AnswerReader, InvalidAnswer


@pytest.mark.parametrize(
    ("pieces", "status", "reusable"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], 200, True),
        ([b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 2\r\n\r\nok"], 200, True),
        ([b"HTTP/1.1 401 No\r\nContent-Le", b"ngth: 2\r\n\r", b"\no", b"k"], 401, True),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], 200, True),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, True),
        ([b"HTTP/1.1 304 Not Modified\r\n\r\n"], 304, True),
        ([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"], 200, False),
        ([b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"], 200, False),
        (
            [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"],
            403,
            True,
        ),
        (
            [b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
            200,
            True,
        ),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n"], 200, False),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nnonsense"], 200, False),
        (
            [
                b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n",
                b"Content-Length: 0\r\n\r\n",
            ],
            401,
            False,
        ),
    ],
)
def test_answers(pieces: list[bytes], status: int, reusable: bool) -> None:
    """An answer is complete by its own length, and what nobody asked for spoils the connection."""
    reader = AnswerReader()
    for piece in pieces:
        reader.feed(piece)
    assert (status, True, reusable) == (reader.status, reader.complete, reader.reusable)


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 20", False),
        (b"", False),
    ],
)
def test_the_end_of_the_connection(data: bytes, complete: bool) -> None:
    """The end completes only an answer that gave no length."""
    reader = AnswerReader()
    reader.feed(data)
    before, after = reader.complete, reader.end()
    assert (before, after) == (False, complete)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    """Bytes that aren't an HTTP/1.1 answer are refused."""
    with pytest.raises(InvalidAnswer):
        AnswerReader().feed(data)


def test_one_after_another() -> None:
    """A reader reads the answers of a whole connection, and keeps bodies where that is asked."""
    reader = AnswerReader(keep_body=True)
    seen = []
    for body in (b"first", b"", b"third"):
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        seen.append((reader.complete, reader.reusable, reader.body))
        reader.next_answer()
    assert seen == [(True, True, b"first"), (True, True, b""), (True, True, b"third")]


def test_bodies_are_bounded_and_dropped_unless_wanted() -> None:
    """A kept body has a bound; one that isn't kept may be of any size."""
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LARGEST_BODY + 1)
    body = b"x" * (LARGEST_BODY + 1)
    plain = AnswerReader()
    plain.feed(large + body)
    assert (plain.complete, plain.body) == (True, b"")
    with pytest.raises(InvalidAnswer):
        AnswerReader(keep_body=True).feed(large + body)
