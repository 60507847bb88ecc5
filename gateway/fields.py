"""Header fields as the gateway makes them: pairs, as they stand in a message, and as text."""

from collections.abc import Iterable

Fields = list[tuple[bytes, bytes]]
"""Names and values, in order."""


def render(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return fields as they stand in a message, each with its line end."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def one_spelling(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the fields as text, each name spelt as where it first appears.

    aiohttp's ClientSession loses fields whose names differ in case only.
    """
    spellings: dict[bytes, str] = {}
    return [
        (spellings.setdefault(name.lower(), name.decode("ascii")), value.decode("ascii"))
        for name, value in headers
    ]
