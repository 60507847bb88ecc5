"""Where requests begin and end in what a client sends.

Pure: no I/O, no asyncio, no aiohttp. It is the gateway's own reading of what frames a request,
stricter than the parser's, and comes before that: the parser is given one request at a time, to
its last byte and not one more. Where the two don't agree the connection ends (RFC 9112 §11.2).
"""

import re
from enum import Enum, auto

from gateway.errors import BadRequest
from gateway.request_head import body_framing, too_many_bytes

MOST_CHUNK_SURPLUS = 16 * 1024
"""Bytes of a request's chunk lines that say nothing: extensions, leading zeros (RFC 9112 §7.1.1).

Beyond them it may have as many as an eighth of its content.
"""
_CONTENT_PER_SURPLUS = 8

# One space each (RFC 9112 §3); what a target may be is for the router to say.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) [\x21-\x7e\x80-\xff]+ HTTP/1\.([01])")
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELD_LINES = re.compile(rb"(?:" + _NAME + rb":" + _VALUE + rb"\r\n)*+")
_FIELD_LINE = re.compile(_NAME + rb":" + _VALUE + rb"\r\n")
_FRAMING_FIELD = re.compile(
    rb"^(content-length|transfer-encoding):[ \t]*([^\r\n]*?)[ \t]*\r$",
    re.IGNORECASE | re.MULTILINE,
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;" + _VALUE + rb")?\r\n")
_HEAD_SLACK = 512  # for what ``limits.headers`` doesn't count: method, version, spaces, line ends


class _State(Enum):
    BETWEEN = auto()
    HEAD = auto()
    LENGTH = auto()
    CHUNK_LINE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    WHOLE = auto()


class RequestFramer:
    """Finds the end of one request after the other.

    ``heads`` counts the header sections that have ended. Of the request at hand ``to_head`` tells
    whether its method is HEAD, be it malformed otherwise, and ``had_trailers`` what it says.
    """

    __slots__ = (
        *("_content", "_left", "_line", "_state", "_surplus"),
        *("had_trailers", "heads", "to_head"),
    )

    def __init__(self) -> None:
        self.heads = 0
        self.had_trailers = self.to_head = False
        self._state = _State.BETWEEN
        self._line = bytearray()  # what is here of a header section, a chunk line or a trailer
        self._left = 0  # of the content, a chunk, the end of one, or the trailers
        self._content = 0  # in chunks, until now
        self._surplus = 0

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here."""
        return self._state is _State.BETWEEN

    @property
    def in_head(self) -> bool:
        """Whether a header section has begun, and not ended."""
        return self._state is _State.HEAD

    @property
    def whole(self) -> bool:
        """Whether all of a request is here; ``next`` is called before another."""
        return self._state is _State.WHOLE

    def next(self) -> None:
        """Begin with another request."""
        self._state = _State.BETWEEN
        self.had_trailers = False

    def take(self, data: bytes, max_head: int) -> tuple[bytes, bytes]:
        """Return what of ``data`` belongs to the request at hand, and what lies behind it.

        What is no part of any is left out: empty lines before a request (RFC 9112 §2.2), and
        trailers, which nobody here reads (RFC 9110 §6.5.1).

        Raises:
            BadRequest: it isn't framed beyond doubt, or its chunks have too much around them, or
                its trailers more than ``max_head`` bytes.
            NotImplementedHere: its content has codings that aren't undone here.
            HeadersTooLarge: its header section has more than ``max_head`` bytes.
        """
        if self._state is _State.BETWEEN:
            data = self._begin(data)
        end = self._read_head(data, max_head) if self._state is _State.HEAD else 0
        if self._state is _State.LENGTH:
            taken = min(self._left, len(data) - end)
            self._left -= taken
            end += taken
            if not self._left:
                self._state = _State.WHOLE
        elif self._state not in {_State.BETWEEN, _State.HEAD, _State.WHOLE}:
            return self._read_chunks(data, end, max_head)
        return data[:end], data[end:]

    def _begin(self, data: bytes) -> bytes:
        # A carriage return may be all that came of an empty line.
        at = 0
        data = bytes(self._line) + data if self._line else data
        while data.startswith(b"\r\n", at):
            at += 2
        data = data[at:]
        self._line.clear()
        if data == b"\r":
            self._line += data
            return b""
        if data:
            self._state = _State.HEAD
        return data

    def _read_head(self, data: bytes, max_head: int) -> int:
        """Return where in ``data`` the header section ends, or the data does."""
        known = len(self._line)
        self._line += data
        self.to_head = self._line.startswith(b"HEAD ")
        end = self._line.find(b"\r\n\r\n", max(0, known - 3))
        if (len(self._line) if end < 0 else end) > max_head + _HEAD_SLACK:
            raise too_many_bytes()
        if end < 0:
            return len(data)
        line, _, section = bytes(self._line[: end + 2]).partition(b"\r\n")
        self._line = bytearray()
        self._judge(line, section)
        self.heads += 1
        return end + 4 - known

    def _judge(self, line: bytes, section: bytes) -> None:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("The request line is malformed.")
        if not _FIELD_LINES.fullmatch(section):
            raise BadRequest("The header section is malformed.")
        found: dict[bytes, list[bytes]] = {b"content-length": [], b"transfer-encoding": []}
        for name, value in _FRAMING_FIELD.findall(section):
            found[name.lower()].append(value)
        length, chunked = body_framing(
            found[b"content-length"], found[b"transfer-encoding"], http_1_1=match[2] == b"1"
        )
        self._left = length or 0
        self._content = self._surplus = 0
        if match[1] == b"CONNECT":  # refused; whatever follows is read as nothing
            self._state = _State.WHOLE
        elif chunked:
            self._state = _State.CHUNK_LINE
        else:
            self._state = _State.LENGTH if self._left else _State.WHOLE

    def _read_chunks(self, data: bytes, at: int, max_head: int) -> tuple[bytes, bytes]:
        end = len(data)
        trailers_at = None
        while at < end and self._state is not _State.WHOLE:
            if self._state is _State.CHUNK:
                taken = min(self._left, end - at)
                at += taken
                self._left -= taken
                self._content += taken
                if not self._left:
                    self._state, self._left = _State.CHUNK_END, 2
            elif self._state is _State.CHUNK_END:
                expected = b"\r\n"[-self._left :]
                found = data[at : at + self._left]
                if not expected.startswith(found):
                    raise BadRequest("The request body is malformed.")
                at += len(found)
                self._left -= len(found)
                if not self._left:
                    self._state = _State.CHUNK_LINE
            elif self._state is _State.CHUNK_LINE:
                at = self._read_chunk_line(data, at, max_head)
            else:
                trailers_at = at if trailers_at is None else trailers_at
                at = self._read_trailer(data, at)
        if trailers_at is None or data[trailers_at:at] == b"\r\n":
            return data[:at], data[at:]
        # Of trailers only the empty line behind them.
        last = b"\r\n" if self._state is _State.WHOLE else b""
        return data[:trailers_at] + last, data[at:]

    def _read_chunk_line(self, data: bytes, at: int, max_head: int) -> int:
        match = None if self._line else _CHUNK_LINE.match(data, at)
        if match is None:
            feed = data.find(b"\n", at) + 1
            self._line += data[at : feed or len(data)]
            self._bound(len(self._line))
            if not feed:
                return len(data)
            match = _CHUNK_LINE.fullmatch(self._line)
            if match is None:
                raise BadRequest("The request body is malformed.")
            self._line = bytearray()
            at = feed
            length = len(match[0])
        else:
            length = match.end() - at
            at = match.end()
        size = int(match[1], 16)
        # Its digits and its line end are what a chunk needs.
        self._surplus += length - 2 - max(1, (size.bit_length() + 3) // 4)
        self._bound(0)
        self._left = size
        self._state = _State.CHUNK
        if not size:
            self._state, self._left = _State.TRAILERS, max_head
        return at

    def _bound(self, more: int) -> None:
        if self._surplus + more > MOST_CHUNK_SURPLUS + self._content // _CONTENT_PER_SURPLUS:
            raise BadRequest("The chunks of the request body have more around them than in them.")

    def _read_trailer(self, data: bytes, at: int) -> int:
        """Read a line of the trailers, or of what is here of it; return where that ends."""
        feed = data.find(b"\n", at) + 1
        end = feed or len(data)
        self._left -= end - at
        if self._left < 0:
            raise BadRequest("The trailers are too large.")
        self._line += data[at:end]
        if feed:
            line, self._line = self._line, bytearray()
            if line == b"\r\n":
                self._state = _State.WHOLE
            elif not _FIELD_LINE.fullmatch(line) or _FRAMING_FIELD.match(line):
                # Fields that frame a message must not stand there (RFC 9110 §6.5.1).
                raise BadRequest("The trailers are malformed.")
            else:
                self.had_trailers = True
        return end
