"""The token endpoint: every grant end to end, and what each refuses."""

from dataclasses import replace

import pytest
from clocks import FakeClock
from redis import Redis

from gateway.tokens import Facts, parse_facts, token_key
from keymanager.conftest import Start
from keymanager.driver import (
    ALICE,
    CONFIG,
    DEMO,
    OTHER,
    REDIRECT_URI,
    VERIFIER,
    Driver,
    challenge_of,
    code_request,
    token_request,
)


async def test_client_credentials(km: Driver, clock: FakeClock) -> None:
    """A client gets tokens for itself, a refresh token with them, and no user's name."""
    reply = await km.token(grant_type="client_credentials", scope="read")
    members = {"access_token", "expires_in", "token_type", "scope", "refresh_token"}
    assert (reply.status, set(reply.json)) == (200, members)
    assert (reply.json["expires_in"], reply.json["token_type"]) == (3600, "Bearer")
    now_at = int(clock.wall())
    assert await km.introspect(reply.json["access_token"]) == {
        "active": True,
        "client_id": "demo-key",
        "scope": "read",
        "token_type": "Bearer",
        "iat": now_at,
        "exp": now_at + 3600,
    }


async def test_password(km: Driver, clock: FakeClock) -> None:
    """A user's password gets tokens in the user's name, with every scope by default."""
    tokens = await km.password()
    now_at = int(clock.wall())
    assert await km.introspect(tokens["access_token"]) == {
        "active": True,
        "client_id": "demo-key",
        "sub": "alice",
        "username": "alice",
        "scope": "read write",
        "token_type": "Bearer",
        "iat": now_at,
        "exp": now_at + 3600,
    }
    assert "refresh_token" in tokens


async def test_authorization_code(km: Driver) -> None:
    """A code that the user granted gets tokens for what the user was shown."""
    reply = await km.redeem(await km.code(scope="write"))
    assert (reply.status, reply.json["scope"]) == (200, "write")
    assert (await km.introspect(reply.json["access_token"]))["sub"] == "alice"
    assert "refresh_token" in reply.json


async def test_authorization_code_of_a_public_client(km: Driver) -> None:
    """A client without a secret redeems its code by the verifier alone, and refreshes."""
    code = await km.code(client_id="public-app")
    reply = await km.redeem(code, client=None, client_id="public-app")
    assert reply.status == 200
    refreshed = await km.token(
        client=None,
        client_id="public-app",
        grant_type="refresh_token",
        refresh_token=reply.json["refresh_token"],
    )
    assert refreshed.status == 200


async def test_implicit(km: Driver) -> None:
    """The implicit grant answers in the fragment, with the state and no refresh token."""
    reply = await km.decide(token_request(scope="read"), **ALICE, decision="allow")
    uri, said = reply.location
    assert (reply.status, uri) == (303, REDIRECT_URI)
    assert set(said) == {"access_token", "expires_in", "token_type", "scope", "state"}
    assert said["state"] == "a state/&="
    assert reply.headers["Location"].startswith(f"{REDIRECT_URI}#")
    assert (await km.introspect(said["access_token"]))["sub"] == "alice"


async def test_the_gateway_sees_a_token_at_once(
    km: Driver, redis_client: Redis, clock: FakeClock
) -> None:
    """An issued access token is in the token store, with an expiry, as the gateway reads it."""
    tokens = await km.password(scope="read")
    name = f"token:{token_key(tokens['access_token']).hex()}"
    facts = parse_facts(redis_client.get(name) or b"", now_at=clock.wall())
    exp = int(clock.wall()) + 3600
    assert facts == Facts(True, "demo-key", "alice", frozenset({"read"}), exp)
    assert 3_590_000 < redis_client.pttl(name) <= 3_600_000


async def test_no_token_is_stored(km: Driver, redis_client: Redis) -> None:
    """Redis holds digests only: no token or code, and every key has an expiry."""
    code = await km.code()
    tokens = (await km.redeem(code)).json
    names = [name.decode() for name in redis_client.scan_iter()]
    values = [
        repr(redis_client.zrange(name, 0, -1) if ":access:" in name else redis_client.get(name))
        for name in names
    ]
    everything = " ".join(names + values)
    secrets = (code, tokens["access_token"], tokens["refresh_token"], "wonderland", "demo-secret")
    assert [secret for secret in secrets if secret in everything] == []
    assert [name for name in names if redis_client.pttl(name) <= 0] == []
    assert {name.rpartition(":")[0] for name in names} == {
        "token",
        "km:code",
        "km:refresh",
        "km:family",
        "km:access",
    }


async def test_lifetimes_are_settings(start: Start) -> None:
    """The lifetimes in the answer and in the store are those of the configuration."""
    km = await start(replace(CONFIG, access_token_expires_in=7, refresh_token_expires_in=11))
    tokens = await km.password()
    access, refresh = [
        await km.introspect(tokens[name]) for name in ("access_token", "refresh_token")
    ]
    assert tokens["expires_in"] == 7
    assert (access["exp"] - access["iat"], refresh["exp"] - refresh["iat"]) == (7, 11)


async def test_a_client_without_the_refresh_grant_gets_no_refresh_token(km: Driver) -> None:
    """A refresh token is issued only where the client is allowed to use one."""
    reply = await km.token(client=("no-refresh", "secret"), grant_type="client_credentials")
    assert "refresh_token" not in reply.json


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, (400, "invalid_request")),
        ({"grant_type": "openid"}, (400, "unsupported_grant_type")),
        ({"grant_type": "implicit"}, (400, "unsupported_grant_type")),
        ({"grant_type": "password", "username": "alice"}, (400, "invalid_request")),
        ({"grant_type": "password", **ALICE, "password": "w"}, (400, "invalid_grant")),
        ({"grant_type": "password", **ALICE, "username": "bob"}, (400, "invalid_grant")),
        ({"grant_type": "password", **ALICE, "scope": "admin"}, (400, "invalid_scope")),
        ({"grant_type": "client_credentials", "scope": "read  write"}, (400, "invalid_scope")),
        ({"grant_type": "refresh_token"}, (400, "invalid_request")),
        ({"grant_type": "refresh_token", "refresh_token": "?"}, (400, "invalid_grant")),
        ({"grant_type": "authorization_code"}, (400, "invalid_request")),
        ({"grant_type": "authorization_code", "code": "?"}, (400, "invalid_grant")),
    ],
)
async def test_refusals(km: Driver, form: dict[str, str], expected: tuple[int, str]) -> None:
    """Each fault of a token request has its error code (RFC 6749 §5.2)."""
    assert (await km.post("/token", form)).error == expected


async def test_a_grant_type_that_the_client_may_not_use(km: Driver) -> None:
    """A client is held to the grants it is registered for."""
    reply = await km.token(client=("no-refresh", "secret"), grant_type="password", **ALICE)
    assert reply.error == (400, "unauthorized_client")


async def test_unknown_parameters_are_ignored(km: Driver) -> None:
    """A request can't name the user or the scopes of its token by parameters of oauthlib's own."""
    smuggled = {"user": "alice", "scopes": "write", "client": "x", "response_type": "token"}
    form = {"grant_type": "client_credentials", "scope": "read", **smuggled}
    reply = await km.post("/token", form)
    document = await km.introspect(reply.json["access_token"])
    assert (document.get("sub"), document["scope"]) == (None, "read")


async def test_a_public_client_has_no_client_credentials_grant(km: Driver) -> None:
    """The client credentials grant is for confidential clients only (RFC 6749 §4.4)."""
    reply = await km.token(client=None, client_id="public-app", grant_type="client_credentials")
    assert reply.error == (401, "invalid_client")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"code_verifier": "x" * 43}, (400, "invalid_grant")),
        ({"code_verifier": "short"}, (400, "invalid_grant")),
        ({"code_verifier": ""}, (400, "invalid_request")),
        ({"redirect_uri": "https://other.example/"}, (400, "invalid_grant")),
        ({"redirect_uri": ""}, (400, "invalid_grant")),
    ],
)
async def test_a_code_is_bound(km: Driver, form: dict[str, str], expected: tuple[int, str]) -> None:
    """A code needs its verifier and its redirect URI; a failed try doesn't use it up."""
    code = await km.code()
    assert (await km.redeem(code, DEMO, **form)).error == expected
    assert (await km.redeem(code)).status == 200


async def test_a_short_verifier(km: Driver) -> None:
    """A verifier of under 43 characters is refused, even if it is the right one."""
    code = await km.code(code_challenge=challenge_of("guessable"))
    reply = await km.redeem(code, code_verifier="guessable")
    assert reply.error == (400, "invalid_grant")


async def test_a_code_is_bound_to_its_client(km: Driver) -> None:
    """Another client can't redeem a code, nor spoil it by trying."""
    code = await km.code()
    assert (await km.redeem(code, client=OTHER)).error == (400, "invalid_grant")
    assert (await km.redeem(code)).status == 200


async def test_a_default_redirect_uri_may_be_left_out(km: Driver) -> None:
    """Where the authorization request named no redirect URI, the token request needn't."""
    code = await km.code(redirect_uri="")
    assert (await km.redeem(code, redirect_uri="")).status == 200


async def test_a_code_expires(km: Driver, clock: FakeClock) -> None:
    """A code is good for its minute by the clock, whatever Redis still has."""
    code, late = await km.code(), await km.code()
    clock.advance(59)
    assert (await km.redeem(code)).status == 200
    clock.advance(1)
    assert (await km.redeem(late)).error == (400, "invalid_grant")


async def test_code_replay_revokes(km: Driver) -> None:
    """Using a code again is refused and revokes what it was used for (RFC 6749 §4.1.2)."""
    code = await km.code()
    tokens = (await km.redeem(code)).json
    refreshed = (await km.refresh(tokens["refresh_token"])).json
    assert (await km.redeem(code)).error == (400, "invalid_grant")
    issued = (tokens["access_token"], refreshed["access_token"], refreshed["refresh_token"])
    assert await km.active(*issued) == [False, False, False]


async def test_late_code_replay_revokes(km: Driver, clock: FakeClock) -> None:
    """A code that was used is remembered for longer than an unused one is good."""
    code = await km.code()
    tokens = (await km.redeem(code)).json
    clock.advance(600)
    assert (await km.redeem(code)).error == (400, "invalid_grant")
    assert await km.active(tokens["access_token"]) == [False]


async def test_tokens_are_unlike(km: Driver) -> None:
    """Tokens and codes are 256 random bits each, never two the same."""
    tokens = [await km.password() for _ in range(3)]
    codes = [await km.code() for _ in range(2)]
    issued = [token[name] for token in tokens for name in ("access_token", "refresh_token")]
    assert len({*issued, *codes}) == 8
    assert {len(value) for value in (*issued, *codes)} == {43}


async def test_scopes_are_named_once(km: Driver) -> None:
    """A scope that is asked for twice is granted once."""
    tokens = await km.password(scope="read read")
    refreshed = await km.refresh(tokens["refresh_token"], scope="read read")
    assert (tokens["scope"], refreshed.json["scope"]) == ("read", "read")


async def test_pkce_is_checked_whatever_the_client(km: Driver) -> None:
    """A confidential client needs the verifier too."""
    code = await km.code(client_id="other-key")
    reply = await km.redeem(code, client=OTHER, code_verifier="y" * 50)
    assert reply.error == (400, "invalid_grant")
    assert (await km.redeem(code, client=OTHER, code_verifier=VERIFIER)).status == 200


async def test_a_refused_code_request_issues_nothing(km: Driver, redis_client: Redis) -> None:
    """Showing the page and denying leave nothing behind in the store."""
    await km.decide(code_request(), decision="deny")
    assert redis_client.keys() == []


async def test_issuing_a_refresh_token_is_optional(start: Start) -> None:
    """A server that is told so issues none, with no grant (RFC 6749 §1.5)."""
    km = await start(replace(CONFIG, refresh_tokens=False))
    code = await km.code()
    answers = [
        await km.password(),
        (await km.token(grant_type="client_credentials")).json,
        (await km.redeem(code)).json,
    ]
    assert [("access_token" in answer, "refresh_token" in answer) for answer in answers] == [
        (True, False)
    ] * 3


async def test_a_new_refresh_token_has_a_new_expiry_time(km: Driver, clock: FakeClock) -> None:
    """It lives as long from the refresh as the one before did from its issue."""
    first = (await km.password())["refresh_token"]
    before = (await km.introspect(first))["exp"]
    clock.advance(600)
    second = (await km.refresh(first)).json["refresh_token"]
    assert (await km.introspect(second))["exp"] == before + 600
