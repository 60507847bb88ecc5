"""A relay's decisions: who hears what, and when it is over."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PROTOCOL_ERROR,
    TEXT,
    WHOLE,
    FrameReader,
    Piece,
    frame,
)
from gateway.websocket_relay import End, Relay, Writes

ZERO = bytes(4)
CLIENT, UPSTREAM = End.CLIENT, End.UPSTREAM


def relay(*, most_message: int = 0) -> Relay:
    """Return a relay whose masks change nothing."""
    return Relay(new_key=lambda: ZERO, most_message=most_message)


def said(end: End, opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a frame as this end sends it."""
    return frame(opcode, payload, final=final, key=ZERO if end is CLIENT else b"")


def heard(end: End, opcode: int, payload: bytes = b"", *, final: bool = True) -> Writes:
    """Return the frame as this end gets it."""
    return {end: said(end.other, opcode, payload, final=final)}


def close(code: int, reason: bytes = b"") -> bytes:
    """Return the payload of a close frame."""
    return code.to_bytes(2, "big") + reason


@pytest.mark.parametrize("end", End)
def test_frames_cross(end: End) -> None:
    """Data and control frames, in their order, masked for the upstream alone."""
    both = relay()
    data = said(end, TEXT, b"a", final=False) + said(end, PING, b"p")
    first, second = heard(end.other, TEXT, b"a", final=False), heard(end.other, PING, b"p")
    assert both.receive(end, data) == {end.other: first[end.other] + second[end.other]}
    assert both.receive(end, said(end, CONTINUATION, b"b")) == heard(end.other, CONTINUATION, b"b")
    assert not both.is_closing


def test_each_frame_has_a_key_of_its_own() -> None:
    """A mask that the client chose would let it choose the bytes on the wire (RFC 6455 §10.3)."""
    keys = iter([b"aaaa", b"bbbb"])
    both = Relay(new_key=lambda: next(keys))
    writes = both.receive(CLIENT, frame(BINARY, b"x", key=b"zzzz") * 2)
    assert writes == {UPSTREAM: frame(BINARY, b"x", key=b"aaaa") + frame(BINARY, b"x", key=b"bbbb")}


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("payload", [b"", close(1000), close(4999, b"bye")])
def test_closing_in_good_order(end: End, payload: bytes) -> None:
    """The other end hears it as it was said; its answer brings the first one's code back."""
    both = relay()
    assert both.receive(end, said(end, CLOSE, payload)) == heard(end.other, CLOSE, payload)
    assert both.is_closing
    assert not both.is_over
    answer = both.receive(end.other, said(end.other, CLOSE, close(1000)))
    assert answer == heard(end, CLOSE, payload[:2])
    assert both.is_over


@pytest.mark.parametrize("end", End)
def test_last_words(end: End) -> None:
    """What is said to an end that has closed still arrives, until the sayer closes too."""
    both = relay()
    both.receive(end, said(end, CLOSE, close(1000)))
    last = said(end.other, TEXT, b"last words") + said(end.other, CLOSE, close(1000))
    words, answer = heard(end, TEXT, b"last words"), heard(end, CLOSE, close(1000))
    assert both.receive(end.other, last) == {end: words[end] + answer[end]}
    assert both.is_over


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize(
    "break_it",
    [
        lambda end: frame(TEXT, b"a", key=b"" if end is CLIENT else ZERO),
        lambda end: said(end, 3),
        lambda end: said(end, CLOSE, close(1006)),
        lambda end: said(end, CLOSE, b"\x03"),
    ],
)
def test_an_end_that_breaks_the_protocol(end: End, break_it: Callable[[End], bytes]) -> None:
    """It hears 1002, the other that it is lost; nothing more of it is read."""
    both = relay()
    lost = 1001 if end is CLIENT else 1014
    assert both.receive(end, break_it(end)) == {
        **heard(end, CLOSE, close(1002)),
        **heard(end.other, CLOSE, close(lost)),
    }
    assert both.violation is not None
    assert both.violation[0] is end
    assert both.violation[1].code == PROTOCOL_ERROR
    assert both.leaves(end)
    assert not both.leaves(end.other)
    assert both.receive(end, said(end, TEXT, b"more")) == {}
    assert both.receive(end.other, said(end.other, CLOSE, close(lost))) == {}
    assert both.lose(end) == {}
    assert both.is_over


@pytest.mark.parametrize("end", End)
def test_a_message_that_is_too_big(end: End) -> None:
    """Both ends hear 1009, who sent it and who was to get it."""
    both = relay(most_message=3)
    assert both.receive(end, said(end, TEXT, b"abc")) == heard(end.other, TEXT, b"abc")
    assert both.receive(end, said(end, TEXT, b"abcd")) == {
        **heard(end, CLOSE, close(1009)),
        **heard(end.other, CLOSE, close(1009)),
    }


@pytest.mark.parametrize("end", End)
def test_an_end_that_is_gone(end: End) -> None:
    """The other hears so, and is waited for no longer than it takes to answer."""
    both = relay()
    code = 1001 if end is CLIENT else 1014
    assert both.lose(end) == heard(end.other, CLOSE, close(code))
    assert both.leaves(end.other)
    assert both.receive(end.other, said(end.other, TEXT, b"to nobody")) == {}
    assert not both.is_over
    assert both.lose(end.other) == {}
    assert both.is_over


@pytest.mark.parametrize("end", End)
def test_an_end_that_is_gone_without_answering_a_close(end: End) -> None:
    """Whoever closed hears its own code, not that something went wrong."""
    both = relay()
    both.receive(end, said(end, CLOSE, close(1000, b"bye")))
    assert both.lose(end.other) == heard(end, CLOSE, close(1000))
    assert both.is_over


def test_the_gateways_own_close() -> None:
    """Both ends hear it, once; then it is over when both have answered."""
    both = relay()
    assert both.close(1001) == {
        **heard(CLIENT, CLOSE, close(1001)),
        **heard(UPSTREAM, CLOSE, close(1001)),
    }
    assert both.close(1008) == {}
    for end in End:
        assert not both.is_over
        assert both.receive(end, said(end, TEXT, b"x") + said(end, CLOSE, close(1001))) == {}
    assert both.is_over


@pytest.mark.parametrize("end", End)
def test_giving_up(end: End) -> None:
    """An end that has closed is answered, though the other one never did."""
    both = relay()
    both.receive(end, said(end, CLOSE, close(3000)))
    assert both.has_closed(end)
    assert not both.has_closed(end.other)
    assert both.give_up() == heard(end, CLOSE, close(3000))
    assert both.give_up() == {}


_MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY]),
        # The sizes of its fragments: whole ones, and those that stream.
        st.lists(st.sampled_from([0, 1, 7, 125, 126, WHOLE, WHOLE + 1, 3 * WHOLE]), min_size=1),
    ),
    max_size=3,
)


@given(
    messages=_MESSAGES,
    cuts=st.lists(st.integers(0, 40_000), max_size=6),
    end=st.sampled_from(End),
    pinged=st.booleans(),
)
def test_the_same_messages_arrive(
    messages: list[tuple[int, list[int]]], cuts: list[int], end: End, pinged: bool
) -> None:
    """However they are fragmented and cut, the other end reads the same, and in good order."""
    sent, data = [], b""
    for opcode, sizes in messages:
        content = ("\u20ac" * sum(sizes)).encode()[: sum(sizes)]
        if opcode == TEXT:
            content = b"x" * sum(sizes)
        sent.append((opcode, content))
        at = 0
        for number, size in enumerate(sizes):
            final = number == len(sizes) - 1
            part = content[at : at + size]
            data += said(end, CONTINUATION if number else opcode, part, final=final)
            at += size
            if pinged:
                data += said(end, PING, b"p")
    both, wire = Relay(new_key=lambda: b"kkkk"), b""
    for start, stop in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        wire += both.receive(end, data[start:stop]).get(end.other, b"")
    got: list[tuple[int, bytes]] = []
    for event in FrameReader(masked=end is CLIENT).feed(wire):
        assert isinstance(event, Piece)
        if event.opcode in {TEXT, BINARY}:
            got.append((event.opcode, event.payload))
        elif event.opcode == CONTINUATION:
            got[-1] = got[-1][0], got[-1][1] + event.payload
    assert got == sent
