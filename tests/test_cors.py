"""What pages of other origins may read: what is listed, and nothing else."""

import pytest

from gateway.cors import Cors, Preflight, origin_of, preflight_of

Fields = list[tuple[bytes, bytes, bytes]]

APP = b"https://app.example"
LISTED = Cors(frozenset({APP, b"http://localhost:3000"}))
VARY = (b"Vary", b"Origin")
EXPOSED = (b"Access-Control-Expose-Headers", b"WWW-Authenticate, Retry-After, X-Request-ID")


def fields(*given: tuple[bytes, bytes]) -> Fields:
    """Return fields as a ``RequestHead`` has them."""
    return [(name.lower(), name, value) for name, value in given]


@pytest.mark.parametrize("origin", sorted(LISTED.origins))
def test_a_listed_origin(origin: bytes) -> None:
    """It may read the answer, why it failed and when to come again."""
    assert LISTED.answer_fields(origin) == [
        VARY,
        (b"Access-Control-Allow-Origin", origin),
        EXPOSED,
    ]


@pytest.mark.parametrize(
    "origin",
    [
        None,
        b"",
        b"null",
        b"https://evil.example",
        b"https://app.example.evil.example",
        b"https://app.example:8443",
        b"http://app.example",
        b"https://APP.example",
        b"https://app.example/",
        b"https://app.example, https://evil.example",
        b"*",
        b"caf\xe9",
    ],
)
def test_any_other_origin(origin: bytes | None) -> None:
    """It is never reflected; caches are told that the answer depends on it."""
    assert LISTED.answer_fields(origin) == [VARY]
    assert not LISTED.allows(origin)


def test_all_origins() -> None:
    """They are told so by "*", which no browser takes with credentials."""
    every = Cors(frozenset({b"*"}))
    for origin in (None, APP, b"null"):
        assert every.answer_fields(origin) == [(b"Access-Control-Allow-Origin", b"*"), EXPOSED]
    assert every.allows(APP)
    assert not every.allows(None)


def test_credentials() -> None:
    """They are allowed to listed origins only."""
    cors = Cors(frozenset({APP}), credentials=True)
    allowed = (b"Access-Control-Allow-Credentials", b"true")
    assert allowed in cors.answer_fields(APP)
    assert cors.answer_fields(b"https://evil.example") == [VARY]


def test_the_answer_to_a_preflight() -> None:
    """What is asked for, as the route takes it, for ten minutes."""
    cors = Cors(frozenset({APP}), credentials=True)
    assert cors.preflight_fields(APP, Preflight("PUT", b"authorization, x-a")) == [
        VARY,
        (b"Access-Control-Allow-Origin", APP),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Access-Control-Allow-Methods", b"PUT"),
        (b"Access-Control-Allow-Headers", b"authorization, x-a"),
        (b"Access-Control-Max-Age", b"600"),
        (b"Vary", b"Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    names = [name for name, _ in LISTED.preflight_fields(APP, Preflight("GET", None))]
    assert b"Access-Control-Allow-Headers" not in names


METHOD = (b"Access-Control-Request-Method", b"PUT")
NAMES = (b"access-control-request-headers", b"authorization,x-a")
ORIGIN = (b"Origin", APP)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([ORIGIN, METHOD], Preflight("PUT", None)),
        ([ORIGIN, METHOD, NAMES], Preflight("PUT", b"authorization,x-a")),
        ([ORIGIN, METHOD, (NAMES[0], b"")], Preflight("PUT", None)),
        ([ORIGIN, METHOD, (NAMES[0], b"a , b")], Preflight("PUT", b"a , b")),
        ([METHOD], None),
        ([ORIGIN], None),
        ([ORIGIN, ORIGIN, METHOD], None),
        ([ORIGIN, METHOD, METHOD], None),
        ([ORIGIN, (METHOD[0], b"")], None),
        ([ORIGIN, (METHOD[0], b"P(T")], None),
        ([ORIGIN, (METHOD[0], b"GET, PUT")], None),
        ([ORIGIN, METHOD, NAMES, NAMES], None),
        ([ORIGIN, METHOD, (NAMES[0], b"a b")], None),
        ([ORIGIN, METHOD, (NAMES[0], b"caf\xe9")], None),
    ],
)
def test_what_is_a_preflight(given: list[tuple[bytes, bytes]], expected: Preflight | None) -> None:
    """OPTIONS with one origin and one method; what is reflected has only tokens in it."""
    assert preflight_of("OPTIONS", fields(*given)) == expected
    assert preflight_of("GET", fields(*given)) is None


def test_the_origin_of_a_request() -> None:
    """Two are none."""
    assert origin_of(fields(ORIGIN)) == APP
    assert origin_of(fields(ORIGIN, ORIGIN)) is None
    assert origin_of(fields()) is None
