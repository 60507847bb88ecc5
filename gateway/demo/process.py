"""The demo as a process: what it prints, its signals, how it ends."""

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import TextIOWrapper
from urllib.parse import urlsplit

from rich.console import Console

from gateway.clock import SystemClock
from gateway.demo import DemoOptions
from gateway.demo.curls import browser_grants, reference_curls, revocations, walkthrough
from gateway.demo.stack import (
    ADMIN_NAME,
    ADMIN_PASSWORD,
    ADMIN_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    ONCE_ID,
    ONCE_SECRET,
    PASSWORD,
    SCOPES,
    USERNAME,
    Stack,
    demo_settings,
    running,
)
from gateway.demo.story import play
from gateway.demo.timeline import Timeline
from gateway.errors import StoreUnavailable
from gateway.logs import configure_logging
from gateway.settings import Cache
from gateway.settings.store_url import mask_url
from gateway.settings.types import format_duration

_HERE = frozenset({"127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 -- compared, not bound


async def serve(options: DemoOptions) -> int:
    """Run the demo; see ``gateway.demo.run``."""
    configure_logging(demo_settings(options).logging)
    if options.story and options.log_level == "warning":
        # The story replays a refresh token, and the key manager rightly warns of that.
        logging.getLogger("gateway.keymanager").setLevel(logging.ERROR)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # "…" isn't in every encoding
    console = Console(highlight=False)
    try:
        with _signals() as ended:
            async with running(options) as stack:
                if options.story:
                    return await tell(stack, console, ended)
                show_stack(console, stack, options)
                await ended.wait()
                console.print("Stopped.")
                return 0
    except StoreUnavailable:
        sys.stderr.write(f"gateway: the store {mask_url(options.store)} doesn't answer\n")
        return 1


def show_stack(console: Console, stack: Stack, options: DemoOptions) -> None:
    """Print where everything is, and what to paste."""
    plain, url = browsable(stack.url), browsable(stack.tls_url)
    max_age = format_duration(timedelta(seconds=stack.max_age_seconds))
    rows = (
        ("gateway", f"{url} and {plain}"),
        ("live page", f"{browsable(stack.admin_url)}/, where the window can be watched"),
        ("admin", f"{stack.admin_url}/metrics, /livez, /readyz, /api/ (token {ADMIN_TOKEN})"),
        ("key manager", stack.key_manager_url),
        ("backend", f"{stack.backend_url}, which echoes"),
        ("store", mask_url(options.store)),
        ("client", f"{CLIENT_ID} / {CLIENT_SECRET}"),
        ("", f"{ONCE_ID} / {ONCE_SECRET}, which gets no refresh tokens: they are optional"),
        ("user", f"{USERNAME} / {PASSWORD}, scopes {' '.join(SCOPES)}"),
        ("admin user", f"{ADMIN_NAME} / {ADMIN_PASSWORD}, of the key manager"),
        ("", ""),
        ("/orders", f"needs read; a revoked token is accepted for up to {max_age}"),
        ("", standard_window()),
        ("/payments", "needs write; the store is asked every time (max_age 0s)"),
        ("/public", "needs no token"),
        ("", "and under each of these /sse, /ws, /bytes/N, /slow/SECONDS, /status/CODE"),
    )

    def line(text: str = "", style: str | None = None) -> None:
        # Whole lines, however narrow the terminal is: what is copied must be what was meant.
        console.print(text, style=style, markup=False, soft_wrap=True)

    line("The gateway runs, with all it needs. Ctrl-C ends it.", "bold")
    line()
    for name, where in rows:
        line(f"  {name:<13}{where}".rstrip())
    line()
    line("The calls of the reference documentation, with this host:", "bold")
    for curl in reference_curls(url):
        line()
        line(curl.says)
        line(curl.command, "cyan")
    line()
    line("Grants that take a browser:", "bold")
    for curl in browser_grants(url, stack.redirect_uri):
        line()
        line(curl.says)
        line(curl.command, "cyan")
    line()
    line("Revoked by the user, or by an administrator:", "bold")
    for curl in revocations(url):
        line()
        line(curl.says)
        line(curl.command, "cyan")
    line()
    line("The life of a token, to paste in another terminal (--story plays it):", "bold")
    for number, curl in enumerate(walkthrough(url, stack.max_age_seconds), 1):
        line()
        line(f"{number}. {curl.says}")
        line(curl.command, "cyan")


def standard_window() -> str:
    """Say how long the window is where nobody chose, and how to have the demo with that."""
    standard = format_duration(Cache().max_age)
    return f'({standard} unless cache.max_age says so: make demo ARGS="--max-age {standard}")'


def browsable(url: str) -> str:
    """Return a URL with ``localhost`` for an address that means this machine."""
    parts = urlsplit(url)
    if parts.hostname not in _HERE:
        return url
    return f"{parts.scheme}://localhost:{parts.port}"


async def tell(stack: Stack, console: Console, ended: asyncio.Event) -> int:
    """Play the story unless a signal ends it; return the exit code."""
    clock = SystemClock()
    title = f"The life of a token, by calls to {browsable(stack.tls_url)}"
    console.print(title, style="bold", markup=False, soft_wrap=True)
    page = f"Watch the window meanwhile at {browsable(stack.admin_url)}/"
    console.print(page, markup=False, soft_wrap=True)
    chosen = format_duration(timedelta(seconds=stack.max_age_seconds))
    window = f"The window is {chosen} {standard_window()}"
    console.print(window, markup=False, soft_wrap=True)
    timeline = Timeline(console, clock)
    story = asyncio.create_task(play(stack, timeline, clock))
    interrupted = asyncio.create_task(ended.wait())
    await asyncio.wait({story, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    interrupted.cancel()
    if not story.done():
        story.cancel()
        await asyncio.gather(story, return_exceptions=True)
        console.print("\nInterrupted.")
        return 1
    console.print()
    if await story:
        console.print("Every step was as it should be.", style="green")
        return 0
    console.print("The last step wasn't as it should be.", style="bold red")
    return 1


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Set the event on SIGTERM, on SIGINT, and when the terminal goes away."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for kind in kinds:
        loop.add_signal_handler(kind, ended.set)
    try:
        yield ended
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
