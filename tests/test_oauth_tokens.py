"""What becomes of the tokens that pass the OAuth endpoints: recorded, used, revoked.

Numbers in the names are the lines of the checklist of OAuth rules, as in test_oauth.py.
"""

import gzip
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fakeredis
import pytest
from clocks import FakeClock
from jwts import jwt
from oauth_house import BASIC, MAX_AGE_SECONDS, OAuthHouse
from redis.asyncio import Redis
from redis_server import RedisServer
from scripted_key_manager import ScriptedKeyManager, answer, bearer
from structlog.testing import capture_logs

from gateway.errors import StoreUnavailable
from gateway.store import ENDED, TokenStore
from gateway.tokens import INACTIVE, Facts, token_key


@pytest.fixture(autouse=True)
def _no_token_in_any_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Every token, password and secret of these tests says "secret", and no log line does."""
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        yield
    assert "secret" not in repr(logs) + caplog.text + "".join(capsys.readouterr())


@pytest.fixture
async def key_manager() -> AsyncIterator[ScriptedKeyManager]:
    async with ScriptedKeyManager() as key_manager:
        yield key_manager


@pytest.fixture
def redis() -> fakeredis.FakeServer:
    """An in-memory Redis, to be disconnected."""
    return fakeredis.FakeServer()


@pytest.fixture
async def house(
    key_manager: ScriptedKeyManager, clock: FakeClock, redis: fakeredis.FakeServer
) -> AsyncIterator[OAuthHouse]:
    client = fakeredis.FakeAsyncRedis(server=redis)
    yield OAuthHouse(key_manager, TokenStore(client, timeout_seconds=5.0), clock)
    await client.aclose()


def alive(
    client_id: str | None,
    *scopes: str,
    exp: float,
    sub: str | None = None,
    typed: str | None = None,
) -> Facts:
    return Facts(True, client_id, sub, frozenset(scopes), exp, username=typed)


async def test_4_tokens_of_each_grant_are_recorded(
    house: OAuthHouse, key_manager: ScriptedKeyManager, clock: FakeClock
) -> None:
    """Whose a token is and what it may do: from the request, the answer and the grant."""
    exp = int(clock.wall()) + 3600.0
    async with house.open():
        key_manager.will(bearer("secret-1", scope="read"))
        await house.post("/token", grant_type="client_credentials", scope="read write")
        assert await house.facts("secret-1") == alive("demo-key", "read", exp=exp)

        said = bearer("secret-2", refresh_token="secret-refresh-2", scope="read write")
        key_manager.will(said)
        await house.post(
            "/token", grant_type="password", username="alice", password="secret", scope="read write"
        )
        alices = alive("demo-key", "read", "write", exp=exp, typed="alice")
        assert await house.facts("secret-2") == alices

        key_manager.will(bearer("secret-3", refresh_token="secret-refresh-3"))
        await house.post(
            "/token", grant_type="refresh_token", refresh_token="secret-refresh-2", scope="read"
        )
        assert await house.facts("secret-3") == alices._replace(scopes=frozenset({"read"}))

        key_manager.will(bearer("secret-4"))
        await house.post("/token", grant_type="refresh_token", refresh_token="secret-refresh-3")
        assert await house.facts("secret-4") == alices

        id_token = jwt({"sub": "248289761001", "aud": "public"})
        key_manager.will(bearer("secret-5", scope="read", id_token=id_token))
        await house.post(
            "/token", basic=None, client_id="public", grant_type="authorization_code", code="secret"
        )
        assert await house.facts("secret-5") == alive("public", "read", exp=exp, sub="248289761001")
    assert house.count("tokens_recorded", result="stored") == 5


async def test_4_an_answer_without_a_life_gets_that_of_the_settings(
    house: OAuthHouse, key_manager: ScriptedKeyManager, clock: FakeClock
) -> None:
    """RFC 6749 §5.1: ``expires_in`` is only recommended."""
    key_manager.will(bearer("secret-1", expires_in=None))
    async with house.open(default_expires_in="90s"):
        await house.post("/token", grant_type="client_credentials")
        assert (await house.facts("secret-1")).exp == int(clock.wall()) + 90


async def test_4_a_new_token_is_good_at_once_though_it_was_unknown(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """What the negative cache says of a token ends with its issue."""
    key_manager.will(bearer("secret-1"))
    async with house.open():
        assert await house.facts("secret-1") == INACTIVE
        await house.post("/token", grant_type="client_credentials")
        assert (await house.facts("secret-1")).active


async def test_4_a_fault_in_recording_does_not_cost_the_client_its_token(
    house: OAuthHouse, key_manager: ScriptedKeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong here: the refresh token may have been replaced already."""

    async def fail(_issued: object) -> None:
        raise RuntimeError("secret-1 in a message")

    key_manager.will(bearer("secret-1"))
    monkeypatch.setattr(house.recorder, "record", fail)
    async with house.open():
        reply = await house.post("/token", grant_type="client_credentials")
    assert [reply.status, reply.json["access_token"]] == [200, "secret-1"]
    assert house.count("tokens_recorded", result="lost") == 1


async def test_4_a_key_manager_that_writes_the_store_is_left_to_it(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """With ``record_tokens`` off nothing is written, but revocations still remove."""
    key_manager.will(bearer("secret-1", refresh_token="secret-refresh-1"))
    async with house.open(record_tokens=False):
        await house.post("/token", grant_type="client_credentials")
        assert (await house.store.get_many([token_key("secret-1")])) == [None]
        await house.store.put(token_key("secret-1"), {"active": True}, expires_in_seconds=60)
        await house.post("/revoke", token="secret-1")
        assert (await house.store.get_many([token_key("secret-1")])) == [ENDED.encode()]


async def test_4_a_store_that_is_down_does_not_cost_the_client_its_token(
    house: OAuthHouse, key_manager: ScriptedKeyManager, redis: fakeredis.FakeServer
) -> None:
    """The token is recorded as soon as the store is back."""
    key_manager.will(bearer("secret-1"))
    async with house.open():
        redis.connected = False
        reply = await house.post("/token", grant_type="client_credentials")
        assert [reply.status, reply.json["access_token"]] == [200, "secret-1"]
        redis.connected = True
        await house.retry()
        assert (await house.facts("secret-1")).active
    assert house.count("tokens_recorded", result="retried") == 1
    assert house.count("store_failures", command="record") == 1


async def test_4_the_client_of_a_request_is_known_when_the_key_manager_accepted_it(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The access log names it; one that was refused could be anybody."""
    key_manager.will(answer(401, {"error": "invalid_client"}))
    key_manager.will(bearer("secret-1"))
    with capture_logs() as logs:
        async with house.open():
            await house.post("/token", grant_type="client_credentials")
            await house.post("/token", grant_type="client_credentials")
            await house.post("/revoke", token="secret-1")
    lines = [line for line in logs if line["event"] == "request"]
    assert [(line["route"], line["client_id"]) for line in lines] == [
        ("token", None),
        ("token", "demo-key"),
        ("revoke", "demo-key"),
    ]
    assert "secret" not in repr(logs)


async def test_7_a_revoked_token_leaves_the_store_and_lapses_in_the_cache(
    house: OAuthHouse, key_manager: ScriptedKeyManager, clock: FakeClock
) -> None:
    """Facts already cached serve until they are max_age old: that is the window."""
    key_manager.will(bearer("secret-1"))
    async with house.open():
        await house.post("/token", grant_type="client_credentials")
        assert (await house.facts("secret-1")).active
        reply = await house.post("/revoke", token="secret-1")
        assert [reply.status, reply.content] == [200, b""]
        clock.advance(MAX_AGE_SECONDS - 1)
        assert (await house.facts("secret-1")).active
        clock.advance(1)
        assert await house.facts("secret-1") == INACTIVE
    assert house.count("tokens_revoked") == 1


@pytest.mark.parametrize("status", [302, 400, 401, 403, 500, 503])
async def test_7_a_revocation_that_the_key_manager_refuses_is_none(
    house: OAuthHouse, key_manager: ScriptedKeyManager, status: int
) -> None:
    """Another client's token, wrong credentials, an outage: the token stays."""
    key_manager.will(bearer("secret-1"))
    key_manager.will(answer(status, b"", [(b"RevokedAccessToken", b"secret-1")]))
    async with house.open():
        await house.post("/token", grant_type="client_credentials")
        assert (await house.post("/revoke", token="secret-1")).status == status
        assert (await house.facts("secret-1")).active


async def test_7_a_key_manager_that_is_gone_revokes_nothing(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """502, and the token stays: the key manager would go on honouring its refresh token."""
    key_manager.will(bearer("secret-1"), closes=True)
    async with house.open():
        await house.post("/token", grant_type="client_credentials")
        await key_manager.stop()
        assert (await house.post("/revoke", token="secret-1")).status == 502
        assert (await house.facts("secret-1")).active


async def test_7_a_revocation_that_the_store_can_not_be_told_is_503(
    house: OAuthHouse, key_manager: ScriptedKeyManager, redis: fakeredis.FakeServer
) -> None:
    """RFC 7009 §2.2.1: the client may try again, and then it is done (decision 0003)."""
    key_manager.will(bearer("secret-1"))
    async with house.open():
        await house.post("/token", grant_type="client_credentials")
        redis.connected = False
        reply = await house.post("/revoke", token="secret-1")
        assert [reply.status, reply.values(b"Retry-After")] == [503, [b"1"]]
        assert reply.json["error"] == "temporarily_unavailable"
        assert reply.values(b"Cache-Control") == [b"no-store"]
        redis.connected = True
        assert (await house.post("/revoke", token="secret-1")).status == 200
        assert await house.facts("secret-1") == INACTIVE
    assert house.count("store_failures", command="revoke") == 1


async def test_8_revoking_a_refresh_token_revokes_the_access_tokens_of_its_grant(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """RFC 7009 §2.1, though this key manager has no share in the store."""
    async with house.open():
        key_manager.will(bearer("secret-1", refresh_token="secret-refresh-1"))
        await house.post("/token", grant_type="password", username="alice", password="secret")
        key_manager.will(bearer("secret-2", refresh_token="secret-refresh-2"))
        await house.post("/token", grant_type="refresh_token", refresh_token="secret-refresh-1")
        key_manager.will(bearer("secret-3"))
        await house.post("/token", grant_type="client_credentials")
        await house.post("/revoke", token="secret-refresh-2", token_type_hint="refresh_token")
        facts = [(await house.facts(f"secret-{number}")).active for number in (1, 2, 3)]
    assert facts == [False, False, True]
    assert house.count("tokens_revoked") == 2


async def test_9_fields_that_name_revoked_tokens_are_used(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """WSO2 names what fell with the token; it leaves the store too, grants included."""
    async with house.open():
        for number in (1, 2, 3):
            key_manager.will(bearer(f"secret-{number}"))
            await house.post("/token", grant_type="client_credentials")
        key_manager.will(bearer("secret-4", refresh_token="secret-refresh-4"))
        await house.post("/token", grant_type="password", username="alice", password="secret")
        key_manager.will(
            answer(
                200,
                b"",
                [
                    (b"RevokedAccessToken", b"secret-1, secret-2"),
                    (b"DeactivatedRefreshToken", b"secret-refresh-4"),
                    (b"AuthorizedUser", b"secret-3"),
                ],
            )
        )
        await house.post("/revoke", token="secret-unknown")
        facts = [(await house.facts(f"secret-{number}")).active for number in (1, 2, 3, 4)]
    assert facts == [False, False, True, False]


async def test_9_a_refresh_that_ends_the_token_before_removes_it(
    house: OAuthHouse, key_manager: ScriptedKeyManager, redis: fakeredis.FakeServer
) -> None:
    """WSO2 names the access token that it deactivated; the new one and its grant stay."""
    async with house.open():
        key_manager.will(bearer("secret-1", refresh_token="secret-refresh-1"))
        await house.post("/token", grant_type="password", username="alice", password="secret")
        ended = [
            (b"DeactivatedAccessToken", b"secret-1,secret-2"),
            (b"DeactivatedRefreshToken", b"secret-refresh-1"),
        ]
        content = {"access_token": "secret-2", "token_type": "Bearer", "scope": "read"}
        key_manager.will(answer(200, content, ended))
        await house.post("/token", grant_type="refresh_token", refresh_token="secret-refresh-1")
        assert not (await house.facts("secret-1")).active
        assert (await house.facts("secret-2")).username == "alice"


async def test_a4_a_used_refresh_token_that_comes_again_ends_its_grant_where_a_setting_says_so(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The key manager answers invalid_grant and has ended the grant (RFC 9700 §4.14.2)."""
    async with house.open(revokes_on_replay=True):
        key_manager.will(bearer("secret-1", refresh_token="secret-refresh-1"))
        await house.post("/token", grant_type="password", username="alice", password="secret")
        key_manager.will(bearer("secret-2", refresh_token="secret-refresh-2"))
        await house.post("/token", grant_type="refresh_token", refresh_token="secret-refresh-1")
        said = answer(400, {"error": "invalid_grant"})
        key_manager.will(said)
        reply = await house.post(
            "/token", grant_type="refresh_token", refresh_token="secret-refresh-1"
        )
        facts = [(await house.facts(f"secret-{number}")).active for number in (1, 2)]
    assert (reply.status, said.endswith(reply.content)) == (400, True)
    assert facts == [False, False]


async def test_a4_a_replay_that_is_refused_by_a_compressed_answer_ends_its_grant_too(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Some key managers compress whatever they say, though identity was asked for."""
    content = gzip.compress(b'{"error":"invalid_grant"}')
    async with house.open(revokes_on_replay=True):
        key_manager.will(bearer("secret-1", refresh_token="secret-refresh-1"))
        await house.post("/token", grant_type="password", username="alice", password="secret")
        key_manager.will(bearer("secret-2", refresh_token="secret-refresh-2"))
        await house.post("/token", grant_type="refresh_token", refresh_token="secret-refresh-1")
        key_manager.will(answer(400, content, [(b"Content-Encoding", b"gzip")]))
        await house.post("/token", grant_type="refresh_token", refresh_token="secret-refresh-1")
        assert not (await house.facts("secret-2")).active


@pytest.mark.parametrize(
    ("on", "said", "used", "basic"),
    [
        (False, (400, "invalid_grant"), "secret-refresh-1", BASIC),
        (True, (400, "invalid_request"), "secret-refresh-1", BASIC),
        (True, (401, "invalid_client"), "secret-refresh-1", BASIC),
        (True, (503, "invalid_grant"), "secret-refresh-1", BASIC),
        (True, (400, "invalid_grant"), "secret-refresh-2", BASIC),
        (True, (400, "invalid_grant"), "secret-unknown", BASIC),
        (True, (400, "invalid_grant"), "secret-refresh-1", b"Basic bWFsbG9yeTp4"),
        (True, (400, "invalid_grant"), "secret-refresh-1", None),
    ],
    ids=[
        *("by default", "another error", "a wrong secret", "an outage", "the newest one"),
        *("a random one", "another client", "nobody"),
    ],
)
async def test_a4_nobody_ends_a_grant_by_a_refusal(
    house: OAuthHouse,
    key_manager: ScriptedKeyManager,
    on: bool,
    said: tuple[int, str],
    used: str,
    basic: bytes | None,
) -> None:
    """Only a refresh token that was replaced does, used by the client that the grant is for."""
    async with house.open(revokes_on_replay=on):
        key_manager.will(bearer("secret-1", refresh_token="secret-refresh-1"))
        await house.post("/token", grant_type="password", username="alice", password="secret")
        key_manager.will(bearer("secret-2", refresh_token="secret-refresh-2"))
        await house.post("/token", grant_type="refresh_token", refresh_token="secret-refresh-1")
        key_manager.will(answer(said[0], {"error": said[1]}))
        await house.post("/token", basic=basic, grant_type="refresh_token", refresh_token=used)
        facts = [(await house.facts(f"secret-{number}")).active for number in (1, 2)]
    assert facts == [True, True]


@pytest.mark.parametrize("kind", ["access", "refresh"])
async def test_a5_a_client_can_not_revoke_the_token_of_another(
    house: OAuthHouse, key_manager: ScriptedKeyManager, kind: str
) -> None:
    """The key manager answers 200 and does nothing; a setting is for one that means it."""
    mallory = b"Basic " + b64encode(b"mallory:secret")
    async with house.open():
        key_manager.will(bearer("secret-1", refresh_token="secret-refresh-1"))
        await house.post("/token", grant_type="password", username="alice", password="secret")
        token = "secret-1" if kind == "access" else "secret-refresh-1"
        assert (await house.post("/revoke", basic=mallory, token=token)).status == 200
        reply = await house.post("/revoke", basic=None, client_id="mallory", token=token)
        assert (reply.status, (await house.facts("secret-1")).active) == (200, True)
        # Another's name beside one's own credentials: which of them counts can't be known.
        reply = await house.post("/revoke", basic=mallory, client_id="demo-key", token=token)
        assert (reply.status, reply.json["error"]) == (400, "invalid_request")
        assert house.count("foreign_revocations") == 2
        # Credentials beside one's own that the gateway can't read, and the key manager passes over.
        reply = await house.post("/revoke", basic=mallory, client_assertion="x", token=token)
        assert (reply.status, (await house.facts("secret-1")).active) == (200, True)
        reply = await house.post("/revoke", basic=mallory + b"*", token=token)
        assert (reply.status, (await house.facts("secret-1")).active) == (200, True)
    async with house.open(any_client_revokes=True):
        await house.post("/revoke", basic=mallory, token=token)
        assert await house.store.get_many([token_key("secret-1")]) == [ENDED.encode()]


async def test_a5_a_public_client_revokes_its_own(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """It has no secret, and says who it is in the form."""
    async with house.open():
        key_manager.will(bearer("secret-1"))
        await house.post("/token", basic=None, client_id="app", grant_type="authorization_code")
        await house.post("/revoke", basic=None, client_id="app", token="secret-1")
        assert not (await house.facts("secret-1")).active


async def test_h2_a_token_that_waits_for_the_store_is_not_called_unknown(
    house: OAuthHouse, key_manager: ScriptedKeyManager, redis: fakeredis.FakeServer
) -> None:
    """Its client would throw it away: it is told to come again, until the token is there."""
    house.validator.wait_for(house.recorder.holds)
    async with house.open():
        redis.connected = False
        for token in ("secret-1", "secret-2"):
            key_manager.will(bearer(token))
            await house.post("/token", grant_type="client_credentials")
        redis.connected = True
        with pytest.raises(StoreUnavailable):
            await house.facts("secret-1")
        assert not (await house.facts("secret-unknown")).active
        await house.post("/revoke", token="secret-2")
        assert not (await house.facts("secret-2")).active
        await house.retry()
        assert (await house.facts("secret-1")).active
        assert not (await house.facts("secret-2")).active


@pytest.mark.parametrize("kind", ["access", "refresh"])
async def test_h1_tokens_issued_into_a_stall_stay_gone_when_another_worker_revoked_them(
    key_manager: ScriptedKeyManager, clock: FakeClock, tmp_path: Path, kind: str
) -> None:
    """A real Redis stands still while one worker issues; each is revoked through the other."""
    server = RedisServer(tmp_path).start()
    clients = [Redis.from_url(server.url) for _ in range(2)]
    here, there = (
        OAuthHouse(key_manager, TokenStore(client, timeout_seconds=0.1), clock)
        for client in clients
    )
    try:
        async with here.open(), there.open():
            server.freeze()
            for number in range(10):
                key_manager.will(bearer(f"secret-{number}", refresh_token=f"secret-r{number}"))
                await here.post("/token", grant_type="password", username="a", password="secret")
            server.thaw()
            here.store.timeout_seconds = there.store.timeout_seconds = 5.0
            prefix = "secret-" if kind == "access" else "secret-r"
            replies = [
                await there.post("/revoke", token=f"{prefix}{number}") for number in range(10)
            ]
            await here.retry()
            facts = [await here.facts(f"secret-{number}") for number in range(10)]
    finally:
        for client in clients:
            await client.aclose()
        server.stop()
    assert [reply.status for reply in replies] == [200] * 10
    assert facts == [INACTIVE] * 10
    assert not any(here.recorder.holds(token_key(f"secret-{number}")) for number in range(10))


async def test_a_frozen_redis_costs_the_store_time_out_and_nothing_else(
    key_manager: ScriptedKeyManager, clock: FakeClock, tmp_path: Path
) -> None:
    """A real Redis that doesn't answer: the token reaches its client, and the store later."""
    server = RedisServer(tmp_path).start()
    client = Redis.from_url(server.url)
    house = OAuthHouse(key_manager, TokenStore(client, timeout_seconds=0.1), clock)
    try:
        async with house.open():
            key_manager.will(bearer("secret-1"))
            server.freeze()
            reply = await house.post("/token", grant_type="client_credentials")
            assert [reply.status, reply.json["access_token"]] == [200, "secret-1"]
            assert (await house.post("/revoke", token="secret-2")).status == 503
            server.thaw()
            house.store.timeout_seconds = 5.0
            await house.retry()
            assert (await house.facts("secret-1")).active
            assert (await house.post("/revoke", token="secret-1")).status == 200
            assert await house.store.get_many([token_key("secret-1")]) == [ENDED.encode()]
    finally:
        await client.aclose()
        server.stop()
