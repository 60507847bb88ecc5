"""The fields that tell a backend who calls, from the facts of a token.

Pure: no I/O, no asyncio, no aiohttp.
"""

import re
from functools import lru_cache
from urllib.parse import quote

from gateway.fields import Fields, render
from gateway.tokens import Facts


def identity_headers(facts: Facts, prefix: bytes) -> Fields:
    """Return the fields that tell a backend who calls.

    Bytes outside visible ASCII are percent-encoded as UTF-8, and so is ``%``: whatever a key
    manager put into a document stays one value of one field.
    """
    return [
        *_named(prefix + b"Client-Id", facts.client_id),
        *_named(prefix + b"Subject", facts.sub),
        *_named(prefix + b"Username", facts.username),
        *_scope(prefix, facts.scopes),
    ]


def rendered_identity(facts: Facts, prefix: bytes) -> bytes:
    """Return ``identity_headers`` as they stand in a message."""
    # The subject is what tells tokens apart; the rest is the same for many.
    client = _rendered_client(facts.client_id, prefix)
    scope = _rendered_scope(facts.scopes, prefix)
    user = b"" if facts.username is None else render(_named(prefix + b"Username", facts.username))
    if facts.sub is None:
        return client + user + scope
    return b"%b%bSubject: %b\r\n%b%b" % (client, prefix, _field_value(facts.sub), user, scope)


@lru_cache(maxsize=1024)
def _rendered_client(client_id: str | None, prefix: bytes) -> bytes:
    return render(_named(prefix + b"Client-Id", client_id))


@lru_cache(maxsize=1024)
def _rendered_scope(scopes: frozenset[str], prefix: bytes) -> bytes:
    return render(_scope(prefix, scopes))


def _scope(prefix: bytes, scopes: frozenset[str]) -> Fields:
    return [(prefix + b"Scope", b" ".join(sorted(map(_field_value, scopes))))] if scopes else []


def _named(name: bytes, value: str | None) -> Fields:
    return [] if value is None else [(name, _field_value(value))]


_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_PLAIN = re.compile(f"[{re.escape(_VISIBLE)}]*")


def _field_value(text: str) -> bytes:
    if _PLAIN.fullmatch(text):
        return text.encode()
    return quote(text, safe=_VISIBLE).encode()
