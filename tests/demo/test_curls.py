"""The commands that are printed, run as a person would."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import parse_qs, urlsplit

import pytest
from clocks import FakeClock
from demo.conftest import Shell

from gateway.demo.calls import opened_calls
from gateway.demo.curls import browser_grants, reference_curls, revocations, walkthrough
from gateway.demo.process import browsable
from gateway.demo.stack import PASSWORD, USERNAME, Stack

Run = Callable[..., AbstractAsyncContextManager[Stack]]


async def test_walkthrough(run: Run, shell: Shell, clock: FakeClock) -> None:
    """Pasted from top to bottom, the commands show what is said of them."""
    async with run(clock, max_age_seconds=900.0) as stack:
        curls = walkthrough(browsable(stack.tls_url), 900.0)
        sign_in, call, refresh, validate, revoke, still, lapsed, payments = curls
        assert await shell.paste(sign_in.command) == ""
        received = json.loads(await shell.paste(call.command))
        assert await shell.paste(refresh.command) == ""
        assert await shell.paste(validate.command) == "200\n"
        assert await shell.paste(revoke.command) == "200\n"
        clock.advance(899.0)
        assert await shell.paste(still.command) == "200\n"
        sleep, call_again = lapsed.command.split("\n", 1)
        clock.advance(float(sleep.removeprefix("sleep ")) - 899.0)
        refused = await shell.paste(call_again)
        assert await shell.paste(payments.command) == "200\n200\n401\n"
    identity = {
        name: value for name, value in received["headers"].items() if name.startswith("X-Token")
    }
    assert identity == {
        "X-Token-Client-Id": "demo-key",
        "X-Token-Subject": "alice",
        "X-Token-Scope": "read write",
    }
    assert (refused.split()[1], '"error": "invalid_token"' in refused) == ("401", True)


async def test_reference(stack: Stack, shell: Shell) -> None:
    """The reference's refresh and revoke work as they stand, once they are filled in."""
    url = browsable(stack.tls_url)
    refresh, revoke = (curl.command for curl in reference_curls(url))
    await shell.paste(walkthrough(url, 1.0)[0].command)
    await shell.paste('REFRESH=$(echo "$TOKENS" | field refresh_token)')
    refreshed = json.loads(await shell.paste(refresh.replace("<retoken>", "$REFRESH")))
    revoked = await shell.paste(revoke.replace("<access-token-to-be-revoked>", "$TOKEN"))
    assert ({"access_token", "refresh_token"} <= refreshed.keys(), revoked) == (True, "")


def test_reference_form() -> None:
    """They have the form that the reference documentation gives them."""
    refresh, revoke = (curl.command for curl in reference_curls("https://localhost:8443"))
    basic = '-H "Authorization: Basic ZGVtby1rZXk6ZGVtby1zZWNyZXQ="'
    assert refresh == (
        f'curl -k -d "grant_type=refresh_token&refresh_token=<retoken>" {basic} '
        '-H "Content-Type: application/x-www-form-urlencoded" https://localhost:8443/token'
    )
    assert revoke == (
        f'curl -k -d "token=<access-token-to-be-revoked>" {basic} https://localhost:8443/revoke'
    )


@pytest.mark.parametrize(
    ("seconds", "written"), [(15.0, "sleep 15\n"), (0.5, "sleep 0.5\n"), (1800.0, "sleep 1800\n")]
)
def test_wait(seconds: float, written: str) -> None:
    """The wait is as long as the window."""
    commands = [curl.command for curl in walkthrough("https://localhost:8443", seconds)]
    assert any(command.startswith(written) for command in commands)


def test_lines_fit() -> None:
    """No line of the walk-through is longer than a terminal is wide, nor ends in a space."""
    lines = [
        line
        for number, curl in enumerate(walkthrough("https://localhost:8443", 15.0), 1)
        for line in f"{number}. {curl.says}\n{curl.command}".split("\n")
    ]
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []


async def test_revocations(stack: Stack, shell: Shell, clock: FakeClock) -> None:
    """The user's page is where it is said to be, and the administrator's command ends grants."""
    url = browsable(stack.tls_url)
    page, admin = (curl.command for curl in revocations(url))
    await shell.paste(walkthrough(url, 1.0)[0].command)
    assert await shell.paste(admin) == '{"revoked": 1}'
    async with opened_calls(stack, clock) as calls:
        opened = await calls.page(urlsplit(page).path)
    assert (opened.status, "Your grants" in opened.text) == (200, True)


async def test_browser_grants(stack: Stack, shell: Shell, clock: FakeClock) -> None:
    """What is opened gives a code and a token, and the command redeems the code."""
    code, redeem, token = (
        curl.command for curl in browser_grants(browsable(stack.tls_url), stack.redirect_uri)
    )
    allowed = []
    async with opened_calls(stack, clock) as calls:
        for opened in (code, token):
            path = opened.removeprefix(browsable(stack.tls_url))
            page = await calls.page(path)
            form = {"username": USERNAME, "password": PASSWORD, "decision": "allow"}
            form["token"] = page.text.partition('name="token" value="')[2].partition('"')[0]
            allowed.append(urlsplit((await calls.page(path, form)).location))
    (given,) = parse_qs(allowed[0].query)["code"]
    tokens = json.loads(await shell.paste(redeem.replace("<code>", given)))
    assert {"access_token", "refresh_token"} <= tokens.keys()
    implicit = parse_qs(allowed[1].fragment).keys()
    assert ("access_token" in implicit, "refresh_token" in implicit) == (True, False)
