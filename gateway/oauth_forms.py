"""Forms of the OAuth endpoints: read as any key manager reads them, or refused.

Pure: no I/O, no asyncio, no aiohttp. What a key manager does with a form, the gateway has to know:
a revocation that it reads otherwise, or not at all, leaves a token good that its client was told is
gone. So a form is forwarded only where every parser agrees on the parameters that decide, and
RFC 6749 appendix B says what they agree on: UTF-8, form-urlencoded, each parameter once (§3.2).
"""

import re
from urllib.parse import unquote_to_bytes

from gateway.errors import InvalidRequest, UnsupportedMediaType
from gateway.oauth_messages import Parameters
from gateway.request_head import RequestHead

MAX_PARAMETERS = 100

_FORM = re.compile(
    rb"application/x-www-form-urlencoded(?P<parameters>(?:[ \t]*;[ \t]*[^;,]*)*)", re.IGNORECASE
)
# "charset*" and "charset*0" are the same to those who read RFC 2231 here too.
_CHARSET = re.compile(rb"[ \t]*charset(?:\*[0-9]*\*?)?[ \t]*=(.*)", re.IGNORECASE | re.DOTALL)
_UTF_8 = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})
# What these make of ASCII is ASCII.
_LIKE_ASCII = frozenset({b"iso-8859-1", b"latin1", b"windows-1252"})
_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_NOT_A_LETTER = re.compile(r"[^a-z]")

_DECIDING = {
    # Which token goes, and whether it is the client's own to end (RFC 7009 §2.1).
    "revoke": ("token", "client_id"),
    # Which grant a token belongs to.
    "token": ("grant_type", "refresh_token"),
}
_OF_A_TOKEN = frozenset({"token", "refresh_token"})
# Where the gateway does something of its own.
_GRANT_TYPES = {
    "authorizationcode": "authorization_code",
    "clientcredentials": "client_credentials",
    "password": "password",
    "refreshtoken": "refresh_token",
}


def read_form(endpoint: str, head: RequestHead, query: str | None, body: bytes) -> Parameters:
    """Return the parameters in the body of a request to an endpoint, "token" or "revoke".

    Parameters without a value are left out (RFC 6749 §3.2), and so are all values of one that
    isn't UTF-8.

    Raises:
        UnsupportedMediaType: the body is encoded, or isn't a form.
        InvalidRequest: key managers could take it for another request than the gateway does, or
            a revocation names no token.
    """
    ascii_alone = _check_type(head) if body else False
    deciding = _DECIDING[endpoint]
    parameters: dict[str, list[str]] = {}
    seen: set[str] = set()
    unread: set[str] = set()
    for part in _parts(body):
        name, value = _named(part)
        _check_names(part, name, deciding)
        text = _decoded(value)
        if text is None or (ascii_alone and not text.isascii()):
            text = None
            unread.add(name)
        if name in deciding:
            if name in seen:
                raise InvalidRequest(f"The parameter {name} is there more than once.")
            seen.add(name)
            _check_deciding(name, value, text)
        parameters.setdefault(name, [])
        if text:
            parameters[name].append(text)
    read = {name: said for name, said in parameters.items() if said and name not in unread}
    _check_query(query or "", deciding, read)
    if endpoint == "revoke" and "token" not in read:
        raise InvalidRequest("The parameter token is missing.")
    return read


def _check_type(head: RequestHead) -> bool:
    """Refuse what isn't a form; return whether only what is ASCII in it is sure."""
    types, codings = (
        [value for lower, _, value in head.fields if lower.replace(b"_", b"-") == name]
        for name in (b"content-type", b"content-encoding")
    )
    if any(coding.strip().lower() not in {b"", b"identity"} for coding in codings):
        # RFC 9110 §15.5.16: say which coding would be taken.
        raise UnsupportedMediaType(
            "The body must not be encoded.", headers=[("Accept-Encoding", "identity")]
        )
    # Without a type no key manager reads anything else than a form, and most read nothing.
    match = _FORM.fullmatch(types[0].strip()) if len(types) == 1 else None
    if not types:
        return False
    if match is None:
        raise UnsupportedMediaType("The body must be application/x-www-form-urlencoded.")
    charsets = [
        found[1].strip().strip(b'"').lower()
        for parameter in match["parameters"].split(b";")
        if (found := _CHARSET.fullmatch(parameter))
    ]
    if len(charsets) > 1 or not set(charsets) <= _UTF_8 | _LIKE_ASCII:
        raise UnsupportedMediaType("The body must be in UTF-8.")
    return not set(charsets) <= _UTF_8


def _parts(form: bytes) -> list[bytes]:
    parts = [part for part in form.split(b"&") if part]
    if len(parts) > MAX_PARAMETERS:
        raise InvalidRequest("There are too many parameters.")
    return parts


def _named(part: bytes) -> tuple[str, bytes]:
    name, _, value = part.partition(b"=")
    text = _decoded(name)
    if text is None:
        raise InvalidRequest("The name of a parameter is not UTF-8.")
    return text, value


def _decoded(encoded: bytes) -> str | None:
    try:
        return unquote_to_bytes(encoded.replace(b"+", b" ")).decode()
    except ValueError:
        return None


def _check_deciding(name: str, value: bytes, text: str | None) -> None:
    if text is None or _BROKEN_PERCENT.search(value):
        raise InvalidRequest(f"The parameter {name} is malformed.")
    # RFC 6749 appendix A.12 and A.17, but for the space: who trims, or leaves "+" as it is, would
    # find another token.
    if name in _OF_A_TOKEN and text and not _TOKEN.fullmatch(text):
        raise InvalidRequest(f"The parameter {name} has characters that no token has.")
    if name == "grant_type" and text:
        # Who ignores case, or trims, would take it for a grant that the gateway doesn't.
        meant = _GRANT_TYPES.get(_NOT_A_LETTER.sub("", text.lower()), text)
        if meant != text:
            raise InvalidRequest("The parameter grant_type is misspelt.")


def _check_names(part: bytes, name: str, deciding: tuple[str, ...]) -> None:
    meant = _meant(name, deciding)
    if meant is not None and meant != name:
        raise InvalidRequest(f"The parameter {meant} is misspelt.")
    # Some parsers part parameters at ";" too.
    pieces = part.split(b";")
    if len(pieces) > 1 and any(
        _meant(_decoded(piece.partition(b"=")[0]) or "", deciding) for piece in pieces
    ):
        raise InvalidRequest('Parameters are parted by "&" alone.')


def _meant(name: str, deciding: tuple[str, ...]) -> str | None:
    """Return the deciding parameter that some key manager takes a name for.

    Frameworks exist that ignore case, that trim, and that read "token[]" as "token".
    """
    letters = _NOT_A_LETTER.sub("", name.lower())
    return next((known for known in deciding if known.replace("_", "") == letters), None)


def _check_query(query: str, deciding: tuple[str, ...], read: Parameters) -> None:
    # RFC 6749 §2.3.1: such parameters belong in the body. Some key managers ignore those of the
    # query, some take them first.
    for part in _parts(query.encode("ascii").replace(b";", b"&")):
        name, value = _named(part)
        meant = _meant(name, deciding)
        if meant is None or (meant == "grant_type" and read.get(meant) == [_decoded(value)]):
            continue
        raise InvalidRequest(f"The parameter {meant} belongs in the body.")
