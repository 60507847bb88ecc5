"""Which client a request to the key manager authenticates as (RFC 6749 §2.3).

Pure: no I/O, no asyncio, no aiohttp. The gateway checks no secret: that the key manager accepted
the request says that it authenticated whatever client the request authenticates as. So a request
must say so in one way: where it leaves open which client that is, none is believed, and where it
names two it is refused before it is sent (RFC 6749 §5.2 names that as ``invalid_request``).
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_plus

from gateway.bearer import scheme
from gateway.errors import InvalidRequest
from gateway.jwt_claims import claims_of
from gateway.oauth_messages import Parameters

BasicClientId = Literal["unambiguous", "form_encoded", "verbatim"]
"""How the key manager reads the user of HTTP Basic: ``key_manager.basic_client_id``."""

Doubt = Literal["two_readings", "unreadable"]

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# What form encoders leave as it is, and what they write instead of the rest (RFC 6749 appendix B).
# Some spare more than the standard's "*-._", none spares "@".
_FORM_ENCODED = re.compile(r"[A-Za-z0-9*\-._~!'()/+%]*")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class RequestClient:
    """The client that a request authenticates as, should the key manager accept it.

    ``client_id`` is what is believed, ``None`` where there is no client or it isn't known which.
    ``readings`` are all clients that it may be; ``doubt`` says why none is believed. ``named`` are
    those that stand beside what can't be read, or that a lenient reader finds in it: nothing is
    given for such a name, but a client can't hide behind what the gateway can't read either.
    """

    client_id: str | None = None
    readings: frozenset[str] = frozenset()
    doubt: Doubt | None = None
    named: frozenset[str] = frozenset()

    @property
    def may_be(self) -> frozenset[str]:
        """The clients one of which it must be to end what was issued to a client."""
        return self.readings or self.named


NOBODY = RequestClient()


def request_client(
    authorizations: Sequence[bytes],
    parameters: Parameters,
    *,
    basic_client_id: BasicClientId = "unambiguous",
) -> RequestClient:
    """Return the client of a request: by HTTP Basic, an assertion, or its name in the form.

    ``parameters`` are those of the body: credentials in a query count for nothing (RFC 6749
    §2.3.1). Credentials go before a bare ``client_id``, which not every key manager looks at then.

    Raises:
        InvalidRequest: it names two clients.
    """
    if len(authorizations) > 1:
        raise InvalidRequest("More than one Authorization field.")
    clients = [_by_authorization(value, basic_client_id) for value in authorizations]
    clients += [_by_assertion(parameters)] if "client_assertion" in parameters else []
    clients += [
        RequestClient(client_id, frozenset({client_id}))
        for client_id in dict.fromkeys(parameters.get("client_id", ()))
    ]
    if not clients:
        return NOBODY
    known = [client.readings for client in clients if client.readings]
    common = frozenset.intersection(*known) if known else frozenset()
    if known and not common:
        raise InvalidRequest("The request names more than one client.")
    if any(client.doubt == "unreadable" for client in clients):
        # Beside it a name counts for nothing: the key manager may go by what we can't read.
        named = common.union(*(client.named for client in clients))
        return RequestClient(doubt="unreadable", named=named)
    first = clients[0]
    if first.client_id in common or first.doubt is not None:
        return first
    return RequestClient(None, first.readings, "two_readings")


_UNREADABLE = RequestClient(doubt="unreadable")


def _by_authorization(authorization: bytes, basic_client_id: BasicClientId) -> RequestClient:
    user = _basic_user(authorization)
    if not user or _CONTROL.search(user):
        return _unreadable(authorization)
    decoded = _form_decoded(user)
    if basic_client_id == "form_encoded":
        if decoded is None:
            return _unreadable(authorization)
        return RequestClient(decoded, frozenset({decoded}))
    if basic_client_id == "verbatim" or decoded in {None, user}:
        return RequestClient(user, frozenset({user}))
    assert decoded is not None
    readings = frozenset({user, decoded})
    if _FORM_ENCODED.fullmatch(user):
        return RequestClient(None, readings, "two_readings")
    # No client that form-encodes has written this.
    return RequestClient(user, readings)


def _unreadable(authorization: bytes) -> RequestClient:
    """Return a client that the gateway can't read, with the names that others may find."""
    authorization = authorization.strip()
    if scheme(authorization) != b"basic":
        return _UNREADABLE
    # Many decoders leave out what isn't base64, and don't ask for padding (RFC 4648 §3.2, §3.3).
    digits = _NOT_BASE64.sub(b"", authorization[len(b"basic") :].translate(_URL_SAFE))
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    user = b64decode(digits + b"=" * (-len(digits) % 4)).partition(b":")[0]
    names = {user.decode(errors="replace"), user.decode("latin-1")}
    names |= {_CONTROL.sub("", name).strip() for name in names}
    names |= {unquote_plus(name) for name in names}
    return RequestClient(doubt="unreadable", named=frozenset(names - {""}))


def _basic_user(authorization: bytes) -> str:
    authorization = authorization.strip()
    if scheme(authorization) != b"basic":
        return ""
    try:
        pair = b64decode(authorization[len(b"basic") :].strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return pair.partition(":")[0]


def _form_decoded(user: str) -> str | None:
    # Form-urlencoded before it was joined with the secret: RFC 6749 §2.3.1.
    if _BROKEN_ESCAPE.search(user):
        return None
    try:
        decoded = unquote_plus(user, errors="strict")
    except ValueError:
        return None
    return None if _CONTROL.search(decoded) else decoded


def _by_assertion(parameters: Parameters) -> RequestClient:
    assertions = set(parameters["client_assertion"])
    if len(assertions) > 1:
        raise InvalidRequest("More than one client_assertion.")
    if list(dict.fromkeys(parameters.get("client_assertion_type", ()))) != [JWT_BEARER]:
        return _UNREADABLE
    # RFC 7523 §3: the subject is the client. Who issued the assertion may be somebody else.
    client_id = claims_of(assertions.pop()).get("sub")
    if not isinstance(client_id, str) or not client_id:
        return _UNREADABLE
    return RequestClient(client_id, frozenset({client_id}))
