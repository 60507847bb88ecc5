"""URLs taken apart, requests written."""

import pytest

from gateway.loadtest.origins import USER_AGENT, Endpoint, Origin


@pytest.mark.parametrize(
    ("url", "origin", "authority", "path"),
    [
        ("http://127.0.0.1:8080/a", Origin(False, "127.0.0.1", 8080), "127.0.0.1:8080", "/a"),
        ("https://Gate.example", Origin(True, "gate.example", 443), "Gate.example", "/"),
        ("http://[::1]:81/a?b=c", Origin(False, "::1", 81), "[::1]:81", "/a?b=c"),
        ("http://h?x", Origin(False, "h", 80), "h", "/?x"),
    ],
)
def test_endpoints(url: str, origin: Origin, authority: str, path: str) -> None:
    """An endpoint has where to connect to, what to call it, and what to ask for."""
    endpoint = Endpoint.of(url)
    assert (origin, authority, path) == (endpoint.origin, endpoint.authority, endpoint.path)


def test_a_request() -> None:
    """A request without a body has Host, User-Agent and Accept, and what is asked for."""
    request = Endpoint.of("http://h:1/a").compose("GET", [("X-Key", "k")])
    assert (
        request
        == (
            f"GET /a HTTP/1.1\r\nHost: h:1\r\nX-Key: k\r\nUser-Agent: {USER_AGENT}\r\n"
            "Accept: */*\r\n\r\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", b"a=b", b"Content-Length: 3\r\n"), ("DELETE", None, b"Content-Length: 0\r\n")],
)
def test_lengths(method: str, body: bytes | None, length: bytes) -> None:
    """A method that may have a body says how long it is (RFC 9110 §8.6)."""
    request = Endpoint.of("http://h/").compose(method, [], body)
    assert (length in request, (body or b"")) == (True, request.partition(b"\r\n\r\n")[2])


def test_own_fields_win() -> None:
    """Host, User-Agent and Accept can be chosen."""
    fields = [("host", "other"), ("USER-AGENT", "me"), ("Accept", "text/html")]
    request = Endpoint.of("http://h/").compose("GET", fields)
    assert request == (
        b"GET / HTTP/1.1\r\nhost: other\r\nUSER-AGENT: me\r\nAccept: text/html\r\n\r\n"
    )
