"""Where requests end, as transcripts: what the parser is given, and what lies behind it."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError, HeadersTooLarge, NotImplementedHere
from gateway.request_framing import MOST_CHUNK_SURPLUS, RequestFramer

MOST = 4096
HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
FIVE = POST + b"Content-Length: 5\r\n\r\n"


def take(framer: RequestFramer, *pieces: bytes) -> None:
    for piece in pieces:
        framer.take(piece, MOST)


def requests(*pieces: bytes, framer: RequestFramer | None = None) -> list[bytes]:
    """Return what is given to a parser of each request that is whole, then what is left."""
    framer = framer or RequestFramer()
    given = [b""]
    for piece in pieces:
        behind = piece
        while behind:
            taken, behind = framer.take(behind, MOST)
            given[-1] += taken
            if framer.whole:
                framer.next()
                given.append(b"")
    return given


@pytest.mark.parametrize(
    ("sent", "given"),
    [
        (GET, [GET]),
        (GET + GET, [GET, GET]),
        (FIVE + b"hello", [FIVE + b"hello"]),
        (FIVE + b"hello" + GET, [FIVE + b"hello", GET]),
        (GET + FIVE + b"GET /", [GET, FIVE + b"GET /"]),
        (CHUNKED + b"0\r\n\r\n" + GET, [CHUNKED + b"0\r\n\r\n", GET]),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", [CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"]),
        (CHUNKED + b"000A;a=b;c\r\n0\r\n\r\n0\r\n\r\n\r\n000;x\r\n\r\n" + GET, None),
        (b"\r\n" + GET + b"\r\n\r\n" + GET, [GET, GET]),
        (b"GET / HTTP/1.0\r\n\r\n" + GET, [b"GET / HTTP/1.0\r\n\r\n", GET]),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", None),
    ],
)
def test_requests_end_where_their_framing_says(sent: bytes, given: list[bytes] | None) -> None:
    """In one piece, byte by byte, and cut anywhere: each is given with all of its bytes."""
    framer = RequestFramer()
    if sent.startswith(b"CONNECT"):
        # Whatever is behind it, nobody reads it.
        assert framer.take(sent, MOST) == (sent[:-5], b"hello")
        return
    whole = [*(given or [sent[: -len(GET)], GET]), b""]
    assert requests(sent) == whole
    assert requests(*(sent[at : at + 1] for at in range(len(sent)))) == whole
    for cut in range(len(sent)):
        assert requests(sent[:cut], sent[cut:]) == whole


@pytest.mark.parametrize("cut", range(70))
def test_trailers_are_left_out(cut: int) -> None:
    """Wherever the pieces are cut, the parser sees an empty section, and we know of one."""
    framer = RequestFramer()
    sent = CHUNKED + b"2\r\nab\r\n0\r\nX-A: 1\r\nX-B:\r\n\r\n" + GET
    before = requests(sent[: len(CHUNKED) + cut % 40], framer=framer)
    after = requests(sent[len(CHUNKED) + cut % 40 :], framer=framer)
    given = [*before[:-1], before[-1] + after[0], *after[1:]]
    assert given == [CHUNKED + b"2\r\nab\r\n0\r\n\r\n", GET, b""]
    framer = RequestFramer()
    framer.take(sent[: -len(GET)], MOST)
    assert (framer.whole, framer.had_trailers) == (True, True)
    framer.next()
    assert (framer.idle, framer.had_trailers) == (True, False)


HEADS = {
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "two spaces before the version": b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space before the method": b" " + GET,
    "a line feed before the method": b"\n" + GET,
    "a carriage return before the method": b"\r" + GET,
    "a tab": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space at the end": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "no version": b"GET /\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "a control byte": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "RTSP": b"GET / RTSP/1.0\r\n" + HOST + b"\r\n",
    "ICE": b"SOURCE / ICE/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\n" + HOST + b"\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "lower case": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\r\n\r\n",
    "a bare line feed in a value": GET[:-2] + b"X: a\nY: b\r\n\r\n",
    "a bare carriage return in a value": GET[:-2] + b"X: a\rb\r\n\r\n",
    "NUL": GET[:-2] + b"X: \0\r\n\r\n",
    "a fold": GET[:-2] + b"X: a\r\n b\r\n\r\n",
    "a fold first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a space before a colon": GET[:-2] + b"X : a\r\n\r\n",
    "no colon": GET[:-2] + b"X\r\n\r\n",
    "no name": GET[:-2] + b": a\r\n\r\n",
    "a name that is no token": GET[:-2] + b"X(a): a\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\ncontent-length: 5\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\n",
    "a signed length": POST + b"Content-Length: +5\r\n\r\n",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "a huge length": POST + b"Content-Length: 1000000000000000000\r\n\r\n",
    "length and chunks": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "chunks not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "gzip alone": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunks on HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("sent", HEADS.values(), ids=HEADS)
def test_header_sections_that_leave_doubt(sent: bytes) -> None:
    """Refused before the parser has the last byte of them, which may forgive more."""
    for pieces in ([sent], [sent[:-1], sent[-1:]]):
        framer = RequestFramer()
        with pytest.raises(BadRequest) as caught:
            take(framer, *pieces)
        assert caught.value.close
        assert framer.heads == 0


def test_codings_that_are_not_undone_here() -> None:
    """The end of such content is known, so the answer can say what is wrong: 501."""
    with pytest.raises(NotImplementedHere):
        RequestFramer().take(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", MOST)


CHUNKS = {
    "no size": b"\r\n",
    "no hexadecimal": b"Z\r\n",
    "a sign": b"+5\r\n",
    "0x": b"0x5\r\n",
    "a space before": b" 5\r\n",
    "a space behind": b"5 \r\n",
    "a space before an extension": b"5 ;a\r\n",
    "seventeen digits": b"00000000000000005\r\n",
    "a bare line feed": b"5\nhello\r\n",
    "a bare line feed in an extension": b"5;a\nb\r\n",
    "a bare carriage return in an extension": b"5;a\rb\r\n",
    "NUL in an extension": b"5;a\0\r\n",
    "no line end behind it": b"5\r\nhello0\r\n",
    "a bare line feed behind it": b"5\r\nhello\n0\r\n",
    "a bare carriage return behind it": b"5\r\nhello\r0\r\n",
    "more than it says": b"3\r\nhello\r\n",
    "less than it says": b"7\r\nhello\r\n0\r\n\r\n",
    "garbage for trailers": b"0\r\nX\r\n\r\n",
    "a request for trailers": b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "a fold in trailers": b"0\r\nX: a\r\n b\r\n\r\n",
    "a bare line feed in trailers": b"0\r\nX: a\n\r\n",
    "a bare line feed behind trailers": b"0\r\nX: a\r\n\n",
    "a length in trailers": b"0\r\nContent-Length: 5\r\n\r\n",
    "a coding in trailers": b"0\r\ntransfer-encoding : chunked\r\n\r\n",
    "another coding in trailers": b"0\r\ntransfer-encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("sent", CHUNKS.values(), ids=CHUNKS)
def test_chunks_that_leave_doubt(sent: bytes) -> None:
    """However they are cut."""
    for cut in range(len(sent) + 1):
        framer = RequestFramer()
        with pytest.raises(BadRequest):
            take(framer, CHUNKED, sent[:cut], sent[cut:])


ENDLESS = {
    "extensions": b"1;" + b"x" * 30 + b"\r\na\r\n",
    "one extension": b"1;" + b"x" * (MOST_CHUNK_SURPLUS + 10),
    "leading zeros": b"0000000000000001\r\na\r\n",
    "a leading zero": b"01\r\na\r\n",
    "short extensions": b"1;\r\na\r\n",
}


@pytest.mark.parametrize("sent", ENDLESS.values(), ids=ENDLESS)
def test_more_around_content_than_in_it_ends(sent: bytes) -> None:
    """Chunk lines may have so much that says nothing, and an eighth of the content more."""
    framer = RequestFramer()
    count = 20 * MOST_CHUNK_SURPLUS // len(sent)
    with pytest.raises(BadRequest):
        take(framer, CHUNKED, *[sent] * count)


@pytest.mark.parametrize(
    "sent",
    [
        b"1\r\na\r\n",
        b"00001000\r\n" + b"x" * 4096 + b"\r\n",
        b"10000;chunk-signature=" + b"f" * 64 + b"\r\n" + b"x" * 65536 + b"\r\n",
    ],
    ids=["single bytes", "sizes of one width", "signatures"],
)
def test_what_clients_do_send_never_ends(sent: bytes) -> None:
    """Keystrokes, buffers of a library, signed uploads: as many chunks as there is content."""
    framer = RequestFramer()
    framer.take(CHUNKED, MOST)
    for _ in range(20_000 if len(sent) < 100 else 2000):
        assert framer.take(sent, MOST) == (sent, b"")
    framer.take(b"0\r\n\r\n", MOST)
    assert framer.whole


@pytest.mark.parametrize("size", [1, 9, 15, 16, 300])
def test_very_many_chunks_are_taken_some_at_a_time(size: int) -> None:
    """Others have their turn between; nothing is lost, and nothing of the next request is taken."""
    content = b"%x\r\n%b\r\n" % (size, b"x" * size) * 5000 + b"0\r\n\r\n"
    framer = RequestFramer()
    taken, behind = framer.take(CHUNKED + content + GET, MOST)
    pieces = [taken]
    while not framer.whole:
        assert len(behind) > len(GET)
        before = len(behind)
        taken, behind = framer.take(behind, MOST)
        assert 0 < before - len(behind) < 1002 * (size + 7)
        pieces.append(taken)
    assert behind == GET
    assert len(pieces) >= 5
    shown = b"".join(pieces).removeprefix(CHUNKED)
    assert unchunked(shown) == b"x" * size * 5000
    assert shown.count(b"\r\n") < 100  # a few chunks for the parser


def unchunked(data: bytes) -> bytes:
    """Return the content of chunks."""
    content = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        content += data[:size]
        assert data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
        if not size:
            assert data == b""
            return content


@pytest.mark.parametrize("sent", [GET[:-2] + b"X: " + b"x" * 6000, b"GET /" + b"x" * 6000])
def test_header_sections_are_bounded(sent: bytes) -> None:
    """Also one that never ends."""
    framer = RequestFramer()
    with pytest.raises(HeadersTooLarge):
        take(framer, *(sent[at : at + 1] for at in range(len(sent))))


def test_trailers_are_bounded() -> None:
    """By as many bytes as a header section, all of them together."""
    framer = RequestFramer()
    with pytest.raises(BadRequest):
        take(framer, CHUNKED, b"0\r\n", *[b"X: 1\r\n"] * MOST)


def test_empty_lines_between_requests_are_no_request() -> None:
    """However many: some clients send one behind content (RFC 9112 §2.2)."""
    framer = RequestFramer()
    for piece in (b"\r\n", b"\r", b"\n", b"\r\n\r\n"):
        assert framer.take(piece, MOST) == (b"", b"")
        assert (framer.idle, framer.in_head) == (True, False)
    assert framer.take(b"G", MOST) == (b"G", b"")
    assert (framer.idle, framer.in_head) == (False, True)


@pytest.mark.parametrize(
    ("sent", "to_head"),
    [(b"HEAD", False), (b"HEAD ", True), (b"HEAD / X\r\n\r\n", True), (b"HEADER / X", False)],
)
def test_what_is_refused_was_to_head(sent: bytes, to_head: bool) -> None:
    """Then the refusal has no content either."""
    framer = RequestFramer()
    with suppress(BadRequest):
        framer.take(sent, MOST)
    assert framer.to_head is to_head


_SOME = st.sampled_from(
    [GET, FIVE + b"hello", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", b"\r\n", b"\n", b"GET / RTSP/1.0"]
)


@given(st.lists(_SOME, max_size=5), st.lists(st.integers(0, 300), max_size=5))
def test_how_the_bytes_are_cut_is_all_the_same(parts: list[bytes], cuts: list[int]) -> None:
    """One piece or many: the same requests end at the same bytes, or the same is refused."""

    def outcome(*pieces: bytes) -> object:
        try:
            return requests(*pieces)
        except GatewayError as error:
            return type(error), error.description

    sent = b"".join(parts)
    at = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    assert outcome(sent) == outcome(*(sent[start:end] for start, end in pairwise(at)))
