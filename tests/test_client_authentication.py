"""Which client a request authenticates as: table by table."""

from base64 import b64encode

import pytest
from jwts import base64url, jwt

from gateway.client_authentication import (
    JWT_BEARER,
    NOBODY,
    BasicClientId,
    RequestClient,
    request_client,
)
from gateway.errors import InvalidRequest
from gateway.oauth_messages import Parameters


def basic(user_and_password: bytes) -> bytes:
    return b"Basic " + b64encode(user_and_password)


def assertion(token: str, kind: str = JWT_BEARER) -> dict[str, list[str]]:
    return {"client_assertion": [token], "client_assertion_type": [kind]}


BY_JWT = assertion(jwt({"iss": "svc", "sub": "svc", "aud": "https://km.example"}))


@pytest.mark.parametrize(
    ("authorizations", "form", "expected"),
    [
        ([], {}, None),
        ([basic(b"demo-key:demo-secret")], {}, "demo-key"),
        ([b"bAsIc\t" + b64encode(b"demo-key:s")], {}, "demo-key"),
        ([basic(b"demo-key")], {}, "demo-key"),
        ([], {"client_id": ["public"]}, "public"),
        ([], {"client_id": ["app"], "client_secret": ["s"]}, "app"),
        ([], {"client_id": ["app", "app"]}, "app"),
        ([basic(b"demo-key:s")], {"client_id": ["demo-key"]}, "demo-key"),
        ([], BY_JWT, "svc"),
        ([], BY_JWT | {"client_id": ["svc"]}, "svc"),
        ([basic(b"svc:s")], BY_JWT, "svc"),
        ([], assertion(jwt({"iss": "https://sts.example", "sub": "svc"})), "svc"),
    ],
)
def test_the_client_is_named_in_one_of_the_ways_that_there_are(
    authorizations: list[bytes], form: Parameters, expected: str | None
) -> None:
    """RFC 6749 §2.3.1 and RFC 7523 §2.2: what the key manager accepted says who it is."""
    client = request_client(authorizations, form)
    assert (client.client_id, client.doubt) == (expected, None)
    assert client.readings == ({expected} if expected else set())


@pytest.mark.parametrize(
    ("authorizations", "form"),
    [
        ([b"Basic !"], {}),
        ([b"Basic"], {}),
        ([basic(b"\xff:s")], {}),
        ([basic(b":s")], {}),
        ([basic(b"a\0b:s")], {}),
        ([b"Bearer abc"], {"client_id": ["public"]}),
        ([b"Negotiate abc"], {"client_id": ["victim"]}),
        ([b"Basic !"], {"client_id": ["victim"]}),
        ([], assertion("opaque")),
        ([], assertion("a.b.c.d.e") | {"client_id": ["victim"]}),
        ([], assertion("PHNhbWw+", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")),
        ([], {"client_assertion": [jwt({"sub": "svc"})]}),
        ([], assertion(jwt(b'{"sub": "svc", "sub": "victim"}'))),
        ([], assertion(jwt({"iss": "svc"}))),
        ([], assertion(jwt({"sub": ["svc"]}))),
        ([], assertion(jwt({"sub": ""}))),
        ([basic(b"svc:s")], assertion("opaque")),
    ],
)
def test_beside_what_can_not_be_read_no_name_counts(
    authorizations: list[bytes], form: Parameters
) -> None:
    """The key manager may have gone by that, and not by a name that needs no proof."""
    client = request_client(authorizations, form)
    assert (client.client_id, client.readings, client.doubt) == (
        None,
        frozenset[str](),
        "unreadable",
    )


@pytest.mark.parametrize(
    ("authorizations", "form"),
    [
        ([basic(b"mallory:s")], assertion("opaque")),
        ([basic(b"mallory:s")], assertion("x", "y")),
        ([b"Bearer abc"], {"client_id": ["mallory"], "client_secret": ["s"]}),
        ([b"Basic !"], {"client_id": ["mallory"]}),
        ([basic(b"mallory:s") + b"*"], {}),
        ([b"Basic bWFsbG9yeTpz\tZWNyZXQ"], {}),
        ([b"Basic bWFsbG9yeTpzZWNyZXQ"[:-1]], {}),
        ([basic(b"mallory\0:s")], {}),
        ([basic(b" mallory\r\n:s")], {}),
        ([basic(b"mallory:\xff")], {}),
    ],
)
def test_a5_nobody_hides_behind_what_can_not_be_read(
    authorizations: list[bytes], form: Parameters
) -> None:
    """Mallory makes her name unreadable here but not to a lenient key manager."""
    client = request_client(authorizations, form)
    assert (client.client_id, "mallory" in client.may_be) == (None, True)


@pytest.mark.parametrize(
    ("authorizations", "form"),
    [
        ([basic(b"m:s")], {"client_id": ["victim"]}),
        ([basic(b"m:s")], {"client_id": ["m", "victim"]}),
        ([], {"client_id": ["m", "victim"]}),
        ([basic(b"m:s"), basic(b"victim:s")], {}),
        ([basic(b"m:s"), basic(b"m:s")], {}),
        ([basic(b"m:s"), b"Bearer x"], {}),
        ([basic(b"m:s")], BY_JWT),
        ([], BY_JWT | {"client_id": ["victim"]}),
        (
            [],
            {
                "client_assertion": [jwt({"sub": "svc"}), jwt({"sub": "victim"})],
                "client_assertion_type": [JWT_BEARER],
            },
        ),
    ],
)
def test_a_request_that_names_two_clients_is_refused(
    authorizations: list[bytes], form: Parameters
) -> None:
    """RFC 6749 §2.3 and §5.2: which of them the key manager would take can't be known."""
    with pytest.raises(InvalidRequest):
        request_client(authorizations, form)


NONE = frozenset[str]()
TWO = frozenset({"svc+prod", "svc prod"})
MAIL = frozenset({"svc+prod@example.com", "svc prod@example.com"})


@pytest.mark.parametrize(
    ("user", "setting", "expected"),
    [
        (b"svc+prod@example.com", "unambiguous", RequestClient("svc+prod@example.com", MAIL)),
        (b"svc+prod", "unambiguous", RequestClient(None, TWO, "two_readings")),
        (b"a%3Ab", "unambiguous", RequestClient(None, frozenset({"a%3Ab", "a:b"}), "two_readings")),
        (b"100%", "unambiguous", RequestClient("100%", frozenset({"100%"}))),
        (b"%ff", "unambiguous", RequestClient("%ff", frozenset({"%ff"}))),
        (b"%00", "unambiguous", RequestClient("%00", frozenset({"%00"}))),
        ("zoë".encode(), "unambiguous", RequestClient("zoë", frozenset({"zoë"}))),
        (b"svc+prod", "form_encoded", RequestClient("svc prod", frozenset({"svc prod"}))),
        (b"a%3Ab+c", "form_encoded", RequestClient("a:b c", frozenset({"a:b c"}))),
        (
            b"%ff",
            "form_encoded",
            RequestClient(None, NONE, "unreadable", frozenset({"%ff", "\ufffd"})),
        ),
        (b"100%", "form_encoded", RequestClient(None, NONE, "unreadable", frozenset({"100%"}))),
        (b"svc+prod", "verbatim", RequestClient("svc+prod", frozenset({"svc+prod"}))),
        (b"a%3Ab", "verbatim", RequestClient("a%3Ab", frozenset({"a%3Ab"}))),
        (b"plain", "form_encoded", RequestClient("plain", frozenset({"plain"}))),
    ],
)
def test_a8_a_name_in_basic_that_was_not_form_encoded(
    user: bytes, setting: BasicClientId, expected: RequestClient
) -> None:
    """Where the readings differ: as it stands if no encoder writes it so, else the setting's."""
    assert request_client([basic(user + b":s")], {}, basic_client_id=setting) == expected


@pytest.mark.parametrize(
    ("user", "client_id", "believed"),
    [
        (b"svc+prod@example.com", "svc+prod@example.com", "svc+prod@example.com"),
        (b"svc+prod@example.com", "svc prod@example.com", None),
        (b"svc+prod", "svc+prod", None),
        (b"svc+prod", "svc prod", None),
    ],
)
def test_a8_a_name_in_the_form_does_not_choose_between_two_readings(
    user: bytes, client_id: str, believed: str | None
) -> None:
    """A key manager that goes by Basic need not look at it, so it could be another client's."""
    client = request_client([basic(user + b":s")], {"client_id": [client_id]})
    assert client.client_id == believed
    assert client_id in client.readings


def test_nobody_is_named_by_a_query() -> None:
    """What is handed in here are the parameters of the body."""
    assert request_client([], {"grant_type": ["client_credentials"]}) == NOBODY


def test_an_encrypted_assertion_with_a_telling_header_says_nothing() -> None:
    """RFC 7519 §5.3 lets a header repeat claims, unprotected by what is inside."""
    token = ".".join([base64url(b'{"alg":"dir","sub":"victim"}'), "", "iv", "text", "tag"])
    assert request_client([], assertion(token)).client_id is None
