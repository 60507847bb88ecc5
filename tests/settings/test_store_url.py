"""The shapes of a store URL, and that its password is never shown."""

import pytest

from gateway.settings.store_url import StoreUrl, mask_url, parse_store_url

ONE = (("h", 6379),)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("redis://h", StoreUrl("redis", nodes=ONE)),
        ("redis://h/", StoreUrl("redis", nodes=ONE)),
        ("redis://h:1/2", StoreUrl("redis", nodes=(("h", 1),), database=2)),
        ("redis://h?db=3", StoreUrl("redis", nodes=ONE, database=3)),
        ("redis://[::1]:1", StoreUrl("redis", nodes=(("::1", 1),))),
        ("rediss://h", StoreUrl("redis", tls=True, nodes=ONE)),
        ("redis://u@h", StoreUrl("redis", nodes=ONE, username="u")),
        ("redis://:p%40ss@h", StoreUrl("redis", nodes=ONE, password="p@ss")),
        ("redis://u:p:w@h", StoreUrl("redis", nodes=ONE, username="u", password="p:w")),
        ("unix:///run/redis.sock", StoreUrl("unix", socket="/run/redis.sock")),
        ("unix:///run/a%20b?db=4", StoreUrl("unix", socket="/run/a b", database=4)),
        ("unix://u:p@/s", StoreUrl("unix", socket="/s", username="u", password="p")),
        (
            "redis+sentinel://u:p@a,b:7,[::1]/main/5",
            StoreUrl(
                "sentinel",
                nodes=(("a", 26379), ("b", 7), ("::1", 26379)),
                service="main",
                database=5,
                username="u",
                password="p",
            ),
        ),
        ("rediss+sentinel://a/main", StoreUrl("sentinel", True, (("a", 26379),), service="main")),
        ("redis+cluster://a,b:7", StoreUrl("cluster", nodes=(("a", 6379), ("b", 7)))),
        ("rediss+cluster://a/", StoreUrl("cluster", tls=True, nodes=(("a", 6379),))),
        ("memory://", StoreUrl("memory")),
    ],
)
def test_a_store_url_has_its_parts(text: str, parts: StoreUrl) -> None:
    """Every scheme, with the default ports of Redis and of Sentinel."""
    assert parse_store_url(text) == parts


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "http://h", "redis:/h", "redis://", "redis://h:0", "redis://h:65536",
     "redis://h:x", "redis://a,b", "redis://h/x", "redis://h/1/2", "redis://h/1?db=1",
     "redis://h?ssl_cert_reqs=none", "redis://h?db=1&timeout=9", "redis://h?db=", "redis://h#1",
     "redis://:p/w@h", "redis:// h", "unix://", "unix:///", "unix://h/s", "unix:///s?x=1",
     "redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel://a/m/x", "redis+sentinel:///m",
     "redis+sentinel://a,/m", "redis+cluster://a/1", "redis+cluster://", "memory://x", "memory:///",
     "REDIS://h", "redis://h\n"],
)  # fmt: skip
def test_another_shape_is_refused(text: str) -> None:
    """The message says which shape is allowed."""
    with pytest.raises(ValueError, match="allowed"):
        parse_store_url(text)


@pytest.mark.parametrize("text", ["hunter2", "redis://:hunter2@h:x", "redis://:hun/ter2@h:1"])
def test_a_refusal_does_not_repeat_the_url(text: str) -> None:
    """A password may stand anywhere in what isn't right."""
    with pytest.raises(ValueError, match="allowed") as refusal:
        parse_store_url(text)
    assert "ter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://h/0", "redis://h/0"),
        ("redis://u@h", "redis://u@h"),
        ("redis://u:hunter2@h:1/0", "redis://u:***@h:1/0"),
        ("redis://:hun@ter2@h", "redis://:***@h"),
        ("redis://:hun/ter2@h", "redis://:***@h"),
        ("redis://:hun?ter#2@h", "redis://:***@h"),
        ("redis://hunter2/x@h", "redis://***@h"),
        ("unix:///s?password=hunter2", "unix:///s?password=***"),
        ("unix:///s?db=1&Pass=hunter2&x=1", "unix:///s?db=1&Pass=***&x=1"),
        ("unix:///s?password=hun@ter2", "unix://***@ter2"),
        ("hunter2", "***"),
        ("hun ter2://x", "***"),
        ("", "***"),
    ],
)
def test_a_password_is_masked(text: str, masked: str) -> None:
    """Also where it isn't escaped as it should be, and in what isn't a store URL at all."""
    assert mask_url(text) == masked


def test_the_parts_do_not_show_the_password() -> None:
    """A repr is likely to be logged."""
    assert "hunter2" not in repr(parse_store_url("redis://u:hunter2@h"))
