"""Whose address counts, behind proxies that are trusted and before such as aren't."""

import pytest

from gateway.keymanager.addresses import LOOPBACK, client_address, parse_networks


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("::1", ["2001:DB8::1"], "2001:db8::/64"),
        ("::1", ["2001:db8::2:3"], "2001:db8::/64"),
        ("2001:db8:0:1::1", [], "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.7", "192.0.2.1, 127.0.0.1"], "192.0.2.1"),
        ("127.0.0.1", ["made up"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.7, made up"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("192.0.2.9", ["198.51.100.7"], "192.0.2.9"),
        ("fe80::1%eth0", ["198.51.100.7"], "fe80::/64"),
        (None, ["198.51.100.7"], ""),
    ],
)
def test_address(peer: str | None, forwarded_for: list[str], expected: str) -> None:
    """X-Forwarded-For is read from the right, and as far as trusted proxies wrote it."""
    assert client_address(peer, forwarded_for, parse_networks(LOOPBACK)) == expected


def test_what_is_no_network() -> None:
    """A name isn't an address."""
    with pytest.raises(ValueError, match="gateway"):
        parse_networks(["gateway"])
