"""Form-urlencoded parameters."""

import pytest
from oauthlib.oauth2.rfc6749.errors import InvalidRequestError

from gateway.keymanager.forms import MAX_PARAMETERS, parse_form


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b"", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1", {"a": "1"}),
        (b"a=x+y%20z%2B", {"a": "x y z+"}),
        (b"a=&b&c=3", {"c": "3"}),
        (b"a=1=2", {"a": "1=2"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=%C3%BC", {"a": "ü"}),
        ("a=ü".encode(), {"a": "ü"}),
    ],
)
def test_parse(encoded: bytes | str, expected: dict[str, str]) -> None:
    """Parameters are decoded; those without a value count as not sent (RFC 6749 §3.2)."""
    assert parse_form(encoded) == expected


@pytest.mark.parametrize(
    "encoded",
    [
        b"a=1&a=1",
        b"a=1&a=2",
        b"a=&a=1",
        b"unknown=1&unknown=2",
        b"a=1&%61=1",
        b"a=%ff",
        b"\xff=1",
        b"&".join(b"p%d=1" % number for number in range(MAX_PARAMETERS + 1)),
    ],
)
def test_refused(encoded: bytes) -> None:
    """Duplicates, what isn't UTF-8, and too many are refused."""
    with pytest.raises(InvalidRequestError):
        parse_form(encoded)
