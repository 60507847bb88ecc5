"""Answers taken apart as they come: where each ends, and what follows it."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answer_head import ReceivedHead
from gateway.answer_reader import AnswerReader, ChunkedContent, End, Part
from gateway.errors import UpstreamInvalid

PLAIN = b"HTTP/1.1 200 OK\r\n"
OK = PLAIN + b"Content-Length: 2\r\n\r\nok"
CHUNKED = PLAIN + b"Transfer-Encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"


def told(parts: list[Part]) -> list[Any]:
    """Return parts in short: statuses, content put together, ends."""
    short: list[Any] = []
    for part in parts:
        if isinstance(part, bytes):
            before = short.pop() if short and isinstance(short[-1], bytes) else b""
            short.append(before + part)
        else:
            short.append(part.status if isinstance(part, ReceivedHead) else part)
    return short


def read(*pieces: bytes, to_head: bool = False) -> list[Any]:
    """Return what an answer in these pieces brings."""
    reader = AnswerReader(to_head=to_head)
    return told([part for piece in pieces for part in reader.feed(piece)])


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OK, [200, b"ok", End.CLEAN]),
        (PLAIN + b"Content-Length: 0\r\n\r\n", [200, End.CLEAN]),
        (PLAIN + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", [200, b"ok", End.LAST]),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", [200, b"ok", End.CLEAN]),
        (CHUNKED + b"1;a=b\r\no\r\n1 \r\nk\r\n0;c\r\n\r\n", [200, b"ok", End.CLEAN]),
        (CHUNKED + b"002\r\nok\r\n00\r\nX-T: 1\r\nX-U: 2\r\n\r\n", [200, b"ok", End.CLEAN]),
        (CHUNKED + b"0\r\n\r\n", [200, End.CLEAN]),
        (PLAIN + b"\r\nsome", [200, b"some"]),
        (HINTS + OK, [103, 200, b"ok", End.CLEAN]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + OK, [100, 100, 200, b"ok", End.CLEAN]),
        (b"HTTP/1.1 204 No Content\r\n\r\n", [204, End.CLEAN]),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", [304, End.CLEAN]),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [200, End.LAST]),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", [200, b"ok", End.CLEAN]),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: a\r\n\r\n\x81\0", [101, b"\x81\0"]),
    ],
    ids=lambda data: data.decode("latin-1").replace("\r\n", "|") if type(data) is bytes else "",
)
def test_where_an_answer_ends(data: bytes, expected: list[Any]) -> None:
    """However it is framed, and wherever it is cut in two, or byte for byte."""
    assert read(data) == expected
    assert read(*cut(data, 1)) == expected
    for at in range(len(data)):
        assert read(data[:at], data[at:]) == expected


ENDS = {
    "length": OK,
    "chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"0\r\nX-T: 1\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204 with a length": b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n",
    "204 in chunks": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    "205": b"HTTP/1.1 205 Reset Content\r\nContent-Length: 6\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
    "after hints": HINTS + OK,
}


@pytest.mark.parametrize("whole", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("excess", [b"x", b"\r\n", b"secret", b"6\r\nsecret\r\n0\r\n\r\n", NEXT])
def test_what_follows_an_answer_is_nobodys(whole: bytes, excess: bytes) -> None:
    """The answer is whole, and the last on its connection, in whichever segment the rest comes."""
    for at in range(len(whole) + len(excess)):
        reader = AnswerReader(to_head=False)
        data = whole + excess
        parts = reader.feed(data[:at]) + reader.feed(data[at:])
        assert reader.excess
        short = told(parts)
        assert short[-1] in ({End.LAST} if at < len(whole) else set(End))
        assert b"secret" not in b"".join([part for part in parts if isinstance(part, bytes)])
        assert [part for part in short if isinstance(part, int)][-1] in {200, 204, 205, 304}


@pytest.mark.parametrize(
    "framed", [b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_content_after_head_is_nobodys(framed: bytes) -> None:
    """An answer to HEAD has none, whatever it announces."""
    data = PLAIN + framed + b"\r\n"
    assert read(data, to_head=True) == [200, End.CLEAN]
    reader = AnswerReader(to_head=True)
    assert told(reader.feed(data + NEXT)) == [200, End.LAST]
    assert reader.excess


@pytest.mark.parametrize(
    "beginning", [b"\x16\x03\x01", b"SSH-2.0", b"\r\n", b" HTTP/1.1", b"\0", b"http/1.1", b"HTTP/2"]
)
def test_what_does_not_begin_as_an_answer(beginning: bytes) -> None:
    """It is told at once, and that it may be left over from another exchange."""
    reader = AnswerReader(to_head=False)
    with pytest.raises(UpstreamInvalid):
        reader.feed(beginning)
    assert not reader.began


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"-1\r\n",
        b" 2\r\nok\r\n",
        b"0x2\r\nok\r\n",
        b"2\r\nok0\r\n\r\n",
        b"2\r\nok\n0\r\n\r\n",
        b"2\nok\r\n0\r\n\r\n",
        b"2\r\nok\r\n0\n\n",
        b"2;a\rb\r\nok\r\n",
        b"2;a\0\r\nok\r\n",
        b"\r\n",
        b"1" * 17 + b"\r\n",
        b"2;" + b"a" * 5000,
        b"0\r\n" + NEXT,
        b"0\r\nX: a\nY: b\r\n\r\n",
        b"0\r\nX: \0\r\n\r\n",
        b"0\r\n" + b"X: a\r\n" * 20_000,
    ],
    ids=lambda chunks: repr(chunks[:20]),
)
def test_what_are_no_chunks(chunks: bytes) -> None:
    """They are told at once, and not taken for the end (RFC 9112 §7.1)."""
    with pytest.raises(UpstreamInvalid):
        ChunkedContent().feed(chunks)
    with pytest.raises(UpstreamInvalid):
        read(*cut(CHUNKED + chunks, 1))


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    rest=st.binary(max_size=5),
)
def test_chunks_are_undone(pieces: list[bytes], cuts: list[int], rest: bytes) -> None:
    """The content is what was put in chunks, however they are cut, and what follows is known."""
    data = (
        b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n" + rest
    )
    chunks, content, followed = ChunkedContent(), b"", None
    places = sorted({0, len(data), *[cut for cut in cuts if cut < len(data)]})
    for start, end in pairwise(places):
        if followed is not None:
            followed += data[start:end]
            continue
        some, followed = chunks.feed(data[start:end])
        content += some
    assert (content, followed) == (b"".join(pieces), rest)


def test_an_answer_that_ends_with_its_connection() -> None:
    """Its end is clean only there, and the only one."""
    reader = AnswerReader(to_head=False)
    assert told(reader.feed(PLAIN + b"\r\nsome") + reader.feed(b" more")) == [200, b"some more"]
    assert reader.feed_eof() == [End.LAST]
    assert reader.feed_eof() == []


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 2", HINTS, OK[:-1], CHUNKED, CHUNKED + b"2\r\nok\r\n0\r\n", OK[:20]]
)
def test_an_answer_that_is_cut_off(said: bytes) -> None:
    """The end of the connection isn't that of an answer with another end."""
    reader = AnswerReader(to_head=False)
    reader.feed(said)
    with pytest.raises(UpstreamInvalid) as caught:
        reader.feed_eof()
    assert caught.value.cause == "closed"


def test_nothing_is_missing_of_a_whole_answer() -> None:
    """Nor of a connection that speaks another protocol by then."""
    for said in (OK, b"HTTP/1.1 101 Switching\r\nUpgrade: a\r\n\r\n"):
        reader = AnswerReader(to_head=False)
        reader.feed(said)
        assert reader.feed_eof() == []


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (PLAIN + b"X: " + b"x" * 70_000, "too_large"),
        (PLAIN + b"X: " + b"x" * 70_000 + b"\r\n\r\n", "too_large"),
        (PLAIN + (b"X: " + b"x" * 5000 + b"\r\n") * 60, "too_large"),
        (PLAIN + b"X: a\r\n" * 200 + b"\r\n", "too_many_fields"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 1001, "too_many_interim"),
        ((b"HTTP/1.1 103 x\r\nLink: " + b"x" * 5000 + b"\r\n\r\n") * 60, "too_many_interim"),
    ],
)
def test_what_is_held_is_bounded(said: bytes, cause: str) -> None:
    """Line by line, all in all, and interim answers together, in one segment or in many."""
    for size in (len(said), 1000):
        with pytest.raises(UpstreamInvalid) as caught:
            read(*cut(said, size))
        assert caught.value.cause == cause


def test_an_interim_answer_that_announces_content_leaves_a_doubt() -> None:
    """The answer that follows is believed, but is the last on its connection."""
    assert read(b"HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\n" + OK)[-1] is End.LAST


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Take some answers, and insert, drop or double what may matter."""
    data = b"".join(draw(st.lists(st.sampled_from([*ENDS.values(), HINTS, OK]), min_size=1)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        inserted = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b":", b"\0", b"7", b";"])
        )
        data = data[:at] + inserted + data[at + draw(st.integers(0, 3)) :]
    return data


@given(data=mutated(), cuts=st.lists(st.integers(0, 300), max_size=6), to_head=st.booleans())
def test_segments_make_no_difference(data: bytes, cuts: list[int], to_head: bool) -> None:
    """Whether it is an answer, where it ends, and what it says, however it is cut."""

    def outcome(pieces: list[bytes]) -> Any:
        reader = AnswerReader(to_head=to_head)
        parts: list[Part] = []
        try:
            for piece in pieces:
                parts += reader.feed(piece)
        except UpstreamInvalid:
            return None
        heads = [part for part in parts if isinstance(part, ReceivedHead)]
        content = b"".join([part for part in parts if isinstance(part, bytes)])
        return heads, content, reader.ended, reader.excess

    places = sorted({0, len(data), *[place for place in cuts if place < len(data)]})
    whole = outcome([data])
    assert outcome([data[start:end] for start, end in pairwise(places)]) == whole
    assert outcome(cut(data, 1)) == whole
