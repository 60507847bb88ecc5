"""The admin API over HTTP, held to its own OpenAPI document."""

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from clocks import FakeClock
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import SecretStr
from pytest_aiohttp.plugin import AiohttpClient
from scripted import ValidatorBench, document
from watched import ROUTES, WatchedGateway, busy, revoked

from gateway import __version__
from gateway.admin.access import Access
from gateway.admin.api import AdminApi
from gateway.admin.events import StateEvents
from gateway.admin.eviction import Eviction, Evictor
from gateway.admin.guard import Guard
from gateway.admin.state import describe
from gateway.errors import StoreUnavailable
from gateway.settings import Admin, Settings
from gateway.tokens import token_key

TOKEN = {"Authorization": "Bearer s3cret"}
ADMIN = Admin(token=SecretStr("s3cret"))
NOW = FakeClock().wall()
Client = TestClient[web.Request, web.Application]


class FleetOf:
    """Other gateways, which hear what they are told or can't be reached."""

    def __init__(self) -> None:
        self.heard: list[Eviction] = []
        self.down = False

    async def evict(self, eviction: Eviction) -> int | None:
        if self.down:
            raise StoreUnavailable
        self.heard.append(eviction)
        return 2


class Bench:
    """A gateway that knows three tokens, behind the API."""

    def __init__(self, clock: FakeClock) -> None:
        self.gateway = WatchedGateway(
            settings=Settings(admin=ADMIN, routes=ROUTES), clock=clock, tally=busy()
        )
        self.known = ValidatorBench(
            clock, {token_key(name): document(client_id=name, sub="s") for name in "abc"}
        )
        self.fleet: FleetOf | None = None

    async def describe(self) -> dict[str, Any]:
        return describe(self.gateway)

    def build(self, admin: Admin = ADMIN) -> web.Application:
        app = web.Application(client_max_size=2048)
        AdminApi(
            self.gateway,
            evictor=Evictor(self.known.validator),
            guard=Guard(Access(admin)),
            events=StateEvents(self.describe),
            fleet=self.fleet,
        ).add_to(app)
        return app

    async def fill(self) -> None:
        for name in "abc":
            await self.known.validator.validate(token_key(name), 60)


@pytest.fixture
async def bench(clock: FakeClock) -> Bench:
    bench = Bench(clock)
    await bench.fill()
    return bench


@pytest.fixture
async def client(bench: Bench, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(bench.build())


async def checked(
    client: Client, method: str, path: str, expected: int = 200, **options: Any
) -> Any:
    """Return the answer's document, after holding it to the API's description."""
    async with client.get("/api/openapi.json") as answer:
        api = await answer.json()
    async with client.request(method, path, **options) as answer:
        assert answer.status == expected
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers
        told = await answer.json()
    described = api["paths"][path.partition("?")[0]][method.lower()]["responses"][str(expected)]
    if "$ref" in described:
        described = api["components"]["responses"][described["$ref"].rpartition("/")[2]]
    schema = {
        **described["content"]["application/json"]["schema"],
        "components": api["components"],
    }
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(told)
    return told


async def test_the_state_is_told_as_described(client: Client, bench: Bench) -> None:
    """Also while tokens are revoked and everything has happened."""
    bench.gateway.book = [
        revoked("a", at=NOW, lapses_in=5),
        revoked("b", at=NOW, lapses_in=9, accepts=3),
    ]
    told = await checked(client, "GET", "/api/state")
    assert told == json.loads(json.dumps(describe(bench.gateway)))


async def test_events_carry_the_state_as_described(client: Client) -> None:
    """The same document as /api/state."""
    async with client.get("/api/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert await answer.content.readuntil(b"\n\n") == b"retry: 2000\n\n"
        lines = (await answer.content.readuntil(b"\n\n")).decode().split("\n")
    assert lines[0] == "event: state"
    state = json.loads(lines[1].removeprefix("data: "))
    assert state == await checked(client, "GET", "/api/state")


async def test_nobody_more_can_watch_when_many_do(client: Client, bench: Bench) -> None:
    """503, which the page takes for a lost connection and tries again."""
    app = client.server.app  # type: ignore[attr-defined]
    await app.shutdown()
    told = await checked(client, "GET", "/api/events", 503)
    assert told["error"] == "unavailable"


async def test_revoked_tokens_come_in_pages(client: Client, bench: Bench) -> None:
    """Each page says where the next begins."""
    bench.gateway.book = [revoked(str(n), at=NOW, lapses_in=n) for n in (3, 1, 2)]
    first = await checked(client, "GET", "/api/revoked?limit=2")
    rest = await checked(client, "GET", f"/api/revoked?limit=2&after={first['next']}")
    names = [[token["client_id"] for token in page["tokens"]] for page in (first, rest)]
    assert names == [["client-1", "client-2"], ["client-3"]]
    assert (first["count"], rest["count"], rest["next"]) == (3, 3, None)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=x", "after="])
async def test_a_page_that_is_none_is_refused(client: Client, query: str) -> None:
    """Nothing of what was asked is repeated."""
    told = await checked(client, "GET", f"/api/revoked?{query}", 400)
    assert told["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("asked", "by", "evicted"),
    [
        ({"token": "a"}, "token_key", 1),
        ({"token_key": token_key("a").hex()}, "token_key", 1),
        ({"client_id": "b"}, "client_id", 1),
        ({"sub": "s"}, "sub", 3),
        ({"all": True, "scope": "gateway"}, "all", 3),
        ({"sub": "nobody"}, "sub", 0),
    ],
)
async def test_evictions_say_how_many_went(
    client: Client, bench: Bench, asked: dict[str, Any], by: str, evicted: int
) -> None:
    """The next request of each asks the store."""
    told = await checked(client, "POST", "/api/evict", json=asked, headers=TOKEN)
    assert told == {"scope": "gateway", "by": by, "evicted": evicted}
    left = [name for name in "abc" if bench.known.validator.cached(token_key(name), 60)]
    assert len(left) == 3 - evicted


async def test_the_fleet_is_told(bench: Bench, aiohttp_client: AiohttpClient) -> None:
    """A token only by its key, and this gateway evicts first."""
    bench.fleet = FleetOf()
    client = await aiohttp_client(bench.build())
    asked = {"token": "a", "scope": "fleet"}
    told = await checked(client, "POST", "/api/evict", json=asked, headers=TOKEN)
    assert told == {"scope": "fleet", "by": "token_key", "evicted": 1, "gateways": 2}
    assert bench.fleet.heard == [Eviction("token_key", token_key("a").hex(), "fleet")]


async def test_a_fleet_that_cannot_be_reached_is_said(
    bench: Bench, aiohttp_client: AiohttpClient
) -> None:
    """This gateway has evicted all the same, and says so."""
    bench.fleet = FleetOf()
    bench.fleet.down = True
    client = await aiohttp_client(bench.build())
    asked = {"all": True, "scope": "fleet"}
    told = await checked(client, "POST", "/api/evict", 503, json=asked, headers=TOKEN)
    assert told["error_description"] == "Evicted here (3), but the others can't be asked."


async def test_without_a_feed_there_is_no_fleet(client: Client, bench: Bench) -> None:
    """Nothing is evicted, rather than half of what was asked."""
    asked = {"all": True, "scope": "fleet"}
    await checked(client, "POST", "/api/evict", 409, json=asked, headers=TOKEN)
    assert bench.known.validator.cached(token_key("a"), 60)


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        (400, {"json": {}, "headers": TOKEN}),
        (401, {"json": {"all": True}}),
        (401, {"json": {"all": True}, "headers": {"Authorization": "Bearer wrong"}}),
        (403, {"json": {"all": True}, "headers": TOKEN | {"Origin": "http://evil.example"}}),
        (413, {"json": {"token": "t" * 4096}, "headers": TOKEN}),
        (415, {"data": b'{"all": true}', "headers": TOKEN | {"Content-Type": "text/plain"}}),
        (415, {"data": {"all": "true"}, "headers": TOKEN}),
        (421, {"json": {"all": True}, "headers": TOKEN | {"Host": "evil.example"}}),
    ],
)
async def test_an_eviction_refused_evicts_nothing(
    client: Client, bench: Bench, expected: int, options: dict[str, Any]
) -> None:
    """For want of sense, of the token, or of a page of our own."""
    await checked(client, "POST", "/api/evict", expected, **options)
    assert all(bench.known.validator.cached(token_key(name), 60) for name in "abc")


@pytest.mark.parametrize("path", ["state", "revoked", "events", "openapi.json"])
async def test_nothing_is_read_by_a_page_of_another_origin(client: Client, path: str) -> None:
    """Under a name of its own, or across origins."""
    async with client.get(f"/api/{path}", headers={"Host": "evil.example:80"}) as answer:
        assert answer.status == 421
    async with client.get(f"/api/{path}", headers={"Sec-Fetch-Site": "cross-site"}) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("path", ["state", "revoked", "events", "openapi.json"])
async def test_beyond_loopback_everything_needs_the_token(
    bench: Bench, aiohttp_client: AiohttpClient, path: str
) -> None:
    """Whatever name the port has there."""
    admin = Admin(host="0.0.0.0", token=SecretStr("s3cret"))
    client = await aiohttp_client(bench.build(admin))
    host = {"Host": "gateway.example"}
    async with client.get(f"/api/{path}", headers=host) as answer:
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (
            401,
            'Bearer realm="gateway admin"',
        )
    async with client.get(f"/api/{path}", headers=host | TOKEN) as answer:
        assert answer.status == 200


async def test_no_preflight_is_granted(client: Client) -> None:
    """Another origin's page may not even ask."""
    asking = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    async with client.options("/api/evict", headers=asking) as answer:
        assert answer.status == 405
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_the_raw_token_of_an_eviction_is_nowhere(
    client: Client, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in the log nor in an answer, good or bad."""
    caplog.set_level("DEBUG")
    raw = "raw-t0ken"
    for body in ({"token": raw}, {"token": raw, "all": True}, {"token": [raw]}, {raw: True}):
        async with client.post("/api/evict", json=body, headers=TOKEN) as answer:
            assert raw not in await answer.text()
    said = capsys.readouterr()
    assert raw not in caplog.text + said.out + said.err


async def test_the_description_is_valid_and_of_this_version(client: Client) -> None:
    """Every schema is one, every reference leads somewhere, every path is served."""
    async with client.get("/api/openapi.json") as answer:
        api = await answer.json()
    assert (api["openapi"], api["info"]["version"]) == ("3.1.0", __version__)
    for schema in api["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    text = json.dumps(api)
    for reference in set(_references(api)):
        found = api
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    app = client.server.app  # type: ignore[attr-defined]
    served = {
        (resource.canonical, route.method.lower())
        for resource in app.router.resources()
        for route in resource
        if route.method != "HEAD"
    }
    described = {(path, method) for path, methods in api["paths"].items() for method in methods}
    assert served == described
    assert "s3cret" not in text


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
