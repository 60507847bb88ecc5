"""Forms of the OAuth endpoints: read as every key manager reads them, or refused."""

import pytest

from gateway.errors import GatewayError, InvalidRequest, UnsupportedMediaType
from gateway.oauth_forms import MAX_PARAMETERS, read_form
from gateway.oauth_messages import Parameters
from gateway.request_head import inspect_request

FORM = b"application/x-www-form-urlencoded"
FIELD = (b"Content-Type", FORM)


def read(
    endpoint: str,
    body: bytes,
    *,
    query: str | None = None,
    fields: list[tuple[bytes, bytes]] | None = None,
) -> Parameters:
    headers = [(b"Host", b"x"), *([FIELD] if fields is None else fields)]
    head = inspect_request(headers, http_1_1=True, underscores="allow")
    return read_form(endpoint, head, query, body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"token=abc", {"token": ["abc"]}),
        (
            b"token=abc&token_type_hint=access_token&client_id=a",
            {"token": ["abc"], "token_type_hint": ["access_token"], "client_id": ["a"]},
        ),
        (b"token=a%2Bb%2f%3D%3d", {"token": ["a+b/=="]}),
        (b"token=a=b", {"token": ["a=b"]}),
        (b"tok%65n=%61bc", {"token": ["abc"]}),
        (b"&&token=abc&", {"token": ["abc"]}),
        (b"token=abc&client_id=", {"token": ["abc"]}),
        (b"token=abc&client_secret=a;b%zz&x", {"token": ["abc"], "client_secret": ["a;b%zz"]}),
        (b"token=abc&username=%C3%A4+b", {"token": ["abc"], "username": ["ä b"]}),
        (b"token=abc&client_secret=%E4", {"token": ["abc"]}),
        (b"token=abc&x=%E4&x=1", {"token": ["abc"]}),
        (b"token=abc&x=1&x=2", {"token": ["abc"], "x": ["1", "2"]}),
        (b"token=abc&tokens=d&my_token=e", {"token": ["abc"], "tokens": ["d"], "my_token": ["e"]}),
    ],
)
def test_a_form_is_read(body: bytes, expected: Parameters) -> None:
    """RFC 6749 appendix B: UTF-8, form-urlencoded; a value that isn't UTF-8 says nothing."""
    assert read("revoke", body) == expected


MISREAD = {
    "no token": b"",
    "no token, only a hint": b"token_type_hint=access_token",
    "an empty token": b"token=",
    "a token without a value": b"token",
    "a token twice": b"token=a&token=b",
    "the same token twice": b"token=a&token=a",
    "an empty token and one": b"token=&token=a",
    "two clients": b"token=a&client_id=a&client_id=b",
    "too many parameters": b"&".join([b"token=a", *[b"a=1"] * MAX_PARAMETERS]),
    "space before the token": b"token=%20a",
    "a plus after the token": b"token=a+",
    "a plus that is meant": b"token=a+b",
    "a line's end after the token": b"token=a\n",
    "an encoded line's end": b"token=a%0d%0a",
    "NUL": b"token=a%00b",
    "no ASCII": b"token=%C3%A4",
    "no UTF-8": b"token=%E4",
    "a name that is no UTF-8": b"token=a&\xff=1",
    "an overlong name": b"token=a&%c1%b4oken=b",
    "a broken percent-encoding": b"token=a%zz",
    "a cut percent-encoding": b"token=a%2",
    "a semicolon": b"token=a;token=b",
    "behind another's semicolon": b"token=a&x=1;token=b",
    "before another's semicolon": b"x;token=b&token=a",
    "upper case": b"Token=b&token=a",
    "PHP's array": b"token[]=b&token=a",
    "PHP's space": b"+token=b&token=a",
    "a byte order mark": b"\xef\xbb\xbftoken=b&token=a",
    "UTF-16": "token=a".encode("utf-16-le"),
    "UTF-16 with its mark": "token=a".encode("utf-16"),
    "JSON": b'{"token":"a"}',
    "JSON that passes for a form": b'{"token":"a","x":"&token=b&"}&token=c',
}


@pytest.mark.parametrize("what", MISREAD)
def test_what_could_be_read_as_another_revocation_is_refused(what: str) -> None:
    """Else the key manager ends one token and the gateway another, or none."""
    with pytest.raises(InvalidRequest) as refusal:
        read("revoke", MISREAD[what])
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    ["token=a", "x=1&token=b", "tok%65n=b", "TOKEN=b", "x=1;token=b", "token[]=b", "client_id=b"],
)
def test_a_revocation_in_the_query_is_refused(query: str) -> None:
    """RFC 6749 §2.3.1: some key managers ignore it there, some take it first."""
    for body in (b"token=a", b""):
        with pytest.raises(InvalidRequest):
            read("revoke", body, query=query)


def test_another_query_is_the_key_managers() -> None:
    """RFC 6749 §3.2 lets an endpoint have one; nothing of it counts."""
    assert read("revoke", b"token=a", query="tenant=x&hint=%E4") == {"token": ["a"]}
    assert read("token", b"scope=read", query="scope=write&username=root") == {"scope": ["read"]}


@pytest.mark.parametrize(
    "content_type",
    [
        FORM,
        b"Application/X-WWW-Form-Urlencoded ; charset=UTF-8",
        FORM + b';charset="utf-8"',
        FORM + b"; charset=US-ASCII",
        FORM + b"; charset=ISO-8859-1",
        FORM + b";",
        FORM + b"; x=y",
    ],
)
def test_a_form_by_its_type(content_type: bytes) -> None:
    """Whatever its case and parameters, in a charset in which ASCII is ASCII."""
    fields = [(b"Content-Type", content_type), (b"Content-Encoding", b"Identity")]
    assert read("revoke", b"token=abc", fields=fields) == {"token": ["abc"]}


def test_a_body_without_a_type_is_a_form_or_nothing() -> None:
    """No key manager takes it for anything else."""
    assert read("revoke", b"token=abc", fields=[]) == {"token": ["abc"]}
    with pytest.raises(InvalidRequest):
        read("revoke", b'{"token":"abc"}', fields=[])


def test_what_is_no_ascii_in_another_charset_says_nothing() -> None:
    """A key manager that heeds the charset reads another user."""
    fields = [(b"Content-Type", FORM + b"; charset=ISO-8859-1")]
    assert read("token", b"username=%C3%A4&x=1", fields=fields) == {"x": ["1"]}


UNREAD: dict[str, list[tuple[bytes, bytes]]] = {
    "JSON": [(b"Content-Type", b"application/json")],
    "multipart": [(b"Content-Type", b"multipart/form-data; boundary=x")],
    "text": [(b"Content-Type", b"text/plain")],
    "two types": [FIELD, (b"Content-Type", b"application/json")],
    "a form twice": [FIELD, FIELD],
    "two types in one": [(b"Content-Type", FORM + b", application/json")],
    "another spelling of the field": [FIELD, (b"Content_Type", b"application/json")],
    "UTF-16": [(b"Content-Type", FORM + b"; charset=utf-16")],
    "UTF-7": [(b"Content-Type", FORM + b'; charset="UTF-7"')],
    "EBCDIC": [(b"Content-Type", FORM + b"; Charset=cp037")],
    "RFC 2231's charset": [(b"Content-Type", FORM + b"; charset*=x''utf-16")],
    "a charset in parts": [(b"Content-Type", FORM + b"; charset*0=utf; charset*1*=-16")],
    "two charsets": [(b"Content-Type", FORM + b"; charset=utf-8; charset=utf-16")],
    "gzip": [FIELD, (b"Content-Encoding", b"gzip")],
    "gzip after identity": [FIELD, (b"Content-Encoding", b"identity, gzip")],
    "an unknown coding": [FIELD, (b"Content-Encoding", b"x")],
}


@pytest.mark.parametrize("endpoint", ["token", "revoke"])
@pytest.mark.parametrize("what", UNREAD)
def test_what_is_no_plain_form_is_refused(endpoint: str, what: str) -> None:
    """RFC 6749 appendix B, RFC 7009 §2.1: though some key managers read more than that."""
    with pytest.raises(UnsupportedMediaType) as refusal:
        read(endpoint, b"token=abc", fields=UNREAD[what])
    assert (refusal.value.status, refusal.value.code) == (415, "invalid_request")


def test_who_encodes_is_told_what_is_taken() -> None:
    """RFC 9110 §15.5.16."""
    with pytest.raises(UnsupportedMediaType) as refusal:
        read("token", b"x=1", fields=UNREAD["gzip"])
    assert refusal.value.headers == (("Accept-Encoding", "identity"),)


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (b"grant_type=refresh_token&refresh_token=a&refresh_token=b", None),
        (b"grant_type=refresh_token&grant_type=password&refresh_token=a", None),
        (b"grant_type=refresh_token&refresh_token=a;refresh_token=b", None),
        (b"grant_type=refresh_token&refresh_token=a&Refresh_Token=b", None),
        (b"grant_type=refresh_token&refresh_token=a+", None),
        (b"grant_type=refresh_token&refresh_token=a", "refresh_token=b"),
        (b"grant_type=password&username=a", "grant_type=refresh_token&refresh_token=b"),
        (b"grant_type=Refresh_Token&refresh_token=a", None),
        (b"grant_type=refresh_token+&refresh_token=a", None),
        (b"grant_type=REFRESH-TOKEN&refresh_token=a", None),
        (b"grant_type=CLIENT_CREDENTIALS", None),
        (b"refresh_token=a", "grant_type=refresh_token"),
        (b"", "grant_type=client_credentials"),
    ],
)
def test_a_token_of_an_unsure_grant_is_refused(body: bytes, query: str | None) -> None:
    """Its access token would go on when the grant that it really belongs to is revoked."""
    with pytest.raises(InvalidRequest):
        read("token", body, query=query)


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (b"", None),
        (b"x=1", None),
        (b"grant_type=password&username=a&password=a;b%zz&scope=a&scope=b", "scope=c"),
        (b"grant_type=password&username=a&username=b", "client_id=c"),
        (b"grant_type=client_credentials", "grant_type=client_credentials"),
    ],
)
def test_other_token_requests_are_the_key_managers_to_judge(body: bytes, query: str | None) -> None:
    """Even odd ones: what is there twice is believed in neither form."""
    assert isinstance(read("token", body, query=query), dict)


def test_no_refusal_quotes_the_form() -> None:
    """Descriptions go into answers: they name parameters and no values."""
    for what, body in MISREAD.items():
        with pytest.raises(GatewayError) as refusal:
            read("revoke", body.replace(b"a", b"secret") + b"&token=secret" * 2)
        assert "secret" not in str(refusal.value), what
