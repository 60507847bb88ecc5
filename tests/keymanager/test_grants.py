"""The page on which users end their grants, and the call by which administrators do."""

import re
from base64 import b64encode
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from clocks import FakeClock

from gateway.keymanager.attempts import FREE
from gateway.keymanager.config import Client, User
from gateway.keymanager.sessions import LIFE_SECONDS
from keymanager.conftest import Start
from keymanager.driver import (
    ALICE,
    CONFIG,
    DEMO,
    OTHER,
    Driver,
    Reply,
    code_request,
    form_token,
    read,
    token_request,
)

BOB: dict[str, Any] = {"username": "bob", "password": "builder"}
MORE = replace(
    CONFIG,
    users=(*CONFIG.users, User(**BOB)),
    admins=(User("root", "over:all+%41"),),
)


@pytest.fixture
async def km(start: Start) -> Driver:
    return await start(MORE)


async def page(km: Driver) -> Reply:
    return await read(await km.http.get("/grants/"))


async def submit(km: Driver, form: str, token: str, **fields: str) -> Reply:
    response = await km.http.post(
        f"/grants/{form}", data={"token": token, **fields}, allow_redirects=False
    )
    return await read(response)


async def sign_in(km: Driver, user: dict[str, str] = ALICE) -> Reply:
    """Sign in by the form, and return the page of grants."""
    reply = await submit(km, "sign-in", form_token(await page(km)), **user)
    assert (reply.status, reply.headers["Location"]) == (303, "./")
    return await page(km)


def listed(shown: Reply) -> list[dict[str, str]]:
    """What the page says of each grant, in order."""
    return [
        {"client": unescape(client), "scope": scope, "since": since, "used": used, "grant": grant}
        for client, scope, since, used, grant in re.findall(
            r"<h2[^>]*>(.*?)</h2><dl[^>]*><dt>May</dt><dd>(.*?)</dd>"
            r"<dt>Since</dt><dd><time[^>]*>(.*?)</time></dd>"
            r"<dt>Last used</dt><dd><time[^>]*>(.*?)</time></dd></dl></div>"
            r'.*?name="grant" value="(.*?)"',
            shown.text,
        )
    ]


async def admin(km: Driver, credentials: str = "root:over:all+%41", **form: str) -> Reply:
    headers = {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}
    return await read(await km.http.post("/admin/revoke", data=form, headers=headers))


async def test_a_user_sees_what_was_granted(km: Driver, clock: FakeClock) -> None:
    """Client, scopes, since when, last used; the one used last comes first; no one else's."""
    tokens = await km.password(scope="read")
    await km.password(OTHER)
    await km.token(client=DEMO, grant_type="password", **BOB)
    await km.token(grant_type="client_credentials")
    clock.advance(120)
    await km.refresh(tokens["refresh_token"])
    grants = [{**grant, "grant": ""} for grant in listed(await sign_in(km))]
    since, used = "2023-11-14 22:13 UTC", "2023-11-14 22:15 UTC"
    assert grants == [
        {"client": "demo-key", "scope": "read", "since": since, "used": used, "grant": ""},
        {"client": "other-key", "scope": "read write", "since": since, "used": since, "grant": ""},
    ]


async def test_a_user_revokes_one_grant(km: Driver) -> None:
    """Its access and refresh tokens end, the other grant goes on, and the page says so."""
    one, other = await km.password(), await km.password(OTHER)
    shown = await sign_in(km)
    (grant,) = [grant["grant"] for grant in listed(shown) if grant["client"] == "demo-key"]
    reply = await submit(km, "revoke", form_token(shown), grant=grant)
    assert (reply.status, reply.headers["Location"]) == (303, "./")
    active = await km.active(one["access_token"], other["access_token"])
    refreshed = await km.refresh(one["refresh_token"])
    assert (active, refreshed.error) == ([False, True], (400, "invalid_grant"))
    after = await page(km)
    assert '<p role="status">1 grant was revoked.</p>' in after.text
    assert [grant["client"] for grant in listed(after)] == ["other-key"]
    assert 'role="status"' not in (await page(km)).text


async def test_a_user_revokes_all_grants(km: Driver) -> None:
    """Those of the implicit grant and of a client without refresh tokens are among them."""
    tokens = [(await km.password())["access_token"], (await km.password(OTHER))["access_token"]]
    granted = await km.decide(token_request(), **ALICE, decision="allow")
    tokens.append(granted.location[1]["access_token"])
    bobs = (await km.token(grant_type="password", **BOB)).json["access_token"]
    shown = await sign_in(km)
    assert len(listed(shown)) == 3
    await submit(km, "revoke", form_token(shown), all="yes")
    assert await km.active(*tokens, bobs) == [False, False, False, True]
    after = await page(km)
    assert "3 grants were revoked." in after.text
    assert "No application has access in your name." in after.text


async def test_nobody_ends_another_user_s_grant(km: Driver) -> None:
    """The name of a grant is no secret, and naming another user's does nothing."""
    tokens = await km.password()
    (grant,) = listed(await sign_in(km))
    km.http.session.cookie_jar.clear()
    bobs_page = await sign_in(km, BOB)
    await submit(km, "revoke", form_token(bobs_page), grant=grant["grant"])
    assert await km.active(tokens["access_token"]) == [True]
    assert "Nothing was left to revoke." in (await page(km)).text


async def test_a_grant_without_tokens_is_not_listed(km: Driver) -> None:
    """Once its only access token was revoked, or has expired, there is nothing to end."""
    granted = await km.decide(token_request(), **ALICE, decision="allow")
    assert len(listed(await sign_in(km))) == 1
    await km.revoke(granted.location[1]["access_token"])
    assert listed(await page(km)) == []


@pytest.mark.parametrize(("seconds", "count"), [(3599, 2), (3600, 1)])
async def test_an_expired_grant_is_not_listed(
    km: Driver, clock: FakeClock, seconds: int, count: int
) -> None:
    """A grant lasts as long as the last of its tokens."""
    await km.password()
    await km.decide(token_request(), **ALICE, decision="allow")
    clock.advance(seconds)
    assert len(listed(await sign_in(km))) == count


async def test_wrong_passwords(km: Driver) -> None:
    """They show the form again; many have to wait, and then the right one does too."""
    token = form_token(await page(km))
    wrong = [
        await submit(km, "sign-in", token, username="alice", password="x") for _ in range(FREE)
    ]
    late = await submit(km, "sign-in", token, **ALICE)
    assert [reply.status for reply in wrong] == [403] * FREE
    assert (late.status, late.headers["Retry-After"]) == (429, "1")
    assert "Try again in 1 s." in late.text


async def test_forged_forms(km: Driver) -> None:
    """Without the token of a page of this browser nothing is done, whatever the form."""
    tokens = await km.password()
    foreign = form_token(await page(km))  # of the form to sign in, not of the session's page
    shown = await sign_in(km)
    good = form_token(shown)
    replies = [
        await submit(km, form, token, all="yes", **ALICE)
        for form in ("revoke", "sign-out")
        for token in ("", foreign, "0" * 64)
    ]
    replies += [await submit(km, "sign-in", token, **ALICE) for token in ("", good, "ü")]
    km.http.session.cookie_jar.clear()
    replies += [await submit(km, form, good, all="yes") for form in ("revoke", "sign-out")]
    assert [(reply.status, "Set-Cookie" in reply.headers) for reply in replies] == [
        (403, False)
    ] * 11
    assert await km.active(tokens["access_token"]) == [True]


async def test_a_session_ends(km: Driver, clock: FakeClock) -> None:
    """After its time, and by signing out: then the page asks for the password again."""
    shown = await sign_in(km)
    clock.advance(LIFE_SECONDS)
    late = await submit(km, "revoke", form_token(shown), all="yes")
    assert (late.status, "Sign in" in (await page(km)).text) == (403, True)
    shown = await sign_in(km)
    cookie = next(c.value for c in km.http.session.cookie_jar if c.key == "km_session")
    out = await submit(km, "sign-out", form_token(shown))
    assert (out.status, "Sign in" in (await page(km)).text) == (303, True)
    stolen = await km.http.get("/grants/", headers={"Cookie": f"km_session={cookie}"})
    assert "Signed in" not in await stolen.text()


async def test_the_session_s_cookie(km: Driver) -> None:
    """It is new with each sign-in, below the page only, and out of reach of scripts."""
    token = form_token(await page(km))
    planted = {"Cookie": "km_session=planted"}
    response = await km.http.post(
        "/grants/sign-in",
        data={"token": token, **ALICE},
        headers=planted | {"X-Forwarded-Proto": "https"},
        allow_redirects=False,
    )
    value, *attributes = response.headers["Set-Cookie"].split("; ")
    assert len(value) > 40
    assert {part.lower() for part in attributes} == {"httponly", "samesite=lax", "secure"}


async def test_the_page_s_headers(km: Driver) -> None:
    """Every page of it, faults too, is neither stored nor framed nor sniffed, and has no script."""
    replies = [
        await page(km),
        await sign_in(km),
        await submit(km, "revoke", "forged"),
        await read(await km.http.get("/grants/revoke")),
        await read(await km.http.post("/grants/sign-in", json={})),
        await read(await km.http.get("/grants", allow_redirects=False)),
    ]
    assert [reply.status for reply in replies] == [200, 200, 403, 405, 400, 308]
    for reply in replies:
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "<script" not in reply.text
        assert reply.text == "" or "text/html" in reply.headers["Content-Type"]


async def test_the_page_s_address(km: Driver) -> None:
    """Without the slash one is sent to it, relative to wherever a gateway put the page."""
    reply = await read(await km.http.get("/grants", allow_redirects=False))
    assert (reply.status, reply.headers["Location"]) == (308, "grants/")


async def test_very_many_grants(km: Driver) -> None:
    """The page lists a hundred and says how many there are; revoking all isn't limited."""
    tokens = [(await km.password())["access_token"] for _ in range(102)]
    shown = await sign_in(km)
    assert len(listed(shown)) == 100
    assert "102 grants; the 100 used last are listed" in shown.text
    await submit(km, "revoke", form_token(shown), all="yes")
    assert set(await km.active(*tokens)) == {False}


@pytest.mark.parametrize(
    ("form", "active", "revoked"),
    [
        ({"username": "alice"}, [False, False, True], 2),
        ({"client_id": "demo-key"}, [False, True, False], 2),
        ({"username": "alice", "client_id": "other-key"}, [True, False, True], 1),
        ({"username": "nobody"}, [True, True, True], 0),
        ({"token": "made up"}, [True, True, True], 0),
    ],
)
async def test_an_administrator_revokes(
    km: Driver, form: dict[str, str], active: list[bool], revoked: int
) -> None:
    """By user, by client, or by both; what isn't there is no error, as in RFC 7009 §2.2."""
    tokens = [
        (await km.password())["access_token"],
        (await km.password(OTHER))["access_token"],
        (await km.token(grant_type="password", **BOB)).json["access_token"],
    ]
    reply = await admin(km, **form)
    assert (reply.status, reply.json) == (200, {"revoked": revoked})
    assert await km.active(*tokens) == active


@pytest.mark.parametrize(
    ("kind", "active"), [("access_token", [False, True]), ("refresh_token", [False, False])]
)
async def test_an_administrator_revokes_a_token(km: Driver, kind: str, active: list[bool]) -> None:
    """Whoever's it is: an access token ends alone, a refresh token with its grant."""
    tokens = await km.password(OTHER)
    reply = await admin(km, token=tokens[kind])
    assert reply.json == {"revoked": 1}
    access, refresh = (tokens[name] for name in ("access_token", "refresh_token"))
    assert [(await km.introspect(token, OTHER))["active"] for token in (access, refresh)] == active


@pytest.mark.parametrize(
    "credentials", ["root:wrong", "alice:wonderland", "demo-key:demo-secret", "root:", ":x"]
)
async def test_nobody_else_is_an_administrator(km: Driver, credentials: str) -> None:
    """Neither a user nor a client is, and a wrong password isn't told from a wrong name."""
    tokens = await km.password()
    reply = await admin(km, credentials, username="alice")
    assert reply.error == (401, "invalid_client")
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    assert await km.active(tokens["access_token"]) == [True]


async def test_no_credentials(km: Driver) -> None:
    """Without, with a token, or with two headers: 401 with a challenge."""
    for headers in ({}, {"Authorization": "Bearer x"}):
        response = await km.http.post("/admin/revoke", data={"username": "a"}, headers=headers)
        assert (response.status, "WWW-Authenticate" in response.headers) == (401, True)


async def test_an_administrator_s_password_is_guessed(km: Driver) -> None:
    """Guessing it is slowed down."""
    for _ in range(FREE):
        await admin(km, "root:wrong", username="alice")
    reply = await admin(km, username="alice")
    assert (reply.error, reply.headers["Retry-After"]) == ((429, "slow_down"), "1")


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"user": "alice"},
        {"username": ""},
        {"token": "x", "username": "alice"},
        {"token": "x", "client_id": "demo-key"},
    ],
)
async def test_what_to_revoke_must_be_said(km: Driver, form: dict[str, str]) -> None:
    """Nothing named, or two different things, is an error, and nothing ends."""
    tokens = await km.password()
    assert (await admin(km, **form)).error == (400, "invalid_request")
    assert await km.active(tokens["access_token"]) == [True]


async def test_an_administrator_signs_in_nowhere_else(km: Driver) -> None:
    """It is no user's name, neither on the page nor at /authorize nor at /token."""
    root: dict[str, Any] = {"username": "root", "password": "over:all+%41"}
    replies: list[Any] = [
        await submit(km, "sign-in", form_token(await page(km)), **root),
        await km.decide(code_request(), **root, decision="allow"),
        await km.token(grant_type="password", **root),
    ]
    assert [reply.status for reply in replies] == [403, 403, 400]


async def test_names_are_shown_as_text(start: Start) -> None:
    """A client's identifier with markup in it is no markup."""
    nasty = ("<b>&\"'", "secret")
    km = await start(replace(MORE, clients=(Client(*nasty),)))
    await km.password(nasty)
    shown = await sign_in(km)
    assert ("<b>" in shown.text, listed(shown)[0]["client"]) == (False, nasty[0])


async def test_a_page_is_no_administrator(km: Driver) -> None:
    """Another site's page, in a browser that remembers the password, revokes nothing."""
    tokens = await km.password()
    pair = b64encode(b"root:over:all+%41").decode()
    headers = {"Authorization": f"Basic {pair}", "Origin": "https://evil.example"}
    form = {"username": "alice"}
    reply = await read(await km.http.post("/admin/revoke", data=form, headers=headers))
    assert reply.error == (403, "access_denied")
    assert await km.active(tokens["access_token"]) == [True]
