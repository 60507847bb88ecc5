"""An upstream's answer, taken apart as its bytes come.

Pure: no I/O, no asyncio, no aiohttp. Both lanes read by it, so that where an answer ends, and
whether anything follows, is judged in one place.
"""

import re
from enum import Enum

from gateway.answer_head import (
    MOST_FIELDS,
    MOST_LINE_BYTES,
    ReceivedHead,
    check_size,
    inspect_answer,
    read_fields,
)
from gateway.causes import CLOSED
from gateway.errors import UpstreamInvalid

_MOST_INTERIM = 1000
_MOST_INTERIM_BYTES = 256 * 1024
_BEGINNING = b"HTTP/1."
# Blank space after the size is common, and means nothing.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[\t ]*(?:;[^\0\r\n]*)?")
_MOST_CHUNK_LINE_BYTES = 4096
_CHUNK = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n")  # as nearly all begin
_EMPTY_LINE = re.compile(rb"\n\r?\n")


class End(Enum):
    """The end of an answer: whether its connection can serve another exchange."""

    CLEAN = "clean"
    LAST = "last"


Part = ReceivedHead | bytes | End
"""A header section, interim or final; content; or the end."""


class AnswerReader:
    """Reads one answer: interim header sections, the final one, its content, and its end.

    ``to_head`` tells that HEAD was asked. ``began`` is whether what came may be an answer at all:
    what begins otherwise may be left over from another exchange.
    """

    def __init__(self, *, to_head: bool, most_fields: int = MOST_FIELDS) -> None:
        self.began = False
        self.head: ReceivedHead | None = None
        self.ended = False
        self.excess = False
        """Whether more came than the answer."""
        self._to_head = to_head
        self._most_fields = most_fields
        self._buffer = b""
        self._searched = 0
        self._closes = False
        self._interim = 0
        self._interim_bytes = 0
        self._left = 0
        self._chunks: ChunkedContent | None = None

    def feed(self, data: bytes) -> list[Part]:
        """Return what these bytes bring, in order.

        After an answer that switches protocols (101) all that follows is content.

        Raises:
            UpstreamInvalid: they aren't an answer, or no whole one any more.
        """
        if self.ended:
            self.excess = self.excess or bool(data)
            return []
        parts: list[Part] = []
        if self.head is None:
            data = self._read_heads(data, parts)
        if self.head is not None:
            self._read_content(self.head, data, parts)
        return parts

    @property
    def ends_with_connection(self) -> bool:
        """Whether the answer's content goes on until the connection ends."""
        head = self.head
        return (
            head is not None and head.content.length is None and not head.content.chunked
        ) and not self.ended

    def feed_eof(self) -> list[Part]:
        """Return what the end of the connection brings: the end, where the answer has no other.

        Raises:
            UpstreamInvalid: the answer is cut off.
        """
        if self.ended or (self.head is not None and self.head.status == 101):
            return []
        if not self.ends_with_connection:
            raise UpstreamInvalid(cause=CLOSED)
        self.ended = True
        return [End.LAST]

    def _read_heads(self, data: bytes, parts: list[Part]) -> bytes:
        self._buffer += data
        while self._buffer:
            self._check_beginning()
            found = _EMPTY_LINE.search(self._buffer, self._searched)
            if found is None:
                check_size(self._buffer)
                self._searched = max(0, len(self._buffer) - 2)
                return b""
            section, rest = self._buffer[: found.end()], self._buffer[found.end() :]
            head = inspect_answer(section, to_head=self._to_head, most_fields=self._most_fields)
            self._buffer, self._searched = b"", 0
            self._closes = self._closes or head.closes
            parts.append(head)
            if not head.is_interim:
                self.head = head
                return rest
            self._count_interim(len(section))
            self._buffer = rest
        return b""

    def _check_beginning(self) -> None:
        if not self._buffer.startswith(_BEGINNING[: len(self._buffer)]):
            raise UpstreamInvalid(cause="status_line")
        self.began = True

    def _count_interim(self, size: int) -> None:
        self._interim += 1
        self._interim_bytes += size
        if self._interim > _MOST_INTERIM or self._interim_bytes > _MOST_INTERIM_BYTES:
            raise UpstreamInvalid(cause="too_many_interim")

    def _read_content(self, head: ReceivedHead, data: bytes, parts: list[Part]) -> None:
        if head.status == 101:
            if data:
                parts.append(data)
            return
        if parts and parts[-1] is head:  # its content begins
            self._left = head.content.length or 0
            self._chunks = ChunkedContent() if head.content.chunked else None
        if self._chunks is not None:
            content, rest = self._chunks.feed(data)
        elif head.content.length is None:
            content, rest = data, None
        else:
            content, rest = data[: self._left], None
            if len(data) >= self._left:
                rest = data[self._left :]
            self._left -= len(content)
        if content:
            parts.append(content)
        if rest is not None:
            self.ended = True
            self.excess = bool(rest)
            parts.append(End.LAST if self._closes or rest else End.CLEAN)


class ChunkedContent:
    """Content in chunks, undone as it comes (RFC 9112 §7.1). What is said beside it is dropped."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._in_trailers = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return the content that these bytes bring, and what follows the end; ``None`` before it.

        Raises:
            UpstreamInvalid: these are no chunks.
        """
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        content: list[bytes] = []
        at = 0 if self._left else _take_whole_chunks(data, content)
        while not self._in_trailers:
            if self._left > 2:  # content, and the line end behind it
                piece = data[at : at + self._left - 2]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
            if self._left > 2:
                return b"".join(content), None
            if self._left:
                line_end = data[at : at + 2]
                if not b"\r\n".startswith(line_end):
                    raise UpstreamInvalid(cause="chunk")
                if len(line_end) < 2:
                    self._buffer = line_end
                    return b"".join(content), None
                at += 2
                self._left = 0
            end = data.find(b"\r\n", at, at + _MOST_CHUNK_LINE_BYTES)
            if end < 0:
                self._keep_line(data[at:])
                return b"".join(content), None
            size = self._size(data[at:end])
            if size:
                at = end + 2
                self._left = size + 2
            else:
                at = end  # this line end and another are an empty line, the end of all
                self._in_trailers = True
        return b"".join(content), self._end(data[at:])

    @staticmethod
    def _size(line: bytes) -> int:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise UpstreamInvalid(cause="chunk")
        return int(match[1], 16)

    def _keep_line(self, data: bytes) -> None:
        # What can't become a line is told at once, not when the upstream falls silent.
        if len(data) >= _MOST_CHUNK_LINE_BYTES or (
            data and _CHUNK_LINE.fullmatch(data.removesuffix(b"\r")) is None
        ):
            raise UpstreamInvalid(cause="chunk")
        self._buffer = data

    def _end(self, data: bytes) -> bytes | None:
        """Return what follows the trailers; ``data`` begins with the line end before them."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > MOST_LINE_BYTES:
                raise UpstreamInvalid(cause="chunk")
            self._check_trailers(data[2:].rpartition(b"\r\n")[0])
            self._buffer = data
            return None
        if end > MOST_LINE_BYTES:
            raise UpstreamInvalid(cause="chunk")
        self._check_trailers(data[2:end])
        return data[end + 4 :]

    @staticmethod
    def _check_trailers(trailers: bytes) -> None:
        """Raise ``UpstreamInvalid`` unless these are fields: else it may be the next answer."""
        if trailers:
            lines = trailers.split(b"\r\n")
            if any(b"\n" in line or b"\r" in line for line in lines):
                raise UpstreamInvalid(cause="line_end")
            read_fields(lines)


def _take_whole_chunks(data: bytes, content: list[bytes]) -> int:
    """Take whole chunks, as long as there is nothing odd about them; return where they end."""
    at = 0
    while (match := _CHUNK.match(data, at)) is not None:
        start = match.end()
        end = start + int(match[1], 16)
        if not data.startswith(b"\r\n", end):
            break
        content.append(data[start:end])
        at = end + 2
    return at
