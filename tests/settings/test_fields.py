"""How settings are written where all there is are strings."""

from typing import Any

import pytest

from gateway.settings.fields import FIELDS


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("listen.port", "8080", 8080),
        ("listen.port", "-1", -1),
        ("listen.port", "80.0", "80.0"),
        ("listen.port", "", ""),
        ("listen.tls_port", "", None),
        ("limits.body", "10MiB", "10MiB"),
        ("limits.body", "1024", 1024),
        ("cache.max_age", "15m", "15m"),
        ("proxy.preserve_host", "FALSE", False),
        ("proxy.preserve_host", "true", True),
        ("proxy.preserve_host", "yes", "yes"),
        ("proxy.trusted_proxies", "", []),
        ("proxy.trusted_proxies", "10.0.0.0/8, ::1,", ["10.0.0.0/8", "::1"]),
        ("proxy.trusted_proxies", ' ["10.0.0.0/8"]', ["10.0.0.0/8"]),
        ("routes", '[{"path": "/a"}]', [{"path": "/a"}]),
        ("routes", "", []),
        ("store.key_prefix", "", ""),
        ("store.key_prefix", "1", "1"),
        ("store.password", "", None),
        ("key_manager.url", "", None),
    ],
)
def test_a_string_stands_for_a_value_of_the_settings_type(
    name: str, text: str, value: object
) -> None:
    """What isn't understood stays a string; an empty one unsets what may be unset."""
    read = FIELDS[name].from_text(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["[", "orders", '[{"path": "/a", "path": "/b"}]', "[" * 100_000, '["\n']
)
def test_routes_are_json(text: str) -> None:
    """Anything else, and a member given twice, is refused."""
    with pytest.raises(ValueError, match="a list in JSON is allowed"):
        FIELDS["routes"].from_text(text)


def test_a_field_knows_its_variable_and_whether_it_is_secret() -> None:
    """The secrets are the admin token, the store's URL and password, and no others."""
    assert FIELDS["cache.max_age"].variable == "GATEWAY_CACHE__MAX_AGE"
    secret: list[Any] = [name for name, field in FIELDS.items() if field.secret]
    assert secret == ["admin.token", "store.url", "store.password"]
