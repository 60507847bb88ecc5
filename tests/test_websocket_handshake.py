"""The two handshakes of a WebSocket, and what crosses beside them (RFC 6455 §4)."""

from base64 import b64encode

import pytest

from gateway.errors import BadRequest, UpstreamInvalid
from gateway.request_head import RequestHead, inspect_request
from gateway.websocket_handshake import (
    accept_value,
    check_accepted,
    client_handshake,
    client_key,
    upstream_handshake,
)

Pairs = list[tuple[bytes, bytes]]

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
NONCE = bytes(range(16))
ACCEPTED = [
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Accept", accept_value(b64encode(NONCE))),
]


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    """Return a header section with these fields."""
    return inspect_request([(b"Host", b"a"), *fields], http_1_1=True)


def version(value: bytes = b"13") -> tuple[bytes, bytes]:
    return b"Sec-WebSocket-Version", value


def key(value: bytes = KEY) -> tuple[bytes, bytes]:
    return b"Sec-WebSocket-Key", value


def test_the_example_of_the_rfc() -> None:
    """RFC 6455 §1.3."""
    assert accept_value(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("value", [KEY, b" " + KEY, b64encode(bytes(16)), b64encode(b"\xff" * 16)])
def test_good_keys(value: bytes) -> None:
    """Sixteen bytes in base64."""
    assert client_key(head(version(), key(value))) == value.strip()


@pytest.mark.parametrize(
    "field",
    [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")],
    ids=["a length", "chunks"],
)
def test_a_handshake_has_no_content(field: tuple[bytes, bytes]) -> None:
    """What came behind it would be frames to one end and content to the other."""
    with pytest.raises(BadRequest) as caught:
        client_key(head(version(), key(), field))
    assert caught.value.close


def test_a_length_of_nothing_is_none() -> None:
    """Some clients send it; it isn't forwarded."""
    nothing = (b"Content-Length", b"0")
    assert client_key(head(version(), key(), nothing)) == KEY
    names = {name for name, _ in upstream_handshake([nothing, (b"Accept", b"*/*")], NONCE)}
    assert b"Content-Length" not in names
    assert b"Accept" in names


@pytest.mark.parametrize(
    "fields",
    [
        [version()],
        [version(), key(b"")],
        [version(), key(b"short")],
        [version(), key(b"not base64 at all, is it")],
        [version(), key(b64encode(bytes(15)))],
        [version(), key(b64encode(bytes(17)))],
        [version(), key(KEY[:-1])],
        [version(), key(KEY[:-3] + b"x==")],
        [version(), key(), key()],
        [version(), version(), key()],
        [key()],
        *([version(value), key()] for value in (b"8", b"7", b"0", b"14", b"99", b"", b"13, 8")),
    ],
    ids=str,
)
def test_bad_handshakes(fields: Pairs) -> None:
    """400 (RFC 6455 §4.2.1); for another version with the one that is spoken (§4.4)."""
    with pytest.raises(BadRequest) as caught:
        client_key(head(*fields))
    versions = [value for name, value in fields if name == b"Sec-WebSocket-Version"]
    known = [("Sec-WebSocket-Version", "13")] if versions != [b"13"] else []
    assert list(caught.value.headers) == known


def test_the_upstream_gets_a_handshake_of_our_own() -> None:
    """Without the client's key and extensions, with its subprotocols and all else."""
    fields = [
        (b"X-A", b"1"),
        (b"sec-websocket-key", KEY),
        (b"Sec-WebSocket-Extensions", b"permessage-deflate"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Protocol", b"chat, caf\xe9"),
    ]
    assert upstream_handshake(fields, NONCE) == [
        (b"X-A", b"1"),
        (b"Sec-WebSocket-Protocol", b"chat, caf\xe9"),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", b"AAECAwQFBgcICQoLDA0ODw=="),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        ACCEPTED,
        [(name.lower(), value) for name, value in ACCEPTED],
        [(b"Upgrade", b"WebSocket"), (b"Connection", b"keep-alive, upgrade"), ACCEPTED[2]],
        [*ACCEPTED, (b"Sec-WebSocket-Extensions", b"")],
        [*ACCEPTED, (b"Set-Cookie", b"a=1")],
    ],
    ids=str,
)
def test_accepted(answer: Pairs) -> None:
    """Names and tokens in any case, and whatever else the upstream says."""
    check_accepted(answer, NONCE)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        ACCEPTED[1:],
        [ACCEPTED[0], ACCEPTED[2]],
        ACCEPTED[:2],
        [(b"Upgrade", b"h2c"), *ACCEPTED[1:]],
        [ACCEPTED[0], *ACCEPTED],
        [*ACCEPTED[:2], (b"Sec-WebSocket-Accept", accept_value(KEY))],
        [*ACCEPTED, ACCEPTED[2]],
        [ACCEPTED[0], (b"Connection", b"close"), ACCEPTED[2]],
        [*ACCEPTED, (b"Sec-WebSocket-Extensions", b"permessage-deflate")],
    ],
    ids=str,
)
def test_accepted_as_nobody_asked(answer: Pairs) -> None:
    """502: also an extension, by which frames would mean something else (RFC 6455 §4.1)."""
    with pytest.raises(UpstreamInvalid):
        check_accepted(answer, NONCE)


def test_what_the_client_is_told() -> None:
    """The answer to its own key, and what the upstream adds: cookies, a trace, anything."""
    fields = [
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=caf\xe9"),
        (b"Sec-WebSocket-Accept", b"of another key"),
        (b"Sec-WebSocket-Protocol", b"chat"),
        (b"Content-Length", b"0"),
        (b"X-Trace", b"1"),
    ]
    asked = head((b"Sec-WebSocket-Protocol", b"superchat, chat"))
    assert client_handshake(fields, asked, KEY) == [
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=caf\xe9"),
        (b"Sec-WebSocket-Protocol", b"chat"),
        (b"X-Trace", b"1"),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]


@pytest.mark.parametrize("chosen", [b"other", b"Chat", b"chat, superchat", b""])
def test_a_subprotocol_that_was_not_offered(chosen: bytes) -> None:
    """It would end the client's connection (RFC 6455 §4.1), so it isn't told."""
    asked = head((b"Sec-WebSocket-Protocol", b"superchat, chat"))
    fields = client_handshake([(b"Sec-WebSocket-Protocol", chosen)], asked, KEY)
    assert b"Sec-WebSocket-Protocol" not in dict(fields)
