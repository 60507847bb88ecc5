"""The token and revocation endpoints as clients and a key manager see them.

Numbers in the names are the lines of the checklist of OAuth rules that a forwarding gateway must
get right: 1 to 5 the token endpoint, 6 to 10 the revocation endpoint (test_oauth_tokens.py has
what becomes of the tokens).
"""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Iterator

import fakeredis
import pytest
from aiohttp import ClientSession
from clocks import FakeClock
from oauth_house import BASIC, BRIEF, FORM, OAuthHouse, request
from scripted_key_manager import ScriptedKeyManager, answer, bearer
from streams import closed
from structlog.testing import capture_logs

from gateway.app import Gateway
from gateway.oauth import MOST_BYTES
from gateway.settings import Admin, Limits, Listen, Settings
from gateway.store import TokenStore

NO_STORE = ([b"no-store"], [b"no-cache"])


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
    client = fakeredis.FakeAsyncRedis()
    yield OAuthHouse(key_manager, TokenStore(client), clock)
    await client.aclose()


async def test_1_the_request_goes_through_verbatim(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Body bytes, Content-Type and the client's credentials, whatever they look like."""
    content = b"grant_type=password&username=a%20b&&password=secret%21&x=%zz;y"
    content_type = b"Application/x-www-form-urlencoded;charset=utf-8"
    async with house.open():
        await house.send(
            request("/token", content, [(b"AUTHORIZATION", BASIC)], content_type=content_type)
        )
    (received,) = key_manager.requests
    assert received.line == b"POST /token HTTP/1.1"
    assert received.content == content
    assert received.values(b"Content-Type") == [content_type]
    assert received.values(b"Authorization") == [BASIC]


async def test_1_a_body_without_a_type_or_a_length_gets_no_other_type(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Nothing is made up; a chunked body arrives whole, with its length."""
    async with house.open():
        await house.send(
            b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\ngrant\r\n6\r\n_type=\r\n0\r\n\r\n"
        )
        await house.send(request("/token"))
    chunked, empty = key_manager.requests
    assert chunked.content == b"grant_type="
    assert chunked.values(b"Transfer-Encoding") == []
    assert [empty.content, empty.values(b"Content-Length")] == [b"", [b"0"]]
    assert [chunked.values(b"Content-Type"), empty.values(b"Content-Type")] == [[], []]


async def test_1_the_query_goes_through_verbatim(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """RFC 6749 §3.2: an endpoint may have a query; its bytes aren't touched, and not logged."""
    async with house.open():
        await house.send(request("/token?tenant=a%2fb&secret=1&", b"x=1"))
    (received,) = key_manager.requests
    assert received.line == b"POST /token?tenant=a%2fb&secret=1& HTTP/1.1"


async def test_1_basic_is_no_bearer_token(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The endpoints need no token, and none is looked up or told to the key manager as facts."""
    async with house.open():
        for scheme in (BASIC, b"Bearer secret-1"):
            await house.send(request("/token", b"x=1", [(b"Authorization", scheme)]))
    sent = [received.values(b"Authorization") for received in key_manager.requests]
    assert sent == [[BASIC], [b"Bearer secret-1"]]
    assert house.count("store_lookups") == 0


async def test_1_other_fields_are_kept_as_clean_as_for_a_backend(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Hop-by-hop and identity fields stay out; the client's address and the request id go along."""
    fields = [
        (b"Connection", b"keep-alive, x-private, authorization"),
        (b"X-Private", b"1"),
        (b"X-Token-Subject", b"root"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"Accept-Encoding", b"gzip"),
        (b"Cookie", b"a=1"),
        (b"X-Request-ID", b"request-1"),
        (b"Authorization", BASIC),
    ]
    async with house.open():
        reply = await house.send(request("/token", b"x=1", fields))
    (received,) = key_manager.requests
    assert sorted(received.fields) == sorted(
        [
            (b"Host", key_manager.url.removeprefix("http://").encode()),
            (b"Cookie", b"a=1"),
            (b"Authorization", BASIC),
            (b"Content-Type", FORM),
            (b"Content-Length", b"3"),
            (b"X-Forwarded-For", b"127.0.0.1"),
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Host", b"gateway.example"),
            (b"Via", b"1.1 gateway"),
            (b"X-Request-ID", b"request-1"),
            (b"Accept-Encoding", b"identity"),
        ]
    )
    assert reply.values(b"X-Request-ID") == [b"request-1"]


@pytest.mark.parametrize("path", ["/token", "/revoke"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_1_the_endpoints_take_post(
    house: OAuthHouse, key_manager: ScriptedKeyManager, path: str, method: str
) -> None:
    """RFC 6749 §3.2, RFC 7009 §2.1; anything else isn't forwarded."""
    async with house.open():
        reply = await house.send(request(path, method=method))
    assert [reply.status, reply.values(b"Allow")] == [405, [b"POST, OPTIONS"]]
    assert key_manager.requests == []


async def test_1_a_body_is_bounded(house: OAuthHouse, key_manager: ScriptedKeyManager) -> None:
    """By the setting, and by what fits in memory."""
    async with house.open(limits=Limits(body=10)):
        assert (await house.send(request("/token", b"x" * 10))).status == 200
        assert (await house.send(request("/token", b"x" * 11))).status == 413
    async with house.open():
        head = f"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {MOST_BYTES + 1}\r\n\r\n"
        assert (await house.send(head.encode())).status == 413
    assert len(key_manager.requests) == 1


async def test_1_the_body_is_asked_for_where_the_client_waits(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Curl sends ``Expect: 100-continue``; the key manager never sees it."""
    async with house.open():
        reader, writer = await house.connect()
        writer.write(
            b"POST /token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"x=1")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await closed(writer)
    assert key_manager.requests[0].content == b"x=1"
    assert key_manager.requests[0].values(b"Expect") == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(b"Cache-Control", b"no-store"), (b"Pragma", b"no-cache")], NO_STORE),
        ([], NO_STORE),
        ([(b"Cache-Control", b"private")], ([b"private", b"no-store"], [b"no-cache"])),
    ],
)
async def test_2_no_store_survives_and_is_never_missing(
    house: OAuthHouse,
    key_manager: ScriptedKeyManager,
    given: list[tuple[bytes, bytes]],
    expected: tuple[list[bytes], list[bytes]],
) -> None:
    """RFC 6749 §5.1: both fields on any answer with a token."""
    key_manager.will(answer(200, {"access_token": "secret-1", "token_type": "Bearer"}, given))
    async with house.open():
        reply = await house.post("/token", grant_type="client_credentials")
    assert (reply.values(b"Cache-Control"), reply.values(b"Pragma")) == expected


async def test_2_errors_made_here_are_not_stored(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The gateway's own: key manager unreachable, method not allowed."""
    await key_manager.stop()
    async with house.open():
        replies = [
            await house.post("/token", grant_type="client_credentials"),
            await house.post("/revoke", token="secret-1"),
            await house.send(request("/token", method="GET")),
        ]
    for reply in replies:
        assert (reply.values(b"Cache-Control"), reply.values(b"Pragma")) == NO_STORE
    assert [reply.status for reply in replies] == [502, 502, 405]
    assert replies[0].json["error"] == "bad_gateway"


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, []),
        (401, [(b"WWW-Authenticate", b'Basic realm="key manager"')]),
        (403, [(b"X-Odd", b"1"), (b"X-Odd", b"2")]),
        (500, []),
        (302, [(b"Location", b"http://elsewhere.example/")]),
    ],
)
async def test_3_the_key_managers_errors_go_through(
    house: OAuthHouse,
    key_manager: ScriptedKeyManager,
    status: int,
    fields: list[tuple[bytes, bytes]],
) -> None:
    """RFC 6749 §5.2: status, fields and JSON as they came; the challenge of a 401 too."""
    content = b'{"error" : "invalid_client"}\n'
    date = (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")
    fields = [(b"Content-type", b"application/json"), date, *fields]
    hop_by_hop = [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"Keep-Alive", b"timeout=5")]
    key_manager.will(answer(status, content, [*fields, *hop_by_hop]))
    async with house.open():
        reply = await house.send(request("/token", b"x=1", [(b"X-Request-ID", b"request-1")]))
    assert reply.line == b"HTTP/1.1 %d Said So" % status
    assert reply.content == content
    length = (b"Content-Length", str(len(content)).encode())
    assert reply.fields == [*fields, (b"X-Request-ID", b"request-1"), length]
    assert house.count("tokens_unrecorded", reason="syntax") == 0


async def test_4_a_refresh_goes_through_and_the_rotated_token_comes_back(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """RFC 6749 §6: what rotates is the key manager's to say; the client gets its bytes."""
    said = bearer("secret-2", refresh_token="secret-refresh-2", scope="read")
    key_manager.will(said)
    async with house.open():
        reply = await house.post(
            "/token", grant_type="refresh_token", refresh_token="secret-refresh-1"
        )
    assert key_manager.requests[0].content == (
        b"grant_type=refresh_token&refresh_token=secret-refresh-1"
    )
    assert said.endswith(b"\r\n\r\n" + reply.content)
    assert reply.json["refresh_token"] == "secret-refresh-2"


@pytest.mark.parametrize("path", ["/token", "/revoke"])
@pytest.mark.parametrize("idle_connection", [False, True])
async def test_5_a_post_is_never_sent_twice(
    house: OAuthHouse, key_manager: ScriptedKeyManager, path: str, idle_connection: bool
) -> None:
    """The key manager read it and closed: it may have acted, on a fresh connection or not."""
    async with house.open():
        if idle_connection:
            key_manager.will(answer(400))
            await house.post(path, token="secret-1")
        key_manager.will(closes=True)
        reply = await house.post(path, token="secret-1")
    assert reply.status == 502
    assert len(key_manager.requests) == (2 if idle_connection else 1)
    assert key_manager.connections == 1


async def test_5_a_late_key_manager_is_a_timeout(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """504, never 200; and still sent once."""
    key_manager.will(waits=True)
    async with house.open(**BRIEF):
        reply = await house.post("/revoke", token="secret-1")
    assert [reply.status, reply.json["error"]] == [504, "gateway_timeout"]
    assert len(key_manager.requests) == 1
    assert house.count("upstream_failures", route="revoke", outcome="upstream_timeout") == 1


async def test_5_a_key_manager_that_never_comes_to_the_point_is_a_bad_gateway(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Interim answers without end are no answer, and aren't waited through."""
    key_manager.will(b"HTTP/1.1 100 Continue\r\n\r\n" * 1001)
    async with house.open():
        reply = await house.post("/token", grant_type="client_credentials")
    assert reply.status == 502


@pytest.mark.parametrize(
    "said",
    [
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        answer(200, b"x" * (MOST_BYTES + 1)),
    ],
    ids=["garbled", "cut off", "switching", "endless"],
)
async def test_5_an_answer_that_can_not_be_passed_on_is_a_bad_gateway(
    house: OAuthHouse, key_manager: ScriptedKeyManager, said: bytes
) -> None:
    """Never a success that the key manager didn't say in full."""
    key_manager.will(said, closes=True)
    async with house.open():
        reply = await house.post("/token", grant_type="client_credentials")
    assert [reply.status, reply.json["error"]] == [502, "bad_gateway"]
    assert len(key_manager.requests) == 1


async def test_5_a_client_that_goes_away_leaves_its_token_recorded(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The key manager has replaced the refresh token: the exchange is brought to its end."""
    reaction = key_manager.will(bearer("secret-1", scope="read"), waits=True)
    async with house.open():
        _, writer = await house.connect()
        writer.write(
            request("/token", b"grant_type=client_credentials", [(b"Authorization", BASIC)])
        )
        await key_manager.received.get()
        await closed(writer)
        await house.handled.get()
        reaction.gate.set()
        await house.finished()
        assert (await house.facts("secret-1")).active
    assert house.count("requests", route="token", outcome="client_gone") == 1


async def test_5_a_client_that_goes_away_leaves_its_token_revoked(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Half a revocation is none: what the key manager revoked leaves the store."""
    key_manager.will(bearer("secret-1"))
    reaction = key_manager.will(answer(200), waits=True)
    async with house.open():
        await house.post("/token", grant_type="client_credentials")
        await key_manager.received.get()
        await house.handled.get()
        _, writer = await house.connect()
        writer.write(request("/revoke", b"token=secret-1"))
        await key_manager.received.get()
        await closed(writer)
        await house.handled.get()
        reaction.gate.set()
        await house.finished()
        assert not (await house.facts("secret-1")).active


async def test_5_a_failure_that_nobody_hears_is_logged(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The client has gone and the key manager fails: no exception is left behind."""
    reaction = key_manager.will(waits=True, closes=True)
    async with house.open():
        _, writer = await house.connect()
        writer.write(request("/token", b"x=1"))
        await key_manager.received.get()
        await closed(writer)
        await house.handled.get()
        with capture_logs() as logs:
            reaction.gate.set()
            await house.finished()
    assert [line["error"] for line in logs] == ["UpstreamUnreachable"]


async def test_6_hints_and_client_authentication_are_the_key_managers_to_judge(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """RFC 7009 §2.1: no bearer token is asked for, and a plain form goes through as it is."""
    key_manager.will(answer(401, {"error": "invalid_client"}, [(b"WWW-Authenticate", b"Basic")]))
    async with house.open():
        refused = await house.post("/revoke", basic=None, token="secret-1", token_type_hint="odd")
    assert [refused.status, refused.values(b"WWW-Authenticate")] == [401, [b"Basic"]]
    assert [received.content for received in key_manager.requests] == [
        b"token=secret-1&token_type_hint=odd",
    ]


FORMS_REFUSED: dict[str, tuple[str, bytes, bytes | None, list[tuple[bytes, bytes]]]] = {
    "JSON": ("", b'{"token":"secret-1"}', b"application/json", []),
    "multipart": (
        "",
        b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\nsecret-1\r\n--x--\r\n',
        b"multipart/form-data; boundary=x",
        [],
    ),
    "gzip": ("", gzip.compress(b"token=secret-1"), FORM, [(b"Content-Encoding", b"gzip")]),
    "UTF-16": ("", "token=secret-1".encode("utf-16"), FORM + b"; charset=utf-16", []),
    "UTF-16 unsaid": ("", "token=secret-1".encode("utf-16-le"), FORM, []),
    "no UTF-8": ("", b"token=secret-1%FF", FORM, []),
    "JSON without a type": ("", b'{"token":"secret-1"}', None, []),
    "two types": ("", b"token=secret-1", FORM, [(b"Content-Type", b"application/json")]),
    "twice": ("", b"token=secret-1&token=secret-2", FORM, []),
    "in the query": ("?token=secret-1", b"", FORM, []),
    "in both": ("?token=secret-1", b"token=secret-2", FORM, []),
    "empty": ("", b"token=", FORM, []),
    "none": ("", b"token_type_hint=access_token", FORM, []),
    "among very many": ("", b"a=1&" * 100 + b"token=secret-1", FORM, []),
    "space around": ("", b"token=+secret-1%20", FORM, []),
    "huge": ("", b"token=" + b"s" * MOST_BYTES, FORM, []),
}


@pytest.mark.parametrize("what", FORMS_REFUSED)
async def test_b1_a_revocation_that_can_not_be_read_is_refused_before_it_is_forwarded(
    house: OAuthHouse, key_manager: ScriptedKeyManager, what: str
) -> None:
    """JSON, multipart, gzip, what can be read in two ways: no 200 for what isn't done."""
    query, content, content_type, fields = FORMS_REFUSED[what]
    async with house.open():
        reply = await house.send(
            request(f"/revoke{query}", content, fields, content_type=content_type)
        )
    assert key_manager.requests == []
    assert reply.status in {400, 413, 415}
    of_http = {"huge": "content_too_large", "two types": "bad_request"}
    assert reply.json["error"] == of_http.get(what, "invalid_request")
    assert (reply.values(b"Cache-Control"), reply.values(b"Pragma")) == NO_STORE


async def test_h4_a_parameter_that_is_no_utf_8_hides_no_token(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The others are read, and the token goes."""
    key_manager.will(bearer("secret-1"))
    async with house.open():
        await house.post("/token", grant_type="client_credentials")
        await house.send(request("/revoke", b"x=%FF&token=secret-1", [(b"Authorization", BASIC)]))
        assert not (await house.facts("secret-1")).active


async def test_a_token_request_that_can_not_be_read_is_refused_where_tokens_are_recorded(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Its token would belong to no grant; who doesn't record leaves the form to the key manager."""
    content = b'{"grant_type":"refresh_token","refresh_token":"secret-1"}'
    sent = request("/token", content, content_type=b"application/json")
    async with house.open():
        assert (await house.send(sent)).status == 415
    assert key_manager.requests == []
    async with house.open(record_tokens=False):
        assert (await house.send(sent)).status == 200
    assert key_manager.requests[0].content == content


@pytest.mark.parametrize("path", ["/token/revocation", "/token/revocation/", "/Token/Revocation"])
async def test_b3_a_revocation_with_a_slash_more_is_one(
    house: OAuthHouse, key_manager: ScriptedKeyManager, path: str
) -> None:
    """Many key managers serve both; it mustn't pass as an ordinary request on some public route."""
    key_manager.will(bearer("secret-1"))
    async with house.open(revoke_path="/token/revocation"):
        await house.post("/token/", grant_type="client_credentials")
        assert (await house.post(path, token="secret-1")).status == 200
        assert not (await house.facts("secret-1")).active
    assert [received.line.split()[1] for received in key_manager.requests] == [
        b"/token",
        b"/revoke",
    ]


async def test_b3_path_parameters_are_no_way_around_an_endpoint(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """To a servlet "/revoke;v=1" is "/revoke"."""
    async with house.open():
        replies = [await house.post(path, token="s") for path in ("/revoke;v=1", "/revoke;v/")]
    assert [reply.status for reply in replies] == [400, 400]
    assert key_manager.requests == []


async def test_b3_nothing_at_the_end_of_a_path_is_a_way_around_an_endpoint(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Rails takes "/revoke.json" for "/revoke", Windows "/revoke." and "/revoke "."""
    ends = (".json", ".JSON/", ".", "..", "%20", "%2e", "/.json", "/%20", "./")
    async with house.open():
        replies = [await house.post(f"/revoke{end}", token="s") for end in ends]
        others = [house.endpoints.endpoint(path, "POST") for path in ("/revoke/x.y", "/revoker.a")]
        assert house.endpoints.endpoint("/token.js", "GET") is None
    assert {reply.status for reply in replies} == {400}
    assert others == [None, None]
    assert key_manager.requests == []


async def test_b5_an_endpoint_is_asked_as_it_is_written(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """With its last slash, without which some frameworks answer by a redirect."""
    urls = {name: f"{key_manager.url}/o/{name}/" for name in ("token", "revoke")}
    async with house.open(url=None, token_url=urls["token"], revoke_url=urls["revoke"]):
        await house.post("/token", grant_type="client_credentials")
        await house.post("/revoke", token="secret-1")
    assert [received.line.split()[1] for received in key_manager.requests] == [
        b"/o/token/",
        b"/o/revoke/",
    ]


@pytest.mark.parametrize("path", ["/token", "/revoke"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_b5_an_endpoint_that_redirects_is_logged(
    house: OAuthHouse, key_manager: ScriptedKeyManager, path: str, status: int
) -> None:
    """It goes through, but the settings name the wrong URL."""
    key_manager.will(answer(status, b"", [(b"Location", b"/o/token/?secret=1")]))
    with capture_logs() as logs:
        async with house.open():
            assert (await house.post(path, token="secret-1")).status == status
    lines = [line for line in logs if "redirects" in line["event"]]
    assert [(line["endpoint"], line["status"]) for line in lines] == [(path[1:], status)]


async def test_b6_no_request_is_lost_to_a_connection_that_the_key_manager_closed(
    key_manager: ScriptedKeyManager, clock: FakeClock
) -> None:
    """It closes after each answer without a word; by default each request has its own."""
    settings = Settings.model_validate({"key_manager": {"url": key_manager.url}})
    async with Gateway(
        settings.model_copy(update={"listen": Listen(port=0), "admin": Admin(port=0)}),
        store=TokenStore(fakeredis.FakeAsyncRedis()),
        clock=clock,
    ) as gateway:
        statuses = []
        for _ in range(5):
            key_manager.will(answer(200), closes=True)
            async with ClientSession() as client:
                reply = await client.post(f"{gateway.url}/token", data={"grant_type": "x"})
                statuses.append(reply.status)
    assert statuses == [200] * 5
    assert key_manager.connections == 5


async def test_7_success_and_refusals_of_a_revocation_go_through(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """RFC 7009 §2.2: 200 for unknown tokens too, and its errors with their fields."""
    key_manager.will(answer(200))
    key_manager.will(answer(400, {"error": "unsupported_token_type"}))
    key_manager.will(answer(503, b"", [(b"Retry-After", b"120")]))
    async with house.open():
        replies = [await house.post("/revoke", token="secret-unknown") for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 400, 503]
    assert replies[0].content == b""
    assert replies[1].json == {"error": "unsupported_token_type"}
    assert replies[2].values(b"Retry-After") == [b"120"]


WSO2 = [
    (b"RevokedAccessToken", b"secret-1"),
    (b"DeactivatedAccessToken", b"secret-2"),
    (b"AuthorizedUser", b"secret-alice@carbon.super"),
    (b"REVOKEDREFRESHTOKEN", b"secret-3"),
    (b"DeactivatedRefreshToken", b"secret-4"),
]


@pytest.mark.parametrize("path", ["/token", "/revoke"])
@pytest.mark.parametrize("status", [200, 400])
async def test_9_fields_that_carry_tokens_are_not_for_the_client(
    house: OAuthHouse, key_manager: ScriptedKeyManager, path: str, status: int
) -> None:
    """WSO2's key manager tells its gateway, and nobody else."""
    key_manager.will(answer(status, {"scope": "none"}, WSO2))
    async with house.open():
        reply = await house.post(path, token="secret-9")
    assert reply.status == status
    assert b"secret" not in repr(reply.fields).encode()
    assert not {name.lower() for name, _ in reply.fields} & {name.lower() for name, _ in WSO2}


@pytest.mark.parametrize("path", ["/token", "/revoke"])
async def test_10_a_preflight_is_the_key_managers_to_answer(
    house: OAuthHouse, key_manager: ScriptedKeyManager, path: str
) -> None:
    """CORS asks without credentials; which origins are welcome isn't the gateway's to know."""
    key_manager.will(answer(200, b"", [(b"Access-Control-Allow-Origin", b"https://app.example")]))
    async with house.open():
        reply = await house.send(
            request(path, fields=[(b"Origin", b"https://app.example")], method="OPTIONS")
        )
    assert reply.status == 200
    assert reply.values(b"Access-Control-Allow-Origin") == [b"https://app.example"]
    assert reply.values(b"Cache-Control") == []
    (received,) = key_manager.requests
    assert received.line == f"OPTIONS {path} HTTP/1.1".encode()
    assert received.values(b"Origin") == [b"https://app.example"]


async def test_the_paths_are_settings(house: OAuthHouse, key_manager: ScriptedKeyManager) -> None:
    """Clients find the endpoints where they are used to, whatever the key manager calls them."""
    async with house.open(
        token_path="/oauth2/token", revoke_path="/r", revoke_url=f"{key_manager.url}/oauth2/revoke"
    ):
        found = [
            house.endpoints.endpoint(path, "POST") for path in ("/oauth2/token", "/r", "/token")
        ]
        await house.send(request("/%6fauth2/token", b"x=1"))
        await house.send(request("/r", b"token=x"))
    assert found == ["token", "revoke", None]
    assert [received.line.split()[1] for received in key_manager.requests] == [
        b"/token",
        b"/oauth2/revoke",
    ]


async def test_without_a_key_manager_there_are_no_endpoints(house: OAuthHouse) -> None:
    """A gateway in front of APIs only has nothing at /token."""
    async with house.open(url=None):
        assert (await house.send(request("/token", b"x=1"))).status == 404
    async with house.open(url=None, token_url="http://127.0.0.1:1/token"):
        assert [house.endpoints.endpoint(path, "POST") for path in ("/token", "/revoke")] == [
            "token",
            None,
        ]


async def test_b4_a_compressed_answer_goes_through_as_it_came_and_is_read(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """Though identity was asked for: the client gets its bytes, and its token is good."""
    content = gzip.compress(
        json.dumps({"access_token": "secret-1", "token_type": "Bearer"}).encode()
    )
    key_manager.will(answer(200, content, [(b"Content-Encoding", b"gzip")]))
    async with house.open():
        reply = await house.post("/token", grant_type="client_credentials")
        assert (await house.facts("secret-1")).active
    assert [reply.content, reply.values(b"Content-Encoding")] == [content, [b"gzip"]]


async def test_a_draining_gateway_closes_the_connection_after_the_answer(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """The client is told not to come back on it."""
    async with house.open():
        house.pipeline.draining = True
        reply = await house.post("/token", grant_type="client_credentials")
    assert reply.values(b"Connection") == [b"close"]


async def test_closing_gives_up_an_exchange_that_does_not_end(
    house: OAuthHouse, key_manager: ScriptedKeyManager
) -> None:
    """A gateway that stops waits for what it began, but not for ever."""
    key_manager.will(waits=True)
    async with house.open():
        _, writer = await house.connect()
        writer.write(request("/token", b"x=1"))
        await key_manager.received.get()
        await closed(writer)
        await house.handled.get()
        (task,) = house.endpoints._under_way
        await house.endpoints.close(timeout_seconds=0)
        await asyncio.wait({task})
        assert task.cancelled()
