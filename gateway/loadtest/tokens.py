"""What is asked of the token and the revocation endpoint, and what they answer. Pure.

A token is held in memory alone; everything else knows it by its index and its digest.
"""

import json
import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import quote_plus, urlencode

from pydantic import SecretStr

from gateway.loadtest.options import ClientAuth, Grant, RunOptions
from gateway.loadtest.origins import Endpoint, Headers

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 §2.1
_ERROR_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FORM = ("Content-Type", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Granted:
    """What a token endpoint gave (RFC 6749 §5.1)."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no token; ``code`` is the endpoint's ``error`` (RFC 6749 §5.2), if any."""

    why: str
    code: str | None = None


class Requests:
    """Writes the requests of a run."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self.targets = [Endpoint.of(url) for url in options.targets]
        self.token = Endpoint.of(options.token_url) if options.token_url else None
        self.revocation = Endpoint.of(options.revoke_url)
        self._headers = [(name, value.get_secret_value()) for name, value in options.headers]

    def probe(self, target: int, token: str) -> bytes:
        """Return a request to a target with a token (RFC 6750 §2.1)."""
        headers = [*self._headers, ("Authorization", f"Bearer {token}")]
        return self.targets[target].compose(self._options.method, headers)

    def issue(self, refresh_token: str | None = None) -> bytes:
        """Return a request for a token; ``refresh_token`` is the chain's last (RFC 6749 §6)."""
        options = self._options
        assert self.token is not None
        form = {"grant_type": str(options.grant)}
        if options.grant is Grant.PASSWORD:
            form |= {"username": options.username or "", "password": _reveal(options.password)}
        elif options.grant is Grant.REFRESH_TOKEN:
            form["refresh_token"] = refresh_token or _reveal(options.refresh_token)
        if options.scope:
            form["scope"] = options.scope
        return self._post(self.token, form)

    def revoke(self, token: str) -> bytes:
        """Return a request to revoke an access token (RFC 7009 §2.1)."""
        form = {"token": token, "token_type_hint": "access_token"}
        return self._post(self.revocation, form)

    def _post(self, endpoint: Endpoint, form: dict[str, str]) -> bytes:
        headers, more = self._client()
        body = urlencode({**form, **more}).encode()
        return endpoint.compose("POST", [_FORM, ("Accept", "application/json"), *headers], body)

    def _client(self) -> tuple[Headers, dict[str, str]]:
        """Return how the client shows who it is: in a header, or in the form."""
        client_id, secret = self._options.client_id, self._options.client_secret
        if client_id is None:
            return [], {}
        if secret is None:
            return [], {"client_id": client_id}
        if self._options.client_auth is ClientAuth.BODY:
            return [], {"client_id": client_id, "client_secret": secret.get_secret_value()}
        # RFC 6749 §2.3.1: each half is form-encoded before they are joined.
        halves = f"{quote_plus(client_id)}:{quote_plus(secret.get_secret_value())}"
        return [("Authorization", f"Basic {b64encode(halves.encode()).decode()}")], {}


def read_grant(status: int | None, error: str | None, body: bytes) -> Granted | Refused:
    """Read what came of asking for a token. What is said of a failure repeats no secret."""
    if status is None:
        return Refused(f"no answer ({error})")
    try:
        members = json.loads(body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {}
    if not 200 <= status < 300:
        code = members.get("error")
        known = isinstance(code, str) and _ERROR_CODE.fullmatch(code)
        return Refused(f"HTTP status {status}", code if known else None)
    token, refresh = members.get("access_token"), members.get("refresh_token")
    if not isinstance(token, str) or not _BEARER.fullmatch(token):
        return Refused(f"HTTP status {status} without a usable access_token")
    if str(members.get("token_type", "bearer")).lower() != "bearer":
        return Refused(f"HTTP status {status} with a token_type other than Bearer")
    return Granted(token, refresh if isinstance(refresh, str) and refresh else None)


def _reveal(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
