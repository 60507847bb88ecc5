"""Each type of setting takes what it says it does, and says so when it doesn't."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.settings import types

DURATIONS = [
    ("0s", timedelta(0)),
    ("250ms", timedelta(milliseconds=250)),
    ("1.5s", timedelta(milliseconds=1500)),
    ("0.1s", timedelta(milliseconds=100)),
    ("15m", timedelta(minutes=15)),
    ("1h30m", timedelta(minutes=90)),
    ("7d", timedelta(days=7)),
]
SIZES = [("0B", 0), ("512B", 512), ("16KiB", 16384), ("10MiB", 10 * 2**20), ("1 GiB", 2**30)]


@pytest.mark.parametrize(("text", "duration"), DURATIONS)
def test_a_duration_is_read_as_written(text: str, duration: timedelta) -> None:
    """Numbers with units, added up."""
    assert types.parse_duration(text) == duration


@pytest.mark.parametrize(
    "value",
    ["", "15", "15 m", "m", "-1s", "15 parsecs", "1h 30m", "1e3s", "٣s", "0.1ms", "9" * 400 + "d",
     "99999999d", 15, 1.5, True, None, timedelta(seconds=-1)],
)  # fmt: skip
def test_a_duration_has_a_unit_and_whole_milliseconds(value: object) -> None:
    """Anything else is refused with an example, never with an overflow."""
    with pytest.raises(ValueError, match='a duration such as "250ms", "15m" or "1h30m" is allowed'):
        types.parse_duration(value)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(milliseconds=1500), "1500ms"),
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=60), "1h"),
        (timedelta(days=2), "2d"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_that_keeps_it_whole(
    duration: timedelta, text: str
) -> None:
    """What is written is also what would be read."""
    assert (types.format_duration(duration), types.parse_duration(text)) == (text, duration)


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_a_size_is_read_as_written(text: str, size: int) -> None:
    """Binary units; a size written as a setting is read as the same size."""
    assert types.parse_size(text) == size
    assert types.parse_size(types.format_size(size)) == size


@pytest.mark.parametrize("value", ["", "10MB", "ten", "-1B", "1.5KiB", -1, True, 1.5, None])
def test_a_size_has_a_binary_unit(value: object) -> None:
    """Decimal units, fractions and negative numbers are refused with an example."""
    with pytest.raises(ValueError, match='a size such as "512B", "16KiB" or "10MiB" is allowed'):
        types.parse_size(value)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (types.Port, [0, 8080, 65535], [-1, 65536, "8080", True, 80.0]),
        (types.Count, [1, 2**31 - 1], [0, 2**31, "1", True, 1.0]),
        (types.Flag, [True, False], [1, 0, "true", "yes", None]),
        (types.HeaderSize, [1024, "1KiB"], [1023, "0B"]),
        (types.PositiveDuration, ["1ms"], ["0s"]),
        (
            types.HttpUrl,
            ["http://h", "https://h:1/base", "http://[::1]:9000", "http://127.0.0.1:9000/"],
            ["h:9000", "ftp://h", "http://", "http://u:p@h", "http://h?q", "http://h#f", "http://h:0",
             "http://h:99999", "http://h/a b", "http://h\\a", "http://[::1", "http://bücher.example"],
        ),
        (
            types.UrlPath,
            ["/", "/orders", "/a/b/", "/a.b/..c"],
            ["", "orders", "/a/../b", "/.", "/a//b", *(f"/a{mark}b" for mark in "?#; \\ä"), "/%61"],
        ),
        (
            types.Method,
            ["GET", "M-SEARCH", "LIST", "FOO2", "X_Y", "A"],
            [
                *("get", "Get", "gET", "CONNECT", "TRACE", "PRI", "", " ", "GET POST", "GET,POST"),
                *("G(T", "GET/", "*", "G\u00c9T", "GET\n", "GET ", '"GET"', "X" * 65),
            ],
        ),
        (
            types.Origin,
            [
                *("https://app.example", "http://localhost:3000", "*", "https://a.b-c.example:8443"),
                *("http://127.0.0.1", "http://[::1]:8080", "capacitor://localhost", "https://a_b"),
            ],
            [
                *("null", "", "app.example", "https://", "https://app.example/", "https://a/b"),
                *("https://APP.example", "HTTPS://a", "https://a:443", "http://a:80", "https://a:"),
                *("https://a:0443", "https://u@a", "https://a b", "https://*.example", "https://a?"),
                *("https://caf\u00e9", "https://a,https://b", "**"),
            ],
        ),
        (types.ScopeToken, ["read", "a:b/c"], ["", "read write", 'a"b', "a\\b", "ä"]),
        (types.HeaderName, ["X-Token-"], ["", "X_Token", "X Token", "X:"]),
        (types.Quotable, ["my realm"], ["", 'a"b', "a\\b", "a\nb"]),
        (types.Network, ["10.0.0.0/8", "::1", "192.0.2.1"], ["10.0.0.1/8", "localhost", ""]),
        (types.Filename, ["tls.crt", "/a/b"], ["", "a\0b", 3]),
        (types.StoreUrl, ["memory://", "redis://h"], ["", "http://h", "redis://"]),
    ],
)  # fmt: skip
def test_a_type_takes_what_is_right_and_refuses_the_rest(
    kind: Any, good: list[object], bad: list[object]
) -> None:
    """Numbers aren't taken for strings, nor strings for numbers."""
    adapter = TypeAdapter[Any](kind)
    for value in good:
        adapter.validate_python(value)
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_a_url_loses_the_slash_at_its_end() -> None:
    """So that a path can be appended to it."""
    assert TypeAdapter[str](types.HttpUrl).validate_python("http://h/base/") == "http://h/base"


def test_b5_an_endpoint_keeps_the_slash_at_its_end() -> None:
    """Nothing is appended to it, and without the slash it may be another."""
    adapter = TypeAdapter[str](types.EndpointUrl)
    assert adapter.validate_python("http://h/o/token/") == "http://h/o/token/"
