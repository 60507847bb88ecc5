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
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) [\x21-\x7e\x80-\xff]+ HTTP/1\.([01])\r\n"
)
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELD_LINES = re.compile(rb"(?:" + _NAME + rb":" + _VALUE + rb"\r\n)*+")
_FIELD_LINE = re.compile(_NAME + rb":" + _VALUE + rb"\r\n")
_FRAMING_FIELD = re.compile(
    rb"\n((?i:content-length|transfer-encoding)):[ \t]*([^\r\n]*?)[ \t]*(?=\r)"
)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;" + _VALUE + rb")?\r\n")
_DIGITS = {b"%c\r\n" % digit: int(chr(digit), 16) for digit in b"123456789abcdefABCDEF"}
_FEW_CHUNKS = 8  # are given on as they came
_MOST_CHUNKS_AT_ONCE = 1000  # a millisecond's work, beside what the parser has with them
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_HEAD_END = b"\r\n\r\n"
_HEAD_SLACK = 512  # for what ``limits.headers`` doesn't count: method, version, spaces, line ends


class _State(Enum):
    """What of a request comes next."""

    BETWEEN = auto()
    HEAD = auto()
    LENGTH = auto()
    SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILERS = auto()
    WHOLE = auto()


# By these names, as looking one up in its class takes longer than what is done in it.
_BETWEEN, _HEAD, _LENGTH, _SIZE, _CHUNK, _CHUNK_END, _TRAILERS, _WHOLE = _State
_IN_CHUNKS = (_SIZE, _CHUNK, _CHUNK_END, _TRAILERS)


class RequestFramer:
    """Finds the end of one request after the other.

    ``heads`` counts the header sections that have ended. Of the request at hand ``to_head`` tells
    whether its method is HEAD, be it malformed otherwise, ``had_trailers`` what it says, and
    ``is_last`` whether nothing that follows it can be told from what may be its content.
    """

    __slots__ = (
        *("_content", "_left", "_line", "_state", "_surplus"),
        *("had_trailers", "heads", "is_last", "to_head"),
    )

    def __init__(self) -> None:
        self.heads = 0
        self.had_trailers = self.is_last = self.to_head = False
        self._state = _BETWEEN
        self._line = bytearray()  # what is here of a header section, a chunk line or a trailer
        self._left = 0  # of the content, a chunk, the end of one, or the trailers
        self._content = 0  # in chunks, until now
        self._surplus = 0

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here."""
        return self._state is _BETWEEN

    @property
    def in_head(self) -> bool:
        """Whether a header section has begun, and not ended."""
        return self._state is _HEAD

    @property
    def whole(self) -> bool:
        """Whether all of a request is here; ``next`` is called before another."""
        return self._state is _WHOLE

    @property
    def held_bytes(self) -> int:
        """How much is kept of what isn't whole: a header section, a chunk line, trailers."""
        return len(self._line)

    def next(self) -> None:
        """Begin with another request."""
        self._state = _BETWEEN
        self.had_trailers = self.is_last = False

    def take(self, data: bytes, max_head: int) -> tuple[bytes, bytes]:
        """Return what of ``data`` belongs to the request at hand, and what lies behind it.

        What is no part of any is left out: empty lines before a request (RFC 9112 §2.2), and
        trailers, which nobody here reads (RFC 9110 §6.5.1). Of very many chunks it takes some
        at a time, and makes one of them: until all of the request is here, what lies behind is to
        be given again.

        Raises:
            BadRequest: it isn't framed beyond doubt, or its chunks have too much around them, or
                its trailers more than ``max_head`` bytes.
            NotImplementedHere: its content has codings that aren't undone here.
            HeadersTooLarge: its header section has more than ``max_head`` bytes.
        """
        if self._state is _BETWEEN:
            data = self._begin(data)
        end = self._read_head(data, max_head) if self._state is _HEAD else 0
        if self._state is _LENGTH:
            taken = min(self._left, len(data) - end)
            self._left -= taken
            end += taken
            if not self._left:
                self._state = _WHOLE
        elif self._state in _IN_CHUNKS:
            return self._read_chunks(data, end, max_head)
        return data[:end], data[end:]

    def _begin(self, data: bytes) -> bytes:
        # A carriage return may be all that came of an empty line.
        data = bytes(self._line) + data if self._line else data
        self._line.clear()
        if data.startswith(b"\r"):
            empty = _EMPTY_LINES.match(data)
            data = data if empty is None else data[empty.end() :]
        if data == b"\r":
            self._line += data
            return b""
        if data:
            self._state = _HEAD
        return data

    def _read_head(self, data: bytes, max_head: int) -> int:
        """Return where in ``data`` the header section ends, or the data does."""
        known = len(self._line)
        if known or _HEAD_END not in data:
            self._line += data
            end = self._line.find(_HEAD_END, max(0, known - 3)) + 4
            here: bytes | bytearray = self._line
        else:
            end = data.find(_HEAD_END) + 4
            here = data
        self.to_head = here.startswith(b"HEAD ")
        ended = end >= 4
        if (end if ended else len(here)) > max_head + _HEAD_SLACK:
            raise too_many_bytes()
        if not ended:
            return len(data)
        head = bytes(here[: end - 2])
        if known:
            self._line = bytearray()
        self._judge(head)
        self.heads += 1
        return end - known

    def _judge(self, head: bytes) -> None:
        match = _REQUEST_LINE.match(head)
        if match is None:
            raise BadRequest("The request line is malformed.")
        if not _FIELD_LINES.fullmatch(head, match.end()):
            raise BadRequest("The header section is malformed.")
        lengths: list[bytes] = []
        codings: list[bytes] = []
        for name, value in _FRAMING_FIELD.findall(head):
            (lengths if name.lower() == b"content-length" else codings).append(value)
        length, chunked = body_framing(lengths, codings, http_1_1=match[2] == b"1")
        self._left = length or 0
        self._content = self._surplus = 0
        connects = match[1] == b"CONNECT"
        # Neither has content (RFC 9110 §9.3.6, §9.3.8), so to others it is the next request.
        self.is_last = connects or (match[1] == b"TRACE" and (chunked or bool(length)))
        if connects:  # whatever follows is read as nothing
            self._state = _WHOLE
        elif chunked:
            self._state = _SIZE
        else:
            self._state = _LENGTH if self._left else _WHOLE

    def _read_chunks(self, data: bytes, at: int, max_head: int) -> tuple[bytes, bytes]:
        end = len(data)
        trailers_at = None
        merged: list[bytes] = []  # what was given on until ``raw_at``
        raw_at = 0
        left = _MOST_CHUNKS_AT_ONCE
        while at < end and left > 0 and self._state is not _WHOLE:
            left -= 1
            if self._state is _SIZE and not self._line:
                contents, stop = self._read_whole_chunks(data, at, left)
                left -= len(contents)
                if len(contents) > _FEW_CHUNKS:
                    # Each would cost the parser and whoever reads from it many times as much.
                    content = b"".join(contents)
                    merged += [data[raw_at:at], b"%x\r\n" % len(content), content, b"\r\n"]
                    raw_at = stop
                at = stop
                if at == end or left <= 0:
                    break
            if self._state is _CHUNK or self._state is _CHUNK_END:
                at = self._read_chunk(data, at)
            elif self._state is _SIZE:
                at = self._read_chunk_line(data, at, max_head)
            else:
                trailers_at = at if trailers_at is None else trailers_at
                at = self._read_trailer(data, at)
        if trailers_at is None or data[trailers_at:at] == b"\r\n":
            shown = data[raw_at:at]
        else:  # of trailers only the empty line behind them
            shown = data[raw_at:trailers_at] + (b"\r\n" if self._state is _WHOLE else b"")
        return b"".join([*merged, shown]) if merged else shown, data[at:]

    def _read_chunk(self, data: bytes, at: int) -> int:
        """Read what is here of a chunk, or of its line end; return where that ends."""
        taken = min(self._left, len(data) - at)
        self._left -= taken
        if self._state is _CHUNK:
            self._content += taken
            if not self._left:
                self._state, self._left = _CHUNK_END, 2
        else:
            expected = b"\r" if self._left else b"\r\n"[-taken:]
            if data[at : at + taken] != expected:
                raise BadRequest("The request body is malformed.")
            if not self._left:
                self._state = _SIZE
        return at + taken

    def _read_whole_chunks(self, data: bytes, at: int, most: int) -> tuple[list[bytes], int]:
        """Read so many chunks that are here from end to end; return what is in them, and where."""
        end = len(data)
        contents: list[bytes] = []
        while len(contents) < most and at < end:
            size = _DIGITS.get(data[at : at + 3])
            if size is not None:
                begin = at + 3
            else:
                match = _CHUNK_LINE.match(data, at)
                if match is None:
                    break
                size, begin = int(match[1], 16), match.end()
            stop = begin + size
            if not size or stop + 2 > end:
                break
            if data[stop : stop + 2] != b"\r\n":
                raise BadRequest("The request body is malformed.")
            if begin - at > 3:
                self._count(begin - at, size)
            self._content += size
            contents.append(data[begin:stop])
            at = stop + 2
        return contents, at

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
        self._count(length, size)
        self._left = size
        self._state = _CHUNK
        if not size:
            self._state, self._left = _TRAILERS, max_head
        return at

    def _count(self, length: int, size: int) -> None:
        # Its digits and its line end are what a chunk needs.
        surplus = length - 2 - ((size.bit_length() + 3) // 4 or 1)
        if surplus:
            self._surplus += surplus
            self._bound(0)

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
                self._state = _WHOLE
            elif not _FIELD_LINE.fullmatch(line) or _FRAMING_FIELD.match(b"\n" + line):
                # Fields that frame a message must not stand there (RFC 9110 §6.5.1).
                raise BadRequest("The trailers are malformed.")
            else:
                self.had_trailers = True
        return end
