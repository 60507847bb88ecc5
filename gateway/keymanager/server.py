"""oauthlib's endpoints and grants, put together by hand.

``oauthlib.oauth2.Server`` offers more than we want (the device grant, ``response_type=none``,
PKCE's ``plain``, an ``openid`` grant type) and less (no refresh token for client credentials).
"""

import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from oauthlib.common import Request
from oauthlib.oauth2 import (
    AuthorizationCodeGrant,
    AuthorizationEndpoint,
    BearerToken,
    ClientCredentialsGrant,
    ImplicitGrant,
    IntrospectEndpoint,
    RefreshTokenGrant,
    ResourceOwnerPasswordCredentialsGrant,
    RevocationEndpoint,
    TokenEndpoint,
)
from oauthlib.oauth2.rfc6749.errors import (
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Error,
    UnsupportedGrantTypeError,
    UnsupportedResponseTypeError,
)
from oauthlib.oauth2.rfc6749.grant_types.authorization_code import code_challenge_method_s256

from gateway.clock import Clock
from gateway.keymanager.config import KeyManagerConfig
from gateway.keymanager.credentials import ClientCredentials, Directory
from gateway.keymanager.registrations import ADDRESS, RESPONSE_TYPE_GRANTS
from gateway.keymanager.request_validator import ConfidentialClientsOnly, Validator
from gateway.keymanager.storage import Storage

# oauthlib refuses any URI that isn't https. Ours is never used for anything else: TLS is ended
# by the gateway in front, and the switch to turn the check off is an environment variable,
# which would turn it off for every user of oauthlib in the process.
URI = "https://key-manager.invalid/"

AUTHORIZATION_PARAMETERS = frozenset(
    ("client_id", "code_challenge", "code_challenge_method", "redirect_uri", "response_type")
) | {"scope", "state"}
TOKEN_PARAMETERS = frozenset(
    ("grant_type", "code", "code_verifier", "password", "redirect_uri", "refresh_token")
) | {"scope", "username"}
LOOKUP_PARAMETERS = frozenset(("token", "token_type_hint"))

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What oauthlib wants answered."""

    status: int
    body: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Authorization:
    """An authorization request that may be put before the user (RFC 6749 §4.1.1, §4.2.1)."""

    client_id: str
    redirect_uri: str
    response_type: str
    scopes: tuple[str, ...]
    parameters: dict[str, str]


class Server:
    """The four endpoints, called with parsed parameters.

    Synchronous: each call does its Redis commands, so it belongs in a thread. All raise
    ``OAuth2Error`` (a ``FatalClientError`` where a browser must not be redirected) and
    ``StoreUnavailable``.
    """

    def __init__(
        self, config: KeyManagerConfig, directory: Directory, storage: Storage, clock: Clock
    ) -> None:
        silence_oauthlib()
        validator = Validator(config, directory, storage, clock)
        tokens = Tokens(
            validator, config.access_token_expires_in, refresh_tokens=config.refresh_tokens
        )
        code = CodeGrant(validator, pre_auth=[_check_authorization], pre_token=[_check_verifier])
        endpoint: Callable[..., TokenEndpoint] = TokenEndpoint  # its stub wants names of types
        self.validator = validator
        self._wso2_headers = config.wso2_headers
        self._token = endpoint(
            "authorization_code",
            tokens,
            {
                "authorization_code": code,
                "password": ResourceOwnerPasswordCredentialsGrant(validator),
                "client_credentials": ClientCredentialsGrant(validator),
                "refresh_token": RefreshTokenGrant(validator, post_token=[_name_scopes_once]),
            },
        )
        authorization: Callable[..., AuthorizationEndpoint] = AuthorizationEndpoint  # as above
        self._authorization = authorization(
            "code", tokens, {"code": code, "token": ImplicitGrant(validator)}
        )
        self._revocation = RevocationEndpoint(validator)
        self._introspection = IntrospectEndpoint(
            ConfidentialClientsOnly(config, directory, storage, clock)
        )

    def token(self, form: dict[str, str], client: ClientCredentials) -> Answer:
        """Issue tokens (RFC 6749 §3.2)."""
        grant_type = form.get("grant_type")
        if grant_type is None:
            raise InvalidRequestError("grant_type is missing.")
        if grant_type not in self._token.grant_types:
            raise UnsupportedGrantTypeError
        return _answer(self._token.create_token_response, form, TOKEN_PARAMETERS, client)

    def revoke(self, form: dict[str, str], client: ClientCredentials) -> Answer:
        """Revoke a token (RFC 7009)."""
        token = form.get("token", "")
        claims = self.validator.access_claims(token) if self._wso2_headers else None
        answer = _answer(
            self._revocation.create_revocation_response, form, LOOKUP_PARAMETERS, client
        )
        if claims is not None and answer.status == 200:
            answer.headers["RevokedAccessToken"] = token
            answer.headers["AuthorizedUser"] = str(claims.get("username", ""))
        return answer

    def introspect(self, form: dict[str, str], client: ClientCredentials) -> Answer:
        """Tell what a token is good for (RFC 7662)."""
        return _answer(
            self._introspection.create_introspect_response, form, LOOKUP_PARAMETERS, client
        )

    def check_authorization(self, query: dict[str, str]) -> Authorization:
        """Return an authorization request that may be shown to the user."""
        parameters = _known(query, AUTHORIZATION_PARAMETERS)
        scopes, info = self._authorization.validate_authorization_request(
            URI, "POST", urlencode(parameters), {}
        )
        return Authorization(
            info["client_id"],
            info["redirect_uri"],
            info["response_type"],
            tuple(scopes),
            parameters,
        )

    def authorize(self, authorization: Authorization, username: str) -> str:
        """Return the URI that takes the user's grant, a code or a token, to the client."""
        headers, _, _ = self._authorization.create_authorization_response(
            URI,
            "POST",
            urlencode(authorization.parameters),
            {},
            scopes=list(authorization.scopes),
            credentials={"user": username},
        )
        location: str = headers["Location"]
        return location


class Tokens(BearerToken):
    """Bearer tokens; a refresh token goes with each, but for the implicit grant."""

    def __init__(
        self, validator: Validator, expires_in_seconds: int, *, refresh_tokens: bool
    ) -> None:
        super().__init__(validator, _random_token, expires_in_seconds)
        self._refresh_tokens = refresh_tokens

    def create_token(self, request: Request, refresh_token: bool = False, **kwargs: Any) -> Any:  # noqa: ARG002 - oauthlib's signature
        """Create the tokens of an answer.

        oauthlib leaves the refresh token out for client credentials, following a "should not"
        of RFC 6749 §4.4.3; this key manager's users are promised one with every grant but the
        implicit one. Only the implicit grant comes without a ``grant_type``.
        """
        allowed = request.client is not None and "refresh_token" in request.client.grant_types
        wanted = self._refresh_tokens and allowed and request.grant_type is not None
        return super().create_token(request, refresh_token=wanted, **kwargs)


class CodeGrant(AuthorizationCodeGrant):
    """The authorization code grant with PKCE by S256 alone (RFC 9700 §2.1.1)."""

    _code_challenge_methods = {"S256": code_challenge_method_s256}  # noqa: RUF012 - oauthlib's own

    def create_authorization_code(self, request: Request) -> dict[str, str]:
        """Create a code of as many random bits as a token has."""
        state = {"state": request.state} if request.state else {}
        return {"code": secrets.token_urlsafe(32), **state}


def silence_oauthlib() -> None:
    """Keep oauthlib's debug messages out of every log: they quote tokens, codes and passwords."""
    logging.getLogger("oauthlib").setLevel(logging.WARNING)


def _check_authorization(request: Request) -> dict[str, Any]:
    # oauthlib takes any response type that has "code" in it, and any challenge.
    if request.response_type is not None and request.response_type not in RESPONSE_TYPE_GRANTS:
        raise UnsupportedResponseTypeError(request=request)
    if request.code_challenge is not None and not _CHALLENGE.fullmatch(request.code_challenge):
        raise InvalidRequestError("code_challenge is malformed.", request=request)
    return {}


def _check_verifier(request: Request) -> None:
    # RFC 7636 §4.1; a shorter one might be guessed from its challenge.
    if request.code_verifier is not None and not _VERIFIER.fullmatch(request.code_verifier):
        raise InvalidGrantError("code_verifier is malformed.", request=request)


def _name_scopes_once(request: Request) -> None:
    request.scopes = list(dict.fromkeys(request.scopes or ()))


def _answer(
    create: Callable[..., tuple[dict[str, str], str, int]],
    form: dict[str, str],
    names: frozenset[str],
    client: ClientCredentials,
) -> Answer:
    parameters = _known(form, names)
    if client.client_id is not None:
        parameters["client_id"] = client.client_id
    if client.client_secret is not None:
        parameters["client_secret"] = client.client_secret
    try:
        headers, body, status = create(
            URI, "POST", urlencode(parameters), {ADDRESS: client.address}
        )
    except OAuth2Error as error:  # those of the last step: oauthlib renders the earlier ones
        return Answer(error.status_code, error.json, {})
    return Answer(status, body, headers)


def _known(parameters: dict[str, str], names: frozenset[str]) -> dict[str, str]:
    """Leave out what the endpoint doesn't know: it must be ignored (RFC 6749 §3.1, §3.2)."""
    return {name: value for name, value in parameters.items() if name in names}


def _random_token(_: Request) -> str:
    return secrets.token_urlsafe(32)
