"""The request line: what is served, and that the path judged is the path sent."""

from typing import Any

import pytest
from backends import Connection, RecordingBackend, recording, scripted
from wire import connect, fetch, request

from gateway.app import Gateway
from proxy.gateways import FAST_LANE, HANDLER_LANE, LogText, outcomes, running


@pytest.mark.parametrize(
    "target",
    [
        "gateway.test:80",
        "http://user@gateway.test/secret",
        "ftp://gateway.test/secret",
        "http:///secret",
        "*",
        "secret",
        "?secret",
    ],
)
async def test_other_forms_are_not_served(
    gateway: Gateway, backend: RecordingBackend, target: str
) -> None:
    """Authority-form, other schemes and users in URIs are refused (RFC 9112 §3.2)."""
    answer = await fetch(gateway.url, request(target))
    assert (answer.status, answer.error["error"]) == (400, "bad_request")
    assert backend.seen == []


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
@pytest.mark.parametrize(
    ("target", "sent", "host"),
    [
        ("http://api.example/x", "/x", b"api.example"),
        ("https://api.example:8443/x?", "/x?", b"api.example:8443"),
        ("HTTP://API.example", "/", b"API.example"),
        ("http://[::1]:80?a=b", "/?a=b", b"[::1]:80"),
        ("http://gateway.test/%6frders", "/%6frders", b"gateway.test"),
    ],
)
async def test_the_absolute_form_is_served(
    backend: RecordingBackend, target: str, sent: str, host: bytes, lane: dict[str, Any]
) -> None:
    """Its authority goes before ``Host``, also one that disagrees (RFC 9112 §3.2.2)."""
    async with running(backend.url, proxy=lane) as gateway:
        for given in ("Host: other.test", "Host: "):
            assert (await fetch(gateway.url, request(target, given))).status == 200
        assert (await fetch(gateway.url, request(target, version="HTTP/1.0"))).status == 200
    for seen in backend.seen:
        assert (seen.target, seen.values("Host")) == (sent, [host])
        assert seen.values("X-Forwarded-Host") == [host]


async def test_the_absolute_form_is_judged_like_any(backend: RecordingBackend) -> None:
    """Routes, tokens and the key manager's endpoints are found by its path; Host is still due."""
    routes = [{"path": "/orders", "upstream": backend.url, "scopes": ["admin"]}]
    key_manager = {"url": backend.url}
    async with running(backend.url, routes=routes, key_manager=key_manager) as gateway:
        for target, status in {
            "http://a/orders": 403,
            "http://a/%6frders": 403,
            "http://a/orders/../x": 400,
            "http://a/none": 404,
            "http://a/token": 405,
        }.items():
            assert (await fetch(gateway.url, request(target))).status == status
        for hosts in (b"", b"Host: a\r\nHost: a\r\n", b"Host: a/b\r\n"):
            data = b"GET http://a/orders HTTP/1.1\r\n" + hosts + b"\r\n"
            assert (await fetch(gateway.url, data)).status == 400
    assert backend.seen == []


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
async def test_an_empty_host_is_none(
    backend: RecordingBackend, lane: dict[str, Any], version: str
) -> None:
    """400: the host of an http URI isn't empty (RFC 9110 §4.2.1, §7.2)."""
    async with running(backend.url, proxy=lane) as gateway:
        answer = await fetch(gateway.url, request("/", "Host:", version=version))
        assert (answer.status, answer.error["error"]) == (400, "bad_request")
    assert backend.seen == []


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_options_that_may_go_no_further(
    backend: RecordingBackend, lane: dict[str, Any]
) -> None:
    """``Max-Forwards: 0`` is answered here, and any other is one less (RFC 9110 §7.6.2)."""
    routes = [
        {"path": "/", "upstream": backend.url, "scopes": ["read"]},
        {"path": "/a", "upstream": backend.url, "methods": ["GET", "OPTIONS"], "public": True},
    ]
    key_manager = {"url": backend.url}
    async with running(backend.url, proxy=lane, routes=routes, key_manager=key_manager) as gateway:
        for target, allowed in {
            "/": b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
            "/a": b"GET, HEAD, OPTIONS",
            "/token": b"OPTIONS, POST",
            "*": b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT",
        }.items():
            answer = await fetch(gateway.url, request(target, "Max-Forwards: 0", method="OPTIONS"))
            assert (answer.status, answer.value("Allow"), answer.body) == (200, allowed, b"")
        data = request("/", "Max-Forwards: 0", method="OPTIONS", token=None)
        assert (await fetch(gateway.url, data)).status == 401
        assert backend.seen == []
        for given, sent in {
            "1": b"0",
            "010": b"9",
            "99999999999999999": b"99999999999999998",
        }.items():
            data = request("/", f"Max-Forwards: {given}", method="OPTIONS")
            assert (await fetch(gateway.url, data)).status == 200
            assert backend.seen[-1].values("Max-Forwards") == [sent]
        for malformed in ("-1", "x", "1, 1", "0x1", ""):
            data = request("/", f"Max-Forwards: {malformed}", method="OPTIONS")
            assert (await fetch(gateway.url, data)).status == 400
        assert (await fetch(gateway.url, request("/", "Max-Forwards: 0"))).status == 200
        assert backend.seen[-1].values("Max-Forwards") == [b"0"]  # it says nothing of GET


@pytest.mark.parametrize(("method", "target"), [("CONNECT", "a.test:443"), ("TRACE", "/")])
async def test_connect_and_trace_are_refused(
    gateway: Gateway, backend: RecordingBackend, method: str, target: str
) -> None:
    """No tunnels, and nothing that shows header fields to scripts."""
    answer = await fetch(gateway.url, request(target, method=method))
    assert (answer.status, answer.values("Allow")) == (405, [b""])
    assert backend.seen == []


async def test_options_asterisk_is_answered(gateway: Gateway, backend: RecordingBackend) -> None:
    """It asks about the gateway as a whole, so the gateway says (RFC 9110 §9.3.7)."""
    async with connect(gateway.url) as client:
        for _ in range(2):
            await client.send(request("*", method="OPTIONS", token=None))
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, b"")
            assert b"GET" in (answer.value("Allow") or b"")
    assert outcomes(gateway) == {"answered": 2}
    assert backend.seen == []


async def test_options_of_a_path_goes_through(gateway: Gateway, backend: RecordingBackend) -> None:
    """A CORS preflight on a public route is the backend's business."""
    answer = await fetch(gateway.url, request("/public", method="OPTIONS", token=None))
    assert (answer.status, backend.seen[0].method) == (200, "OPTIONS")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "REPORT"])
async def test_methods_go_through(gateway: Gateway, backend: RecordingBackend, method: str) -> None:
    """Every method of HTTP and its extensions that the parser knows."""
    assert (await fetch(gateway.url, request("/", method=method))).status == 200
    assert backend.seen[0].method == method


DODGES = [
    "/public/../orders",
    "/public/..",
    "/public/./orders",
    "/public/..;/orders",
    "/public/%2e%2e/orders",
    "/public/%2E./orders",
    "/public/..%2forders",
    "/public%2F..%2Forders",
    "/public/%5corders",
    "/public\\..\\orders",
    "/public#/../orders",
    "//orders",
    "/public//orders",
    "/public/%00",
    "/public/%252e%252e/orders",
    "/public/%zz",
    "/public/%2",
    "/public/caf\u00e9",
    "/public?a=caf\u00e9",
    "/public?a#b",
]


@pytest.mark.parametrize("target", DODGES)
async def test_paths_that_dodge_routes_are_refused(
    gateway: Gateway, backend: RecordingBackend, target: str
) -> None:
    """What a backend could read as another path than the one judged never gets there."""
    answer = await fetch(gateway.url, request(target))
    assert (answer.status, answer.error["error"]) == (400, "bad_request")
    assert backend.seen == []


PATHS = [
    "/",
    "/a/b/",
    "/a.b/..c/...",
    "/a;v=1/b;w",
    "/a%20b",
    "/caf%C3%A9",
    "/%c3%a9%C3%A9",
    "/%7Euser/~user",
    "/a+b",
    "/a'b(c)!*,;:@&=$",
    '/a"b<c>{d}|e^f`g',
    "/[a]",
    "/a?",
    "/?",
    "/a??",
    "/a?x?",
    '/a?"<>{}|^`[]\\',
    "/a?x=1&y=2",
    "/a?x=%zz&%",
    "/a?x=../%2e%2e//%00\\",
    "/a?q=a?b?c",
    "/a?x=1&x=2&&=;",
    "/a?url=http://b/c%2Fd",
    "/@other.test/",
    "/:80",
]


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_paths_are_forwarded_byte_for_byte(
    backend: RecordingBackend, target: str, lane: dict[str, Any]
) -> None:
    """The path that was judged is the path that is sent, and the query goes with it."""
    async with running(backend.url, proxy=lane) as gateway:
        assert (await fetch(gateway.url, request(target))).status == 200
    assert backend.seen[0].target == target


@pytest.mark.parametrize("query", ["?", "??", "?a=", '?a="<>|`'])
async def test_the_query_reaches_key_managers_as_it_was_sent(query: str) -> None:
    """An empty one, too; what a key manager makes of it is its own affair."""
    async with recording() as key_manager:
        settings = {"url": key_manager.url, "token_url": key_manager.url + "/oauth/token"}
        async with running(key_manager.url, key_manager=settings) as gateway:
            form = "Content-Type: application/x-www-form-urlencoded"
            for endpoint in ("/token", "/revoke"):
                data = request(endpoint + query, form, method="POST", body=b"token=b", token=None)
                assert (await fetch(gateway.url, data)).status == 200
    assert [seen.target for seen in key_manager.seen] == [f"/oauth/token{query}", f"/revoke{query}"]


async def test_routes_are_matched_with_encodings_undone(backend: RecordingBackend) -> None:
    """``/%6frders`` is ``/orders`` to a backend, so it is to a route; it is sent as it came."""
    routes = [
        {"path": "/", "upstream": backend.url, "public": True},
        {"path": "/orders", "upstream": backend.url, "scopes": ["admin"]},
    ]
    async with running(backend.url, routes=routes) as gateway:
        answer = await fetch(gateway.url, request("/%6frders/1"))
        assert (answer.status, answer.error["error"]) == (403, "insufficient_scope")
        assert (await fetch(gateway.url, request("/%6frder/1"))).status == 200
    assert [seen.target for seen in backend.seen] == ["/%6frder/1"]


@pytest.mark.parametrize(
    ("path", "target", "sent"),
    [
        ("/api", "/api/v1/a?b", "/base/v1/a?b"),
        ("/api", "/api", "/base/"),
        ("/api", "/%61pi/a%20b", "/base/a%20b"),
        ("/api/v1", "/api/v1/x/", "/base/x/"),
    ],
)
async def test_strip_prefix(backend: RecordingBackend, path: str, target: str, sent: str) -> None:
    """The route's prefix goes, the upstream's base comes, and the rest stays as it is."""
    upstream = backend.url + "/base"
    routes = [{"path": path, "upstream": upstream, "strip_prefix": True, "public": True}]
    async with running(backend.url, routes=routes) as gateway:
        assert (await fetch(gateway.url, request(target))).status == 200
    assert backend.seen[0].target == sent


async def test_a_route_takes_its_methods_only(backend: RecordingBackend) -> None:
    """405 with what it takes; HEAD comes with GET."""
    routes = [{"path": "/a", "upstream": backend.url, "methods": ["GET", "PUT"], "public": True}]
    async with running(backend.url, routes=routes) as gateway:
        answer = await fetch(gateway.url, request("/a", method="POST"))
        assert (answer.status, answer.value("Allow")) == (405, b"GET, HEAD, PUT")
        assert (await fetch(gateway.url, request("/a", method="HEAD"), bodiless=True)).status == 200
        assert (await fetch(gateway.url, request("/b"))).status == 404
        assert outcomes(gateway) == {"method_not_allowed": 1, "proxied": 1, "no_route": 1}


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
async def test_a_method_that_a_route_names_is_forwarded(lane: dict[str, Any]) -> None:
    """Whatever its name, with its content, behind others, in any pieces (RFC 9110 §9.1)."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async def script(connection: Connection) -> None:
        while True:
            head = await connection.head()
            if b"Content-Length: 3" in head:
                connection.received += await connection.reader.readexactly(3)
            await connection.send(ok)

    async with scripted(script) as backend:
        routes = [
            {"path": "/a", "upstream": backend.url, "methods": ["LIST", "UPDATE", "GET"]},
            {"path": "/any", "upstream": backend.url},
        ]
        async with (
            running(backend.url, proxy=lane, routes=routes) as gateway,
            connect(gateway.url) as client,
        ):
            listed = request("/a?b", method="LIST")
            await client.send(listed[:2])
            await client.send(listed[2:])
            assert (await client.answer()).status == 200
            await client.send(
                request("/a", method="UPDATE", body=b"abc"),
                request("/a"),
                request("/a", method="LIST"),
                request("/any", method="VERSION-CONTROL"),
            )
            assert [(await client.answer()).status for _ in range(4)] == [200] * 4
        heads = [head for connection in backend.connections for head in connection.heads]
        lines = sorted(head.split(b"\r\n")[0] for head in heads)
        assert lines == sorted(
            [
                *(b"LIST /a?b HTTP/1.1", b"UPDATE /a HTTP/1.1", b"GET /a HTTP/1.1"),
                *(b"LIST /a HTTP/1.1", b"VERSION-CONTROL /any HTTP/1.1"),
            ]
        )
        assert b"abc" in [connection.received for connection in backend.connections]


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handler"])
@pytest.mark.parametrize("method", ["FOO", "LIST", "get", "Get", "DESCRIBE", "PRI", "X" * 64])
async def test_a_method_that_no_route_names_is_not_implemented(
    backend: RecordingBackend, log: LogText, method: str, lane: dict[str, Any]
) -> None:
    """501 (RFC 9110 §15.6.2), and the connection goes on; the log doesn't repeat it."""
    async with running(backend.url, proxy=lane) as gateway, connect(gateway.url) as client:
        await client.send(request("/", method=method), request("/public"))
        answer = await client.answer()
        assert (answer.status, answer.error["error"]) == (501, "not_implemented")
        assert (await client.answer()).status == 200
        assert outcomes(gateway) == {"method_not_implemented": 1, "proxied": 1}
    assert [seen.method for seen in backend.seen] == ["GET"]
    assert log.named("request")[0]["method"] is None


async def test_methods_that_others_name(backend: RecordingBackend) -> None:
    """405 with what the route takes, where another one names the method."""
    routes = [
        {"path": "/a", "upstream": backend.url, "methods": ["LIST"], "public": True},
        {"path": "/b", "upstream": backend.url, "methods": ["GET"], "public": True},
    ]
    async with running(backend.url, routes=routes) as gateway:
        answer = await fetch(gateway.url, request("/b", method="LIST"))
        assert (answer.status, answer.value("Allow")) == (405, b"GET, HEAD")
        assert (await fetch(gateway.url, request("/c", method="LIST"))).status == 404
        assert (await fetch(gateway.url, request("/b", method="FOO"))).status == 501
