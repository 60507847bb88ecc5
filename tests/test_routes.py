"""From a request target to its route, as tables: what is refused, what governs, what is sent on."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cors import Cors
from gateway.errors import (
    BadRequest,
    GatewayError,
    MethodNotAllowed,
    MethodNotImplemented,
    NoRoute,
)
from gateway.routes import Route, Routes, Target, parse_target
from gateway.settings import RouteSettings


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/", Target("/", None, "/")),
        ("/orders", Target("/orders", None, "/orders")),
        ("/orders/", Target("/orders/", None, "/orders/")),
        ("/orders?", Target("/orders", "", "/orders")),
        ("/orders?a=b", Target("/orders", "a=b", "/orders")),
        ("/?a=b?c", Target("/", "a=b?c", "/")),
        ("/o?..//%2e%2F%5c\\;%00&%zz%", Target("/o", "..//%2e%2F%5c\\;%00&%zz%", "/o")),
        ("/%6frders", Target("/%6frders", None, "/orders")),
        ("/%4F%52", Target("/%4F%52", None, "/OR")),
        ("/a%20b", Target("/a%20b", None, "/a b")),
        ("/caf%C3%A9", Target("/caf%C3%A9", None, "/caf\xc3\xa9")),
        ("/100%25", Target("/100%25", None, "/100%")),
        ("/a%25zz", Target("/a%25zz", None, "/a%zz")),
        ("/a%3Fb%23c", Target("/a%3Fb%23c", None, "/a?b#c")),
        ("/.well-known/x", Target("/.well-known/x", None, "/.well-known/x")),
        ("/...", Target("/...", None, "/...")),
        ("/a..", Target("/a..", None, "/a..")),
        ("/..a/.b", Target("/..a/.b", None, "/..a/.b")),
        ("/a.b/c..d", Target("/a.b/c..d", None, "/a.b/c..d")),
        ("/a;v=1/b", Target("/a;v=1/b", None, "/a;v=1/b")),
        ("/a:b@c!$&'()*+,=~_-", Target("/a:b@c!$&'()*+,=~_-", None, "/a:b@c!$&'()*+,=~_-")),
    ],
)
def test_targets(raw: str, expected: Target) -> None:
    """Path and query go on byte for byte; what is judged is the path with its encodings undone."""
    assert expected == parse_target("GET", raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("http://h/a?b", Target("/a", "b", "/a", "h")),
        ("https://h:8443/", Target("/", None, "/", "h:8443")),
        ("HTTP://H.test/%6frders", Target("/%6frders", None, "/orders", "H.test")),
        ("http://h", Target("/", None, "/", "h")),
        ("http://h:", Target("/", None, "/", "h:")),
        ("http://h?", Target("/", "", "/", "h")),
        ("http://h?a=/b", Target("/", "a=/b", "/", "h")),
        ("http://[::1]:80/a?", Target("/a", "", "/a", "[::1]:80")),
        ("http://127.0.0.1/@b:c", Target("/@b:c", None, "/@b:c", "127.0.0.1")),
        ("http://h/a?u=http://b//c", Target("/a", "u=http://b//c", "/a", "h")),
    ],
)
def test_absolute_form(raw: str, expected: Target) -> None:
    """Path and query byte for byte, as in origin form, and the authority (RFC 9112 §3.2.2)."""
    assert parse_target("GET", raw) == expected


@pytest.mark.parametrize(
    ("raw", "path", "authority"),
    [("*", "*", None), ("http://h:80", "*", "h:80"), ("http://h/", "/", "h"), ("/", "/", None)],
)
def test_the_options_of_the_gateway(raw: str, path: str, authority: str | None) -> None:
    """An empty path in absolute form asks for them, too (RFC 9112 §3.2.4)."""
    target = parse_target("OPTIONS", raw)
    assert (target.path, target.authority) == (path, authority)


FIXED_TEXTS = {
    "The request target is not in origin form.",
    "The path has dot segments, empty segments or encoded delimiters.",
    "The path is percent-encoded more than once.",
    "The query has bytes that must be percent-encoded.",
}


@pytest.mark.parametrize(
    "raw",
    [
        *("/.", "/..", "/./", "/../", "/a/..", "/a/../b", "/a/./b", "/a/.", "/../../etc/passwd"),
        *("/..?x", "/.?x", "/a/..?", "/..;/b", "/.;/b", "/..;x=1/b", "/a/..;", "/a/.;v/b"),
        *("/;/a", "/;x=1/a", "/a/;/b", "/%3b/a", "/..%3b/b", "/.%3B/b", "/a/%3Bx/b"),
        *("/%2e", "/%2E%2E/", "/.%2e/", "/%2e./", "/a/%2e%2e/b", "/a%2eb", "/a%2Eb"),
        *("/a%2fb", "/a%2Fb", "/%2f", "/a%5cb", "/a%5Cb", "/a\\b", "/\\", "/..\\b"),
        *("/a%00", "/%00", "/a%0a", "/a%0D%0Ab", "/a%1fb", "/a%7F", "/a%09"),
        *("//", "//a", "/a//b", "/a//", "///", "//evil.example/", "/a//?q"),
        *("/%252e%252e/", "/a%252fb", "/a%255c", "/%25%32%65", "/a%2541", "/a%25ab", "/%252%65"),
        *("/%c0%ae%c0%ae/", "/a%C0%AFb", "/a%c1%9cb"),
        *("/%", "/%a", "/%zz", "/%g0", "/%u002e", "/a%", "/a%?x", "/%%32%65"),
        *("/#", "/a#b", "/a?b#c", "/a?#", "/a b", "/a\tb", "/a\nb", "/a\r\nb", "/a\x00b"),
        *("/\x7f", "/caf\xe9", "/\u2026", "/\udcff", "/\uff0f", "/a?b c", "/a?\x00", "/a?\xe9"),
        *("", "*", "?", "#", "a", "orders", "h:80"),
        *("http://", "http:///a", "http://u@h/", "http://u:p@h/a", "https://@h/", "http://h@/"),
        *("ftp://h/", "ws://h/a", "wss://h/", "file:///a", "httpx://h/", "http//h/", "://h/a"),
        *("http://h:x/", "http://h:80:80/", "http://[::1/", "http://::1]/", "http://a b/"),
        *("http://h/..", "http://h//a", "http://h/a/%2e%2e/b", "http://h/a#b", "http://h#b"),
        *("http://h\\@a/", "http://h/\\", "http://caf\xe9/", "http://h?a#b", "http://h/a b"),
        *("http:/a", "?/a", " /a", "\t/a", "*/", "\\a", ".", ".."),
    ],
)
def test_refused_targets(raw: str) -> None:
    """What has no form of a target, or could be read as another path, is 400 and closes."""
    with pytest.raises(BadRequest) as caught:
        parse_target("GET", raw)
    assert caught.value.close
    assert caught.value.description in FIXED_TEXTS


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "connect", "Trace"])
@pytest.mark.parametrize("raw", ["/", "*", "h:443", "//"])
def test_refused_methods(method: str, raw: str) -> None:
    """CONNECT and TRACE are 405, whatever their target."""
    with pytest.raises(MethodNotAllowed) as caught:
        parse_target(method, raw)
    assert caught.value.headers == (("Allow", ""),)


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "G\x00T", "GÉT", "GET/", "(GET)"])
def test_malformed_methods(method: str) -> None:
    """A method is a token (RFC 9110 §9.1)."""
    with pytest.raises(BadRequest):
        parse_target(method, "/")


paths = st.lists(
    st.sampled_from(
        ["/", ".", ";", "\\", "%2e", "%2F", "%25", "%32", "%65", "%5c", "%", "#", "a", "2e"]
    )
    | st.text(max_size=2),
    max_size=8,
).map(lambda parts: "/" + "".join(parts))


@given(paths)
def test_no_decoding_makes_another_path(raw: str) -> None:
    """However often a backend decodes a path that passed, it finds no dots and no more slashes."""
    try:
        target = parse_target("GET", raw.replace("?", ""))
    except GatewayError:
        return
    decoded = target.path
    for _ in range(4):
        decoded = unquote(decoded, errors="replace")
        plain = [segment.partition(";")[0] for segment in decoded.split("/")]
        assert not {".", ".."} & set(plain)
        assert "" not in plain[1:-1]
        assert decoded.count("/") == target.path.count("/")
        assert "\\" not in decoded
        assert "\0" not in decoded


def make(*routes: tuple[str, str] | str) -> Routes:
    """Return routes that are called as their path, or as path and methods."""
    pairs = [route if isinstance(route, tuple) else (route, "") for route in routes]
    return Routes(
        [
            Route(f"{path} {methods}".strip(), path, "http://b", methods=frozenset(methods.split()))
            for path, methods in pairs
        ]
    )


NESTED = make("/", "/orders", "/orders/archive", "/pay.ments")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("/", "/"),
        ("/x", "/"),
        ("/x/y/z/", "/"),
        ("/orders", "/orders"),
        ("/orders/", "/orders"),
        ("/orders/1", "/orders"),
        ("/orders/archive", "/orders/archive"),
        ("/orders/archive/1/2/3", "/orders/archive"),
        ("/orders/archived", "/orders"),
        ("/ordersX", "/"),
        ("/orders.json", "/"),
        ("/Orders", "/"),
        ("/x/orders", "/"),
        ("/payXments", "/"),
        ("/%6frders/1", "/orders"),
        ("/orders/%61rchive/2", "/orders/archive"),
        ("/orders%20", "/"),
        ("/orders%3Fx", "/"),
        ("/orders/1;v=2", "/orders"),
        ("/orders/archive/1;v=2/3;w", "/orders/archive"),
        ("/x;y/z", "/"),
    ],
)
def test_the_longest_prefix_governs(raw: str, name: str) -> None:
    """The longest prefix at a segment boundary governs, however the client encoded it."""
    assert name == NESTED.match("GET", parse_target("GET", raw).judged).name


@pytest.mark.parametrize(
    "raw",
    [
        "/orders;x",
        "/orders;/1",
        "/orders;v=1/1",
        "/orders%3bx/1",
        "/orders/archive;x/1",
        "/orders;x/archive",
    ],
)
def test_path_parameters_dodge_no_route(raw: str) -> None:
    """Where leaving path parameters out would change the route, the request is refused."""
    with pytest.raises(BadRequest):
        NESTED.match("GET", parse_target("GET", raw).judged)


@pytest.mark.parametrize("path", ["/", "/b", "/ab", "/a.", "/A", "/a b"])
def test_no_route(path: str) -> None:
    """A path under no route is 404."""
    with pytest.raises(NoRoute):
        make("/a", "/a/b/c").match("GET", path)


@pytest.mark.parametrize("path", ["/", "/a", "/a;b"])
def test_no_routes_at_all(path: str) -> None:
    """Without any route everything is 404."""
    with pytest.raises(NoRoute):
        Routes([]).match("GET", path)


METHODS = make(("/a", "GET"), ("/a", "POST PUT"), ("/a/b", "DELETE"), "/c")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/a", "/a GET"),
        ("HEAD", "/a", "/a GET"),
        ("POST", "/a", "/a POST PUT"),
        ("PUT", "/a/x", "/a POST PUT"),
        ("DELETE", "/a/b/c", "/a/b DELETE"),
        ("PATCH", "/c", "/c"),
        ("PURGE", "/c", "/c"),
        ("DELETE", "/a", {"GET", "HEAD", "POST", "PUT"}),
        ("OPTIONS", "/a", {"GET", "HEAD", "POST", "PUT"}),
        ("get", "/a", {"GET", "HEAD", "POST", "PUT"}),
        ("GET", "/a/b", {"DELETE"}),
        ("HEAD", "/a/b", {"DELETE"}),
    ],
)
def test_methods(method: str, path: str, expected: str | set[str]) -> None:
    """A route takes its methods, HEAD with GET, or all; 405 names those that the path takes."""
    if isinstance(expected, str):
        assert expected == METHODS.match(method, path).name
        return
    with pytest.raises(MethodNotAllowed) as caught:
        METHODS.match(method, path)
    ((name, allowed),) = caught.value.headers
    assert ("Allow", expected) == (name, set(allowed.split(", ")))


@pytest.mark.parametrize("turned", [False, True])
def test_a_method_of_its_own_beside_a_route_of_the_same_path(*, turned: bool) -> None:
    """A preflight's route goes before the one that takes all methods, in whatever order."""
    both = [
        Route("orders", "/orders", "http://a"),
        Route("preflight", "/orders", "http://a", methods=frozenset({"OPTIONS"}), public=True),
    ]
    routes = Routes(both[::-1] if turned else both)
    for method, name in (("OPTIONS", "preflight"), ("GET", "orders"), ("DELETE", "orders")):
        assert routes.match(method, "/orders/1").name == name
    with pytest.raises(MethodNotImplemented):
        routes.match("FOO", "/orders")


def test_a_deep_path_costs_no_more_than_its_routes() -> None:
    """A path of thousands of segments is looked at no deeper than the deepest route."""

    class Counted(dict[str, list[Route]]):
        looked_up = 0

        def get(self, *arguments: object) -> list[Route] | None:  # type: ignore[override]
            self.looked_up += 1
            return super().get(*arguments)  # type: ignore[call-overload, no-any-return]

    routes = make("/", "/a/b")
    routes._by_path = counted = Counted(routes._by_path)
    assert routes.match("GET", "/a" * 8_000).name == "/"
    assert counted.looked_up <= 3


@given(st.lists(st.sampled_from("abc"), max_size=6), st.sets(st.sampled_from(["/", "/a", "/a/b"])))
def test_matching_is_by_segments(segments: list[str], prefixes: set[str]) -> None:
    """The route found is the longest of those whose segments begin the path's."""
    path = "/" + "/".join(segments)
    fitting = [p for p in prefixes if p == "/" or f"{path}/".startswith(f"{p}/")]
    try:
        found = make(*prefixes).match("GET", path).path
    except NoRoute:
        found = ""
    assert max(fitting, key=len, default="") == found


@pytest.mark.parametrize(
    ("route_path", "strip", "upstream", "raw", "url"),
    [
        ("/a", False, "http://b", "/a/1", "http://b/a/1"),
        ("/a", False, "http://b/base", "/a/1", "http://b/base/a/1"),
        ("/a", False, "http://b", "/a?", "http://b/a?"),
        ("/a", False, "http://b", "/a?x=%2e%2E&y", "http://b/a?x=%2e%2E&y"),
        ("/a", False, "http://b", "/%61/%7Eb", "http://b/%61/%7Eb"),
        ("/a", True, "http://b", "/a", "http://b/"),
        ("/a", True, "http://b", "/a/", "http://b/"),
        ("/a", True, "http://b", "/a?x", "http://b/?x"),
        ("/a", True, "http://b", "/a/1/2/", "http://b/1/2/"),
        ("/a", True, "http://b/base", "/a/1", "http://b/base/1"),
        ("/a", True, "http://b", "/%61/%7Eb", "http://b/%7Eb"),
        ("/a/b", True, "http://b", "/a/b/c?", "http://b/c?"),
        ("/a/b", True, "http://b", "/%61/%62", "http://b/"),
        ("/", True, "http://b", "/a/1", "http://b/a/1"),
        ("/", True, "http://b/base", "/", "http://b/base/"),
    ],
)
def test_upstream_url(route_path: str, strip: bool, upstream: str, raw: str, url: str) -> None:
    """Path and query arrive as they came, less the prefix where it is to be stripped."""
    route = Route("r", route_path, upstream, strip_prefix=strip)
    assert url == route.url(parse_target("GET", raw))


def test_from_settings() -> None:
    """Settings become routes: named by their path, without a trailing slash, with a max age."""
    first, second = Routes.from_settings(
        [
            RouteSettings(path="/orders/", upstream="http://b/x/", scopes=("read",), max_age="5s"),
            RouteSettings(
                path="/", upstream="http://c", name="rest", public=True, methods=("GET",)
            ),
        ]
    ).all
    assert first == Route(
        "/orders/", "/orders", "http://b/x", scopes=frozenset({"read"}), max_age_seconds=5.0
    )
    assert second == Route("rest", "/", "http://c", methods=frozenset({"GET"}), public=True)
    assert second.max_age_seconds == float("inf")


def test_methods_that_nobody_knows() -> None:
    """They go where a route names them, and nowhere else: 501, or 405 where others are named."""
    routes = Routes(
        [
            Route("any", "/any", "http://a"),
            Route("list", "/list", "http://a", methods=frozenset({"LIST", "GET"})),
            Route("get", "/get", "http://a", methods=frozenset({"GET"})),
        ]
    )
    assert routes.match("LIST", "/list").name == "list"
    assert routes.match("PROPFIND", "/any").name == "any"
    assert routes.match("VERSION-CONTROL", "/any").name == "any"
    routes.recognise("LIST")
    routes.recognise("UPDATE")
    with pytest.raises(MethodNotAllowed) as caught:
        routes.match("LIST", "/get")
    assert caught.value.headers == (("Allow", "GET, HEAD"),)
    for method in ("FOO", "get", "List"):
        with pytest.raises(MethodNotImplemented):
            routes.recognise(method)
    for method, path in (("LIST", "/any"), ("FOO", "/any")):
        with pytest.raises(MethodNotImplemented):
            routes.match(method, path)


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/a/x", "PUT", "a"),
        ("/a/x", "HEAD", "a"),
        ("/a/x", "POST", None),
        ("/plain", "GET", None),
        ("/own", "PUT", None),
        ("/both", "PUT", "options"),
    ],
)
def test_who_answers_a_preflight(path: str, method: str, expected: str | None) -> None:
    """The route that the request itself will have, unless one names OPTIONS."""
    cors = Cors(frozenset({b"https://app.example"}))
    put, options = frozenset({"GET", "PUT"}), frozenset({"OPTIONS"})
    routes = Routes(
        [
            Route("a", "/a", "http://a", methods=put, cors=cors),
            Route("plain", "/plain", "http://a"),
            Route("own", "/own", "http://a", methods=put, cors=cors),
            Route("forwarded", "/own", "http://a", methods=options),
            Route("both", "/both", "http://a", methods=put, cors=cors),
            Route("options", "/both", "http://a", methods=options, cors=cors),
        ]
    )
    found = routes.match_preflight(path, method)
    assert (found and found.name) == expected
    with pytest.raises(NoRoute):
        routes.match_preflight("/none", method)
