"""An upstream's header section, inspected: what it says, once it can only say one thing.

Pure: no I/O, no asyncio, no aiohttp. The twin of ``request_head``. Nothing else reads what an
upstream says of its answer, so that what is passed on is what was judged.
"""

import re
from dataclasses import dataclass

from gateway.errors import UpstreamInvalid
from gateway.framing import ReceivedContent, received_content
from gateway.request_head import RawHeaders, connection_options

MOST_FIELDS = 128
"""How many fields a section may have."""
MOST_LINE_BYTES = 64 * 1024
_MOST_BYTES = 256 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\0]*))?")
_FIELD = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]+)[\t ]*:([^\0]*)")
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SPACED = bytes(
    0x20 if (code < 0x20 and code != 0x09) or code == 0x7F else code for code in range(256)
)
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class ReceivedHead:
    """What the header section of an answer says, interim or final.

    ``version`` is (1, 0) or (1, 1). ``fields`` have no whitespace around their values, no folds
    and no control bytes but tabs. After an answer that ``closes`` nothing on its connection is
    to be believed.
    """

    version: tuple[int, int]
    status: int
    reason: bytes
    fields: RawHeaders
    content: ReceivedContent
    closes: bool

    @property
    def is_interim(self) -> bool:
        """Whether the answer itself is still to come (RFC 9110 §15.2)."""
        return 100 <= self.status < 200 and self.status != 101


def inspect_answer(
    section: bytes, *, to_head: bool = False, most_fields: int = MOST_FIELDS
) -> ReceivedHead:
    """Return what a header section says; ``section`` ends with its empty line.

    ``to_head`` tells that HEAD was asked.

    Raises:
        UpstreamInvalid: it could be understood in more than one way, or isn't HTTP/1.
    """
    check_size(section)
    first, *lines = _lines(section)
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise UpstreamInvalid(cause="status_line")
    fields = read_fields(lines, most_fields)
    version, status = (1, int(match[1])), int(match[2])
    content = received_content(status, version, fields, to_head=to_head)
    options = connection_options([value for name, value in fields if name.lower() == b"connection"])
    return ReceivedHead(
        version=version,
        status=status,
        reason=(match[3] or b"").translate(_SPACED),
        fields=fields,
        content=content,
        closes=content.closes
        or b"close" in options
        or (version == (1, 0) and b"keep-alive" not in options),
    )


def _lines(section: bytes) -> list[bytes]:
    """Return the lines, which end in one way.

    A line feed alone may end a line (RFC 9112 §2.2): so it does where all of them do. Among others
    it, or a carriage return alone, is what somebody smuggled into a value.
    """
    feeds = section.count(b"\n")
    if section.count(b"\r\n") == feeds == section.count(b"\r"):
        return section[:-4].split(b"\r\n")
    if b"\r" not in section:
        return section[:-2].split(b"\n")
    raise UpstreamInvalid(cause="line_end")


def check_size(section: bytes) -> None:
    """Raise ``UpstreamInvalid`` if a section, whole or not, or a line of it is too large."""
    if len(section) <= MOST_LINE_BYTES:
        return
    if len(section) > _MOST_BYTES or max(map(len, section.split(b"\n"))) > MOST_LINE_BYTES:
        raise UpstreamInvalid(cause="too_large")


def read_fields(lines: list[bytes], most_fields: int = MOST_FIELDS) -> RawHeaders:
    """Return the fields that these lines make, without their ends; raises ``UpstreamInvalid``."""
    if len(lines) > most_fields:
        most = f"limits.header_fields is {most_fields}"
        raise UpstreamInvalid(cause="too_many_fields", why=most)
    controls = _CONTROL.search(b"".join(lines)) is not None
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line.startswith((b" ", b"\t")):
            # An obsolete fold is a space (RFC 9112 §5.2).
            if not fields or b"\0" in line:
                raise UpstreamInvalid(cause="field")
            name, value = fields.pop()
            line = b"%b:%b %b" % (name, value, line.strip(b"\t "))  # noqa: PLW2901
        match = _FIELD.fullmatch(line)
        if match is None:
            raise UpstreamInvalid(cause="field")
        # Whitespace before the colon is removed, and then it is judged (RFC 9112 §5.1).
        name, value = match.groups()
        if controls and _CONTROL.search(value):
            if name.lower() in _FRAMING:
                raise UpstreamInvalid(cause="field")
            value = value.translate(_SPACED)  # RFC 9110 §5.5
        fields.append((name, value.strip(b"\t ")))
    return tuple(fields)
