"""Backends that say too much, too slowly or nonsense: in either lane nobody else hears of it."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lanes.answering import ASKS
from lanes.examples import many_examples
from lanes.far_ends import GOOD_ANSWER, Reply, good_answer
from lanes.messages import Message, take_message
from lanes.pair import Lane, Pairs, Setting

PLAIN = b"HTTP/1.1 200 OK\r\n"
SECRET = PLAIN + b"Content-Length: 6\r\n\r\nsecret"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n"
WHOLE = [
    SECRET,
    PLAIN + CHUNKS,
    PLAIN + b"\r\nsecret",
    b"HTTP/1.1 204 No Content\r\n\r\n" + SECRET,
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nsecret",
    b"HTTP/1.1 205 Reset Content\r\n" + CHUNKS,
    b"HTTP/1.1 103 Early Hints\r\nLink: <secret>\r\n\r\n" + SECRET,
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 6\r\n\r\nsecret" + SECRET,
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + CHUNKS,
    PLAIN + b"Content-Length : 6\r\nX-A: b\r\n c\r\n\r\nsecret",
]
INSERTED = [
    *(b"", b" ", b"\r\n", b"\n", b"\r", b"\0", b"\t", b":", b"5", b"0\r\n\r\n", b"\r\n\r\n"),
    *(b"\r\nContent-Length: 3", b"\r\nTransfer-Encoding: chunked", b"\r\nConnection: close"),
    *(b"\xff", SECRET, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 304 x\r\n\r\n"),
]


@st.composite
def mutated(draw: st.DrawFn) -> list[bytes]:
    """Take one or two answers, insert, drop or double what may matter, and cut that in pieces."""
    data = b"".join(draw(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        dropped = draw(st.sampled_from([0, 0, 1, 2, 7]))
        data = data[:at] + draw(st.sampled_from(INSERTED)) + data[at + dropped :]
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=3))
    places = sorted({0, len(data), *cuts})
    return [data[start:end] for start, end in pairwise(places)]


@many_examples
@given(
    asked=st.sampled_from(["GET", "HEAD", "POST", "GET on HTTP/1.0"]),
    pieces=mutated(),
    connected=st.booleans(),
)
@example(asked="HEAD", pieces=[SECRET], connected=True)
@example(asked="GET", pieces=[GOOD_ANSWER, SECRET], connected=True)
def test_no_mutation_of_an_answer_reaches_another_client(
    pairs: Pairs, asked: str, pieces: list[bytes], connected: bool
) -> None:
    """Whatever a backend said to one, and when, the next client gets its own answer."""
    with pairs.talking("default", Setting(["good"], connected=connected)) as pair:
        for lane in pair.lanes:
            lane.backend.answer = _once(Reply(pieces, apart=True))
        pair.send(ASKS[asked])
        pair.go_on()
        pair.loop.advance(70)  # longer than limits.read_timeout
        for lane in pair.lanes:
            lane.backend.answer = good_answer
            lane.client.transport.feed_eof()
        pair.loop.settle()
        for lane in pair.lanes:
            lane.run(lane.connect())
        pair.send(ASKS["GET"])
        pair.loop.advance(1)
        for lane in pair.lanes:
            answer, rest = take_message(lane.client.stream, answer=True)
            assert (answer.status, answer.body, rest) == (200, b"ok", b"")


def _once(reply: Reply) -> Callable[[Message], Reply]:
    replies = [reply]
    return lambda request: replies.pop() if replies else good_answer(request)


SLOW = {
    "interim answers": [b"HTTP/1.1 102 Processing\r\n\r\n"] * 5 + [GOOD_ANSWER],
    "fields": [PLAIN, *[b"X-A: b\r\n"] * 4, b"Content-Length: 2\r\n\r\nok"],
    "bytes": [GOOD_ANSWER[:1], GOOD_ANSWER[1:2], GOOD_ANSWER[2:3], GOOD_ANSWER[3:]],
    "content": [PLAIN + b"Content-Length: 2\r\n\r\n", b"o", b"k"],
    "chunks": [
        PLAIN + b"Transfer-Encoding: chunked\r\n\r\n",
        b"2\r",
        b"\no",
        b"k\r\n0\r\n",
        b"\r\n",
    ],
}


@pytest.mark.parametrize("asked", ["GET", "POST", "POST in chunks", "GET on HTTP/1.0"])
@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW)
def test_an_upstream_that_says_something_now_and_then_is_not_silent(
    pairs: Pairs, pieces: list[bytes], asked: str
) -> None:
    """``limits.read_timeout`` is silence, within the header section as behind it."""
    with pairs.talking("default", Setting(["good"], connected=False)) as pair:
        for lane in pair.lanes:
            lane.backend.answer = lambda _: Reply(pieces, apart=True)
        pair.send(ASKS[asked])
        for _ in pieces[1:]:
            pair.loop.advance(50)  # of the 60 that limits.read_timeout has
            for lane in pair.lanes:
                lane.backend.go_on()
            pair.loop.settle()
        for lane in pair.lanes:
            assert _final(lane) == (200, b"ok")


def _final(lane: Lane) -> tuple[int, bytes | None]:
    rest = lane.client.stream
    while True:
        answer, rest = take_message(rest, answer=True, ended=lane.client.end == "closed")
        if answer.status >= 200:
            return answer.status, answer.body
