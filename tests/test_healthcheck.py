"""The health check asks the right address and judges the answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from streams import listening

from gateway.healthcheck import health_url, probe
from gateway.settings import Admin


@pytest.mark.parametrize(
    ("host", "ready", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:9090/livez"),
        ("127.0.0.1", True, "http://127.0.0.1:9090/readyz"),
        ("0.0.0.0", False, "http://127.0.0.1:9090/livez"),
        ("::", False, "http://[::1]:9090/livez"),
        ("::1", False, "http://[::1]:9090/livez"),
        ("192.0.2.1", False, "http://192.0.2.1:9090/livez"),
        ("localhost", False, "http://localhost:9090/livez"),
    ],
)
def test_the_admin_port_is_asked_where_it_listens(host: str, ready: bool, url: str) -> None:
    """On loopback, where it listens on all addresses."""
    assert health_url(Admin(host=host), ready=ready) == url


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A server on loopback that gives each client these bytes, or keeps it waiting."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await asyncio.Event().wait()
        else:
            writer.write(answer)

    async with listening(serve) as port:
        yield f"http://127.0.0.1:{port}/livez"


async def probed(url: str, *, timeout_seconds: float = 5) -> str | None:
    """Probe from a thread, as the server is in this one."""
    return await asyncio.to_thread(probe, url, timeout_seconds=timeout_seconds)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (OK, None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "answered 503"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP answer (BadStatusLine)"),
        (b"", "no HTTP answer (RemoteDisconnected)"),
    ],
)
async def test_only_a_good_answer_is_good(answer: bytes, trouble: str | None) -> None:
    """And what isn't HTTP makes no traceback."""
    async with answering(answer) as url:
        assert await probed(url) == trouble


async def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    """Beyond the time-out, which is as short here as it can be."""
    async with answering(None) as url:
        assert await probed(url, timeout_seconds=0.001) == "no answer in time"


@pytest.mark.parametrize(
    ("url", "trouble"),
    [
        ("http://127.0.0.1:1/livez", "connection refused"),
        ("http://[::1/", "no HTTP answer (ValueError)"),
        ("file:///etc/hostname", "not an http URL"),
        ("127.0.0.1:9090", "not an http URL"),
    ],
)
def test_what_cannot_be_asked_is_told(url: str, trouble: str) -> None:
    """Nobody there, or nothing that could be."""
    assert probe(url, timeout_seconds=5) == trouble


async def test_a_redirect_is_not_followed() -> None:
    """Not even to where all is well."""
    async with answering(OK) as well:
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {well}\r\nContent-Length: 0\r\n\r\n"
        async with answering(redirect.encode()) as url:
            assert await probed(url) == "answered 302"


async def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a container may name one for its traffic to the outside."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with answering(OK) as url:
        assert await probed(url) is None
