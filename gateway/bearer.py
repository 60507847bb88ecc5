"""The credentials of a request, and the challenges that answer it (RFC 6750).

Pure: no I/O, no asyncio, no aiohttp. No token leaves this module but by ``credentials``.
"""

import re
from collections.abc import Sequence
from urllib.parse import unquote_plus

from gateway.errors import InsufficientScope, InvalidRequest, InvalidToken, NoCredentials
from gateway.tokens import Facts

# b64token, RFC 6750 §2.1; the scheme is case-insensitive, RFC 9110 §11.1.
_BEARER = re.compile(rb"bearer +([A-Za-z0-9\-._~+/]+=*)", re.IGNORECASE)
# One word that is no b64token: a token, if a malformed one. Two words, or two with a comma
# between, are a malformed request.
_ONE_WORD = re.compile(rb"bearer +[\x21-\x2b\x2d-\x7e\x80-\xff]+", re.IGNORECASE)


def scheme(authorization: bytes) -> bytes:
    """Return the authentication scheme of an ``Authorization`` value, in lower case."""
    # Any white space ends it: "Bearer<TAB>…" is a bearer token, if a malformed one.
    return b"".join(authorization.split(None, 1)[:1]).lower()


def credentials(authorizations: Sequence[bytes], query: str | None, *, realm: str) -> bytes:
    """Return the bearer token of a request.

    ``authorizations`` are the values of all its ``Authorization`` fields, ``query`` its raw query.

    Raises:
        NoCredentials: no bearer token was presented (another scheme isn't one).
        InvalidRequest: none behind the scheme or more than one, one that is presented in more than
            one way, or in the query, where logs and histories would keep it (RFC 6750 §2.3,
            RFC 9700 §4.3.2).
        InvalidToken: a token that is malformed (RFC 6750 §3.1): no token of ours, as good as
            unknown.
    """
    if query and _names_access_token(query):
        raise _invalid_request(realm, "A token in the query is not accepted.")
    if not authorizations:
        raise _no_credentials(realm)
    if len(authorizations) > 1:
        raise _invalid_request(realm, "More than one Authorization field.")
    match = _BEARER.fullmatch(authorizations[0])
    if match is not None:
        return match[1]
    if _ONE_WORD.fullmatch(authorizations[0]):
        raise _invalid_token(realm, "The bearer token is malformed.")
    if scheme(authorizations[0]) == b"bearer":
        raise _invalid_request(realm, "The Authorization field is malformed.")
    raise _no_credentials(realm)


def authorize(facts: Facts, scopes: frozenset[str], *, realm: str) -> None:
    """Return if the facts of a token let it pass where ``scopes`` are asked for.

    Raises:
        InvalidToken: the token is unknown, expired or revoked.
        InsufficientScope: it lacks one of the scopes.
    """
    if not facts.active:
        raise _invalid_token(realm, "The token is unknown, expired or revoked.")
    if not scopes <= facts.scopes:
        description = "The token lacks a scope that this needs."
        challenge = _challenge(
            realm,
            error="insufficient_scope",
            error_description=description,
            scope=" ".join(sorted(scopes)),
        )
        raise InsufficientScope(description, headers=[challenge])


def _names_access_token(query: str) -> bool:
    if "access_token" not in query and "%" not in query:
        return False
    return any(
        unquote_plus(part.partition("=")[0]) == "access_token"
        for part in query.replace(";", "&").split("&")
    )


def _no_credentials(realm: str) -> NoCredentials:
    # Without an error code: nothing was tried that could have been wrong (RFC 6750 §3.1).
    return NoCredentials("A bearer token is needed.", headers=[_challenge(realm)])


def _invalid_request(realm: str, description: str) -> InvalidRequest:
    challenge = _challenge(realm, error="invalid_request", error_description=description)
    return InvalidRequest(description, headers=[challenge])


def _invalid_token(realm: str, description: str) -> InvalidToken:
    challenge = _challenge(realm, error="invalid_token", error_description=description)
    return InvalidToken(description, headers=[challenge])


def _challenge(realm: str, **parameters: str) -> tuple[str, str]:
    quoted = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    return "WWW-Authenticate", f'Bearer realm="{realm}"' + (", " + quoted if quoted else "")
