"""Header sections of whole simple requests: what is simple, what goes on, and what is kept."""

import asyncio
import tracemalloc
from collections.abc import Iterable

import pytest

from gateway.headers import HeaderPolicy
from gateway.proxy.remembered import PUBLIC_SECTIONS_BYTES, SECTIONS_BYTES
from gateway.proxy.whole_request import Section, Sections

PEER = "192.0.2.7"
TOKEN = b"a1b2c3d4"
BEARER = b"Authorization: Bearer " + TOKEN
FORWARDED = (
    b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
    b"Via: 1.1 gateway\r\n"
)


def sections(policy: HeaderPolicy | None = None, *, max_header_bytes: int = 4096) -> Sections:
    return Sections(
        asyncio.get_running_loop(),
        policy=policy or HeaderPolicy(),
        max_header_bytes=max_header_bytes,
        max_fields=128,
        underscores="drop",
    )


def find(
    known: Sections, *fields: bytes, secure: bool = False, public: bool = False
) -> tuple[Section, bytes | None]:
    """Return what a section says that has to be simple, and the value cut out of it."""
    found = find_any(known, *fields, secure=secure, public=public)
    assert found is not None
    return found


def find_any(
    known: Sections,
    *fields: bytes,
    secure: bool = False,
    public: bool = False,
    peer: str | None = PEER,
) -> tuple[Section, bytes | None] | None:
    """Return what is found in a section, kept then as that of a request which was let through."""
    line = b"GET / HTTP/1.1"
    data = b"\r\n".join([line, *fields])
    found = known.find(
        data + b"\r\n\r\nbody", len(line), len(data), peer, secure=secure, public=public
    )
    if found is None:
        return None
    section, value, key = found
    if key is not None:
        known.keep(key, section)
    return section, value


def kept(known: Sections) -> str:
    """Return all that is kept, keys and values, as text."""
    parts = (known._known, known._public)
    return "".join(repr(list(part._items.items())) for part in parts)


@pytest.mark.parametrize(
    "fields",
    [
        [b"Host: a"],
        [b"Host: a", b"Accept: */*", b"X-Odd:"],
        [b"Host: a", b"Content-Length: 5"],
        [b"Host: a", b"Content-Length: 0"],
        [b"Host: a", b"Connection: keep-alive"],
        [b"Host: a", b"Connection: close"],
        [b"Host: a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A"],
        [b"Host: a", b"Connection: Upgrade"],
        [b"Host: a", b"Upgrade: websocket"],
        [b"Host: a", b"Cookie: a=1", b"Cookie: b=2"],
        [b"Host: a", BEARER],
        [b"Host: a", BEARER.lower()],
        [b"Host: a", b"AUTHORIZATION: Bearer t"],
        [b"Host: a", b"Authorization: Basic eDp5"],
        [b"Host: a", b"Authorization: Basic eDp5", b"Authorization: Negotiate x"],
    ],
    ids=lambda fields: b" | ".join(fields).decode(),
)
async def test_what_is_simple(fields: list[bytes]) -> None:
    """Fields that leave no doubt, each on a line of its own."""
    assert find_any(sections(), *fields) is not None


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"Accept: */*"],
        [b"Host: a", b"Host: b"],
        [b"Host: a b"],
        [b"Host: a", b"Transfer-Encoding: chunked"],
        [b"Host: a", b"Transfer-Encoding: gzip, chunked"],
        [b"Host: a", b"Content-Length: 5", b"Content-Length: 5"],
        [b"Host: a", b"Content-Length: 5", b"Content-Length: 6"],
        [b"Host: a", b"Content-Length: 5, 5"],
        [b"Host: a", b"Content-Length: +5"],
        [b"Host: a", b"Content-Length: 0x5"],
        [b"Host: a", b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Host: a", b"Expect: 100-continue"],
        [b"Host: a", b"eXPECT: anything"],
        [b"Host: a", b"Connection: Upgrade", b"Upgrade: websocket"],
        [b"Host: a", b"Connection: keep-alive, upgrade", b"Upgrade: WebSocket"],
        [b"Host: a", b"X-A: a", b" b"],
        [b"Host: a", b"X-A: a", b"\tb"],
        [b"Host: a", b"X-A: a\nX-B: b"],
        [b"Host: a", b"X-A: a\rb"],
        [b"Host: a", b"X-A: a\0b"],
        [b"Host: a", b"no colon"],
        [b"Host: a", b"X-A : b"],
        [b"Host: a", b": b"],
        [b"Host: a", BEARER, BEARER],
        [b"Host: a", BEARER, BEARER.lower()],
        [b"Host: a", BEARER, b"Authorization: Basic eDp5"],
        [b"Host: a", b"AUTHORIZATION: Basic eDp5", BEARER],
        [b"Host: a", BEARER, b" folded"],
        [b"Host: a", b"X-Long: " + b"x" * 5000],
    ],
    ids=lambda fields: b" | ".join(fields)[:60].decode(),
)
async def test_what_is_not(fields: list[bytes]) -> None:
    """Whatever may be read in two ways, or takes more than one message, isn't answered here."""
    known = sections()
    assert find_any(known, *fields) is None
    assert find_any(known, *fields) is None  # also when it is known


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"Authorization: Bearer abc", b"Bearer abc"),
        (b"authorization: Bearer abc", b"Bearer abc"),
        (b"Authorization: Bearer ", b"Bearer "),
        (b"Authorization: Bearer abc def", b"Bearer abc def"),
        (b"Authorization: Bearer  abc ", b"Bearer  abc "),
        (b"AUTHORIZATION: Bearer abc", None),
        (b"Authorization:Bearer abc", None),
        (b"Authorization:  Bearer abc", None),
        (b"Authorization: bearer abc", None),
        (b"Authorization: Basic abc", None),
        (b"X-Authorization: Bearer abc", None),
    ],
)
@pytest.mark.parametrize("last", [True, False])
async def test_the_token_is_cut_out(field: bytes, value: bytes | None, last: bool) -> None:
    """As most clients spell it; any other spelling stays in the section, and is found there."""
    fields = [b"Host: a", field] if last else [b"Host: a", field, b"Accept: */*"]
    section, cut = find(sections(), *fields)
    assert (cut, section.cut) == (value, value is not None)
    if value is not None:
        assert section.authorizations == (b"Bearer x",)
    elif not field.startswith(b"X-"):
        assert section.authorizations == (field.partition(b":")[2].strip(),)


async def test_the_body_is_not_looked_at() -> None:
    """What looks like a token behind the header section is content."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nAuthorization: Bearer abc\r\n"
    found = sections().find(data, 14, 23, PEER, secure=False, public=False)
    assert found is not None
    assert found[1] is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([], (0, False, None, True)),
        ([b"Content-Length: 5"], (5, False, None, False)),
        ([b"Content-Length: 0"], (0, False, None, False)),
        ([b"Connection: close"], (0, True, None, True)),
        ([b"Connection: keep-alive"], (0, False, None, True)),
        ([b"X-Request-ID: mine"], (0, False, b"mine", True)),
        ([b"X-Request-ID: a", b"X-Request-ID: b"], (0, False, None, True)),
    ],
)
async def test_what_a_section_says(
    fields: list[bytes], said: tuple[int, bool, bytes | None, bool]
) -> None:
    """The length of the content, whether the connection closes, the id, and if a length misses."""
    section, _ = find(sections(), b"Host: a", *fields)
    found = (section.content_length, section.closes, section.request_id, section.length_missing)
    assert found == said


@pytest.mark.parametrize(
    ("method", "length", "announced"),
    [
        ("GET", None, b""),
        ("HEAD", None, b""),
        ("OPTIONS", None, b""),
        ("POST", None, b"Content-Length: 0\r\n"),
        ("PUT", None, b"Content-Length: 0\r\n"),
        ("PATCH", None, b"Content-Length: 0\r\n"),
        ("DELETE", None, b"Content-Length: 0\r\n"),
        ("POST", b"Content-Length: 0", b""),
        ("DELETE", b"Content-Length: 3", b""),
    ],
)
async def test_no_content_is_announced_where_some_is_expected(
    method: str, length: bytes | None, announced: bytes
) -> None:
    """And only there, and only where the client has not (RFC 9110 §8.6)."""
    section, _ = find(sections(), b"Host: a", *([length] if length else []))
    assert section.announced(method) == announced


HOST = b"Host: a\r\n"
ACCEPT = b"Accept: */*\r\n"
KEPT_BACK = HOST + ACCEPT + FORWARDED


@pytest.mark.parametrize(
    ("forwards", "field", "private", "public"),
    [
        (False, b"Authorization: Bearer t", (KEPT_BACK, None), (KEPT_BACK, None)),
        (
            True,
            b"Authorization: Bearer t",
            (HOST + b"Authorization: ", b"\r\n" + ACCEPT + FORWARDED),
            (HOST + b"Authorization: ", b"\r\n" + ACCEPT + FORWARDED),
        ),
        (
            True,
            b"authorization: Bearer t",
            (HOST + b"authorization: ", b"\r\n" + ACCEPT + FORWARDED),
            (HOST + b"authorization: ", b"\r\n" + ACCEPT + FORWARDED),
        ),
        (
            True,
            b"authorization: bearer t",
            (HOST + b"authorization: bearer t\r\n" + ACCEPT + FORWARDED, None),
            (HOST + b"authorization: bearer t\r\n" + ACCEPT + FORWARDED, None),
        ),
        (
            False,
            b"Authorization: Basic eDp5",
            (KEPT_BACK, None),
            (HOST + b"Authorization: Basic eDp5\r\n" + ACCEPT + FORWARDED, None),
        ),
    ],
)
async def test_what_goes_to_the_backend(
    forwards: bool,
    field: bytes,
    private: tuple[bytes, bytes | None],
    public: tuple[bytes, bytes | None],
) -> None:
    """With a gap for the token where one was cut out that is forwarded, and nowhere else."""
    known = sections(HeaderPolicy(forward_authorization=forwards))
    found = [
        find(known, b"Host: a", field, b"Accept: */*", public=each)[0].to_upstream
        for each in (False, True)
    ]
    assert found == [private, public]


async def test_peers_and_schemes_are_told_apart() -> None:
    """What is known of one client's section isn't said of another's."""
    known = sections()
    said = set()
    for peer, secure in ((PEER, False), (PEER, True), ("192.0.2.8", False), (None, False)):
        found = find_any(known, b"Host: a", peer=peer, secure=secure)
        assert found is not None
        said.add(found[0].to_upstream)
    assert len(said) == 4


async def test_what_is_known_is_not_learned_again() -> None:
    """The same section with another token is the same, and is found."""
    known = sections()
    first, _ = find(known, b"Host: a", b"Authorization: Bearer one")
    second, value = find(known, b"Host: a", b"Authorization: Bearer two")
    assert second is first
    assert value == b"Bearer two"
    assert find(known, b"Host: b", b"Authorization: Bearer two")[0] is not first


async def test_an_uncut_placeholder_is_no_token() -> None:
    """Who sends the placeholder itself isn't taken for one whose token was cut out."""
    known = sections(HeaderPolicy(forward_authorization=True))
    cut, _ = find(known, b"Host: a", b"Authorization: Bearer " + TOKEN)
    spelt, value = find(known, b"Host: a", b"Authorization: Bearer x")
    odd, uncut = find(known, b"Host: a", b"AUTHORIZATION: Bearer x")
    assert (spelt, value) == (cut, b"Bearer x")
    assert (odd.cut, uncut, odd.to_upstream[1]) == (False, None, None)


@pytest.mark.parametrize(
    "field",
    [
        b"Cookie: session=s3cret-token",
        b"X-API-Key: s3cret-token",
        b"apikey: s3cret-token",
        b"X-Auth-Token: s3cret-token",
        b"Proxy-Authorization: Basic s3cret-token",
        b"X-Amz-Security-Token: s3cret-token",
        b"X-Client-Secret: s3cret-token",
        b"X-Password: s3cret-token",
        b"X-PASSPHRASE: s3cret-token",
        b"X-Session: s3cret-token",
        b"X-Credential: s3cret-token",
        b"AUTHORIZATION: Bearer s3cret-token",
        b"Authorization:Bearer s3cret-token",
        b"Authorization: bearer s3cret-token",
        b"Authorization: Basic s3cret-token",
    ],
    ids=lambda field: field.decode(),
)
@pytest.mark.parametrize("beside", [[], [b"Authorization: Bearer t"]], ids=["alone", "beside"])
async def test_what_may_be_a_credential_is_not_kept(field: bytes, beside: list[bytes]) -> None:
    """By a field's name: neither alone nor beside a token that was cut out, simple or not."""
    known = sections(HeaderPolicy(forward_authorization=True))
    find_any(known, b"Host: a", field, *beside)
    find_any(known, b"Host: a", *beside, field)
    assert kept(known) == "[][]"


@pytest.mark.parametrize(
    "fields",
    [
        [b"Host: a", BEARER],
        [BEARER, b"Host: a"],
        [b"Host: a", BEARER.replace(b"Authorization", b"authorization"), b"Accept: */*"],
        [b"Host: a", BEARER + b", Bearer " + TOKEN],
        [b"Host: a", b"Authorization: Bearer  " + TOKEN + b" "],
        [b"Host: a", BEARER, BEARER],
        [b"Host: a", BEARER, b"authorization: Bearer " + TOKEN],
        [b"Host: a", BEARER, b" " + TOKEN],
        [b"Host: a", b"Authorization: Bearer a", b" " + TOKEN],
        [b"Host: a", b"X-A: b", b" Authorization: Bearer " + TOKEN],
        [b"Host: a", BEARER + b"\nX-A: " + TOKEN],
        [b"Host: a", b"X-A: b\nAuthorization: Bearer " + TOKEN],
        [b"Host: a", b"X-A: b\rAuthorization: Bearer " + TOKEN],
        [b"Host: a", b"Authorization : Bearer " + TOKEN],
        [b"Host: a", b" Authorization: Bearer " + TOKEN],
    ],
    ids=lambda fields: b" | ".join(fields).decode(),
)
@pytest.mark.parametrize("forwards", [False, True])
async def test_no_token_is_kept(fields: list[bytes], forwards: bool) -> None:
    """Neither in what sections are known by, nor in what is known, however oddly it was sent."""
    known = sections(HeaderPolicy(forward_authorization=forwards))
    find_any(known, *fields)
    assert TOKEN.decode() not in kept(known)


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("size", [10, 500, 3000, 15_000])
async def test_made_up_fields_cost_what_is_known_not_memory(size: int, public: bool) -> None:
    """A client with a good token that sends new fields each time fills a bounded part."""
    known = sections(max_header_bytes=65_536)
    tracemalloc.start()
    try:
        for number in range(4 * SECTIONS_BYTES // (size + 600)):
            find(known, *made_up(number, size), public=public)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    most = PUBLIC_SECTIONS_BYTES if public else SECTIONS_BYTES
    assert known.held_bytes <= most
    assert taken < 1.25 * most + 100_000


async def test_public_routes_push_out_nothing_of_the_others() -> None:
    """Who needs no token has a part of its own to fill."""
    known = sections()
    before, _ = find(known, b"Host: a")
    for number in range(2000):
        find(known, *made_up(number, 500), public=True)
    assert find(known, b"Host: a")[0] is before


async def test_what_is_found_is_not_kept_by_that() -> None:
    """Only when its request is let through: who has no good token fills nothing."""
    known = sections()
    data = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(2):
        found = known.find(data, 14, len(data) - 4, PEER, secure=False, public=False)
        assert found is not None
        assert found[2] is not None
        assert known.held_bytes == 0


def made_up(number: int, size: int) -> Iterable[bytes]:
    return [b"Host: a", b"X-Made-Up: %d" % number + b"x" * size]
