"""The key manager as a server of its own."""

import asyncio
import logging
import os
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession
from redis import Redis
from streams import closed

from gateway.keymanager import create_app, open_storage, run, serving
from gateway.tokens import token_key
from keymanager.driver import CONFIG, DEMO, basic


async def post_grant(url: str) -> Any:
    """The answer to a client credentials request."""
    form = {"grant_type": "client_credentials"}
    async with (
        ClientSession() as session,
        session.post(f"{url}/token", data=form, headers=basic(DEMO)) as response,
    ):
        return await response.json()


async def test_run(redis_url: str) -> None:
    """It announces its address, writes to the store under the given prefix, and stops."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    stop = asyncio.Event()
    running = asyncio.create_task(
        run(
            CONFIG,
            port=0,
            store_url=redis_url,
            key_prefix="mine:",
            announce=lines.put_nowait,
            stop=stop,
        )
    )
    said, _, url = (await lines.get()).rpartition(" ")
    token = (await post_grant(url))["access_token"]
    stop.set()
    await running
    with Redis.from_url(redis_url) as client:
        stored = client.exists(f"mine:{token_key(token).hex()}")
    assert (said, urlsplit(url).hostname, stored) == ("key manager listening on", "127.0.0.1", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals(number: signal.Signals) -> None:
    """A process of its own answers, and ends cleanly on a signal."""
    program = (
        "import asyncio\n"
        "from gateway.keymanager import Client, KeyManagerConfig, run\n"
        "config = KeyManagerConfig((Client('demo-key', 'demo-secret'),))\n"
        "asyncio.run(run(config, port=0, store_url='memory://'))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[-1]
    assert "access_token" in await post_grant(url)
    process.send_signal(number)
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_a_taken_port() -> None:
    """A port that is taken is an OSError that names the address."""
    app = create_app(CONFIG, open_storage("memory://"))
    async with serving(app) as url:
        port = urlsplit(url).port or 0
        with pytest.raises(OSError, match=f"127.0.0.1.*{port}.*in use"):
            await run(CONFIG, port=port, store_url="memory://")


async def test_a_malformed_request(caplog: pytest.LogCaptureFixture) -> None:
    """What can't be parsed is a 400, and its bytes don't get into the log."""
    caplog.set_level(logging.DEBUG)
    async with serving(create_app(CONFIG, open_storage("memory://"))) as url:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"POST /token HTTP/1.1\r\nHost: x\r\nAuthorization\x00: demo-secret\r\n\r\n")
        status = await reader.readline()
        await closed(writer)
    assert status.split()[1] == b"400"
    said = " ".join(f"{record.__dict__}" for record in caplog.records)
    assert ("Error handling request" in said, "demo-secret" in said) == (True, False)


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /token HTTP/1.1\r\nHost: x\r\nAuthorization : Basic c2VjcmV0\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nAuthorization\x00: Basic c2VjcmV0\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nA: b\r\n Basic c2VjcmV0\r\n: c2VjcmV0\r\n\r\n",
        b"POST /token?client_secret=c2VjcmV0 HTTP/1.1 x\r\nHost: x\r\n\r\n",
        b"GET /authorize?state=\xff&code=c2VjcmV0 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://u:c2VjcmV0@x:99999/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nc2VjcmV0\r\n\r\n",
        b"POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: c2VjcmV0%s\r\n\r\n" % (b"x" * 9000),
    ],
)
async def test_a_malformed_request_is_not_repeated(request_head: bytes) -> None:
    """The answer is 400 in JSON, and whatever credentials were in the request aren't in it."""
    async with serving(create_app(CONFIG, open_storage("memory://"))) as url:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request_head)
        answer = await reader.read()
        await closed(writer)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.split()[1], body) == (b"400", b'{"error": "invalid_request"}')
    assert (b"c2VjcmV0" in head, b"no-store" in head) == (False, True)
