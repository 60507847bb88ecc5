"""``gateway demo`` as a process: what it prints, how it ends."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis_server import free_port
from rich.console import Console
from streams import closed

from gateway.demo import DemoOptions
from gateway.demo.curls import browser_grants, reference_curls, revocations, walkthrough
from gateway.demo.process import browsable, show_stack, tell
from gateway.demo.stack import Stack

FREE = [
    part
    for flag in ("--port", "--tls-port", "--admin-port", "--key-manager-port", "--backend-port")
    for part in (flag, "0")
]
STACK = Stack(
    url="http://127.0.0.1:8080",
    tls_url="https://127.0.0.1:8443",
    admin_url="http://127.0.0.1:9090",
    key_manager_url="http://127.0.0.1:9763",
    backend_url="http://127.0.0.1:9000",
    max_age_seconds=15.0,
)


@asynccontextmanager
async def demo(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command with its ports free, unless they are given once more."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "demo", *FREE, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "80", **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_story() -> None:
    """The story comes to its end: exit 0, nothing on standard error."""
    async with demo("--story", "--max-age", "1s") as process:
        out, err = await process.communicate()
    last = out.decode().splitlines()[-1]
    assert (process.returncode, last, err) == (0, "Every step was as it should be.", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_serving(number: signal.Signals) -> None:
    """It serves until a signal ends it: exit 0."""
    async with demo() as process:
        assert process.stdout is not None
        printed = b""
        while b"/payments/1\n" not in printed:
            printed += await process.stdout.readline()
        found = re.search(rb"http://localhost:(\d+)\n", printed)
        assert found is not None
        _, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
        process.send_signal(number)
        out, err = await process.communicate()
        await closed(writer)
    assert (process.returncode, out.decode().splitlines()[-1], err) == (0, "Stopped.", b"")


async def test_story_interrupted() -> None:
    """A story that is interrupted isn't told: exit 1."""
    async with demo("--story", "--max-age", "1h") as process:
        assert process.stdout is not None
        while b"still accepted" not in await process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out.decode().splitlines()[-1], err) == (1, "Interrupted.", b"")


async def test_story_goes_wrong(stack: Stack, console: Console) -> None:
    """A story with a step that isn't as it should be names the step: exit 1."""
    code = await tell(replace(stack, max_age_seconds=0.2), console, asyncio.Event())
    rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert (code, rows[-1]) == (1, "The last step wasn't as it should be.")
    assert re.match(r" +\d+\.\d\ds  ✗  still accepted  200  accepted after max age", rows[-3])


async def test_story_is_over_at_once(stack: Stack, console: Console) -> None:
    """A signal before the first step ends the story too: exit 1."""
    ended = asyncio.Event()
    ended.set()
    assert await tell(stack, console, ended) == 1


async def test_other_encodings() -> None:
    """A terminal that can't show every character doesn't stop the story."""
    async with demo("--story", "--max-age", "1s", PYTHONIOENCODING="ascii") as process:
        out, err = await process.communicate()
    assert (process.returncode, b"alice gets" in out, err) == (0, True, b"")


async def test_a_taken_port() -> None:
    """A taken port is one line that names it: exit 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with demo("--tls-port", str(port)) as process:
            out, err = await process.communicate()
    said = f"gateway: can't listen on 127.0.0.1:{port}: address already in use\n"
    assert (process.returncode, out, err.decode()) == (1, b"", said)


async def test_wrong_settings() -> None:
    """Options that don't go together are one line: exit 78."""
    async with demo("--port", "18080", "--admin-port", "18080") as process:
        out, err = await process.communicate()
    assert (process.returncode, out, err.count(b"\n")) == (78, b"", 1)
    assert err.startswith(b"gateway: admin.port = 18080 (command line): ")


async def test_no_store() -> None:
    """A store that doesn't answer is said, without the password in its URL: exit 1."""
    port = free_port()
    async with demo("--store", f"redis://:secret@127.0.0.1:{port}/0") as process:
        out, err = await process.communicate()
    last = f"gateway: the store redis://:***@127.0.0.1:{port}/0 doesn't answer"
    assert (process.returncode, out, err.decode().splitlines()[-1]) == (1, b"", last)
    assert b"secret" not in err


def test_what_is_shown(console: Console) -> None:
    """All addresses are shown, and every command whole, on lines of its own."""
    show_stack(console, STACK, DemoOptions())
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    url = "https://localhost:8443"
    commands = [
        *reference_curls(url),
        *browser_grants(url, STACK.redirect_uri),
        *revocations(url),
        *walkthrough(url, 15.0),
    ]
    assert [curl.command for curl in commands if f"\n{curl.command}\n" not in text] == []
    addresses = (url, "http://localhost:8080", STACK.admin_url, STACK.key_manager_url)
    assert [address for address in addresses if address not in text] == []


def test_store_password_is_not_shown(console: Console) -> None:
    """The store's password is masked."""
    show_stack(console, STACK, DemoOptions(store="redis://user:secret@127.0.0.1/0"))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("redis://user:***@127.0.0.1/0" in text, ":secret" in text) == (True, False)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://127.0.0.1:8443", "https://localhost:8443"),
        ("http://0.0.0.0:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://localhost:8080"),
        ("http://192.0.2.7:8080", "http://192.0.2.7:8080"),
    ],
)
def test_browsable(url: str, shown: str) -> None:
    """An address that means this machine is called localhost, others stay."""
    assert browsable(url) == shown


def test_who_may_what_is_shown(console: Console) -> None:
    """Each name with its password; and the window, with the one of a gateway that wasn't told."""
    show_stack(console, STACK, DemoOptions())
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    for shown in (
        "demo-key / demo-secret",
        "demo-once / once-secret, which gets no refresh tokens",
        "alice / wonderland",
        "root / over-all",
        "accepted for up to 15s",
        '(15m unless cache.max_age says so: make demo ARGS="--max-age 15m")',
    ):
        assert shown in text
