"""The sign-in page and its anti-forgery token."""

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from gateway.keymanager.page import HEADERS, AntiForgery, fault_page, sign_in_page


def test_nothing_is_markup() -> None:
    """Whatever is shown is shown as text."""
    nasty = "\"><script>'"
    page = sign_in_page(
        client_id=nasty,
        scopes=(nasty,),
        redirect_uri=f"https://{nasty}/",
        token=nasty,
        fault=nasty,
    )
    assert "<script>" not in page + fault_page(nasty)
    assert '"">' not in page


@pytest.mark.parametrize(
    ("redirect_uri", "expected"),
    [
        ("https://app.example:8443/callback?x=1", "app.example:8443"),
        ("com.example.app:/callback", "com.example.app"),
    ],
)
def test_where_the_browser_goes(redirect_uri: str, expected: str) -> None:
    """The user is told where the grant goes."""
    page = sign_in_page(client_id="a", scopes=("b",), redirect_uri=redirect_uri, token="t")
    assert f"You will be sent to {expected}." in page


def test_the_policy_allows_the_style() -> None:
    """The content security policy names the hash of the page's one style, and no script."""
    found = re.search(r"<style>(.*)</style>", fault_page(""))
    assert found
    digest = b64encode(sha256(found[1].encode()).digest()).decode()
    policy = HEADERS["Content-Security-Policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_anti_forgery() -> None:
    """A token is good for its nonce, its request and its process, and for nothing else."""
    ours, theirs = AntiForgery(), AntiForgery()
    nonce, request = ours.nonce(None), {"client_id": "a", "scope": "b"}
    token = ours.token(nonce, request)
    verdicts = [
        ours.is_genuine(token, nonce, request),
        ours.is_genuine(token, nonce, {"scope": "b", "client_id": "a"}),
        ours.is_genuine(token, nonce, {**request, "scope": "c"}),
        ours.is_genuine(token, ours.nonce(None), request),
        ours.is_genuine(token, None, request),
        ours.is_genuine(ours.token("", request), None, request),
        ours.is_genuine("ü", nonce, request),
        theirs.is_genuine(token, nonce, request),
    ]
    assert verdicts == [True, True] + [False] * 6


def test_nonce() -> None:
    """A browser keeps its nonce; one that isn't of ours is replaced."""
    forgery = AntiForgery()
    nonce = forgery.nonce(None)
    assert forgery.nonce(nonce) == nonce
    assert forgery.nonce("forged; Path=/") not in {"forged; Path=/", nonce}
