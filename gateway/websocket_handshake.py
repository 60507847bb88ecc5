"""The opening handshake of a WebSocket, on both sides of the gateway (RFC 6455 §4).

Pure: no I/O, no asyncio, no aiohttp. Each connection has a handshake of its own; what isn't of
it crosses like any other field. No extension is negotiated: the gateway reads frames, and knows
what they mean only where none changes it.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha1

from gateway.errors import BadRequest, UpstreamInvalid
from gateway.fields import Fields
from gateway.request_head import RequestHead, connection_options

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"13"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64
_SUBPROTOCOL = b"sec-websocket-protocol"
_MADE_HERE = frozenset(
    {
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-version",
    }
)
_NO_CONTENT = frozenset({b"content-length", b"transfer-encoding"})


def client_key(head: RequestHead) -> bytes:
    """Return the key that a client's handshake is answered by.

    Raises:
        BadRequest: it is malformed, or of another version (RFC 6455 §4.2.1); or it has content,
            which the backend would take for frames, or frames for content.
    """
    if head.has_body:
        raise BadRequest("A WebSocket handshake has no content.")
    keys = _values(head, b"sec-websocket-key")
    versions = _values(head, b"sec-websocket-version")
    if versions != [_VERSION]:
        # As §4.4 has it: whoever speaks another version learns which is spoken here.
        raise BadRequest(
            "The WebSocket handshake is of another version.",
            headers=[("Sec-WebSocket-Version", _VERSION.decode())],
        )
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise BadRequest("The WebSocket handshake is malformed.")
    return keys[0]


def upstream_handshake(fields: Iterable[tuple[bytes, bytes]], nonce: bytes) -> Fields:
    """Return the fields for the upstream with a handshake of the gateway's own.

    ``nonce`` are 16 random bytes. The subprotocols that the client offers go with it.
    """
    return [
        *(
            (name, value)
            for name, value in fields
            if name.lower() not in _MADE_HERE and name.lower() not in _NO_CONTENT
        ),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", _VERSION),
        (b"Sec-WebSocket-Key", b64encode(nonce)),
    ]


def check_accepted(answer: Sequence[tuple[bytes, bytes]], nonce: bytes) -> None:
    """Return if an upstream's 101 accepts the handshake.

    Raises:
        UpstreamInvalid: it doesn't, or not as RFC 6455 §4.1 has it: another protocol, another
            key's answer, or an extension that nobody offered.
    """
    said: dict[bytes, list[bytes]] = {}
    for name, value in answer:
        said.setdefault(name.lower(), []).append(value.strip())
    if (
        [value.lower() for value in said.get(b"upgrade", [])] != [b"websocket"]
        or b"upgrade" not in connection_options(said.get(b"connection", ()))
        or said.get(b"sec-websocket-accept") != [accept_value(b64encode(nonce))]
        or said.get(b"sec-websocket-extensions", [b""]) != [b""]
    ):
        raise UpstreamInvalid(
            "The upstream accepted a WebSocket as nobody asked.", cause="websocket_handshake"
        )


def client_handshake(
    fields: Iterable[tuple[bytes, bytes]], head: RequestHead, key: bytes
) -> Fields:
    """Return the fields of the 101 for the client: the upstream's, and the answer to its key.

    A subprotocol that the client didn't offer would end its connection, and is left out.
    """
    left_out = _MADE_HERE | _NO_CONTENT  # a 101 has no content (RFC 9110 §8.6)
    offered = _offered(head)
    return [
        *(
            (name, value)
            for name, value in fields
            if name.lower() not in left_out
            and (name.lower() != _SUBPROTOCOL or value.strip() in offered)
        ),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Accept", accept_value(key)),
    ]


def accept_value(key: bytes) -> bytes:
    """Return the answer to a key (RFC 6455 §4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def _offered(head: RequestHead) -> list[bytes]:
    return [
        name.strip()
        for value in _values(head, _SUBPROTOCOL)
        for name in value.split(b",")
        if name.strip()
    ]


def _values(head: RequestHead, wanted: bytes) -> list[bytes]:
    return [value.strip() for lower, _, value in head.fields if lower == wanted]
