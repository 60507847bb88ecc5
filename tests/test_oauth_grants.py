"""What a token is worth is what the key manager said, over real HTTP.

The key manager of these tests ignores queries, as RFC 6749 §2.3.1 and §3.2 have it.
"""

import json
import logging
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import fakeredis
import pytest
from aiohttp import web
from clocks import FakeClock
from jwts import jwt
from oauth_house import BASIC, OAuthHouse, request
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpServer
from scripted_key_manager import ScriptedKeyManager, answer, bearer
from structlog.testing import capture_logs

from gateway.app import Gateway
from gateway.settings import Admin, KeyManager, Listen, Logging, RouteSettings, Settings, Store
from gateway.store import TokenStore
from gateway.tokens import INACTIVE


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
async def house(key_manager: ScriptedKeyManager, clock: FakeClock) -> AsyncIterator[OAuthHouse]:
    client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    yield OAuthHouse(key_manager, TokenStore(client, timeout_seconds=5.0), clock)
    await client.aclose()


@dataclass
class Told:
    """What a backend was told, or the status with which a request was refused."""

    status: int
    headers: dict[str, str]


class Gate:
    """A gateway with a route for each scope, and a client of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def token(self, target: str, body: str, fields: dict[str, str]) -> tuple[int, Any]:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        async with self._session.post(
            f"{self._url}{target}", data=body, headers=form | fields
        ) as got:
            return got.status, await got.json()

    async def call(self, path: str, token: str) -> Told:
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.get(f"{self._url}{path}", headers=headers) as got:
            return Told(got.status, await got.json() if got.status == 200 else {})


@pytest.fixture
async def gate(
    aiohttp_server: AiohttpServer, key_manager: ScriptedKeyManager, clock: FakeClock
) -> AsyncIterator[Gate]:
    async def whoami(request: web.Request) -> web.Response:
        names = {name: value for name, value in request.headers.items() if "X-Token" in name}
        return web.json_response(names)

    app = web.Application()
    app.router.add_get("/{path:.*}", whoami)
    backend = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    settings = Settings(
        listen=Listen(port=0),
        admin=Admin(port=0),
        key_manager=KeyManager(url=key_manager.url),
        store=Store.model_validate({"url": SecretStr("memory://")}),
        routes=tuple(
            RouteSettings(path=f"/{name}", upstream=backend, scopes=scopes)
            for name, scopes in {
                "open": (),
                "read": ("read",),
                "write": ("write",),
                "admin": ("admin",),
            }.items()
        ),
        logging=Logging(access_log=False),
    )
    async with Gateway(settings, clock=clock) as gateway, aiohttp.ClientSession() as session:
        yield Gate(gateway.url, session)


CREDENTIALS = "grant_type=client_credentials"
PASSWORD = "grant_type=password&username=ALICE&password=secret"


@pytest.mark.parametrize(
    ("target", "body", "said"),
    [
        ("/token?scope=write", CREDENTIALS, {}),
        ("/token?scope=write", CREDENTIALS, {"scope": "read"}),
        ("/token?scope=write", f"{CREDENTIALS}&scope=read", {}),
        ("/token?scope=write&grant_type=client_credentials", CREDENTIALS, {"scope": ""}),
        ("/token?Scope=write", CREDENTIALS, {}),
        ("/token?sc%6Fpe=write", CREDENTIALS, {}),
        ("/token/?scope=write", CREDENTIALS, {}),
        ("/token", f"{CREDENTIALS}&scope=write", {}),
        ("/token", f"{CREDENTIALS}&scope=write+admin", {"scope": None}),
        ("/token", f"{CREDENTIALS}&scope=write&scope=write", {}),
        ("/token", f"{PASSWORD}&scope=write", {}),
        ("/token", "grant_type=authorization_code&code=secret&scope=write", {}),
        ("/token", "grant_type=refresh_token&refresh_token=secret-r&scope=write", {}),
        ("/token", "grant_type=odd&scope=write", {}),
        ("/token", f"{CREDENTIALS}&scope=write", {"access_token": jwt({"scope": "read"})}),
        (
            "/token",
            CREDENTIALS,
            {"access_token": jwt({"scope": "read"}), "scope": "read write"},
        ),
    ],
)
async def test_a1_asking_for_more_than_was_granted_brings_no_more(
    gate: Gate, key_manager: ScriptedKeyManager, target: str, body: str, said: dict[str, Any]
) -> None:
    """``curl -u basic-app:secret -d grant_type=… '/token?scope=write'`` and its siblings: 403."""
    key_manager.will(bearer("secret-1", **said))
    basic = {"Authorization": "Basic " + b64encode(b"basic-app:secret").decode()}
    status, document = await gate.token(target, body, basic)
    assert status == 200
    token = document["access_token"]
    calls = [await gate.call(f"/{path}", token) for path in ("open", "write", "admin")]
    assert [told.status for told in calls] == [200, 403, 403]
    assert calls[0].headers["X-Token-Client-Id"] == "basic-app"


async def test_h6_a_backend_tells_a_client_from_a_user_and_a_name_as_typed_from_one_as_known(
    gate: Gate, key_manager: ScriptedKeyManager
) -> None:
    """A client called alice, an ALICE who typed her password, and the alice of an ID token."""
    alice = {"Authorization": "Basic " + b64encode(b"alice:secret").decode()}
    id_token = jwt({"sub": "alice-7", "aud": "alice"})
    told = []
    for number, (body, said) in enumerate(
        [
            (CREDENTIALS, {}),
            (PASSWORD, {}),
            ("grant_type=authorization_code&code=secret", {"id_token": id_token}),
        ]
    ):
        key_manager.will(bearer(f"secret-{number}", **said))
        await gate.token("/token", body, alice)
        told.append((await gate.call("/open", f"secret-{number}")).headers)
    assert told == [
        {"X-Token-Client-Id": "alice"},
        {"X-Token-Client-Id": "alice", "X-Token-Username": "ALICE"},
        {"X-Token-Client-Id": "alice", "X-Token-Subject": "alice-7"},
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"token": jwt({"cnf": {"jkt": "x"}})},
        {"token": "secret-1", "token_type": "DPoP"},
        {"token": "secret-1", "cnf": {"jkt": "x"}},
    ],
)
async def test_a6_a_token_that_is_bound_to_a_key_is_refused(
    gate: Gate, key_manager: ScriptedKeyManager, said: dict[str, Any]
) -> None:
    """The client gets it, but as a plain bearer it is good for nothing (decision 0005)."""
    key_manager.will(bearer(**said))
    status, document = await gate.token("/token", CREDENTIALS, {})
    assert status == 200
    assert (await gate.call("/open", document["access_token"])).status == 401


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answer(200, b"not JSON"), "syntax"),
        (answer(200, {"id_token": "secret-1"}), "access_token"),
        (answer(200, b""), "syntax"),
        (answer(204), "syntax"),
        (answer(200, b"0", [(b"Content-Encoding", b"br")]), "content_coding"),
        (bearer("secret-1", token_type="DPoP"), "token_type"),
        (bearer("secret-1", token_type=None), "token_type"),
        (bearer("secret-1", cnf={"jkt": "secret"}), "bound"),
        (bearer("secret-1", expires_in=-1), "expires_in"),
        (bearer("secret-1", scope={"secret": 1}), "scope"),
        (bearer("1|secret"), "access_token"),
    ],
    ids=range(11),
)
async def test_b4_a_success_that_is_not_recorded_is_logged_and_counted(
    house: OAuthHouse, key_manager: ScriptedKeyManager, said: bytes, reason: str
) -> None:
    """It goes through all the same, and its client will be refused: somebody should know why."""
    key_manager.will(said)
    with capture_logs() as logs:
        async with house.open():
            reply = await house.post("/token", grant_type="client_credentials")
            assert await house.facts("secret-1") == INACTIVE
    assert said.endswith(b"\r\n\r\n" + reply.content)
    assert house.count("tokens_unrecorded", reason=reason) == 1
    assert house.count("tokens_recorded", result="stored") == 0
    lines = [line for line in logs if line["event"].startswith("issued token not recorded")]
    assert [(line["log_level"], line["reason"]) for line in lines] == [("warning", reason)]
    assert "secret" not in repr(logs)


async def test_b4_a_flood_of_such_answers_is_logged_once_a_second(
    house: OAuthHouse, key_manager: ScriptedKeyManager, clock: FakeClock
) -> None:
    """And says how many weren't."""
    with capture_logs() as logs:
        async with house.open():
            for _ in range(3):
                await house.post("/token", grant_type="client_credentials")
            clock.advance(1)
            await house.post("/token", grant_type="client_credentials")
    lines = [line for line in logs if "reason" in line]
    assert [line["held_back"] for line in lines] == [0, 2]
    assert house.count("tokens_unrecorded", reason="syntax") == 4


async def test_a_refusal_is_no_token_response(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Whatever it has in it."""
    key_manager.will(answer(400, {"access_token": "secret-1", "token_type": "Bearer"}))
    async with house.open():
        await house.post("/token", grant_type="client_credentials")
        assert await house.facts("secret-1") == INACTIVE
    assert house.count("tokens_recorded", result="stored") == 0


ODD = json.dumps({"access_token": "secret-1", "token_type": "BEARER", "scope": "read"}).encode()


@pytest.mark.parametrize(
    "said",
    [
        answer(201, {"access_token": "secret-1", "token_type": "Bearer", "scope": ["read"]}),
        answer(
            203,
            b"access_token=secret-1&token_type=bearer&scope=read",
            [(b"Content-Type", b"application/x-www-form-urlencoded")],
        ),
        answer(200, zlib.compress(ODD), [(b"Content-Encoding", b"deflate")]),
        answer(200, b"\xef\xbb\xbf" + ODD),
    ],
    ids=["created, scope in a list", "form", "compressed", "byte order mark"],
)
async def test_b4_an_odd_answer_that_can_be_understood_is_recorded(
    house: OAuthHouse, key_manager: ScriptedKeyManager, said: bytes
) -> None:
    """The client takes it, so the gateway must; and no cache may keep it, whatever its status."""
    key_manager.will(said)
    async with house.open():
        reply = await house.post("/token", grant_type="client_credentials", scope="read write")
        assert (await house.facts("secret-1")).scopes == {"read"}
    assert reply.values(b"Cache-Control") == [b"no-store"]


OTHERS = jwt({"sub": "x", "aud": "other"})


@pytest.mark.parametrize(
    ("basic", "form", "said", "member", "reason"),
    [
        (b"demo-key:secret", {"scope": "admin"}, {}, "scope", "omitted"),
        (b"svc+prod:secret", {}, {"scope": "read"}, "client_id", "two_readings"),
        (b":secret", {"client_id": "victim"}, {"scope": "read"}, "client_id", "unreadable"),
        (b"m:secret", {}, {"scope": "read", "id_token": OTHERS}, "client_id", "contradicted"),
    ],
    ids=["scope", "two readings", "unreadable", "contradicted"],
)
async def test_a2_what_a_key_manager_leaves_open_is_logged_once_a_minute_and_counted(
    house: OAuthHouse,
    key_manager: ScriptedKeyManager,
    basic: bytes,
    form: dict[str, str],
    said: dict[str, str],
    member: str,
    reason: str,
) -> None:
    """The token is recorded without it, and the operator learns which setting may help."""
    authorization = b"Basic " + b64encode(basic)
    with capture_logs() as logs:
        async with house.open():
            for number in (1, 2):
                key_manager.will(bearer(f"secret-{number}", **said))
                await house.post(
                    "/token", basic=authorization, grant_type="client_credentials", **form
                )
                facts = await house.facts(f"secret-{number}")
                assert facts.active
                assert facts.client_id == ("demo-key" if member == "scope" else None)
                assert facts.scopes == set(said.get("scope", "").split())
    lines = [line for line in logs if "member" in line]
    assert [(line["member"], line["reason"]) for line in lines] == [(member, reason)]
    assert house.count("tokens_recorded_without", member=member, reason=reason) == 2


async def test_a2_a_key_manager_may_mean_as_requested(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """RFC 6749 §5.1, where the setting says so; of the query nothing counts there either."""
    key_manager.will(bearer("secret-1"))
    key_manager.will(bearer("secret-2"))
    async with house.open(omitted_scope="as_requested"):
        await house.post("/token", grant_type="client_credentials", scope="read")
        form = urlencode({"grant_type": "client_credentials"}).encode()
        await house.send(request("/token?scope=admin", form, [(b"Authorization", BASIC)]))
        assert (await house.facts("secret-1")).scopes == {"read"}
        assert (await house.facts("secret-2")).scopes == set()


@pytest.mark.parametrize(
    ("setting", "client_id"), [("form_encoded", "svc prod"), ("verbatim", "svc+prod")]
)
async def test_a8_the_client_of_basic_is_read_as_the_setting_says(
    house: OAuthHouse, key_manager: ScriptedKeyManager, setting: str, client_id: str
) -> None:
    """Where it can't be seen which of the two readings the key manager has accepted."""
    basic = b"Basic " + b64encode(b"svc+prod:secret")
    key_manager.will(bearer("secret-1"))
    async with house.open(basic_client_id=setting):
        await house.post("/token", basic=basic, grant_type="client_credentials")
        assert (await house.facts("secret-1")).client_id == client_id


@pytest.mark.parametrize("path", ["/token", "/revoke"])
async def test_a5_a_request_that_names_two_clients_is_not_forwarded(
    house: OAuthHouse, key_manager: ScriptedKeyManager, path: str
) -> None:
    """Which of them the key manager would accept can't be known (RFC 6749 §2.3, §5.2)."""
    async with house.open():
        reply = await house.post(path, client_id="victim", token="secret-1", grant_type="x")
    assert [reply.status, reply.json["error"]] == [400, "invalid_request"]
    assert reply.values(b"Cache-Control") == [b"no-store"]
    assert key_manager.requests == []


async def test_what_is_not_recorded_is_the_key_managers_to_judge(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """A gateway that records no tokens has no need to know whose they are."""
    key_manager.will(bearer("secret-1"))
    async with house.open(record_tokens=False):
        assert (await house.post("/token", client_id="victim", grant_type="x")).status == 200
