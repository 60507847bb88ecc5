"""The page on which a user signs in and decides: its HTML, its headers, its anti-forgery token."""

import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from urllib.parse import urlencode, urlsplit

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;background:#f3f4f6;color:#111;margin:0;"
    "display:grid;place-items:center;min-height:100vh}"
    "main{background:#fff;padding:2rem;border-radius:.5rem;width:20rem;max-width:90vw;"
    "box-shadow:0 1px 4px #0003;overflow-wrap:anywhere}"
    "h1{font-size:1.25rem;margin:0 0 1rem}"
    "label{display:block;margin:.75rem 0}"
    "input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4rem}"
    "button{font:inherit;padding:.4rem 1rem;margin:.75rem .5rem 0 0}"
    "[role=alert]{color:#b00020}"
)

_NONCE = re.compile(r"[A-Za-z0-9_-]{43}")

HEADERS = {
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Against clickjacking, RFC 6749 §10.13 and RFC 9700 §4.16. There is no form-action:
    # browsers apply it to the redirect that follows the form too, which goes to the client.
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; style-src 'sha256-"
        f"{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
    ),
}
"""What every page is sent with."""


class AntiForgery:
    """A token in the form that only a page of ours can have, bound to a cookie and the request.

    The key is made at start: forms that were open before don't work after a restart.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def nonce(self, cookie: str | None) -> str:
        """Return the browser's nonce: the one its cookie has already, or a new one."""
        if cookie is not None and _NONCE.fullmatch(cookie):
            return cookie
        return secrets.token_urlsafe(32)

    def token(self, nonce: str, parameters: Mapping[str, str]) -> str:
        """Return the token for a form that asks for this authorization."""
        message = f"{nonce}&{urlencode(sorted(parameters.items()))}"
        return hmac.new(self._key, message.encode(), sha256).hexdigest()

    def is_genuine(self, token: str, cookie: str | None, parameters: Mapping[str, str]) -> bool:
        """Return whether the form came from a page of ours, in this browser, for this request."""
        expected = self.token(cookie or "", parameters)
        genuine = hmac.compare_digest(expected.encode(), token.encode())
        return genuine and cookie is not None


def sign_in_page(
    *, client_id: str, scopes: tuple[str, ...], redirect_uri: str, token: str, fault: str = ""
) -> str:
    """Return the page that asks the user to sign in and allow, or to deny."""
    parts = urlsplit(redirect_uri)
    alert = f'<p role="alert">{escape(fault)}</p>' if fault else ""
    allowed = "".join(f"<li>{escape(scope)}</li>" for scope in scopes)
    return _page(
        "Sign in",
        f"<p><strong>{escape(client_id)}</strong> asks for access to:</p><ul>{allowed}</ul>"
        f"<p>You will be sent to {escape(parts.netloc or parts.scheme)}.</p>{alert}"
        # Without an action the form goes to the page's own URL, the authorization request.
        '<form method="post">'
        f'<input type="hidden" name="token" value="{escape(token)}">'
        '<label>User name<input name="username" autocomplete="username" autofocus></label>'
        '<label>Password<input name="password" type="password" '
        'autocomplete="current-password"></label>'
        '<button name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny">Deny</button>'
        "</form>",
    )


def fault_page(fault: str) -> str:
    """Return the page that tells the user what is wrong where the client must not be told."""
    return _page("Authorization failed", f'<p role="alert">{escape(fault)}</p>')


def _page(title: str, content: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{content}</main></body></html>"
    )
