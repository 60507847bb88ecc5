"""Refreshing, revoking and introspecting, over HTTP."""

import asyncio
from dataclasses import replace

import pytest
from clocks import FakeClock
from redis import Redis

from gateway.tokens import token_key
from keymanager.conftest import Start
from keymanager.driver import ALICE, CONFIG, OTHER, Driver, token_request


async def test_refresh_rotates(km: Driver, clock: FakeClock) -> None:
    """A refresh renews the refresh token with a new expiry; the previous one is inactive."""
    first = await km.password()
    clock.advance(1000)
    reply = await km.refresh(first["refresh_token"])
    second = reply.json
    assert (reply.status, second["scope"], second["expires_in"]) == (200, "read write", 3600)
    assert second["refresh_token"] != first["refresh_token"]
    assert await km.active(first["refresh_token"], second["refresh_token"]) == [False, True]
    document = await km.introspect(second["refresh_token"])
    assert document["exp"] == int(clock.wall()) + 86_400


async def test_refresh_leaves_the_old_access_token(km: Driver) -> None:
    """Only the refresh token rotates: the access token from before stays active."""
    first = await km.password()
    second = (await km.refresh(first["refresh_token"])).json
    assert await km.active(first["access_token"], second["access_token"]) == [True, True]


async def test_refresh_keeps_the_user(km: Driver) -> None:
    """The tokens of a refresh are the same user's, or again nobody's."""
    alice = await km.password()
    client = (await km.token(grant_type="client_credentials")).json
    subjects = []
    for tokens in (alice, client):
        refreshed = (await km.refresh(tokens["refresh_token"])).json
        subjects.append((await km.introspect(refreshed["access_token"])).get("sub"))
    assert subjects == ["alice", None]


async def test_refresh_narrows_and_never_widens(km: Driver) -> None:
    """A refresh may ask for less; the refresh token keeps its scope, and nothing adds to it."""
    tokens = await km.password(scope="read")
    refused = await km.refresh(tokens["refresh_token"], scope="read write")
    assert refused.error == (400, "invalid_scope")

    tokens = await km.password(scope="read write")
    narrow = (await km.refresh(tokens["refresh_token"], scope="write")).json
    assert narrow["scope"] == "write"
    assert (await km.introspect(narrow["access_token"]))["scope"] == "write"
    wide = (await km.refresh(narrow["refresh_token"])).json
    assert wide["scope"] == "read write"


async def test_refused_scope_does_not_use_up_the_refresh_token(km: Driver) -> None:
    """A refresh that is refused for its scope can be done again with a better one."""
    tokens = await km.password(scope="read")
    await km.refresh(tokens["refresh_token"], scope="write")
    assert (await km.refresh(tokens["refresh_token"])).status == 200


async def test_refresh_replay_revokes_the_family(km: Driver) -> None:
    """A used refresh token ends all that came of the grant, and nothing else (RFC 9700 §4.14.2)."""
    bystander = await km.password()
    first = await km.password()
    second = (await km.refresh(first["refresh_token"])).json
    third = (await km.refresh(second["refresh_token"])).json
    assert (await km.refresh(first["refresh_token"])).error == (400, "invalid_grant")
    family = [tokens["access_token"] for tokens in (first, second, third)]
    assert await km.active(*family, third["refresh_token"]) == [False] * 4
    assert (await km.refresh(third["refresh_token"])).error == (400, "invalid_grant")
    assert await km.active(bystander["access_token"], bystander["refresh_token"]) == [True, True]


async def test_two_refreshes_at_once(km: Driver) -> None:
    """Of concurrent uses of a refresh token one wins; the other is a replay and ends the grant."""
    for _ in range(10):
        tokens = await km.password()
        replies = await asyncio.gather(
            *(km.refresh(tokens["refresh_token"]) for _ in range(4)),
        )
        assert sorted(reply.error for reply in replies) == [
            (200, None),
            *[(400, "invalid_grant")] * 3,
        ]
        won = next(reply.json for reply in replies if reply.status == 200)
        issued = (tokens["access_token"], won["access_token"], won["refresh_token"])
        assert await km.active(*issued) == [False] * 3


async def test_two_redemptions_at_once(km: Driver) -> None:
    """Of concurrent uses of a code one wins; the other revokes what it got."""
    for _ in range(5):
        code = await km.code()
        replies = await asyncio.gather(*(km.redeem(code) for _ in range(3)))
        assert sorted(reply.status for reply in replies) == [200, 400, 400]
        won = next(reply.json for reply in replies if reply.status == 200)
        assert await km.active(won["access_token"], won["refresh_token"]) == [False, False]


async def test_refresh_token_expires(km: Driver, clock: FakeClock) -> None:
    """A refresh token is good until its own expiry by the clock."""
    tokens = await km.password()
    clock.advance(86_399)
    tokens = (await km.refresh(tokens["refresh_token"])).json
    clock.advance(86_400)
    assert await km.active(tokens["refresh_token"]) == [False]
    assert (await km.refresh(tokens["refresh_token"])).error == (400, "invalid_grant")


async def test_an_expired_replay_is_only_refused(km: Driver, clock: FakeClock) -> None:
    """Using a used refresh token after its expiry doesn't end the grant: Redis may forget it."""
    tokens = await km.password()
    clock.advance(86_399)
    refreshed = (await km.refresh(tokens["refresh_token"])).json
    clock.advance(1)
    assert (await km.refresh(tokens["refresh_token"])).error == (400, "invalid_grant")
    assert await km.active(refreshed["refresh_token"]) == [True]


async def test_refresh_token_is_bound_to_its_client(km: Driver) -> None:
    """Another client can't use a refresh token, nor end its family by trying."""
    tokens = await km.password()
    assert (await km.refresh(tokens["refresh_token"], OTHER)).error == (400, "invalid_grant")
    assert (await km.refresh(tokens["refresh_token"])).status == 200


async def test_access_token_expires(km: Driver, clock: FakeClock) -> None:
    """Introspection goes by exp and the clock, whatever Redis still has."""
    tokens = await km.password()
    clock.advance(3599)
    assert await km.active(tokens["access_token"]) == [True]
    clock.advance(1)
    assert await km.active(tokens["access_token"]) == [False]


@pytest.mark.parametrize("hint", ["", "access_token", "refresh_token", "unknown_kind"])
async def test_revoking_an_access_token(km: Driver, redis_client: Redis, hint: str) -> None:
    """It ends that token only, under any hint, and the store has it no more."""
    first = await km.password()
    second = (await km.refresh(first["refresh_token"])).json
    reply = await km.revoke(second["access_token"], token_type_hint=hint)
    assert (reply.status, reply.text) == (200, "")
    issued = (first["access_token"], second["access_token"], second["refresh_token"])
    assert await km.active(*issued) == [True, False, True]
    assert redis_client.exists(f"token:{token_key(second['access_token']).hex()}") == 0


@pytest.mark.parametrize("hint", ["", "access_token", "refresh_token"])
async def test_revoking_a_refresh_token_cascades(km: Driver, hint: str) -> None:
    """It ends every access token of the grant, under any hint (RFC 7009 §2.1)."""
    bystander = await km.password()
    first = await km.password()
    second = (await km.refresh(first["refresh_token"])).json
    assert (await km.revoke(second["refresh_token"], token_type_hint=hint)).status == 200
    issued = (first["access_token"], second["access_token"], second["refresh_token"])
    assert await km.active(*issued, bystander["access_token"]) == [False, False, False, True]
    assert (await km.refresh(second["refresh_token"])).error == (400, "invalid_grant")


async def test_revoking_an_implicit_token(km: Driver) -> None:
    """A token of the implicit grant is revoked like any other."""
    reply = await km.decide(token_request(), **ALICE, decision="allow")
    token = reply.location[1]["access_token"]
    assert (await km.revoke(token)).status == 200
    assert await km.active(token) == [False]


async def test_revoking_what_is_unknown(km: Driver) -> None:
    """An unknown token is 200, also when it was just revoked (RFC 7009 §2.2)."""
    tokens = await km.password()
    statuses = [(await km.revoke("never issued")).status]
    statuses += [(await km.revoke(tokens["access_token"])).status for _ in range(2)]
    statuses += [(await km.revoke(tokens["refresh_token"])).status for _ in range(2)]
    assert statuses == [200] * 5


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_anothers_token(km: Driver, kind: str) -> None:
    """A client can't revoke another's token, and isn't told 200: a gateway would believe it."""
    tokens = await km.password()
    assert (await km.revoke(tokens[kind], OTHER)).error == (400, "invalid_grant")
    assert await km.active(tokens[kind]) == [True]


async def test_revoking_without_a_token(km: Driver) -> None:
    """The token parameter is required."""
    assert (await km.post("/revoke", {})).error == (400, "invalid_request")


async def test_a_public_client_revokes_by_its_identifier(km: Driver) -> None:
    """A client without a secret identifies itself by client_id alone (RFC 7009 §2.1)."""
    reply = await km.decide(token_request(client_id="public-app"), **ALICE, decision="allow")
    token = reply.location[1]["access_token"]
    revoked = await km.post("/revoke", {"token": token, "client_id": "public-app"}, None)
    assert revoked.status == 200
    assert await km.active(token) == [False]


@pytest.mark.parametrize("token", ["unknown", "", "a b\x00ü"])
async def test_introspecting_what_is_unknown(km: Driver, token: str) -> None:
    """Nothing is said of a token that isn't known (RFC 7662 §2.2)."""
    reply = await km.post("/introspect", {"token": token})
    expected = (200, {"active": False}) if token else (400, reply.json)
    assert (reply.status, reply.json) == expected


async def test_introspection_needs_a_secret(km: Driver) -> None:
    """Neither nobody nor a public client may introspect (RFC 7662 §2.1)."""
    tokens = await km.password()
    form = {"token": tokens["access_token"]}
    public = {**form, "client_id": "public-app"}
    replies = [await km.post("/introspect", body, None) for body in (form, public)]
    assert [reply.error for reply in replies] == [(401, "invalid_client")] * 2


async def test_introspection_by_another_client(km: Driver) -> None:
    """A resource server may ask about any access token; about refresh tokens only the owner."""
    tokens = await km.password()
    assert (await km.introspect(tokens["access_token"], OTHER))["active"] is True
    assert await km.introspect(tokens["refresh_token"], OTHER) == {"active": False}


async def test_a_refresh_token_is_no_bearer_token(km: Driver) -> None:
    """Introspection tells a refresh token from an access token."""
    tokens = await km.password()
    document = await km.introspect(tokens["refresh_token"])
    assert (document["token_type"], document["sub"]) == ("refresh_token", "alice")


async def test_a_malformed_document_is_no_token(km: Driver, redis_client: Redis) -> None:
    """What others left in the token store and isn't a document is inactive, and no 500."""
    for value in (b"", b"[]", b'{"active": "yes"}', b'{"active": true, "exp": "soon"}'):
        redis_client.set(f"token:{token_key('odd').hex()}", value)
        assert await km.introspect("odd") == {"active": False}
        assert (await km.revoke("odd")).status == 200


@pytest.mark.parametrize("wso2", [False, True])
async def test_wso2_headers(start: Start, wso2: bool) -> None:
    """Only on demand does /revoke name what it revoked, and only when it did."""
    km = await start(replace(CONFIG, wso2_headers=wso2))
    token = (await km.password())["access_token"]
    replies = [
        await km.revoke(token, OTHER),
        await km.revoke(token),
        await km.revoke(token),
    ]
    named = [
        (reply.headers.get("RevokedAccessToken"), reply.headers.get("AuthorizedUser"))
        for reply in replies
    ]
    nothing = (None, None)
    assert named == [nothing, (token, "alice") if wso2 else nothing, nothing]


async def test_a_removed_user_s_refresh(start: Start) -> None:
    """A refresh token whose user is no more buys nothing, and its grant ends; so does a code."""
    km = await start(CONFIG)
    tokens, code = await km.password(), await km.code()
    own = (await km.token(grant_type="client_credentials")).json
    later = await start(replace(CONFIG, users=()))
    replies = [await later.refresh(tokens["refresh_token"]), await later.redeem(code)]
    assert [reply.error for reply in replies] == [(400, "invalid_grant")] * 2
    assert await later.active(tokens["access_token"], own["access_token"]) == [False, True]
    assert (await later.refresh(own["refresh_token"])).status == 200


async def test_a_scope_that_a_client_has_lost(start: Start) -> None:
    """A refresh gives what is left of the grant; nothing left is no grant any more."""
    km = await start(CONFIG)
    both, write = await km.password(), await km.password(scope="write")
    reader = replace(CONFIG.clients[0], scopes=("read",))
    later = await start(replace(CONFIG, clients=(reader,)))
    refreshed = await later.refresh(both["refresh_token"])
    assert (refreshed.status, refreshed.json["scope"]) == (200, "read")
    again = await later.refresh(refreshed.json["refresh_token"], scope="read write")
    assert again.error == (400, "invalid_scope")
    assert (await later.refresh(write["refresh_token"])).error == (400, "invalid_grant")


async def test_a_grant_type_that_a_client_has_lost(start: Start) -> None:
    """Without the refresh grant, or on a server without refresh tokens, an old one buys nothing."""
    km = await start(CONFIG)
    tokens = await km.password()
    once = replace(CONFIG.clients[0], grant_types=("password",))
    for config in (replace(CONFIG, clients=(once,)), replace(CONFIG, refresh_tokens=False)):
        later = await start(config)
        assert (await later.refresh(tokens["refresh_token"])).status == 400
