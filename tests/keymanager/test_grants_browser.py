"""The pages for users in a real browser, through the gateway of the demo."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from browser import Page, browsing

from gateway.demo import DemoOptions
from gateway.demo.curls import browser_grants
from gateway.demo.stack import BASIC, PASSWORD, USERNAME, Stack, running

OPTIONS = DemoOptions(port=0, tls_port=0, admin_port=0, key_manager_port=0, backend_port=0)
LISTED = "document.querySelectorAll('ul.grants > li').length"
FITS = "document.documentElement.scrollWidth <= innerWidth"


@asynccontextmanager
async def browser_of(directory: Path) -> AsyncIterator[tuple[Stack, Page, aiohttp.ClientSession]]:
    async with (
        running(OPTIONS) as stack,
        aiohttp.ClientSession() as session,
        browsing(directory) as page,
    ):
        yield stack, page, session


async def issue(stack: Stack, session: aiohttp.ClientSession) -> str:
    form = {"grant_type": "password", "username": USERNAME, "password": PASSWORD}
    headers = {"Authorization": f"Basic {BASIC}"}
    async with session.post(f"{stack.url}/token", data=form, headers=headers) as response:
        token: str = (await response.json())["access_token"]
        return token


async def sign_in(page: Page, password: str = PASSWORD) -> None:
    """Type name and password where the focus is, and press Enter."""
    await page.until("document.activeElement?.name === 'username'")
    await page.type(USERNAME)
    await page.press("Tab")
    await page.type(password)
    await page.press("Enter")


@pytest.mark.parametrize("width", [1100, 390])
async def test_a_user_revokes_by_keyboard(tmp_path: Path, width: int) -> None:
    """One grant, then all, on a screen and on a phone; the token is refused at once."""
    async with browser_of(tmp_path) as (stack, page, session):
        tokens = [await issue(stack, session) for _ in range(3)]
        await page.open(f"{stack.url}/grants", width=width)
        await sign_in(page)
        await page.until(f"{LISTED} === 3")
        assert await page.evaluate(FITS)
        named = await page.evaluate(
            "document.querySelector('ul.grants button').getAttribute('aria-labelledby')"
            ".split(' ').map(id => document.getElementById(id).textContent).join(' ')"
        )
        assert named == "Revoke demo-key"
        await page.evaluate("document.querySelector('ul.grants button').focus()")
        await page.press("Enter")
        await page.until("document.querySelector('[role=status]')?.textContent.startsWith('1 ')")
        assert await page.evaluate(LISTED) == 2
        await page.evaluate("document.querySelector('ul.grants + form button').focus()")
        await page.press("Enter")
        await page.until("document.body.textContent.includes('No application has access')")
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{stack.url}/payments", headers=headers) as response:
                assert response.status == 401
        assert await page.evaluate("document.cookie") == ""
        assert [url for url in page.requested if not url.startswith(stack.url)] == []
        assert page.errors == []


async def test_a_wrong_password_is_said(tmp_path: Path) -> None:
    """The form is there again, with the focus in it, and a reader is told why."""
    async with browser_of(tmp_path) as (stack, page, _):
        await page.open(f"{stack.url}/grants/", width=390)
        await sign_in(page, "wrong")
        await page.until("document.querySelector('[role=alert]')?.textContent.includes('wrong')")
        await sign_in(page)
        await page.until("document.body.textContent.includes('Signed in as')")


async def test_a_user_grants_a_code(tmp_path: Path) -> None:
    """From /authorize the browser goes to the client with it, past the pages' policy."""
    async with browser_of(tmp_path) as (stack, page, _):
        await page.open(browser_grants(stack.url, stack.redirect_uri)[0].command, width=390)
        await sign_in(page)
        await page.until("location.pathname === '/public/callback'")
        assert await page.evaluate("location.search.startsWith('?code=')")
