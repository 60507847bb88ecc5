"""Requests on their way to a backend: what crosses, what doesn't, and in which form."""

import gzip
import re
from typing import Any

import pytest
from aiohttp import web
from backends import RecordingBackend, Seen, answering, recording, scripted
from wire import fetch, request

from gateway.app import Gateway
from proxy.gateways import FAST_LANE, HANDLER_LANE, LogText, running, seed, taken

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MADE_HERE = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "Via",
    "X-Request-ID",
    "X-Token-Client-Id",
    "X-Token-Subject",
    "X-Token-Scope",
]


async def sent(gateway: Gateway, backend: RecordingBackend, data: bytes) -> Seen:
    """Send one request and return it as the backend saw it."""
    assert (await fetch(gateway.url, data)).status == 200
    return backend.seen[-1]


async def test_nothing_is_added_but_what_the_gateway_is_for(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """No User-Agent, Accept, Accept-Encoding or Content-Type that the client didn't send."""
    seen = await sent(gateway, backend, request("/a"))
    assert [name.decode() for name, _ in seen.fields] == ["Host", *MADE_HERE]


async def test_order_spelling_and_values_are_kept() -> None:
    """The client's fields arrive in their order, spelt and valued as sent."""
    fields = [b"X-b: 2", b"aCCept: */*; q=0.5", b"user-agent:  curl  ", b"X-A:", b"x-c: a, b"]

    async with scripted(answering(OK)) as backend, running(backend.url) as gateway:
        await fetch(gateway.url, request("/", *fields))
        lines = backend.connections[0].heads[0].split(b"\r\n")
    assert lines[2:7] == [
        b"X-b: 2",
        b"aCCept: */*; q=0.5",
        b"user-agent: curl",
        b"X-A: ",
        b"x-c: a, b",
    ]


async def test_mixed_case_duplicates_all_arrive(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """The library's client alone would lose the third of these."""
    data = request("/", "X-Dup: 1", "x-dup: 2", "X-Dup: 3", "Cookie: a=1", "cookie: b=2")
    seen = await sent(gateway, backend, data)
    assert seen.values("X-Dup") == [b"1", b"2", b"3"]
    assert seen.values("Cookie") == [b"a=1", b"b=2"]


@pytest.mark.parametrize(
    "field",
    [
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Proxy-Authorization: Basic Zm9v",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: X-Sum",
        "Upgrade: h2c",
    ],
)
async def test_hop_by_hop_fields_end_here(
    gateway: Gateway, backend: RecordingBackend, field: str
) -> None:
    """Fields for one connection aren't for the next (RFC 9110 §7.6.1)."""
    seen = await sent(gateway, backend, request("/", field))
    assert seen.values(field.partition(":")[0]) == []


async def test_nominated_fields_end_here_but_not_those_that_decide(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """``Connection`` can't take Host, Cookie, or what says who and where the client is."""
    nominated = "close, X-Hop, Host, Cookie, X-Forwarded-For, X-Token-Subject, X-Request-ID, Via"
    data = request("/", f"Connection: {nominated}, Authorization", "X-Hop: 1", "Cookie: a=1")
    seen = await sent(gateway, backend, data)
    names = [name.decode() for name, _ in seen.fields]
    assert sorted(names) == sorted(["Host", "Cookie", *MADE_HERE])


async def test_connection_cannot_nominate_authorization_away(backend: RecordingBackend) -> None:
    """Where the backend is to see the token, the client can't hide it."""
    async with running(backend.url, proxy={"forward_authorization": True}) as gateway:
        seen = await sent(gateway, backend, request("/", "Connection: Authorization"))
    assert seen.values("Authorization") == [b"Bearer good"]


async def test_the_token_stays_here_by_default(gateway: Gateway, backend: RecordingBackend) -> None:
    """The backend hears who calls, and doesn't get the means to call others."""
    seen = await sent(gateway, backend, request("/"))
    assert seen.values("Authorization") == []
    identity = [seen.values(name) for name in MADE_HERE[-3:]]
    assert identity == [[b"app"], [b"alice"], [b"read write"]]


@pytest.mark.parametrize(
    "name", ["X-Token-Subject", "x-TOKEN-subject", "X-Token-Admin", "X-Token.Subject"]
)
async def test_identity_cannot_be_claimed(
    gateway: Gateway, backend: RecordingBackend, name: str
) -> None:
    """A client's own identity fields never arrive, on public routes neither."""
    for target in ("/", "/public"):
        seen = await sent(gateway, backend, request(target, f"{name}: root"))
        assert b"root" not in [value for _, value in seen.fields]


async def test_members_that_a_document_lacks_make_no_field(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """A token without a subject names none."""
    await seed(gateway, "other", client_id=None, sub=None)
    seen = await sent(gateway, backend, request("/", token="other"))
    assert [name for name, _ in seen.fields if name.startswith(b"X-Token-")] == [b"X-Token-Scope"]


async def test_host_is_preserved_or_the_upstreams(backend: RecordingBackend) -> None:
    """``proxy.preserve_host`` decides whose name the backend sees."""
    async with running(backend.url) as gateway:
        seen = await sent(gateway, backend, request("/", "Host: shop.example:81"))
    assert seen.values("Host") == [b"shop.example:81"]
    async with running(backend.url, proxy={"preserve_host": False}) as gateway:
        seen = await sent(gateway, backend, request("/", "Host: shop.example:81"))
    assert seen.values("Host") == [backend.url.removeprefix("http://").encode()]
    assert seen.values("X-Forwarded-Host") == [b"shop.example:81"]


async def test_forwarding_headers_of_strangers_are_replaced(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """What a client says of where it comes from isn't believed, however it is spelt."""
    claims = [
        "X-Forwarded-For: 1.1.1.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: bank.example",
        "X-Forwarded-Port: 443",
        "Forwarded: for=1.1.1.1",
        "X-Real-IP: 1.1.1.1",
    ]
    seen = await sent(gateway, backend, request("/", *claims))
    assert seen.values("X-Forwarded-For") == [b"127.0.0.1"]
    assert seen.values("X-Forwarded-Proto") == [b"http"]
    assert seen.values("X-Forwarded-Host") == [b"gateway.test"]
    for name in ("X-Forwarded-Port", "Forwarded", "X-Real-IP"):
        assert seen.values(name) == []


async def test_forwarding_headers_of_trusted_proxies_are_kept(backend: RecordingBackend) -> None:
    """A trusted peer's are kept, and its own address is added to the hops."""
    claims = ["X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "X-Real-IP: 1.1.1.1"]
    async with running(backend.url, proxy={"trusted_proxies": ["127.0.0.0/8"]}) as gateway:
        seen = await sent(gateway, backend, request("/", *claims))
    assert seen.values("X-Forwarded-For") == [b"1.1.1.1, 127.0.0.1"]
    assert seen.values("X-Forwarded-Proto") == [b"https"]
    assert seen.values("X-Real-IP") == [b"1.1.1.1"]


@pytest.mark.parametrize(
    ("policy", "status", "arrives"),
    [("refuse", 400, []), ("drop", 200, []), ("allow", 200, [b"1"])],
)
async def test_names_with_underscores(
    backend: RecordingBackend, policy: str, status: int, arrives: list[bytes]
) -> None:
    """They are refused, unless a setting says otherwise."""
    async with running(backend.url, proxy={"headers_with_underscores": policy}) as gateway:
        answer = await fetch(gateway.url, request("/", "X_Odd: 1"))
    assert answer.status == status
    assert [value for seen in backend.seen for value in seen.values("X_Odd")] == arrives


async def test_x_forwarded_for_with_underscores_never_arrives(backend: RecordingBackend) -> None:
    """To many backends ``X_Forwarded_For`` is the real one."""
    async with running(backend.url, proxy={"headers_with_underscores": "allow"}) as gateway:
        seen = await sent(gateway, backend, request("/", "X_Forwarded_For: 1.1.1.1"))
    assert seen.values("X_Forwarded_For") == []


async def test_via_names_the_gateway(gateway: Gateway, backend: RecordingBackend) -> None:
    """Another proxy's Via is kept; ours comes after it."""
    seen = await sent(gateway, backend, request("/", "Via: 1.0 fred"))
    assert seen.values("Via") == [b"1.0 fred", b"1.1 gateway"]


async def test_request_id_is_kept_when_sane(gateway: Gateway, backend: RecordingBackend) -> None:
    """The backend, the client and the log agree on one."""
    answer = await fetch(gateway.url, request("/", "X-Request-ID: abc-123"))
    assert backend.seen[-1].values("X-Request-ID") == [b"abc-123"]
    assert answer.values("X-Request-ID") == [b"abc-123"]


@pytest.mark.parametrize("odd", ["a b", "x" * 129, "<script>"])
async def test_request_id_is_made_when_not_sane(
    gateway: Gateway, backend: RecordingBackend, odd: str
) -> None:
    """What could harm a log is replaced, not repaired."""
    answer = await fetch(gateway.url, request("/", f"X-Request-ID: {odd}"))
    (made,) = answer.values("X-Request-ID")
    assert re.fullmatch(rb"[0-9a-f]{32}", made)
    assert backend.seen[-1].values("X-Request-ID") == [made]


async def test_traceparent_goes_through(gateway: Gateway, backend: RecordingBackend) -> None:
    """Traces of others go on through the gateway (W3C Trace Context)."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    data = request("/", f"traceparent: {trace}", "tracestate: a=1")
    seen = await sent(gateway, backend, data)
    assert (seen.values("traceparent"), seen.values("tracestate")) == ([trace.encode()], [b"a=1"])


async def test_a_compressed_body_arrives_untouched(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """The gateway neither reads nor changes a content coding."""
    body = gzip.compress(b"content " * 100)
    data = request("/", "Content-Encoding: gzip", method="POST", body=body)
    seen = await sent(gateway, backend, data)
    assert (seen.body, seen.values("Content-Encoding")) == (body, [b"gzip"])
    assert seen.values("Content-Type") == []


async def test_cookies_are_not_remembered() -> None:
    """What a backend sets for one client isn't sent for the next."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Set-Cookie": "session=1"})

    async with recording(handler) as backend, running(backend.url) as gateway:
        await sent(gateway, backend, request("/"))
        seen = await sent(gateway, backend, request("/"))
    assert seen.values("Cookie") == []


async def test_another_scheme_passes_on_public_routes_only(
    gateway: Gateway, backend: RecordingBackend
) -> None:
    """A public backend may have credentials of its own; a bearer token isn't among them."""
    seen = await sent(gateway, backend, request("/public", "Authorization: Basic Zm9v"))
    assert seen.values("Authorization") == [b"Basic Zm9v"]
    seen = await sent(gateway, backend, request("/public"))
    assert seen.values("Authorization") == []


OPAQUE = {
    "a cookie in UTF-8": b"Cookie: n=M\xc3\xbcller",
    "a cookie in Latin-1": b"Cookie: n=M\xfcller",
    "a referrer in Latin-1": b"Referer: http://a.test/caf\xe9?x",
    "a user agent": b"User-Agent: \xd0\x9a\xd0\xb0/1 \xff\xfe",
    "a file name": b'Content-Disposition: attachment; filename="\x82\xa0.txt"',
    "a type": b"Content-Type: text/pl\xe4in",
    "a trace": b"traceparent: 00-\xe9-01",
    "any other": b"X-Any: \x80\x9f\xa0\xff",
    "what isn't UTF-8, and is": b"X-Any: \xc3(\xe2\x82\xac",
}


@pytest.mark.parametrize("field", OPAQUE.values(), ids=OPAQUE)
@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_a_browser_with_an_umlaut_in_its_cookie_is_served(
    log: LogText, field: bytes, lane: dict[str, Any]
) -> None:
    """Bytes from 0x80 on are opaque (RFC 9110 §5.5): they arrive as they were sent."""
    async with scripted(answering(OK)) as backend, running(backend.url, proxy=lane) as gateway:
        assert (await fetch(gateway.url, request("/", field))).status == 200
        assert taken(gateway) == lane["fast_lane"]
        assert field in backend.connections[0].heads[0].split(b"\r\n")
    assert log.named("request")[0]["status"] == 200


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_opaque_bytes_where_the_gateway_reads(lane: dict[str, Any]) -> None:
    """In a field that it acts upon they are no name, no token and no id, and harm nobody."""
    async with (
        scripted(answering(OK)) as backend,
        running(backend.url, proxy=lane | {"trusted_proxies": ["127.0.0.1"]}) as gateway,
    ):
        for field, status in {
            b"Host: caf\xe9.test": 400,
            b"X-Request-ID: caf\xe9": 200,
            b"X-Forwarded-For: caf\xe9": 200,
            b"Forwarded: for=caf\xe9": 200,
            b"Via: 1.1 caf\xe9": 200,
            b"Connection: caf\xe9": 200,
            b"Expect: caf\xe9": 417,
            b"Content-Length: \xe9": 400,
            b"Transfer-Encoding: \xe9": 400,
            b"X-Token-Subject: caf\xe9": 200,
            b"Max-Forwards: \xe9": 200,
        }.items():
            answer = await fetch(gateway.url, request("/", field))
            assert answer.status == status, field
            assert answer.body.isascii()
        for value in (b"Bearer caf\xe9", b"Bearer \xe9", b"B\xe9arer good", b"\xe9"):
            data = request("/", b"Authorization: " + value)
            assert (await fetch(gateway.url, data)).status in {400, 401}
        heads = b"".join(head for seen in backend.connections for head in seen.heads)
    assert b"X-Forwarded-For: caf\xe9, 127.0.0.1\r\n" in heads
    assert b"Forwarded: for=caf\xe9\r\n" in heads
    assert b"X-Token-Subject: caf\xe9" not in heads
    assert b"X-Request-ID: caf\xe9" not in heads


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_opaque_credentials_of_another_scheme_cross_a_public_route(
    lane: dict[str, Any],
) -> None:
    """They are the backend's to judge: each byte of them arrives."""
    field = b"Authorization: Basic caf\xe9"
    async with scripted(answering(OK)) as backend, running(backend.url, proxy=lane) as gateway:
        assert (await fetch(gateway.url, request("/public", field))).status == 200
        assert field in backend.connections[0].heads[0].split(b"\r\n")
