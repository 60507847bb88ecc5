"""Header fields as they stand in a message, and as text."""

import pytest

from gateway.fields import one_spelling, render, to_bytes, to_text

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


@pytest.mark.parametrize("value", [b"", b"caf\xe9", b"caf\xc3\xa9", b"\xff\xfe", bytes(range(256))])
def test_text_and_back(value: bytes) -> None:
    """A value's bytes are the same again, in whatever encoding they were or weren't."""
    assert to_bytes(to_text(value)) == value
    assert [(name, to_bytes(text)) for name, text in one_spelling([(b"A", value)])] == [
        ("A", value)
    ]
