"""What a person can paste: the reference's two calls with our host, then the life of a token.

Pure. Commands are for any POSIX shell with curl and sed; they have no comments in them, which
an interactive zsh would try to run.
"""

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from urllib.parse import urlencode

from gateway.demo.stack import (
    ADMIN_NAME,
    ADMIN_PASSWORD,
    BASIC,
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    USERNAME,
)
from gateway.settings.types import format_duration

_FIELD = r"""field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"; }"""
_STATUS = r'-s -o /dev/null -w "%{http_code}\n"'
_FORM = "Content-Type: application/x-www-form-urlencoded"


# A person can't make a PKCE pair by hand, so this one is the same each time (RFC 7636 §4.2).
VERIFIER = "demo-only-a-real-client-makes-a-new-one-each-time"
_CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Curl:
    """A command, or a few, and what it shows."""

    says: str
    command: str


def reference_curls(url: str) -> tuple[Curl, ...]:
    """Return refresh and revoke as reference documentation has them, for a gateway at ``url``.

    What is in angle brackets is to be filled in.
    """
    return (
        Curl(
            "Refresh:",
            'curl -k -d "grant_type=refresh_token&refresh_token=<retoken>"'
            f' -H "Authorization: Basic {BASIC}" -H "{_FORM}" {url}/token',
        ),
        Curl(
            "Revoke:",
            f'curl -k -d "token=<access-token-to-be-revoked>"'
            f' -H "Authorization: Basic {BASIC}" {url}/revoke',
        ),
    )


def browser_grants(url: str, redirect_uri: str) -> tuple[Curl, ...]:
    """Return what needs a browser: the code and the implicit grant, and what redeems a code."""
    asked = {"client_id": CLIENT_ID, "redirect_uri": redirect_uri, "scope": "read"}
    pkce = {"code_challenge": _CHALLENGE, "code_challenge_method": "S256"}
    return (
        Curl(
            "A code: open this, sign in and allow; the backend shows the code in the query.",
            f"{url}/authorize?{urlencode({'response_type': 'code', **asked, **pkce})}",
        ),
        Curl(
            "Tokens for it, a refresh token among them:",
            f"curl -k -u {CLIENT_ID}:{CLIENT_SECRET}"
            f' -d "grant_type=authorization_code&code=<code>&code_verifier={VERIFIER}'
            f'&redirect_uri={redirect_uri}" {url}/token',
        ),
        Curl(
            "The implicit grant: an access token alone, behind the # of the address.",
            f"{url}/authorize?{urlencode({'response_type': 'token', **asked})}",
        ),
    )


def revocations(url: str) -> tuple[Curl, ...]:
    """Return how a user and an administrator revoke."""
    return (
        Curl(f"The user: open this, and sign in as {USERNAME} / {PASSWORD}.", f"{url}/grants/"),
        Curl(
            "An administrator: by username, client_id or token.",
            f'curl -k -u {ADMIN_NAME}:{ADMIN_PASSWORD} -d "username={USERNAME}" {url}/admin/revoke',
        ),
    )


def walkthrough(url: str, max_age_seconds: float) -> tuple[Curl, ...]:
    """Return the life of a token, to be pasted from top to bottom."""
    max_age = format_duration(timedelta(seconds=max_age_seconds))
    bearer = '-H "Authorization: Bearer $TOKEN"'
    basic = f'-H "Authorization: Basic {BASIC}"'
    newest = 'TOKEN=$(echo "$TOKENS" | field access_token)'
    sign_in = (
        f"TOKENS=$(curl -sk -u {CLIENT_ID}:{CLIENT_SECRET} {url}/token \\\n"
        f'  -d "grant_type=password&username={USERNAME}&password={PASSWORD}")\n'
        f"{newest}"
    )
    refresh = (
        'REFRESH=$(echo "$TOKENS" | field refresh_token)\n'
        'TOKENS=$(curl -sk -d "grant_type=refresh_token&refresh_token=$REFRESH" \\\n'
        f"  {basic} \\\n"
        f'  -H "{_FORM}" \\\n'
        f"  {url}/token)\n"
        f"{newest}"
    )
    revoke = f'curl -k {_STATUS} -d "token=$TOKEN" \\\n  {basic} \\\n  {url}/revoke'
    orders = f"curl -k {_STATUS} \\\n  {bearer} {url}/orders/1"
    payments = f"curl -k {_STATUS} \\\n  {bearer} {url}/payments/1"
    lapsed = f"sleep {max_age_seconds:g}\ncurl -ki {bearer} \\\n  {url}/orders/1"
    return (
        Curl("Tokens, by the password grant.", f"{_FIELD}\n{sign_in}"),
        Curl(
            "A call. The backend shows what reached it.", f"curl -k {bearer} \\\n  {url}/orders/1"
        ),
        Curl("New tokens for the refresh token, which is good for one use.", refresh),
        Curl(f"200: the new token is validated, and that counts for {max_age}.", orders),
        Curl("200: it is revoked.", revoke),
        Curl(f"Still 200, until {max_age} after call 4: that is the window.", orders),
        Curl("Then 401 invalid_token: it has closed.", lapsed),
        Curl(
            "200, 200, 401: /payments asks the store every time, so that a revoked token\n"
            "   is refused at once (and then on /orders too: the gateway knows by now).",
            f"{sign_in}\n{payments}\n{revoke}\n{payments}",
        ),
    )
