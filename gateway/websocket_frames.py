"""A WebSocket's frames, read from bytes and written as bytes (RFC 6455 §5).

Pure: no I/O, no asyncio, no aiohttp. What comes in pieces goes out in pieces: a frame of any
length, and a message of any number of frames, is held no longer than ``WHOLE`` bytes of it.
"""

import codecs
from dataclasses import dataclass

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

_FIN, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_MOST_CONTROL = 125
_AT_ONCE = 4096
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_OPCODES = {TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG}


@dataclass(frozen=True, slots=True)
class Piece:
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


@dataclass(frozen=True, slots=True)
class _Header:
    """The beginning of a frame, and how many bytes it takes itself."""

    opcode: int
    final: bool
    length: int
    key: bytes
    size: int


class FrameReader:
    """Reads what one end sends.

    Frames are ``masked`` from a client, and from a client only (RFC 6455 §5.1). A message has
    ``most_message`` bytes at most, any number where that is 0. No extension is negotiated, so
    that reserved bits mean nothing. After a close frame or a violation nothing more is read.
    """

    def __init__(self, *, masked: bool, most_message: int = 0) -> None:
        self._masked = masked
        self._most_message = most_message
        self._held = b""
        self._frame: _Header | None = None
        self._left = 0  # of the frame's payload
        self._in_message = False
        self._opcode = CONTINUATION  # of the next piece of the message
        self._message_size = 0
        self._text: codecs.IncrementalDecoder | None = None
        self.ended = False

    def feed(self, data: bytes) -> list[Event]:
        """Return what more of the stream says."""
        if self.ended:
            return []
        events: list[Event] = []
        try:
            self._read(self._held + data, events)
        except _Violated as violated:  # what came before it was good
            events.append(violated.violation)
        self.ended = bool(events) and not isinstance(events[-1], Piece)
        return events

    def _read(self, data: bytes, events: list[Event]) -> None:
        at = 0
        while True:
            if self._frame is None:
                self._frame = self._begin(data, at)
                if self._frame is None:
                    break
                at += self._frame.size
                self._left = self._frame.length
            frame = self._frame
            here = min(len(data) - at, self._left)
            if here < self._left and (not here or frame.length <= WHOLE):
                break
            payload = unmasked(data[at : at + here], frame.key, frame.length - self._left)
            at += here
            self._left -= here
            events.append(self._piece(frame, payload))
            if not self._left:
                self._frame = None
                if frame.opcode == CLOSE:
                    return
        self._held = data[at:]

    def _begin(self, data: bytes, at: int) -> _Header | None:
        """Return the header of a frame, judged as soon as what is wrong with it is here."""
        if len(data) < at + 2:
            return None
        first, second = data[at], data[at + 1]
        opcode = first & _OPCODE
        self._judge(first, second)
        measured = _length(data, at)
        if measured is None:
            return None
        length, start = measured
        if opcode < CLOSE:
            self._judge_size(length, begins=opcode != CONTINUATION)
        end = start + (4 if self._masked else 0)
        if len(data) < end:
            return None
        if opcode < CLOSE:
            self._take(opcode, length)
        return _Header(opcode, bool(first & _FIN), length, data[start:end], end - at)

    def _judge(self, first: int, second: int) -> None:
        opcode = first & _OPCODE
        is_control, is_masked = opcode >= CLOSE, bool(second & _MASKED)
        wrong = {
            "a reserved bit": first & _RESERVED,
            "a reserved opcode": opcode not in _OPCODES,
            "a frame that isn't masked": self._masked and not is_masked,
            "a masked frame": is_masked and not self._masked,
            "a fragmented control frame": is_control and not first & _FIN,
            "a control frame that is too long": is_control and second & _LENGTH > _MOST_CONTROL,
            "a fragment of no message": opcode == CONTINUATION and not self._in_message,
            "a message within a message": opcode in {TEXT, BINARY} and self._in_message,
        }
        for why, is_so in wrong.items():
            if is_so:
                raise _Violated(why)

    def _judge_size(self, length: int, *, begins: bool) -> None:
        size = length if begins else self._message_size + length
        if self._most_message and size > self._most_message:
            raise _Violated("a message that is too big", MESSAGE_TOO_BIG)

    def _take(self, opcode: int, length: int) -> None:
        if opcode != CONTINUATION:
            self._in_message = True
            self._opcode = opcode
            self._message_size = 0
            self._text = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        self._message_size += length

    def _piece(self, frame: _Header, payload: bytes) -> Event:
        if frame.opcode == CLOSE:
            return read_close(payload)
        if frame.opcode > CLOSE:
            return Piece(frame.opcode, payload)
        final = frame.final and not self._left
        if self._text is not None:
            try:
                self._text.decode(payload, final)
            except UnicodeDecodeError:
                raise _Violated("a text that isn't UTF-8", INVALID_PAYLOAD) from None
        opcode, self._opcode = self._opcode, CONTINUATION
        if final:
            self._in_message = False
        return Piece(opcode, payload, final)


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the length of the frame that begins there, and where what follows it begins."""
    length, start = data[at + 1] & _LENGTH, at + 2
    if length < _TWO_BYTES:
        return length, start
    width, least = (2, _TWO_BYTES) if length == _TWO_BYTES else (8, 1 << 16)
    if len(data) < start + width:
        return None
    length = int.from_bytes(data[start : start + width], "big")
    if not least <= length < 1 << 63:
        raise _Violated("a length that isn't written as it must be")
    return length, start + width


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


def frame(opcode: int, payload: bytes, *, final: bool = True, key: bytes = b"") -> bytes:
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
    return head + key + unmasked(payload, key)


def unmasked(payload: bytes, key: bytes, offset: int = 0) -> bytes:
    """Return a payload with its mask put on, or taken off, which is the same (RFC 6455 §5.3).

    ``offset`` is where in its frame it begins. Without a key it stays as it is.
    """
    if not key or not payload:
        return payload
    turn = offset % 4
    pad = (key[turn:] + key[:turn]) * (_AT_ONCE // 4)
    parts = (payload[at : at + _AT_ONCE] for at in range(0, len(payload), _AT_ONCE))
    return b"".join([_xored(part, pad) for part in parts])


def _xored(part: bytes, pad: bytes) -> bytes:
    # As one number; those of many kilobytes take more than their share of time.
    length = len(part)
    number = int.from_bytes(part, "little") ^ int.from_bytes(pad[:length], "little")
    return number.to_bytes(length, "little")
