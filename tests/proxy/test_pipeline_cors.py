"""Pages of other origins: what they may read of the gateway's own answers, in both lanes."""

from typing import Any

import pytest
from backends import RecordingBackend
from wire import Answer, fetch, request

from proxy.gateways import FAST_LANE, HANDLER_LANE, outcomes, running, seed

APP = "https://app.example"
ALLOWED = [APP.encode()]
lanes = pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])


def routes(backend: RecordingBackend, free_port: int, **cors: Any) -> list[dict[str, Any]]:
    """Return a route for pages, one whose upstream is down, and one that pages don't use."""
    given = {"cors_origins": [APP], **cors}
    return [
        {"path": "/", "upstream": backend.url, "scopes": ["read"], **given},
        {"path": "/down", "upstream": f"http://127.0.0.1:{free_port}", "public": True, **given},
        {"path": "/plain", "upstream": backend.url},
        {"path": "/get", "upstream": backend.url, "methods": ["GET"], **given},
    ]


def read(answer: Answer) -> list[bytes]:
    """Return the origins whose pages may read an answer."""
    return answer.values("Access-Control-Allow-Origin")


@lanes
async def test_a_page_can_tell_an_expired_token_from_no_network(
    backend: RecordingBackend, free_port: int, lane: dict[str, Any]
) -> None:
    """Its origin is named on 401, 403 and 502, with the challenge and when to come again."""
    async with running(backend.url, proxy=lane, routes=routes(backend, free_port)) as gateway:
        await seed(gateway, "narrow", scope="write")
        for target, token, status in (
            ("/", None, 401),
            ("/", "expired", 401),
            ("/", "narrow", 403),
            ("/down", "good", 502),
        ):
            answer = await fetch(gateway.url, request(target, f"Origin: {APP}", token=token))
            assert (answer.status, read(answer)) == (status, ALLOWED)
            assert answer.values("Vary") == [b"Origin"]
            exposed = answer.value("Access-Control-Expose-Headers") or b""
            assert {b"WWW-Authenticate", b"Retry-After"} <= set(exposed.split(b", "))
            assert answer.values("Access-Control-Allow-Credentials") == []


@lanes
async def test_an_origin_that_is_not_listed_is_not_reflected(
    backend: RecordingBackend, free_port: int, lane: dict[str, Any]
) -> None:
    """Nor "null", nor any that looks alike; and other routes say nothing at all."""
    async with running(backend.url, proxy=lane, routes=routes(backend, free_port)) as gateway:
        for origin in ("https://evil.example", "null", APP + ".evil", APP.upper(), APP + "/", ""):
            answer = await fetch(gateway.url, request("/", f"Origin: {origin}", token=None))
            assert (answer.status, read(answer)) == (401, [])
            assert answer.values("Vary") == [b"Origin"]
        two = [f"Origin: {APP}", f"Origin: {APP}"]
        assert read(await fetch(gateway.url, request("/", *two, token=None))) == []
        answer = await fetch(gateway.url, request("/plain", f"Origin: {APP}", token=None))
        assert (answer.status, read(answer), answer.values("Vary")) == (401, [], [])


@lanes
async def test_what_the_backend_answers_stays_as_it_is(
    backend: RecordingBackend, free_port: int, lane: dict[str, Any]
) -> None:
    """Whether a page may read it is the backend's to say."""
    async with running(backend.url, proxy=lane, routes=routes(backend, free_port)) as gateway:
        answer = await fetch(gateway.url, request("/", f"Origin: {APP}"))
    assert (answer.status, read(answer), answer.values("Vary")) == (200, [], [])
    assert backend.seen[0].values("Origin") == ALLOWED


@lanes
async def test_credentials_and_all_origins(
    backend: RecordingBackend, free_port: int, lane: dict[str, Any]
) -> None:
    """Credentials where the route says so; "*" is told as such, and never an origin."""
    for cors, allowed, credentials in (
        ({"cors_credentials": True}, ALLOWED, [b"true"]),
        ({"cors_origins": ["*"]}, [b"*"], []),
    ):
        given = routes(backend, free_port, **cors)
        async with running(backend.url, proxy=lane, routes=given) as gateway:
            answer = await fetch(gateway.url, request("/", f"Origin: {APP}", token=None))
        assert read(answer) == allowed
        assert answer.values("Access-Control-Allow-Credentials") == credentials


def preflight(target: str, method: str = "PUT", *, origin: str = APP) -> bytes:
    """Return what a browser asks before a request with a token."""
    fields = [f"Origin: {origin}", f"Access-Control-Request-Method: {method}"]
    fields.append("Access-Control-Request-Headers: authorization")
    return request(target, *fields, method="OPTIONS", token=None)


@lanes
async def test_preflights_are_answered_here(
    backend: RecordingBackend, free_port: int, lane: dict[str, Any]
) -> None:
    """They never have a token, so the backend could not be asked; the route decides."""
    async with running(backend.url, proxy=lane, routes=routes(backend, free_port)) as gateway:
        for target, method in (("/", "PUT"), ("/get", "GET"), ("/down", "POST")):
            answer = await fetch(gateway.url, preflight(target, method))
            assert (answer.status, answer.body, read(answer)) == (204, b"", ALLOWED)
            assert answer.value("Access-Control-Allow-Methods") == method.encode()
            assert answer.value("Access-Control-Allow-Headers") == b"authorization"
            assert answer.values("Vary")[0] == b"Origin"
            assert answer.values("Content-Length") == []
        for target, method, origin, status in (
            ("/get", "PUT", APP, 405),
            ("/", "PUT", "https://evil.example", 401),
            ("/", "PUT", "null", 401),
            ("/plain", "PUT", APP, 401),
        ):
            answer = await fetch(gateway.url, preflight(target, method, origin=origin))
            assert (answer.status, read(answer)) == (status, [])
        assert outcomes(gateway)["answered"] == 3
    assert backend.seen == []


@lanes
async def test_preflights_that_a_route_of_their_own_forwards(
    backend: RecordingBackend, lane: dict[str, Any]
) -> None:
    """A route that names OPTIONS has them, as before: the backend answers."""
    given = [
        {"path": "/a", "upstream": backend.url, "methods": ["PUT"], "cors_origins": [APP]},
        {"path": "/a", "upstream": backend.url, "methods": ["OPTIONS"], "public": True},
    ]
    async with running(backend.url, proxy=lane, routes=given) as gateway:
        assert (await fetch(gateway.url, preflight("/a"))).status == 200
    assert [seen.method for seen in backend.seen] == ["OPTIONS"]
