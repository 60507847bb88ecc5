"""A WebSocket's frames, read from bytes and written as bytes (RFC 6455 §5).

Pure: no I/O, no asyncio, no aiohttp. What comes in pieces goes out in pieces: a frame of any
length, and a message of any number of frames, is held no longer than ``WHOLE`` bytes of it.
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

TEXT, BINARY, CONTINUATION = 0x1, 0x2, 0x0
CLOSE, PING, PONG = 0x8, 0x9, 0xA

GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
INVALID_PAYLOAD = 1007
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
BAD_GATEWAY = 1014  # IANA's WebSocket Close Code Number Registry

WHOLE = 4096
"""Frames up to this length go on as one, whatever segments they come in. What is longer goes on
as fragments, as they come: a frame of a gigabyte is never held (RFC 6455 §5.4)."""
MOST_AT_ONCE = 256
"""How many frames are read at a time, so that others have their turn between very many."""

_FIN, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_MOST_CONTROL = 125
_AT_ONCE = 4096
_DECODER = codecs.getincrementaldecoder("utf-8")
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_OPCODES = {TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG}


Mask = Callable[[bytes, bytes], bytes]
"""Puts a key of four bytes on a payload, or takes it off, which is the same (RFC 6455 §5.3)."""


def masked_purely(payload: bytes, key: bytes) -> bytes:
    """Return a payload with its mask put on, or taken off."""
    pad = key * (_AT_ONCE // 4)
    parts = (payload[at : at + _AT_ONCE] for at in range(0, len(payload), _AT_ONCE))
    return b"".join([_xored(part, pad) for part in parts])


def _xored(part: bytes, pad: bytes) -> bytes:
    # As one number; those of many kilobytes take more than their share of time.
    length = len(part)
    number = int.from_bytes(part, "little") ^ int.from_bytes(pad[:length], "little")
    return number.to_bytes(length, "little")


class Piece(NamedTuple):
    """A frame, or as much of one as is here, to be sent on as a frame of its own."""

    opcode: int
    payload: bytes
    final: bool = True


@dataclass(frozen=True, slots=True)
class Close:
    """A close frame; ``code`` is ``None`` where it has none, which 1005 would stand for."""

    code: int | None = None
    reason: bytes = b""

    @property
    def payload(self) -> bytes:
        """What stands in the frame."""
        return b"" if self.code is None else self.code.to_bytes(2, "big") + self.reason


@dataclass(frozen=True, slots=True)
class Violation:
    """Why nothing more of an end can be taken, and the code that it is told."""

    code: int
    why: str


Event = Piece | Close | Violation


class _Violated(Exception):
    """Ends a reading."""

    def __init__(self, why: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(why)
        self.violation = Violation(code, why)


def _whys(*, masked: bool, in_message: bool) -> list[str]:
    """Return what is wrong with each beginning of a frame: nothing where it is empty.

    By ``_shape``: the first byte, whether there is a mask, and whether it is too long to be one
    that controls. Frames must be ``masked`` or must not; ``in_message`` is between fragments.
    """
    whys = []
    for shape in range(256 * 4):
        first, is_masked, is_long = shape >> 2, bool(shape & 2), bool(shape & 1)
        opcode, is_control = first & _OPCODE, bool(first & CLOSE)
        wrong = {
            "a reserved bit": first & _RESERVED,
            "a reserved opcode": opcode not in _OPCODES,
            "a frame that isn't masked": masked and not is_masked,
            "a masked frame": is_masked and not masked,
            "a fragmented control frame": is_control and not first & _FIN,
            "a control frame that is too long": is_control and is_long,
            "a fragment of no message": opcode == CONTINUATION and not in_message,
            "a message within a message": opcode in {TEXT, BINARY} and in_message,
        }
        whys.append(next((why for why, is_so in wrong.items() if is_so), ""))
    return whys


_WHYS = {
    (masked, in_message): _whys(masked=masked, in_message=in_message)
    for masked in (False, True)
    for in_message in (False, True)
}


def _shape(first: int, second: int) -> int:
    is_long = second & _LENGTH > _MOST_CONTROL
    return first << 2 | (second & _MASKED) >> 6 | is_long


class FrameReader:
    """Reads what one end sends.

    Frames are ``masked`` from a client, and from a client only (RFC 6455 §5.1). A message has
    ``most_message`` bytes at most, any number where that is 0. No extension is negotiated, so
    that reserved bits mean nothing. After a close frame or a violation nothing more is read.
    ``mask`` puts a mask on or takes it off.
    """

    def __init__(self, *, masked: bool, most_message: int = 0, mask: Mask = masked_purely) -> None:
        self._masked = masked
        self._mask = mask
        self._most_message = most_message
        self._held = b""
        # Of the frame at hand:
        self._first = 0
        self._key = b""
        self._length = -1  # negative where there is none
        self._left = 0
        # Of the message:
        self._whys = _WHYS[masked, False]
        self._opcode = CONTINUATION  # of its next piece
        self._message_size = 0
        self._text: codecs.IncrementalDecoder | None = None
        self.has_more = False
        self.ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Return what more of the stream says.

        Of very many frames it ``has_more``, and is to be fed with nothing for the rest.
        """
        if self.ended:
            return []
        events: list[Event] = []
        self.has_more = False
        try:
            self._read(self._held + data if self._held else data, events)
        except _Violated as violated:  # what came before it was good
            events.append(violated.violation)
        self.ended = bool(events) and not isinstance(events[-1], Piece)
        return events

    def _read(self, data: bytes, events: list[Event]) -> None:
        at, end = 0, len(data)
        while True:
            if self._length < 0:
                size = self._begin(data, at)
                if not size:
                    break
                at += size
            here, length = min(end - at, self._left), self._length
            if here < self._left and (not here or length <= WHOLE):
                break
            if len(events) == MOST_AT_ONCE:
                self.has_more = True
                break
            payload = data[at : at + here]
            if self._key and payload:
                turn = (length - self._left) % 4
                payload = self._mask(payload, self._key[turn:] + self._key[:turn])
            at += here
            self._left -= here
            events.append(self._piece(payload))
            if not self._left:
                self._length = -1
                if self._first & _OPCODE == CLOSE:
                    return
        self._held = data[at:]

    def _begin(self, data: bytes, at: int) -> int:
        """Begin with a frame, and return the size of its header, 0 where not all of it is here.

        It is judged as soon as what is wrong with it is here.
        """
        if len(data) < at + 2:
            return 0
        first, second = data[at], data[at + 1]
        why = self._whys[_shape(first, second)]
        if why:
            raise _Violated(why)
        length, start = second & _LENGTH, at + 2
        if length >= _TWO_BYTES:
            width = 2 if length == _TWO_BYTES else 8
            if len(data) < start + width:
                return 0
            length = _long(data[start : start + width])
            start += width
        opcode = first & _OPCODE
        if opcode < CLOSE and self._most_message:
            self._judge_size(length, begins=opcode != CONTINUATION)
        if self._masked:
            if len(data) < start + 4:
                return 0
            self._key = data[start : start + 4]
            start += 4
        if opcode < CLOSE:
            self._take(opcode, length)
        self._first, self._length, self._left = first, length, length
        return start - at

    def _judge_size(self, length: int, *, begins: bool) -> None:
        size = length if begins else self._message_size + length
        if size > self._most_message:
            raise _Violated("a message that is too big", MESSAGE_TOO_BIG)

    def _take(self, opcode: int, length: int) -> None:
        if opcode != CONTINUATION:
            self._whys = _WHYS[self._masked, True]
            self._opcode = opcode
            self._message_size = 0
            self._text = _DECODER() if opcode == TEXT else None
        self._message_size += length

    def _piece(self, payload: bytes) -> Event:
        opcode = self._first & _OPCODE
        if opcode == CLOSE:
            return read_close(payload)
        if opcode > CLOSE:
            return Piece(opcode, payload)
        final = self._first >= _FIN and not self._left
        if self._text is not None:
            try:
                self._text.decode(payload, final)
            except UnicodeDecodeError:
                raise _Violated("a text that isn't UTF-8", INVALID_PAYLOAD) from None
        opcode, self._opcode = self._opcode, CONTINUATION
        if final:
            self._whys = _WHYS[self._masked, False]
        return Piece(opcode, payload, final)


def _long(written: bytes) -> int:
    """Return a length that takes two bytes or eight: as few as it can (RFC 6455 §5.2)."""
    length = int.from_bytes(written, "big")
    if not (_TWO_BYTES if len(written) == 2 else 1 << 16) <= length < 1 << 63:
        raise _Violated("a length that isn't written as it must be")
    return length


def read_close(payload: bytes) -> Event:
    """Return what the payload of a close frame says (RFC 6455 §5.5.1, §7.4)."""
    if not payload:
        return Close()
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not is_sendable(code):
        return Violation(PROTOCOL_ERROR, "a close code that can't be sent")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return Violation(INVALID_PAYLOAD, "a reason that isn't UTF-8")
    return Close(code, payload[2:])


def is_sendable(code: int) -> bool:
    """Whether a code may stand in a close frame.

    1004 is reserved, and 1005, 1006 and 1015 tell of what was not sent (RFC 6455 §7.4.1). IANA
    has given out those up to 1014; from 3000 on they are for libraries and applications.
    """
    return (1000 <= code <= 1014 and not 1004 <= code <= 1006) or 3000 <= code <= 4999


def frame(
    opcode: int,
    payload: bytes,
    *,
    final: bool = True,
    key: bytes = b"",
    mask: Mask = masked_purely,
) -> bytes:
    """Return a frame as it goes out, masked where there is a key."""
    length = len(payload)
    masked = _MASKED if key else 0
    first = opcode | (_FIN if final else 0)
    if length < _TWO_BYTES:
        head = bytes((first, masked | length))
    elif length < 1 << 16:
        head = bytes((first, masked | _TWO_BYTES)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, masked | _EIGHT_BYTES)) + length.to_bytes(8, "big")
    if not key:
        return head + payload
    return head + key + (mask(payload, key) if payload else b"")
