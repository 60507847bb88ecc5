"""The live page in a browser, before a whole gateway.

Waits for real seconds, because a browser does: for a window of three.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from browser import Page, browsing
from pydantic import SecretStr
from redis_server import free_port

from gateway.app import Gateway
from gateway.demo.backend import serving_backend
from gateway.settings import Admin, Cache, Listen, Logging, RouteSettings, Settings, Store
from gateway.tokens import token_key

RAW = "raw-t0ken"
PASSING = "Number(document.getElementById('passing').textContent)"
ROW = "document.querySelector('.token:not(.lapsed)')"


class Watched:
    """A gateway with one route, its page, and somebody who calls."""

    def __init__(self, gateway: Gateway, page: Page, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.page = page
        self._session = session

    async def issue(self, name: str, client_id: str | None = None) -> None:
        """Issue a token and use it."""
        document = {"active": True, "client_id": client_id or f"app-{name}", "sub": "alice"}
        await self.gateway.store.put(token_key(RAW + name), document, expires_in_seconds=600)
        assert await self.call(name) == 200

    async def revoke(self, name: str) -> None:
        await self.gateway.store.delete([token_key(RAW + name)])

    async def call(self, name: str) -> int:
        bearer = {"Authorization": f"Bearer {RAW}{name}"}
        async with self._session.get(f"{self.gateway.url}/orders", headers=bearer) as answer:
            return answer.status

    async def text(self, selector: str) -> str:
        return str(await self.page.evaluate(f"document.querySelector('{selector}').textContent"))

    async def says(self, selector: str, text: str) -> None:
        """Return when an element has this in its text."""
        await self.page.until(
            f"document.querySelector('{selector}')?.textContent.includes('{text}')"
        )


def settings_for(backend_url: str, *, max_age: str, admin_port: int = 0) -> Settings:
    return Settings(
        listen=Listen(port=0),
        admin=Admin(port=admin_port, token=SecretStr("s3cret")),
        store=Store(url=SecretStr("memory://")),
        cache=Cache.model_validate({"max_age": max_age}),
        routes=(RouteSettings(path="/orders", upstream=backend_url),),
        logging=Logging(access_log=False),
    )


@asynccontextmanager
async def watching(
    directory: Path, *, max_age: str, width: int, dark: bool = False
) -> AsyncIterator[Watched]:
    async with (
        serving_backend() as backend_url,
        Gateway(settings_for(backend_url, max_age=max_age)) as gateway,
        aiohttp.ClientSession() as session,
        browsing(directory) as page,
    ):
        await page.open(f"{gateway.admin_url}/", width=width, dark=dark)
        await page.until("document.getElementById('link')?.textContent === 'Live'")
        yield Watched(gateway, page, session)


async def test_a_token_is_seen_revoked_counting_down_and_lapsing(tmp_path: Path) -> None:
    """With how often it has passed since; on a phone's width, and nowhere as itself."""
    async with watching(tmp_path, max_age="3s", width=360) as watched:
        page = watched.page
        await page.until(f"{PASSING} === 0")
        await watched.issue("a")
        await watched.revoke("a")
        await page.until(f"{PASSING} === 1")
        assert await watched.text(".token .who") == "app-a"
        assert token_key(RAW + "a").hex()[:12] in await watched.text(".token .key")
        assert await watched.call("a") == 200
        await watched.says(".token .what", "passed 1\u00d7 since")
        counting = f"parseFloat({ROW}.querySelector('.left').textContent)"
        first = await page.evaluate(counting)
        await page.until(f"{counting} < {first}")
        wide = await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert (0 < first <= 3, wide) == (True, True)
        await page.until("document.querySelector('.token.lapsed')")
        assert await watched.text(".token.lapsed .left") == "lapsed"
        await watched.says("#lapses", "1 revoked token has lapsed.")
        await page.until(f"{PASSING} === 0")
        await watched.says("#exposed-label", "of 1 token")
        assert await watched.call("a") == 401
        assert RAW not in await page.evaluate("document.documentElement.outerHTML")
        assert [
            url for url in page.requested if not url.startswith(watched.gateway.admin_url)
        ] == []
        assert page.errors == []


async def test_a_token_is_evicted_by_keyboard(tmp_path: Path) -> None:
    """The page asks for the admin token when it is needed, and again when it is wrong."""
    async with watching(tmp_path, max_age="15m", width=1280) as watched:
        page = watched.page
        await watched.issue("b")
        await watched.revoke("b")
        await page.until(f"{ROW}?.querySelector('button')")
        await page.evaluate(f"{ROW}.querySelector('button').focus()")
        await page.press("Enter")
        for why, given in (("needs", "wrong"), ("That isn", "s3cret")):
            await watched.says("#ask:not([hidden]) #ask-why", why)
            assert await page.evaluate("document.activeElement.id") == "token"
            await page.type(given)
            await page.press("Enter")
        await watched.says(".token.lapsed .left", "evicted")
        await watched.says("#evicted", "Evicted 1 token here.")
        assert await watched.call("b") == 401
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert "s3cret" not in await page.evaluate(kept)


NEXT = "document.querySelectorAll('.token .who')[1].textContent"
LAST = "document.querySelectorAll('.token .who')[2].textContent"
FOCUSED = "document.activeElement.closest('.token')?.querySelector('.who').textContent"


async def test_the_focus_goes_on_after_an_eviction(tmp_path: Path) -> None:
    """To the next token's button, and to the window after the last: never to nowhere."""
    async with watching(tmp_path, max_age="15m", width=1280) as watched:
        page = watched.page
        for name in "xyz":
            await watched.issue(name)
            await watched.revoke(name)
        await page.until("document.querySelectorAll('.token:not(.lapsed)').length === 3")
        await page.evaluate(f"{ROW}.querySelector('button').focus()")
        first, second, third = [await page.evaluate(focused) for focused in (FOCUSED, NEXT, LAST)]
        await page.press("Enter")
        await page.until("document.activeElement.id === 'token'")
        await page.type("s3cret")
        await page.press("Enter")
        assert len({first, second, third}) == 3
        await page.until(f"{FOCUSED} === '{second}'")
        await page.press("Enter")
        await page.until(f"{FOCUSED} === '{third}'")
        await page.press("Enter")
        await page.until("document.activeElement.id === 'window'")
        assert page.errors == []


async def test_escape_leaves_the_question_for_the_token(tmp_path: Path) -> None:
    """Nothing is evicted, what was typed is gone, and the focus is where it was."""
    async with watching(tmp_path, max_age="15m", width=1280) as watched:
        page = watched.page
        await watched.issue("b")
        await watched.revoke("b")
        await page.until(f"{ROW}?.querySelector('button')")
        await page.evaluate(f"{ROW}.querySelector('button').focus()")
        await page.press("Enter")
        await page.until("document.activeElement.id === 'token'")
        await page.type("s3c")
        await page.press("Escape")
        assert await page.evaluate(FOCUSED) == "app-b"
        assert await page.evaluate("document.getElementById('ask').hidden")
        assert await page.evaluate("document.getElementById('token').value") == ""
        assert await watched.call("b") == 200


async def test_a_name_that_turns_the_writing_turns_nothing_beside_it(tmp_path: Path) -> None:
    """A client named with U+202E is shown as itself, and what follows reads from left to right."""
    async with watching(tmp_path, max_age="15m", width=1280) as watched:
        await watched.issue("e", client_id="\u202eevil")
        await watched.revoke("e")
        await watched.page.until(f"{ROW}?.querySelector('button')")
        isolated = f"getComputedStyle({ROW}.querySelector('.who')).unicodeBidi"
        assert await watched.page.evaluate(isolated) == "isolate"
        label = f"{ROW}.querySelector('button').ariaLabel"
        assert (await watched.page.evaluate(label)).endswith(" of \u2068\u202eevil\u2069")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
async def test_nothing_stands_against_wcag(tmp_path: Path, width: int, *, dark: bool) -> None:
    """By axe, to WCAG 2.2 AA: with a token that passes, one that has lapsed, and the question."""
    async with watching(tmp_path, max_age="15m", width=width, dark=dark) as watched:
        page = watched.page
        for name in "ab":
            await watched.issue(name)
            await watched.revoke(name)
        await page.until("document.querySelectorAll('.token').length === 2")
        await page.evaluate(f"{ROW}.querySelector('button').click()")
        await page.until("document.activeElement.id === 'token'")
        await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
        assert await page.accessibility_faults() == []
        await page.type("s3cret")
        await page.press("Enter")
        await page.until("document.querySelector('.token.lapsed')")
        await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
        assert await page.accessibility_faults() == []


async def test_a_lost_connection_is_said_until_it_is_back(tmp_path: Path) -> None:
    """Since when, and what is shown is from before then."""
    port = free_port()
    settings = settings_for("http://127.0.0.1:1", max_age="15m", admin_port=port)
    async with browsing(tmp_path) as page:
        async with Gateway(settings) as gateway:
            await page.open(f"{gateway.admin_url}/")
            await page.until("document.getElementById('link')?.textContent === 'Live'")
            assert await page.evaluate("document.getElementById('lost').hidden")
        await page.until("document.getElementById('link').textContent === 'Connection lost'")
        said = await page.evaluate("document.getElementById('lost').innerText")
        assert said.startswith("Connection lost at ")
        good = "document.querySelectorAll('.chip[data-state=good]').length"
        assert await page.evaluate(good) == 0  # nothing is known to be good any more
        assert await page.accessibility_faults() == []
        async with Gateway(settings):
            await page.until("document.getElementById('link').textContent === 'Live'")
            assert await page.evaluate("document.getElementById('lost').hidden")


async def test_beyond_loopback_nothing_is_shown_without_the_token(tmp_path: Path) -> None:
    """Not even how many tokens pass."""
    settings = settings_for("http://127.0.0.1:1", max_age="15m").model_copy(
        update={"admin": Admin(host="0.0.0.0", port=0, token=SecretStr("s3cret"))}
    )
    async with Gateway(settings) as gateway, browsing(tmp_path) as page:
        url = gateway.admin_url.replace("0.0.0.0", "127.0.0.1")
        await page.open(url)
        await page.until("document.activeElement?.id === 'token'")
        assert await page.evaluate("document.getElementById('passing').textContent") == "\u2013"
        await page.type("s3cret")
        await page.press("Enter")
        await page.until("document.getElementById('link').textContent === 'Live'")
        assert await page.evaluate(PASSING) == 0
