"""HTTP messages taken apart, as leniently as a recording needs: what stands there, byte for byte.

Chunks are put together, because where they begin and end is a matter of timing.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A message, or as much as came of it; ``body`` is ``None`` while its header is incomplete."""

    head: bytes
    body: bytes | None = None
    trailer: bytes = b""
    whole: bool = False

    @property
    def status(self) -> int:
        """The status code, if this is an answer."""
        return _status(self.head)

    def value(self, name: bytes) -> bytes | None:
        """Return the value of the first field of this name (in lower case), if there is one."""
        return field_value(self.head, name)


def field_value(head: bytes, name: bytes) -> bytes | None:
    """Return the value of a header section's first field of this name."""
    found = re.search(rb"(?im)^" + re.escape(name) + rb":[ \t]*([^\r\n]*?)[ \t]*\r?$", head)
    return found[1] if found else None


def take_message(
    data: bytes, *, answer: bool, to_head: bool = False, ended: bool = False
) -> tuple[Message, bytes]:
    """Return the first message in some bytes, and what is left of them.

    ``ended`` says that no more will come, which ends the content of some answers
    (RFC 9112 §6.3); ``to_head`` that an answer is to a HEAD request.
    """
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return Message(data), b""
    head, rest = data[:end], data[end:]
    if answer and _is_bodiless(head, to_head=to_head):
        return Message(head, b"", whole=True), rest
    if (field_value(head, b"transfer-encoding") or b"").lower() == b"chunked":
        return _chunked(head, rest)
    length = field_value(head, b"content-length")
    if length is None:
        return (
            (Message(head, rest, whole=ended), b"")
            if answer
            else (
                Message(head, b"", whole=True),
                rest,
            )
        )
    count = int(length)
    return Message(head, rest[:count], whole=len(rest) >= count), rest[count:]


def _status(head: bytes) -> int:
    return int(head.split(None, 2)[1])


def _is_bodiless(head: bytes, *, to_head: bool) -> bool:
    status = _status(head)
    return to_head or status < 200 or status in {204, 304}


def _chunked(head: bytes, rest: bytes) -> tuple[Message, bytes]:
    body = b""
    while True:
        line, found, after = rest.partition(b"\r\n")
        if not found:
            return Message(head, body), b""
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            break
        body += after[:size]
        if len(after) < size + 2:
            return Message(head, body), b""
        rest = after[size + 2 :]
    if after.startswith(b"\r\n"):
        return Message(head, body, whole=True), after[2:]
    trailer, found, after = after.partition(b"\r\n\r\n")
    return Message(head, body, trailer, whole=bool(found)), after
