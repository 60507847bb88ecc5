"""The authorization endpoint: its page, its redirects, and whom it tells of what."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from clocks import FakeClock
from streams import closed

from gateway.keymanager.attempts import FREE
from keymanager.conftest import Start
from keymanager.driver import (
    ALICE,
    CONFIG,
    REDIRECT_URI,
    Driver,
    code_request,
    form_token,
    token_request,
)


async def test_page(km: Driver) -> None:
    """The page says who asks for what, and may be neither framed nor kept."""
    page = await km.page(**code_request(scope="read"))
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<strong>demo-key</strong>" in page.text
    assert "<li>read</li>" in page.text
    assert "<li>write</li>" not in page.text
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert (page.headers["Cache-Control"], page.headers["Pragma"]) == ("no-store", "no-cache")
    assert page.headers["Referrer-Policy"] == "no-referrer"


async def test_allow(km: Driver) -> None:
    """The browser is sent to the client with a code and the state, and without the password."""
    reply = await km.decide(code_request(), **ALICE, decision="allow")
    uri, said = reply.location
    assert (reply.status, uri) == (303, REDIRECT_URI)
    assert set(said) == {"code", "state"}
    assert said["state"] == "a state/&="
    assert reply.headers["Location"].startswith(f"{REDIRECT_URI}?")


async def test_no_state_no_state(km: Driver) -> None:
    """A request without state is answered without."""
    reply = await km.decide(code_request(state=""), **ALICE, decision="allow")
    assert set(reply.location[1]) == {"code"}


async def test_deny(km: Driver) -> None:
    """A user who denies needs no password; the client is told access_denied."""
    reply = await km.decide(code_request(), decision="deny")
    assert (reply.status, reply.location[1]["error"]) == (303, "access_denied")
    assert reply.location[1]["state"] == "a state/&="


async def test_wrong_password(km: Driver) -> None:
    """A wrong password shows the page again, for another try; nothing is redirected."""
    query = code_request()
    reply = await km.decide(query, username="alice", password="x", decision="allow")
    assert (reply.status, "Location" in reply.headers) == (403, False)
    assert 'role="alert"' in reply.text
    again = await km.submit(query, token=form_token(reply), **ALICE, decision="allow")
    assert again.status == 303


async def test_forged_form(km: Driver) -> None:
    """A form that isn't from the page, or not for this request or browser, is refused."""
    query = code_request()
    token = form_token(await km.page(**query))
    good = {**ALICE, "decision": "allow"}
    replies = [
        await km.submit(query, **good),
        await km.submit(query, token="0" * 64, **good),
        await km.submit(code_request(scope="write"), token=token, **good),
    ]
    km.http.session.cookie_jar.clear()
    replies.append(await km.submit(query, token=token, **good))
    assert [(reply.status, "Location" in reply.headers) for reply in replies] == [(403, False)] * 4


async def test_cookie(km: Driver) -> None:
    """The form's cookie is out of reach of scripts and of other sites' forms."""
    page = await km.page(**code_request())
    attributes = {part.strip().lower() for part in page.headers["Set-Cookie"].split(";")[1:]}
    assert attributes == {"httponly", "path=/", "samesite=lax"}


async def test_two_pages_of_one_browser(km: Driver) -> None:
    """A page that is open in another tab goes on working."""
    first, second = code_request(scope="read"), code_request(scope="write")
    token = form_token(await km.page(**first))
    await km.page(**second)
    assert (await km.submit(first, token=token, **ALICE, decision="allow")).status == 303


@pytest.mark.parametrize(
    "query",
    [
        {"client_id": ""},
        {"client_id": "<b>nobody</b>"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": f"{REDIRECT_URI}/"},
        {"redirect_uri": f"{REDIRECT_URI}?more=1"},
        {"redirect_uri": "https://APP.example/callback"},
        {"redirect_uri": "/callback"},
        {"redirect_uri": "", "client_id": "other-key"},
    ],
)
@pytest.mark.parametrize("make", [code_request, token_request])
async def test_no_redirect_to_the_unchecked(
    km: Driver, query: dict[str, str], make: Callable[..., dict[str, str]]
) -> None:
    """Without a good client and redirect URI the user is told, not the client (§4.1.2.1)."""
    reply = await km.page(**make(**query))
    assert (reply.status, "Location" in reply.headers) == (400, False)
    assert "<b>" not in reply.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (code_request(response_type=""), "invalid_request"),
        (code_request(response_type="none"), "unsupported_response_type"),
        (code_request(response_type="code token"), "unsupported_response_type"),
        (code_request(response_type="xcode"), "unsupported_response_type"),
        (code_request(scope="read admin"), "invalid_scope"),
        (code_request(code_challenge=""), "invalid_request"),
        (code_request(code_challenge="short"), "invalid_request"),
        (code_request(code_challenge_method="plain"), "invalid_request"),
        (code_request(code_challenge_method=""), "invalid_request"),
        (token_request(scope="admin"), "invalid_scope"),
    ],
)
async def test_errors_that_the_client_is_told(
    km: Driver, query: dict[str, str], expected: str
) -> None:
    """Other faults go to the client, in the part of the URI that its answer would be in."""
    reply = await km.page(**query)
    uri, said = reply.location
    assert (reply.status, uri, said["error"], said["state"]) == (
        303,
        REDIRECT_URI,
        expected,
        "a state/&=",
    )
    assert ("#" in reply.headers["Location"]) == (query.get("response_type") == "token")


async def test_a_client_without_the_grant(start: Start) -> None:
    """A client that isn't registered for a response type is told unauthorized_client."""
    client = replace(CONFIG.clients[0], grant_types=("password",))
    km = await start(replace(CONFIG, clients=(client,)))
    replies = [await km.page(**make()) for make in (code_request, token_request)]
    assert [reply.location[1]["error"] for reply in replies] == ["unauthorized_client"] * 2


async def test_duplicate_parameters(km: Driver) -> None:
    """A parameter that is there twice ends at the user (RFC 6749 §3.1)."""
    reply = await km.http.get(
        "/authorize",
        params=[*code_request().items(), ("state", "2")],
        allow_redirects=False,
    )
    assert reply.status == 400


async def test_a_form_for_a_bad_request(km: Driver) -> None:
    """What GET refuses POST refuses too, before it looks at any password."""
    good = form_token(await km.page(**code_request()))
    replies = [
        await km.submit(code_request(redirect_uri="https://evil.example/"), token=good, **ALICE),
        await km.submit(code_request(scope="admin"), token=good, **ALICE),
    ]
    assert [reply.status for reply in replies] == [400, 303]
    assert replies[1].location[1]["error"] == "invalid_scope"


async def test_a_default_redirect_uri(km: Driver) -> None:
    """A client with one redirect URI needn't name it."""
    reply = await km.decide(code_request(redirect_uri=""), **ALICE, decision="allow")
    assert reply.location[0] == REDIRECT_URI


async def test_issuer(start: Start) -> None:
    """With an issuer configured, every authorization response names it (RFC 9207)."""
    km = await start(replace(CONFIG, issuer="https://issuer.example"))
    replies = [
        await km.decide(code_request(), **ALICE, decision="allow"),
        await km.decide(token_request(), **ALICE, decision="allow"),
        await km.decide(code_request(), decision="deny"),
        await km.page(**code_request(scope="admin")),
    ]
    assert [reply.location[1]["iss"] for reply in replies] == ["https://issuer.example"] * 4


async def test_only_get_and_post(km: Driver) -> None:
    """Other methods are 405."""
    response = await km.http.put("/authorize")
    assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD,POST")


@pytest.mark.parametrize("cookie", [b"\xff", b"km_form=\xff", b"n=M\xc3\xbcller; km_form=\xc3"])
@pytest.mark.parametrize(("method", "status"), [("GET", b"200"), ("POST", b"403")])
async def test_a_cookie_that_is_not_ascii(
    km: Driver, cookie: bytes, method: str, status: bytes
) -> None:
    """Any site of the same host may have set one: the page is shown, a form with it refused."""
    body = b"token=x" if method == "POST" else b""
    head = (
        f"{method} /authorize?{urlencode(code_request())} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
    )
    reader, writer = await asyncio.open_connection(km.http.host, km.http.port)
    # By hand: a client of aiohttp's would send other bytes.
    writer.write(head.encode() + b"Cookie: " + cookie + b"\r\n\r\n" + body)
    answered = (await reader.readline()).split()[1]
    await closed(writer)
    assert answered == status


LOOPBACK = replace(
    CONFIG.clients[0],
    redirect_uris=("http://127.0.0.1/callback", "http://[::1]:8000/callback?a=b", REDIRECT_URI),
)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:49152/callback",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:1/callback",
        "http://[::1]:65535/callback?a=b",
        "http://[::1]/callback?a=b",
    ],
)
async def test_a_native_app_listens_on_another_port(start: Start, uri: str) -> None:
    """With a loopback address any port is as good as the registered one (RFC 8252 §7.3)."""
    km = await start(replace(CONFIG, clients=(LOOPBACK,)))
    reply = await km.decide(code_request(redirect_uri=uri), **ALICE, decision="allow")
    code = reply.location[1]["code"]
    assert reply.headers["Location"].startswith(uri)
    assert (await km.redeem(code, redirect_uri="http://127.0.0.1:2/callback")).status == 400
    assert (await km.redeem(code, redirect_uri=uri)).status == 200


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1:49152/callback",
        "http://localhost:49152/callback",
        "http://127.0.0.2:49152/callback",
        "http://127.0.0.1:49152/callback/",
        "http://127.0.0.1:49152/other",
        "http://127.0.0.1:49152/callback?a=b",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:/callback",
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1@evil.example:80/callback",
        "http://127.0.0.1:80.evil.example/callback",
        "http://127.0.0.1.evil.example:80/callback",
        "http://127.0.0.1\\@evil.example:80/callback",
        "http://2130706433:80/callback",
        "http://[::ffff:127.0.0.1]:80/callback",
        "http://127.0.0.1:\u0661/callback",
        "HTTP://127.0.0.1:49152/callback",
        f"{REDIRECT_URI.replace('.example', '.example:8443')}",
    ],
)
async def test_only_the_port_of_a_loopback_address_may_differ(start: Start, uri: str) -> None:
    """Nothing else of it, not of a name, and no other address that merely looks like one."""
    km = await start(replace(CONFIG, clients=(LOOPBACK,)))
    reply = await km.page(**code_request(redirect_uri=uri))
    assert (reply.status, "Location" in reply.headers) == (400, False)


async def test_wrong_passwords_are_slowed_down(km: Driver, clock: FakeClock) -> None:
    """After a few the page says how long to wait; then the right one is let in."""
    query = code_request()
    for _ in range(FREE):
        await km.decide(query, username="alice", password="x", decision="allow")
    late = await km.decide(query, **ALICE, decision="allow")
    assert (late.status, late.headers["Retry-After"], 'role="alert"' in late.text) == (
        429,
        "1",
        True,
    )
    clock.advance(1)
    assert (await km.decide(query, **ALICE, decision="allow")).status == 303


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"token=%ff", "application/x-www-form-urlencoded"),
        (b"\xff", "application/x-www-form-urlencoded"),
        (b"token=a&token=b", "application/x-www-form-urlencoded"),
        (b"t\0o\0", "application/x-www-form-urlencoded; charset=utf-16"),
        (b"{}", "application/json"),
        (b"--b\r\n\r\n--b--", "multipart/form-data; boundary=b"),
        (b"&".join(b"a%d=" % number for number in range(100)), "application/x-www-form-urlencoded"),
    ],
)
async def test_a_form_that_is_none(km: Driver, body: bytes, media_type: str) -> None:
    """What can't be a form of ours is a page that says so, and goes nowhere."""
    response = await km.http.post(
        "/authorize",
        params=code_request(),
        data=body,
        headers={"Content-Type": media_type},
        allow_redirects=False,
    )
    assert (response.status, response.content_type) == (400, "text/html")


async def test_the_cookie_behind_a_gateway_with_tls(km: Driver) -> None:
    """A gateway that ends TLS says so, and then the cookie is for https alone."""
    response = await km.http.get(
        "/authorize", params=code_request(), headers={"X-Forwarded-Proto": "https"}
    )
    assert response.headers["Set-Cookie"].endswith("; Secure")
