"""Where an upstream's answer ends, and how that is told to a client."""

import pytest

from gateway.errors import UpstreamInvalid
from gateway.framing import Framing, announced_length, answer_framing

Pairs = list[tuple[bytes, bytes]]

LENGTH = (b"Content-Length", b"5")
CHUNKED = (b"Transfer-Encoding", b"chunked")
SAYS_LENGTH = Framing(((b"Content-Length", b"5"),))
SAYS_CHUNKED = Framing((CHUNKED,), chunked=True)


@pytest.mark.parametrize(
    ("version", "headers", "length"),
    [
        ((1, 1), [], None),
        ((1, 0), [], None),
        ((1, 1), [LENGTH], 5),
        ((1, 0), [(b"content-LENGTH", b"0")], 0),
        ((1, 1), [(b"X-Content-Length", b"5")], None),
        ((1, 1), [CHUNKED], None),
        ((1, 1), [(b"transfer-encoding", b"Chunked")], None),
        # Which of them counts RFC 9112 §6.3 says.
        ((1, 1), [LENGTH, CHUNKED], None),
        ((1, 1), [CHUNKED, LENGTH], None),
    ],
)
def test_the_announced_length(version: tuple[int, int], headers: Pairs, length: int | None) -> None:
    """A length is the upstream's own, unless the answer is chunked."""
    assert announced_length(200, version, headers) == length


@pytest.mark.parametrize(
    ("status", "version", "headers"),
    [
        (101, (1, 1), []),
        (199, (1, 1), [LENGTH]),
        (200, None, []),
        (200, (0, 9), [LENGTH]),
        (200, (1, 2), []),
        (200, (2, 0), []),
        (200, (1, 1), [(b"Transfer-Encoding", b"gzip")]),
        (200, (1, 1), [(b"Transfer-Encoding", b"gzip, chunked")]),
        (200, (1, 1), [(b"Transfer-Encoding", b"identity"), LENGTH]),
        (200, (1, 1), [(b"Transfer-Encoding", b"")]),
        (200, (1, 1), [CHUNKED, CHUNKED]),
    ],
)
def test_what_is_not_passed_on(
    status: int, version: tuple[int, int] | None, headers: Pairs
) -> None:
    """An answer that wouldn't mean the same to the client (RFC 9112 §6.1)."""
    with pytest.raises(UpstreamInvalid):
        announced_length(status, version, headers)


@pytest.mark.parametrize(
    ("status", "length", "bodiless", "http_1_1", "framing"),
    [
        (200, 5, False, True, SAYS_LENGTH),
        (200, 5, False, False, SAYS_LENGTH),
        (200, 5, True, True, SAYS_LENGTH),  # to HEAD
        (304, 5, True, True, SAYS_LENGTH),
        (204, 5, True, True, Framing()),
        (204, None, True, True, Framing()),
        (304, None, True, True, Framing()),
        (200, None, True, False, Framing()),
        (200, None, False, True, SAYS_CHUNKED),
        (200, None, False, False, Framing(until_close=True)),
    ],
)
def test_how_a_client_is_told(
    status: int, length: int | None, bodiless: bool, http_1_1: bool, framing: Framing
) -> None:
    """By a length where there is one and it may be said, else as its version of HTTP allows."""
    found = answer_framing(status, length, bodiless=bodiless, http_1_1=http_1_1)
    assert found == framing
