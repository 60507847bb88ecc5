"""Steps of users and administrators against answers that aren't as they should be.

Those that are, ``test_story`` plays.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from clocks import FakeClock
from rich.console import Console

from gateway.demo.calls import Answer, Calls, Page
from gateway.demo.grant_steps import GrantSteps
from gateway.demo.steps import Unexpected
from gateway.demo.timeline import Timeline
from gateway.demo.window import Span

REDIRECT_URI = "http://127.0.0.1:8080/public/callback"
ALONE = Answer(200, Span(0.0, 0.0), {"access_token": "a"})
BOTH = Answer(200, Span(0.0, 0.0), {"access_token": "a", "refresh_token": "r"})
NOTHING = Answer(200, Span(0.0, 0.0), {"revoked": 0})
SHOWN = Page(200, '<dd>write</dd> name="grant" value="g"', "")

Play = Callable[[GrantSteps], Awaitable[Any]]


class Scripted(Calls):
    """Calls that all come to the same answer, and pages that come one after another."""

    def __init__(self, answer: Answer, pages: tuple[Page, ...]) -> None:
        self.answer = answer
        self.pages = list(pages)

    async def token(self, *_: object, **__: object) -> Answer:
        return self.answer

    revoke_as_admin = introspect = token

    async def page(self, *_: object, **__: object) -> Page:
        return self.pages.pop(0)


def sent_to(location: str) -> tuple[Page, ...]:
    """A page to sign in on, and where its form leads."""
    return Page(200, 'name="token" value="t"', ""), Page(303, "", location)


@pytest.mark.parametrize(
    ("play", "answer", "pages", "fault"),
    [
        (GrantSteps.password_grant, ALONE, (), "expected an access and a refresh token"),
        (GrantSteps.client_grant, ALONE, (), "expected an access and a refresh token"),
        (GrantSteps.grant_without_refresh, BOTH, (), "expected an access token, and no refresh"),
        (GrantSteps.code_grant, BOTH, (Page(500, "", ""),), "expected a page, got 500"),
        (GrantSteps.code_grant, BOTH, (SHOWN, Page(403, "", "")), "expected 303, got 403"),
        (GrantSteps.code_grant, BOTH, sent_to("https://evil.example/"), "expected to be sent to"),
        (GrantSteps.code_grant, BOTH, sent_to(f"{REDIRECT_URI}?state=x"), "with its state"),
        (GrantSteps.open_grants, BOTH, (*sent_to("./"), Page(200, "", "")), "the user's grants"),
        (lambda steps: steps.user_revokes(SHOWN, "read"), BOTH, (), "expected a grant to read"),
        (
            lambda steps: steps.user_revokes_all(SHOWN),
            BOTH,
            (Page(303, "", "./"), SHOWN),
            "expected no grants any more",
        ),
        (
            lambda steps: steps.admin_revokes("says", username="alice"),
            NOTHING,
            (),
            "expected something to be revoked",
        ),
        (lambda steps: steps.new_expiry("r", 7), NOTHING, (), "expected an expiry time"),
        (
            lambda steps: steps.new_expiry("r", 7),
            Answer(200, Span(0.0, 0.0), {"exp": 7}),
            (),
            "expected an expiry time after 00:00:07",
        ),
    ],
)
async def test_wrong(
    play: Play, answer: Answer, pages: tuple[Page, ...], fault: str, console: Console
) -> None:
    """A step that isn't as it should be says what was expected."""
    timeline = Timeline(console, FakeClock())
    with pytest.raises(Unexpected) as raised:
        await play(GrantSteps(Scripted(answer, pages), timeline, REDIRECT_URI))
    assert fault in str(raised.value)


async def test_implicit_with_a_refresh_token(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh token with the implicit grant is a fault."""
    monkeypatch.setattr("gateway.demo.grant_steps.secrets.token_urlsafe", lambda _: "s")
    pages = sent_to(f"{REDIRECT_URI}#state=s&access_token=a&refresh_token=r")
    steps = GrantSteps(Scripted(BOTH, pages), Timeline(console, FakeClock()), REDIRECT_URI)
    with pytest.raises(Unexpected, match="no refresh token"):
        await steps.implicit_grant()
