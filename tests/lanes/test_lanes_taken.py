"""The fast lane takes what it is for, so that no comparison passes because it was never used."""

from collections.abc import Iterator

import pytest

from lanes.asking import WORLDS
from lanes.pair import Lane, Pairs, Setting, pairs_of_gateways


def _ask(line: str, *fields: str, token: str | None = "good", content: str = "") -> bytes:
    given = ["Host: a", *fields]
    if token is not None:
        given.append(f"Authorization: Bearer {token}")
    if content and not any(field.startswith("Transfer-Encoding") for field in fields):
        given.append(f"Content-Length: {len(content)}")
    return "\r\n".join([f"{line} HTTP/1.1", *given, "", content]).encode()


HOT = Setting(["good", "admin", "narrow", "unknown", "expired"])
COLD = Setting()

TAKEN: dict[str, tuple[bytes, Setting, int]] = {
    "a hot token": (_ask("GET /orders"), HOT, 200),
    "a hot token, an upstream connected": (_ask("GET /orders"), Setting(["good"], True), 200),
    "a cold token": (_ask("GET /orders"), COLD, 200),
    "max_age 0s": (_ask("GET /fresh"), HOT, 200),
    "HEAD": (_ask("HEAD /orders"), HOT, 200),
    "DELETE": (_ask("DELETE /orders"), HOT, 200),
    "POST": (_ask("POST /orders", content="hello"), HOT, 200),
    "PUT": (_ask("PUT /orders", content="hello"), HOT, 200),
    "POST without content": (_ask("POST /orders", "Content-Length: 0"), HOT, 200),
    "a query": (_ask("GET /orders?a=1&b=%20"), HOT, 200),
    "an encoded path": (_ask("GET /%6frders/1"), HOT, 200),
    "identity headers": (_ask("GET /orders", "X-Token-Subject: root"), HOT, 200),
    "forwarding headers": (_ask("GET /orders", "X-Forwarded-For: 9.9.9.9"), HOT, 200),
    "a request id": (_ask("GET /orders", "X-Request-ID: mine"), HOT, 200),
    "cookies": (_ask("GET /orders", "Cookie: a=1", "Cookie: b=2"), HOT, 200),
    "Connection: keep-alive": (_ask("GET /orders", "Connection: keep-alive"), HOT, 200),
    "an upgrade to HTTP/2, as Java's client asks for": (
        *(_ask("GET /orders", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), HOT, 200),
    ),
    "an upgrade that isn't nominated": (_ask("GET /orders", "Upgrade: websocket"), HOT, 200),
    "a prefix to strip": (_ask("GET /strip/it/x"), HOT, 200),
    "a public path": (_ask("GET /public", token=None), HOT, 200),
    "scopes": (_ask("GET /admin", token="admin"), HOT, 200),
    "a scope that is missing": (_ask("GET /orders", token="narrow"), HOT, 403),
    "a token known as bad": (_ask("GET /orders", token="unknown"), HOT, 401),
    "a token known as expired": (_ask("GET /orders", token="expired"), HOT, 401),
    "a bad token, cold": (_ask("GET /orders", token="unknown"), COLD, 401),
}
"""Requests for the fast lane, with what is cached and the status of their answers."""

CHUNKED = "Transfer-Encoding: chunked"
LEFT: dict[str, tuple[bytes, ...]] = {
    "content in chunks": (_ask("POST /orders", CHUNKED, content="2\r\nok\r\n0\r\n\r\n"),),
    "an upgrade": (_ask("GET /orders", "Connection: Upgrade", "Upgrade: websocket"),),
    "an expectation": (_ask("POST /orders", "Expect: 100-continue", content="hello"),),
    "absolute form": (_ask("GET http://a/orders"),),
    "no path": (_ask("OPTIONS *"),),
    "CONNECT": (_ask("CONNECT a:80"),),
    "half a header section": (_ask("GET /orders")[:20], _ask("GET /orders")[20:]),
    "content later": (_ask("POST /orders", content="hello")[:-5], b"hello"),
    "half the content": (_ask("POST /orders", content="hello")[:-2], b"lo"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01",),
    "two Hosts": (_ask("GET /orders", "Host: b"),),
    "a fold": (_ask("GET /orders", "X-A: a\r\n b"),),
    "two lengths": (_ask("POST /orders", "Content-Length: 5", content="hello"),),
}
"""Requests in the pieces in which they arrive, that are for the handler lane."""


@pytest.fixture(scope="module")
def pairs() -> Iterator[Pairs]:
    """Return the gateways, which are kept for all tests."""
    with pairs_of_gateways(WORLDS) as pairs:
        yield pairs


@pytest.mark.parametrize("name", TAKEN)
def test_the_fast_lane_takes_what_is_simple(pairs: Pairs, name: str) -> None:
    """One request more is counted as taken by it, where it is on."""
    data, setting, status = TAKEN[name]
    assert _taken(pairs, [data], setting, status) == (1, 0)


@pytest.mark.parametrize("name", LEFT)
def test_the_fast_lane_leaves_what_is_not(pairs: Pairs, name: str) -> None:
    """Whatever isn't one whole simple request goes the other way, and is answered."""
    assert _taken(pairs, LEFT[name], HOT) == (0, 0)


def test_a_request_sent_ahead(pairs: Pairs) -> None:
    """Of two in one segment the first is left, and the second taken when its turn has come."""
    assert _taken(pairs, [_ask("GET /orders") * 2], HOT) == (1, 0)


def test_requests_one_after_the_other(pairs: Pairs) -> None:
    """On one connection each lane takes its own, in whatever order they come."""
    simple, other = _ask("GET /orders"), LEFT["content in chunks"][0]
    assert _taken(pairs, [simple, other, simple, simple, other, simple], HOT, 200) == (4, 0)


def _taken(
    pairs: Pairs, pieces: list[bytes] | tuple[bytes, ...], setting: Setting, status: int = 0
) -> tuple[int, ...]:
    """Return how many of these requests the fast lane took, where it is on and where it is off."""
    with pairs.talking("default", setting) as pair:
        before = [_count(lane) for lane in pair.lanes]
        for piece in pieces:
            pair.send(piece)
        for lane in pair.lanes:
            assert lane.client.stream.startswith(b"HTTP/1.")
            assert not status or lane.client.stream.split(b" ")[1] == b"%d" % status
        return tuple(_count(lane) - count for lane, count in zip(pair.lanes, before, strict=True))


def _count(lane: Lane) -> int:
    count = getattr(lane.gateway._server, "fast_requests", None)
    if count is None:
        pytest.skip("there is no fast lane here")
    return int(count)
