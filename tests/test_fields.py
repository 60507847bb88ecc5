"""Header fields as they stand in a message, and as text."""

import pytest

from gateway.fields import one_spelling, render

Pairs = list[tuple[bytes, bytes]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], b""),
        ([(b"A", b"b")], b"A: b\r\n"),
        ([(b"a-B", b""), (b"A", b"\xff c")], b"a-B: \r\nA: \xff c\r\n"),
    ],
)
def test_rendered(fields: Pairs, expected: bytes) -> None:
    """Each on a line of its own, names and values as they are."""
    assert render(fields) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], []),
        ([(b"X-A", b"1"), (b"x-b", b"2")], [("X-A", "1"), ("x-b", "2")]),
        (
            [(b"X-Dup", b"1"), (b"x-dup", b"2"), (b"B", b""), (b"X-DUP", b"3")],
            [("X-Dup", "1"), ("X-Dup", "2"), ("B", ""), ("X-Dup", "3")],
        ),
    ],
)
def test_one_spelling(fields: Pairs, expected: list[tuple[str, str]]) -> None:
    """Names that differ in case only are spelt as the first, in the order they came."""
    assert expected == one_spelling(fields)
