"""Where an upstream's answer ends, and how that is told to a client."""

import pytest

from gateway.errors import UpstreamInvalid
from gateway.framing import Framing, ReceivedContent, answer_framing, received_content

Pairs = list[tuple[bytes, bytes]]

LENGTH = (b"Content-Length", b"5")
CHUNKED = (b"Transfer-Encoding", b"chunked")
SAYS_LENGTH = Framing(((b"Content-Length", b"5"),))
SAYS_CHUNKED = Framing((CHUNKED,), chunked=True)


def received(
    announced: int | None = None,
    length: int | None = None,
    *,
    chunked: bool = False,
    closes: bool = False,
) -> ReceivedContent:
    return ReceivedContent(announced, length, chunked, closes)


UNTIL_CLOSE = received(closes=True)
NOTHING = received(length=0)
OF_5 = received(5, 5)
IN_CHUNKS = received(chunked=True)


@pytest.mark.parametrize(
    ("status", "version", "headers", "expected"),
    [
        (200, (1, 1), [], UNTIL_CLOSE),
        (200, (1, 0), [], UNTIL_CLOSE),
        (200, (1, 1), [LENGTH], OF_5),
        (200, (1, 0), [(b"content-LENGTH", b"0")], received(0, 0)),
        (200, (1, 1), [(b"X-Content-Length", b"5")], UNTIL_CLOSE),
        (200, (1, 1), [CHUNKED], IN_CHUNKS),
        (200, (1, 1), [(b"transfer-encoding", b"Chunked")], IN_CHUNKS),
        # HTTP/1.0 has no chunks (RFC 9112 §6.1).
        (200, (1, 0), [CHUNKED], received(chunked=True, closes=True)),
        # No content, whatever is announced; when some is, it may come (RFC 9112 §6.3).
        (103, (1, 1), [], NOTHING),
        (103, (1, 1), [LENGTH], received(length=0, closes=True)),
        (101, (1, 1), [], NOTHING),
        (204, (1, 1), [], NOTHING),
        (204, (1, 1), [(b"Content-Length", b"0")], NOTHING),
        (204, (1, 1), [LENGTH], received(length=0, closes=True)),
        (204, (1, 1), [CHUNKED], received(length=0, closes=True)),
        # These may announce what they don't have (RFC 9110 §8.6, RFC 9112 §6.1).
        (304, (1, 1), [], NOTHING),
        (304, (1, 1), [LENGTH], received(5, 0)),
        (304, (1, 1), [CHUNKED], NOTHING),
        (205, (1, 1), [(b"Content-Length", b"0")], received(0, 0)),
        (205, (1, 1), [], received(0, 0, closes=True)),
        (205, (1, 1), [LENGTH], received(0, 0, closes=True)),
        (205, (1, 1), [CHUNKED], received(0, 0, closes=True)),
    ],
)
def test_where_the_content_ends(
    status: int, version: tuple[int, int], headers: Pairs, expected: ReceivedContent
) -> None:
    """By its length, by its chunks, with its connection, or before it begins."""
    assert received_content(status, version, headers) == expected


@pytest.mark.parametrize(
    ("headers", "announced"), [([], None), ([LENGTH], 5), ([CHUNKED], None)], ids=str
)
def test_an_answer_to_head(headers: Pairs, announced: int | None) -> None:
    """It has no content, and its connection goes on, with a length or without."""
    assert received_content(200, (1, 1), headers, to_head=True) == received(announced, 0)


@pytest.mark.parametrize("status", [103, 200, 204, 205, 304])
@pytest.mark.parametrize(
    "headers",
    [
        [LENGTH, CHUNKED],
        [CHUNKED, LENGTH],
        [LENGTH, LENGTH],
        [LENGTH, (b"content-length", b"6")],
        [(b"Content-Length", b"5, 5")],
        [(b"Content-Length", b"")],
        [(b"Content-Length", b"+5")],
        [(b"Content-Length", b"-5")],
        [(b"Content-Length", b"0x5")],
        [(b"Content-Length", b"5 5")],
        [(b"Content-Length", b"\xd9\xa5")],  # a digit elsewhere
        [(b"Content-Length", b"9" * 19)],
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Transfer-Encoding", b"chunked, gzip")],
        [(b"Transfer-Encoding", b"chunked, chunked")],
        [(b"Transfer-Encoding", b"identity"), LENGTH],
        [(b"Transfer-Encoding", b"identity")],
        [(b"Transfer-Encoding", b"xchunked")],
        [(b"Transfer-Encoding", b"")],
        [CHUNKED, CHUNKED],
    ],
    ids=str,
)
def test_what_two_could_frame_differently(status: int, headers: Pairs) -> None:
    """It is no answer, also where there is no content to be framed (RFC 9112 §6.1, §6.3)."""
    with pytest.raises(UpstreamInvalid):
        received_content(status, (1, 1), headers)


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
