"""A request's content as it arrives: within its size, its pace, and only when wanted."""

import pytest
from aiohttp import web
from talking import request, talk

from gateway.errors import BadRequest, ContentTooLarge, GatewayError, RequestTimeout
from gateway.exchange import RelayedResponse, RequestBody
from gateway.request_head import inspect_request


async def reading(
    *sent: bytes, most: int = 10, timeout_seconds: float = 30.0
) -> tuple[bytes | GatewayError, RequestBody, bytes]:
    """Let a handler read a request's content; return what it got, and what the client did."""
    bodies: list[RequestBody] = []
    got: list[bytes | GatewayError] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        head = inspect_request(request.raw_headers, http_1_1=request.version.minor == 1)
        body = RequestBody(request, head, most=most, timeout_seconds=timeout_seconds)
        bodies.append(body)
        response = RelayedResponse(200, "OK", [], body=b"")
        response.force_close()
        try:
            got.append(await body.read())
        except GatewayError as error:
            got.append(error)
        return response

    received = await talk(handler, *sent)
    return got[0], bodies[0], received


@pytest.mark.parametrize(
    ("lines", "content", "expected"),
    [
        ([], b"", b""),
        (["Content-Length: 10"], b"0123456789", b"0123456789"),
        (["Content-Length: 0"], b"", b""),
        (["Transfer-Encoding: chunked"], b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n", b"0123456789"),
        (["Transfer-Encoding: chunked"], b"0\r\n\r\n", b""),
        (["Transfer-Encoding: chunked"], b"1;ext=x\r\na\r\n0\r\nTrailer: x\r\n\r\n", b"a"),
    ],
)
async def test_content(lines: list[str], content: bytes, expected: bytes) -> None:
    """Content up to the limit is read whole, whichever way it is framed."""
    got, body, _ = await reading(request("POST", *lines) + content)
    assert (got, body.fault) == (expected, None)


@pytest.mark.parametrize(
    ("lines", "content", "most", "noticed_early"),
    [
        (["Content-Length: 11"], b"", 10, True),
        (["Content-Length: 999999999999999999"], b"", 10, True),
        (["Content-Length: 1"], b"", 0, True),
        (["Transfer-Encoding: chunked"], b"", 0, True),
        (["Transfer-Encoding: chunked"], b"b\r\n01234567890\r\n0\r\n\r\n", 10, False),
        (["Transfer-Encoding: chunked"], b"6\r\n012345\r\n" * 2, 10, False),
    ],
)
async def test_content_too_large(
    lines: list[str], content: bytes, most: int, noticed_early: bool
) -> None:
    """Content beyond the limit is refused: at once where its length says so, else when it comes."""
    got, body, _ = await reading(request("POST", *lines) + content, most=most)
    assert isinstance(got, ContentTooLarge)
    assert body.fault is (None if noticed_early else got)


async def test_content_that_does_not_come() -> None:
    """Silence within the content ends as 408, and is the client's fault."""
    got, body, _ = await reading(
        request("POST", "Content-Length: 5") + b"abc", timeout_seconds=0.01
    )
    assert isinstance(got, RequestTimeout)
    assert body.fault is got


@pytest.mark.parametrize("most", [10, 1])
async def test_continue(most: int) -> None:
    """100 Continue goes out when the content is wanted, and not where it is refused."""
    asking = request("POST", "Content-Length: 3", "Expect: 100-continue")
    got, _, received = await reading(asking + b"abc", most=most)
    assert (most >= 3) == received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert (most >= 3) == (got == b"abc")


async def test_malformed_content() -> None:
    """Content that turns out not to be framed as it says is the client's fault, and not quoted."""
    faults: list[GatewayError | None] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        head = inspect_request(request.raw_headers, http_1_1=True)
        body = RequestBody(request, head, most=10, timeout_seconds=30)
        request.content.set_exception(web.RequestPayloadError("s3cret"))
        with pytest.raises(BadRequest):
            await body.read()
        faults.append(body.fault)
        return RelayedResponse(200, "OK", [], body=b"")

    await talk(handler, request("POST", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n")
    assert [str(fault) for fault in faults] == ["The request body is malformed."]
