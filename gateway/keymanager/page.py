"""The pages on which users sign in and decide: their HTML, headers, anti-forgery tokens."""

import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from gateway.keymanager.attempts import TooManyAttempts
from gateway.keymanager.records import Family

_STYLE = (
    ":root{color-scheme:light dark;--paper:#fff;--ground:#f3f4f6;--ink:#111827;--soft:#4b5563;"
    "--line:#d1d5db;--accent:#1d4ed8;--on-accent:#fff;--bad:#b00020;--good:#166534}"
    "@media(prefers-color-scheme:dark){:root{--paper:#1f2937;--ground:#111827;--ink:#f3f4f6;"
    "--soft:#d1d5db;--line:#4b5563;--accent:#93c5fd;--on-accent:#111827;--bad:#fca5a5;"
    "--good:#86efac}}"
    "*{box-sizing:border-box}"
    "body{font:16px/1.5 system-ui,sans-serif;background:var(--ground);color:var(--ink);margin:0;"
    "display:grid;grid-template-columns:minmax(0,1fr);place-items:center;min-height:100vh;"
    "padding:1rem}"
    "main{background:var(--paper);padding:2rem;border-radius:.5rem;width:24rem;max-width:100%;"
    "box-shadow:0 1px 4px #0003;overflow-wrap:anywhere}"
    "main.wide{width:44rem}"
    "h1{font-size:1.25rem;margin:0 0 1rem}"
    "h2{font-size:1rem;margin:0}"
    "label{display:block;margin:.75rem 0}"
    "input{display:block;width:100%;font:inherit;padding:.5rem;border:1px solid var(--soft);"
    "border-radius:.25rem;background:var(--paper);color:var(--ink)}"
    "button{font:inherit;min-height:2.75rem;padding:.4rem 1rem;margin:.75rem .5rem 0 0;"
    "border:1px solid var(--soft);border-radius:.25rem;background:var(--paper);color:var(--ink);"
    "cursor:pointer}"
    "button.main{background:var(--accent);border-color:var(--accent);color:var(--on-accent)}"
    "button.bad{border-color:var(--bad);color:var(--bad)}"
    ":focus-visible{outline:3px solid var(--accent);outline-offset:2px}"
    "[role=alert]{color:var(--bad)}[role=status]{color:var(--good)}"
    "header{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:start;"
    "justify-content:space-between}header button{margin:0}"
    "ul.grants{list-style:none;margin:1.5rem 0;padding:0}"
    "ul.grants>li{border-top:1px solid var(--line);padding:1rem 0;display:flex;flex-wrap:wrap;"
    "gap:0 1rem;justify-content:space-between;align-items:center}"
    "ul.grants button{margin:.5rem 0 0}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;margin:.25rem 0 0}"
    "strong,h2{unicode-bidi:isolate}"
    "dt,.soft{color:var(--soft)}dd{margin:0}"
)

_NONCE = re.compile(r"[A-Za-z0-9_-]{43}")

MOST_GRANTS = 100
"""The most that the page lists; revoking all isn't limited to them."""

NOT_STORED = {
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer is sent with: RFC 6749 §5.1."""

HEADERS = {
    **NOT_STORED,
    "Referrer-Policy": "no-referrer",
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
        # A cookie may hold bytes that aren't UTF-8, which Python has as surrogates.
        return hmac.new(self._key, message.encode(errors="surrogatepass"), sha256).hexdigest()

    def is_genuine(self, token: str, cookie: str | None, parameters: Mapping[str, str]) -> bool:
        """Return whether the form came from a page of ours, in this browser, for this request."""
        expected = self.token(cookie or "", parameters)
        genuine = hmac.compare_digest(expected.encode(), token.encode(errors="surrogatepass"))
        return genuine and cookie is not None


def sign_in_page(
    *, client_id: str, scopes: tuple[str, ...], redirect_uri: str, token: str, fault: str = ""
) -> str:
    """Return the page that asks the user to sign in and allow, or to deny."""
    parts = urlsplit(redirect_uri)
    allowed = "".join(f"<li>{escape(scope)}</li>" for scope in scopes)
    return _page(
        "Sign in",
        f"<p><strong>{escape(client_id)}</strong> asks for access to:</p><ul>{allowed}</ul>"
        f"<p>You will be sent to {escape(parts.netloc or parts.scheme)}.</p>{_alert(fault)}"
        # Without an action the form goes to the page's own URL, the authorization request.
        f'<form method="post">{_hidden("token", token)}{_SIGN_IN}'
        '<button class="main" name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny">Deny</button>'
        "</form>",
    )


def sign_in_to_grants_page(token: str, fault: str = "") -> str:
    """Return the page that asks a user to sign in, to see what was granted."""
    return _page(
        "Your grants",
        "<p>Sign in to see which applications have access in your name, and to revoke it.</p>"
        f'{_alert(fault)}<form method="post" action="sign-in">{_hidden("token", token)}{_SIGN_IN}'
        '<button class="main">Sign in</button></form>',
    )


def grants_page(
    username: str, grants: Sequence[tuple[str, Family]], *, token: str, notice: str = ""
) -> str:
    """Return the page of a user's grants, each with its name, the one used last first.

    Without scripts: each button is a form of its own.
    """
    said = f'<p role="status">{escape(notice)}</p>' if notice else ""
    hidden = _hidden("token", token)
    listed = "".join(
        f'<li><div><h2 id="g{number}">{escape(family.client_id)}</h2><dl id="d{number}">'
        f"<dt>May</dt><dd>{escape(family.scope)}</dd>"
        f"<dt>Since</dt><dd>{_instant(family.since_at)}</dd>"
        f"<dt>Last used</dt><dd>{_instant(family.used_at)}</dd></dl></div>"
        f'<form method="post" action="revoke">{hidden}{_hidden("grant", name)}'
        f'<button class="bad" id="b{number}" aria-labelledby="b{number} g{number}" '
        f'aria-describedby="d{number}">Revoke</button>'
        "</form></li>"
        for number, (name, family) in enumerate(grants[:MOST_GRANTS])
    )
    count = f"{len(grants)} grants" if len(grants) != 1 else "1 grant"
    shown = "" if len(grants) <= MOST_GRANTS else f"; the {MOST_GRANTS} used last are listed"
    content = (
        "<p>No application has access in your name.</p>"
        if not grants
        else f"<p>These applications have access in your name: {count}{shown}. Revoke what you "
        "don't know. A grant was last used when the application last got tokens on it.</p>"
        f'<ul class="grants">{listed}</ul>'
        f'<form method="post" action="revoke">{hidden}{_hidden("all", "yes")}'
        '<button class="bad">Revoke all</button></form>'
        '<p class="soft">What is revoked gets no new tokens. A token that an API gateway has '
        "in its cache may be accepted there until that expires: 15 minutes, unless the gateway "
        "was told otherwise.</p>"
    )
    return _page(
        "Your grants",
        f"<header><p>Signed in as <strong>{escape(username)}</strong></p>"
        f'<form method="post" action="sign-out">{hidden}<button>Sign out</button></form></header>'
        f"{said}{content}",
        wide=True,
    )


def fault_page(fault: str, title: str = "Authorization failed") -> str:
    """Return the page that tells the user what is wrong where the client must not be told."""
    return _page(title, f'<p role="alert">{escape(fault)}</p>')


def wait_fault(error: TooManyAttempts) -> str:
    """Return what a user is told who has to wait."""
    return f"Too many wrong passwords. Try again in {error.retry_after_seconds} s."


def html(page: str, status: int = 200, *, retry_after_seconds: int | None = None) -> web.Response:
    """Return the response with a page."""
    headers = dict(HEADERS)
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(retry_after_seconds)
    return web.Response(text=page, status=status, content_type="text/html", headers=headers)


def set_cookie(
    response: web.Response,
    request: web.Request,
    name: str,
    value: str,
    *,
    path: str | None = None,
) -> None:
    """Set a cookie that scripts and other sites' forms don't get; an empty one removes it.

    Without a path it is for what lies beside the request's own (RFC 6265 §5.1.4), wherever a
    gateway in front has put that: no backend of the same gateway gets the cookie.
    """
    # Lax, not Strict: coming from the client's site must not replace the nonce of a page
    # that is open elsewhere. A form posted from another site is without the cookie anyway.
    attributes = [f"{name}={value}", "HttpOnly", "SameSite=Lax"]
    if path is not None:
        attributes.append(f"Path={path}")
    # The gateway in front ends TLS. A lie here would only keep the liar's own cookie away.
    if request.secure or request.headers.get("X-Forwarded-Proto") == "https":
        attributes.append("Secure")
    if not value:
        attributes.append("Max-Age=0")
    response.headers.add("Set-Cookie", "; ".join(attributes))


_SIGN_IN = (
    '<label>User name<input name="username" autocomplete="username" required autofocus></label>'
    '<label>Password<input name="password" type="password" '
    'autocomplete="current-password" required></label>'
)


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'


def _alert(fault: str) -> str:
    return f'<p role="alert">{escape(fault)}</p>' if fault else ""


def _instant(at: int) -> str:
    instant = datetime.fromtimestamp(at, UTC)
    return f'<time datetime="{instant.isoformat()}">{instant:%Y-%m-%d %H:%M} UTC</time>'


def _page(title: str, content: str, *, wide: bool = False) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main{' class=wide' if wide else ''}><h1>{escape(title)}</h1>{content}</main>"
        "</body></html>"
    )
