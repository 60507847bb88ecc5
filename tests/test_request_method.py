"""Methods that the parser doesn't know: shown as another, and known by their own name."""

import asyncio

import pytest
from aiohttp import http_parser
from aiohttp.http_exceptions import HttpProcessingError

from gateway.request_method import MOST_BYTES, PARSED, StandIn
from gateway.routes import REGISTERED_METHODS

REST = b" /a HTTP/1.1\r\nHost: a\r\n\r\n"


def shown(*pieces: bytes) -> tuple[bytes, str | None]:
    """Return what the parser is shown, and the method if that isn't it."""
    stand_in = StandIn()
    data = b"".join(
        stand_in.take(piece, in_head=number < len(pieces)) for number, piece in enumerate(pieces, 1)
    )
    return data, stand_in.method


async def parsed(method: bytes) -> bool:
    """Whether aiohttp's parser takes a request with this method."""
    parser = http_parser.HttpRequestParser(_NoFlowControl(), asyncio.get_running_loop(), 2**16)  # type: ignore[arg-type]
    target = b" a:1" if method == b"CONNECT" else b" /"
    try:
        parser.feed_data(method + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    except HttpProcessingError:
        return False
    return True


class _NoFlowControl:
    _reading_paused = False

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


async def test_what_the_parser_knows() -> None:
    """The list is the parser's own: one that it doesn't know would be no HTTP to it."""
    assert [method for method in sorted(PARSED) if not await parsed(method)] == []
    others = {method.encode() for method in REGISTERED_METHODS} - PARSED
    others |= {b"FOO", b"get", b"DESCRIBE", b"PLAY", b"SETUP", b"FLUSH", b"PRI", b"LIST"}
    assert [method for method in sorted(others) if await parsed(method)] == []


@pytest.mark.parametrize("method", ["FOO", "LIST", "get", "GETS", "GE", "X_1!", "x" * MOST_BYTES])
def test_a_method_that_the_parser_does_not_know(method: str) -> None:
    """In one piece, byte by byte, and cut anywhere."""
    sent = method.encode() + REST
    expected = b"POST" + REST, method
    assert shown(sent) == expected
    assert shown(*(sent[at : at + 1] for at in range(len(sent)))) == expected
    for cut in range(len(sent)):
        assert shown(sent[:cut], sent[cut:]) == expected


@pytest.mark.parametrize("method", sorted(PARSED))
def test_a_method_that_it_knows(method: bytes) -> None:
    """All is shown as it is."""
    sent = method + REST
    assert shown(sent) == (sent, None)
    for cut in range(len(sent)):
        assert shown(sent[:cut], sent[cut:]) == (sent, None)


@pytest.mark.parametrize(
    "sent",
    [b"G(T / x", b" / x", b"\x16\x03\x01\x02 ", b"FOO\t/ x", b"x" * 65 + REST, b"FOO", b"\xe9 "],
)
def test_what_has_no_method(sent: bytes) -> None:
    """Nor is one made of it: the parser refuses it."""
    assert shown(sent) == (sent, None)


def test_little_is_held_back() -> None:
    """What has no space in so many bytes has no method."""
    stand_in = StandIn()
    assert stand_in.take(b"x" * MOST_BYTES, in_head=True) == b""
    assert stand_in.take(b"y", in_head=True) == b"x" * MOST_BYTES + b"y"


def test_one_request_after_the_other() -> None:
    """Each has its own, and content isn't looked at."""
    stand_in = StandIn()
    assert stand_in.take(b"FOO" + REST, in_head=False) == b"POST" + REST
    assert stand_in.take(b"BAR / ", in_head=False) == b"BAR / "
    assert stand_in.method == "FOO"
    stand_in.next()
    assert stand_in.take(b"GET" + REST, in_head=False) == b"GET" + REST
    assert stand_in.method is None


@pytest.mark.parametrize("sent", [b"\x16\x03\x01", b"G(T", b"\xe9"])
def test_nothing_is_held_back_that_is_no_method(sent: bytes) -> None:
    """The parser refuses it at once, and not when more comes."""
    assert StandIn().take(sent, in_head=True) == sent
