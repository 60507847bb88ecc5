"""Frames read from bytes in any pieces, and what no end may send (RFC 6455 §5, §7.4)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.websocket import compiled_mask
from gateway.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INVALID_PAYLOAD,
    MESSAGE_TOO_BIG,
    MOST_AT_ONCE,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    WHOLE,
    Close,
    Event,
    FrameReader,
    Piece,
    Violation,
    frame,
    is_sendable,
    masked_purely,
)

KEY = b"\x01\x02\x03\x04"


def read(data: bytes, *, masked: bool = False, most_message: int = 0) -> list[Event]:
    """Return what these bytes say, all at once."""
    return FrameReader(masked=masked, most_message=most_message).feed(data)


def told(data: bytes, *, masked: bool = False, most_message: int = 0) -> int | None:
    """Return the code of the violation that these bytes end with, ``None`` where there is none."""
    events = read(data, masked=masked, most_message=most_message)
    last = events[-1] if events else None
    return last.code if isinstance(last, Violation) else None


def close(payload: bytes) -> bytes:
    """Return a close frame."""
    return frame(CLOSE, payload)


@pytest.mark.parametrize("key", [b"", KEY])
@pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 127, 4096, 65_535, 65_536, 70_000])
def test_written_and_read(size: int, key: bytes) -> None:
    """A frame of any length is read as it was written, masked or not."""
    payload = bytes(range(256)) * (size // 256 + 1)
    data = frame(BINARY, payload[:size], key=key)
    assert read(data, masked=bool(key)) == [Piece(BINARY, payload[:size])]


def test_a_frame_as_the_rfc_has_it() -> None:
    """The examples of RFC 6455 §5.7."""
    assert frame(TEXT, b"Hello") == b"\x81\x05Hello"
    assert frame(TEXT, b"Hello", key=b"\x37\xfa\x21\x3d") == (
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    )
    assert read(b"\x01\x03Hel\x80\x02lo") == [
        Piece(TEXT, b"Hel", final=False),
        Piece(CONTINUATION, b"lo"),
    ]
    assert frame(BINARY, bytes(256))[:4] == b"\x82\x7e\x01\x00"
    assert frame(BINARY, bytes(65_536))[:10] == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"


@pytest.mark.parametrize("offset", range(9))
def test_a_mask_that_goes_on_within_a_frame(offset: int) -> None:
    """The mask goes on where the piece before it ended."""
    payload = bytes(range(256)) * 20
    begun = b"\x82\xfe" + len(payload).to_bytes(2, "big") + KEY
    reader = FrameReader(masked=True)
    masked = masked_purely(payload, KEY)
    reader.feed(begun + masked[:offset])
    (piece,) = reader.feed(masked[offset:])
    assert isinstance(piece, Piece)
    assert piece.payload == payload[offset:]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=9), st.booleans()
        ),
        max_size=4,
    ),
    st.lists(st.integers(0, 200), max_size=6),
    st.booleans(),
)
def test_in_whatever_pieces_it_comes(
    frames: list[tuple[int, bytes, bool]], cuts: list[int], masked: bool
) -> None:
    """Small frames are the same whole frames, wherever the stream is cut."""
    key = KEY if masked else b""
    data = b"".join(
        frame(opcode, payload, final=final, key=key) for opcode, payload, final in frames
    )
    whole = read(data, masked=masked)
    reader, pieces = FrameReader(masked=masked), list[Event]()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        pieces += reader.feed(data[start:end])
    assert pieces == whole


def test_a_long_frame_streams() -> None:
    """Of one frame announced as a gigabyte, what is here goes on: nothing is held of it."""
    reader = FrameReader(masked=True)
    begun = bytes((0x82, 0x80 | 127)) + (1 << 30).to_bytes(8, "big") + KEY
    assert reader.feed(begun) == []
    payload = bytes(range(256)) * 4
    masked = masked_purely(payload, KEY)
    assert reader.feed(masked[:7]) == [Piece(BINARY, payload[:7], final=False)]
    assert reader.feed(masked[7:]) == [Piece(CONTINUATION, payload[7:], final=False)]
    assert reader._held == b""


def test_a_long_frame_ends_its_message() -> None:
    """Its last piece is the final one, if the frame was."""
    reader = FrameReader(masked=False)
    data = frame(TEXT, b"x" * (WHOLE + 1))
    assert reader.feed(data[:100]) == [Piece(TEXT, b"x" * 96, final=False)]
    assert reader.feed(data[100:] + frame(BINARY, b"y")) == [
        Piece(CONTINUATION, b"x" * (WHOLE + 1 - 96)),
        Piece(BINARY, b"y"),
    ]


def test_little_is_held() -> None:
    """What waits for the rest of its frame is no more than a whole small frame."""
    reader = FrameReader(masked=False)
    data = frame(BINARY, b"x" * WHOLE)
    assert reader.feed(data[:-1]) == []
    assert len(reader._held) < WHOLE
    assert reader.feed(data[-1:]) == [Piece(BINARY, b"x" * WHOLE)]


def test_control_frames_within_a_message() -> None:
    """They may stand between its fragments (RFC 6455 §5.4)."""
    data = frame(TEXT, b"a", final=False) + frame(PING, b"p") + frame(CONTINUATION, b"b")
    assert read(data) == [
        Piece(TEXT, b"a", final=False),
        Piece(PING, b"p"),
        Piece(CONTINUATION, b"b"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        *[bytes((0x80 | reserved | TEXT, 0)) for reserved in (0x40, 0x20, 0x10, 0x70)],
        *[bytes((0x80 | opcode, 0)) for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)],
        frame(PING, b"", final=False),
        frame(PONG, b"", final=False),
        frame(CLOSE, b"", final=False),
        frame(PING, b"x" * 126),
        frame(CLOSE, b"\x03\xe8" + b"x" * 124),
        frame(CONTINUATION, b"a"),
        frame(CONTINUATION, b"a", final=False),
        frame(TEXT, b"a") + frame(CONTINUATION, b"b"),
        frame(TEXT, b"a", final=False) + frame(TEXT, b"b"),
        frame(BINARY, b"a", final=False) + frame(TEXT, b"b", final=False),
        b"\x82\x7e\x00\x05hello",
        b"\x82\x7e\x00\x7d",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x05hello",
        b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
        b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\xff\xff",
    ],
    ids=lambda data: data[:12].hex(" "),
)
@pytest.mark.parametrize("masked", [False, True])
def test_what_breaks_the_protocol(data: bytes, masked: bool) -> None:
    """1002, as soon as the two bytes are here that say so, or the length."""
    if masked:
        # The same with a mask of zeros after each header, where there is one.
        data = zero_masked(data)
    assert told(data, masked=masked) == PROTOCOL_ERROR


def zero_masked(data: bytes) -> bytes:
    """Return frames with a mask that changes nothing."""
    out, at = b"", 0
    while at < len(data):
        length, start = data[at + 1] & 0x7F, at + 2
        if length > 125:
            width = 2 if length == 126 else 8
            length = int.from_bytes(data[start : start + width], "big")
            start += width
        out += bytes((data[at], data[at + 1] | 0x80)) + data[at + 2 : start] + bytes(4)
        out += data[start : start + length]
        at = start + length
    return out


def test_a_client_that_does_not_mask_is_told_so() -> None:
    """And an upstream that does (RFC 6455 §5.1)."""
    assert told(frame(TEXT, b"a"), masked=True) == PROTOCOL_ERROR
    assert told(frame(TEXT, b"a", key=KEY), masked=False) == PROTOCOL_ERROR
    assert told(frame(CLOSE, b""), masked=True) == PROTOCOL_ERROR
    assert told(frame(PING, b"", key=KEY), masked=False) == PROTOCOL_ERROR


def test_what_came_before_a_violation_goes_on() -> None:
    """And nothing that comes after it."""
    reader = FrameReader(masked=False)
    events = reader.feed(frame(TEXT, b"good") + b"\x83\x00" + frame(TEXT, b"late"))
    assert events[0] == Piece(TEXT, b"good")
    assert isinstance(events[1], Violation)
    assert len(events) == 2
    assert reader.feed(frame(TEXT, b"later")) == []


@pytest.mark.parametrize(
    "frames",
    [
        [frame(TEXT, b"\xff")],
        [frame(TEXT, b"caf\xe9")],
        [frame(TEXT, b"\xc3")],
        [frame(TEXT, b"\xed\xa0\x80")],
        [frame(TEXT, b"\xc0\xaf")],
        [frame(TEXT, b"\xf4\x90\x80\x80")],
        [frame(TEXT, b"\xc3", final=False), frame(CONTINUATION, b"")],
        [frame(TEXT, b"\xc3", final=False), frame(CONTINUATION, b"\xc3")],
        [frame(TEXT, b"ok", final=False), frame(CONTINUATION, b"\xff", final=False)],
        [frame(TEXT, b"x" * (WHOLE + 1) + b"\xe9")],
    ],
    ids=range(10),
)
def test_text_that_is_not_utf_8(frames: list[bytes]) -> None:
    """1007 (RFC 6455 §8.1), in one frame or several."""
    assert told(b"".join(frames)) == INVALID_PAYLOAD


def test_text_may_be_cut_within_a_character() -> None:
    """By a frame's end or a segment's; binary may be any bytes."""
    euro = "\u20ac".encode()
    assert told(frame(TEXT, euro[:1], final=False) + frame(CONTINUATION, euro[1:])) is None
    reader = FrameReader(masked=False)
    data = frame(TEXT, euro * WHOLE)
    events = reader.feed(data[:50]) + reader.feed(data[50:])
    assert [type(event) for event in events] == [Piece, Piece]
    assert told(frame(BINARY, b"\xff\xfe\xc3")) is None


@pytest.mark.parametrize(
    "code", [*range(1000, 1004), *range(1007, 1015), 3000, 3003, 3999, 4000, 4999]
)
def test_codes_that_may_be_sent(code: int) -> None:
    """Those of the RFC, those that IANA has given out, and those for libraries and all."""
    assert is_sendable(code)
    payload = code.to_bytes(2, "big")
    assert read(close(payload + "gr\u00fc\u00dfe".encode())) == [
        Close(code, "gr\u00fc\u00dfe".encode())
    ]
    assert read(close(payload)) == [Close(code)]


@pytest.mark.parametrize(
    "code",
    [
        *(0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999),
        *(5000, 5999, 9999, 65_535),
    ],
)
def test_codes_that_may_not_be_sent(code: int) -> None:
    """1002: those that stand for what was not sent, and those that mean nothing (§7.4)."""
    assert not is_sendable(code)
    assert told(close(code.to_bytes(2, "big"))) == PROTOCOL_ERROR
    assert told(close(code.to_bytes(2, "big") + b"why")) == PROTOCOL_ERROR


def test_close_frames_that_say_little_or_too_much() -> None:
    """None stays none; half a code is 1002; a reason that isn't UTF-8 is 1007."""
    assert read(close(b"")) == [Close()]
    assert Close().payload == b""
    assert Close(1000, b"bye").payload == b"\x03\xe8bye"
    assert told(close(b"\x03")) == PROTOCOL_ERROR
    assert told(close(b"\x03\xe8\xff")) == INVALID_PAYLOAD
    assert told(close(b"\x03\xe8caf\xe9")) == INVALID_PAYLOAD


def test_nothing_is_read_behind_a_close() -> None:
    """Whatever follows it means nothing (RFC 6455 §5.5.1)."""
    reader = FrameReader(masked=False)
    assert reader.feed(close(b"") + b"\xff\xff") == [Close()]
    assert reader.ended
    assert reader.feed(frame(TEXT, b"a")) == []


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, b"x" * 11),
        frame(TEXT, b"x" * 126),
        bytes((0x82, 127)) + (1 << 30).to_bytes(8, "big"),
        frame(TEXT, b"x" * 10, final=False) + frame(CONTINUATION, b"x"),
        frame(TEXT, b"x" * 5, final=False) + b"\x00\x06",
    ],
    ids=lambda data: data[:12].hex(" "),
)
def test_a_message_that_is_too_big(data: bytes) -> None:
    """1009 as soon as it is announced, in one frame or by what its fragments come to."""
    assert told(data, most_message=10) == MESSAGE_TOO_BIG


def test_each_message_has_the_whole_bound() -> None:
    """What was before it, and control frames, don't count."""
    data = b"".join(frame(TEXT, b"x" * 10) + frame(PING, b"x" * 100) for _ in range(3))
    assert told(data, most_message=10) is None
    parts = [frame(TEXT, b"", final=False), *[frame(CONTINUATION, b"", final=False)] * 99]
    assert told(b"".join(parts), most_message=10) is None


@given(st.binary(max_size=64), st.booleans())
def test_whatever_comes(data: bytes, masked: bool) -> None:
    """Any bytes are read without a fault, and byte by byte as at once, but for long frames."""
    whole = read(data, masked=masked)
    reader, pieces = FrameReader(masked=masked), list[Event]()
    for at in range(len(data)):
        pieces += reader.feed(data[at : at + 1])
    assert [event for event in pieces if not isinstance(event, Piece)] == [
        event for event in whole if not isinstance(event, Piece)
    ]


def test_very_many_frames_are_read_in_parts() -> None:
    """So that the loop doesn't stand still for a piece that is full of empty frames."""
    reader = FrameReader(masked=True)
    one = frame(PING, b"", key=KEY)
    count = 3 * MOST_AT_ONCE + 7
    got = reader.feed(one * count)
    assert len(got) == MOST_AT_ONCE
    while reader.has_more:
        got += reader.feed(b"")
    assert got == [Piece(PING, b"")] * count
    assert reader._held == b""


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
def test_the_compiled_mask_is_the_pure_one(payload: bytes, key: bytes) -> None:
    """Byte for byte (RFC 6455 §5.3), and put on twice it is gone."""
    expected = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    assert masked_purely(payload, key) == compiled_mask()(payload, key) == expected
    assert masked_purely(expected, key) == payload


def test_the_pure_mask_takes_over() -> None:
    """Where a library no longer has what it never promised, frames are masked all the same."""
    assert compiled_mask() is not masked_purely
    for module in ("aiohttp.not_there", "aiohttp.hdrs"):
        assert compiled_mask(module) is masked_purely
