"""Errors that the gateway makes: one form for all of them, a request id, and never a token."""

import asyncio
import json
import re
from collections.abc import Sequence

import pytest
from backends import RecordingBackend, recording
from wire import connect, fetch, request

from gateway.app import Gateway
from gateway.errors import StoreUnavailable
from gateway.tokens import TokenKey, token_key
from proxy.gateways import LogText, count, outcomes, running, seed, until

SECRET = "Secret-Token-7f3a"
BEARER = b'Bearer realm="gateway"'

ERRORS = {
    "no credentials": (request("/", token=None), 401, "unauthorized", BEARER),
    "another scheme": (
        *(request("/", f"Authorization: Basic {SECRET}"), 401, "unauthorized", BEARER),
    ),
    "unknown": (request("/", token=SECRET), 401, "invalid_token", b'error="invalid_token"'),
    "inactive": (request("/", token="inactive"), 401, "invalid_token", b'error="invalid_token"'),
    "no scope": (request("/", token="narrow"), 403, "insufficient_scope", b'scope="read"'),
    "malformed": (
        *(request("/", token=f"1|{SECRET}"), 401, "invalid_token", b'error="invalid_token"'),
    ),
    "two words": (
        *(request("/", token=f"x {SECRET}"), 400, "invalid_request", b'error="invalid_request"'),
    ),
    "empty": (request("/", "Authorization: Bearer"), 400, "invalid_request", BEARER),
    "two": (
        *(request("/", f"Authorization: Bearer {SECRET}", f"Authorization: Bearer {SECRET}"), 400),
        *("invalid_request", b'error="invalid_request"'),
    ),
    "in the query": (
        *(request(f"/?access_token={SECRET}"), 400, "invalid_request", b"invalid_request"),
    ),
    "no route": (request(f"/x/{SECRET}"), 404, "not_found", None),
    "bad path": (request(f"/x/..;/{SECRET}"), 400, "bad_request", None),
    "bad header": (request("/", f"X_Odd: {SECRET}"), 400, "bad_request", None),
    "not HTTP": (f"{SECRET}\r\n\r\n".encode(), 400, "bad_request", None),
    "method": (request("/", method="TRACE"), 405, "method_not_allowed", None),
    "expectation": (request("/", f"Expect: {SECRET}"), 417, "expectation_failed", None),
    "too large": (
        *(request("/", "Content-Length: 999999999", method="POST"), 413, "content_too_large", None),
    ),
    "headers": (request("/", f"X: {SECRET * 2000}"), 431, "headers_too_large", None),
    "upstream": (request("/dead/"), 502, "bad_gateway", None),
}


@pytest.mark.parametrize(("data", "status", "code", "challenge"), ERRORS.values(), ids=list(ERRORS))
async def test_every_error_has_one_form(
    log: LogText, free_port: int, data: bytes, status: int, code: str, challenge: bytes | None
) -> None:
    """JSON with error, description and request id; not to be stored; no token in it or the log."""
    dead = f"http://127.0.0.1:{free_port}"
    routes = [
        {"path": "/x/y", "upstream": dead},
        {"path": "/dead", "upstream": dead, "public": True},
        {"path": "/", "upstream": dead, "scopes": ["read"], "methods": ["GET", "POST"]},
    ]
    if code == "not_found":
        routes.pop()
    async with running(dead, routes=routes) as gateway:
        await seed(gateway, "narrow", scope="write")
        await seed(gateway, "inactive", active=False)
        async with connect(gateway.url) as client:
            await client.send(data)
            answer = await client.answer()
        assert count(gateway, "gateway_requests_total") == 1
    assert (answer.status, answer.error["error"]) == (status, code)
    assert sorted(answer.error) == ["error", "error_description", "request_id"]
    assert re.fullmatch(r"[A-Z][^\n]*\.", answer.error["error_description"])
    assert answer.values("X-Request-ID") == [answer.error["request_id"].encode()]
    assert answer.values("Content-Type") == [b"application/json"]
    assert answer.values("Cache-Control") == [b"no-store"]
    assert answer.values("Pragma") == [b"no-cache"]
    assert len(answer.values("Date")) == 1
    assert answer.values("Server") == []
    challenges = answer.values("WWW-Authenticate")
    assert len(challenges) == (challenge is not None)
    assert (challenge or b"") in b"".join(challenges)
    assert all(value.startswith(BEARER) for value in challenges)
    assert SECRET.encode() not in answer.body + b"".join(value for _, value in answer.fields)
    (record,) = log.named("request")
    assert record["status"] == status
    assert record.pop("path") is None or "token" not in record
    if b"/x/" not in data:  # there it stood in the path, where no token belongs
        assert SECRET not in log.text
    for token in (SECRET, "narrow", "inactive"):
        assert token_key(token).hex() not in log.text


@pytest.mark.parametrize("target", ["/", "/nowhere/at/all"])
async def test_errors_to_head_have_no_content(gateway: Gateway, target: str) -> None:
    """They have the header section of those to GET, and the connection goes on."""
    async with connect(gateway.url) as client:
        for _ in range(2):
            await client.send(request(target, method="HEAD", token=None))
            answer = await client.answer(bodiless=True)
            assert (answer.status, answer.value("Content-Type")) == (401, b"application/json")
            assert int(answer.value("Content-Length") or 0) > 0


async def test_refusals_keep_the_connection(gateway: Gateway, backend: RecordingBackend) -> None:
    """A client that erred may try again, on the same connection."""
    async with connect(gateway.url) as client:
        for data, status in [
            (request("/", token=None), 401),
            (request("/", token="bad"), 401),
            (request("/", token="{"), 401),
            (request("/", method="TRACE"), 405),
            (request("/"), 200),
        ]:
            await client.send(data)
            answer = await client.answer()
            assert (answer.status, answer.values("Connection")) == (status, [])


async def test_the_token_is_judged_before_the_body(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """Who may not pass is told while the body is still to come, and that it will not be read."""
    async with connect(gateway.url) as client:
        await client.send(request("/", "Content-Length: 10", method="POST", token="bad"), b"hello")
        answer = await client.answer()
        assert (answer.status, answer.values("Connection")) == (401, [b"close"])
        await client.send(b"world", request("/"))
        assert await client.ended()
    assert backend.seen == []


async def test_unknown_tokens_do_not_reach_public_routes(backend: RecordingBackend) -> None:
    """A public route looks at no token, good or bad, and asks no store."""
    async with running(backend.url) as gateway:
        for token in ("good", "bad", "{", None):
            assert (await fetch(gateway.url, request("/public", token=token))).status == 200
        assert count(gateway, "gateway_store_lookups_total") == 0


class TestStoreOutage:
    """A store that fails says nothing of a token."""

    @pytest.fixture
    async def outage(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
        """A gateway whose store failed after it had the token "good" validated."""
        assert (await fetch(gateway.url, request("/"))).status == 200

        async def fail(keys: Sequence[TokenKey] = ()) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(gateway.validator._lookups, "_find_many", fail)
        return gateway

    async def test_uncached_tokens(self, outage: Gateway) -> None:
        """503 with Retry-After, never 401."""
        answer = await fetch(outage.url, request("/", token="other"))
        assert (answer.status, answer.error["error"]) == (503, "temporarily_unavailable")
        assert (answer.values("Retry-After"), answer.values("WWW-Authenticate")) == ([b"1"], [])
        assert outcomes(outage) == {"proxied": 1, "store_unavailable": 1}

    async def test_cached_tokens_and_public_routes(self, outage: Gateway) -> None:
        """They go on."""
        for target, token in (("/", "good"), ("/public", None)):
            assert (await fetch(outage.url, request(target, token=token))).status == 200

    async def test_a_failure_is_not_cached(
        self, outage: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The store is asked again for the next request."""
        await seed(outage, "other")
        assert (await fetch(outage.url, request("/", token="other"))).status == 503
        lookups = outage.validator._lookups
        monkeypatch.setattr(lookups, "_find_many", outage.store.find_many)
        assert (await fetch(outage.url, request("/", token="other"))).status == 200


async def test_the_access_log(log: LogText, backend: RecordingBackend) -> None:
    """A line for each request, with what an operator looks for and nothing that is secret."""
    async with running(backend.url, routes=[{"path": "/a", "upstream": backend.url}]) as gateway:
        data = request(f"/a/b?x={SECRET}", "X-Request-ID: mine", f"Cookie: s={SECRET}")
        answer = await fetch(gateway.url, data)
        await until(lambda: len(log.named("request")) == 1)
    (record,) = log.named("request")
    assert {name: record[name] for name in record if name not in {"timestamp", "duration_ms"}} == {
        "event": "request",
        "level": "info",
        "logger": "gateway.access",
        "request_id": "mine",
        "peer": "127.0.0.1",
        "method": "GET",
        "path": "/a/b",
        "status": 200,
        "route": "/a",
        "outcome": "proxied",
        "client_id": "app",
        "bytes_sent": len(answer.body) + sum(len(n) + len(v) + 4 for n, v in answer.fields) + 19,
    }
    assert SECRET not in json.dumps(log.lines)


async def test_the_access_log_can_be_off(log: LogText, backend: RecordingBackend) -> None:
    """Then requests are only counted."""
    async with running(backend.url, logging={"access_log": False}) as gateway:
        await fetch(gateway.url, request("/"))
        await fetch(gateway.url, b"\x00\r\n\r\n")
        await until(lambda: sum(outcomes(gateway).values()) == 2)
    assert log.named("request") == []


async def test_concurrent_requests_do_not_mix(backend: RecordingBackend) -> None:
    """Fifty clients at once, each with a token, get their own answers and identities."""
    async with recording() as other, running(other.url) as gateway:
        for number in range(50):
            await seed(gateway, f"token-{number}", sub=f"user-{number}")

        async def call(number: int) -> int:
            data = request(f"/{number}", token=f"token-{number}")
            return (await fetch(gateway.url, data)).status

        statuses = await asyncio.gather(*(call(number) for number in range(50)))
        assert set(statuses) == {200}
        assert {(seen.target, seen.values("X-Token-Subject")[0]) for seen in other.seen} == {
            (f"/{number}", f"user-{number}".encode()) for number in range(50)
        }
