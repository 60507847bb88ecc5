"""Header fields as the gateway makes them: pairs, as they stand in a message, and as text."""

from collections.abc import Iterable

Fields = list[tuple[bytes, bytes]]
"""Names and values, in order."""


def render(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return fields as they stand in a message, each with its line end."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def one_spelling(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the fields as text, each name spelt as where it first appears.

    aiohttp's ClientSession loses fields whose names differ in case only. ``to_bytes`` returns
    the bytes of a value again, whatever they are.
    """
    spellings: dict[bytes, str] = {}
    return [
        (spellings.setdefault(name.lower(), name.decode("ascii")), to_text(value))
        for name, value in headers
    ]


def to_text(value: bytes) -> str:
    """Return the bytes of a value as text that ``to_bytes`` turns back, as aiohttp's parser does.

    They are opaque, in no encoding that a recipient could know of (RFC 9110 §5.5).
    """
    return value.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """Return the bytes that ``to_text`` was given."""
    return text.encode("utf-8", "surrogateescape")
