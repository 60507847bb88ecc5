"""Each step against answers that are right, and against such as are not."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from clocks import FakeClock
from rich.console import Console

from gateway.demo.calls import Answer, Calls
from gateway.demo.steps import Steps, Unexpected, masked
from gateway.demo.timeline import Timeline
from gateway.demo.window import Span

TOKENS = {"access_token": "access-1234567890", "refresh_token": "refresh-1234567890"}
IDENTITY = {
    "X-Token-Client-Id": "demo-key",
    "X-Token-Subject": "alice",
    "X-Token-Scope": "read write",
}

Play = Callable[[Steps], Awaitable[Any]]


class Answering(Calls):
    """Calls that all come to the same answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def token(self, *_: object, **__: object) -> Answer:
        return self.answer

    revoke = get = token


def answer(status: int, **members: Any) -> Answer:
    return Answer(status, Span(0.0, 0.0), members)


def steps_on(given: Answer, console: Console) -> Steps:
    return Steps(Answering(given), Timeline(console, FakeClock()))


async def sign_in(steps: Steps) -> Any:
    return await steps.sign_in()


async def refresh(steps: Steps) -> Any:
    return await steps.refresh("old-1234567890")


async def refresh_refused(steps: Steps) -> None:
    await steps.refresh_refused("old refresh", "old-1234567890", "says")


async def accepted(steps: Steps) -> Any:
    return await steps.accepted("/orders", "access-1234567890", "says")


async def refused(steps: Steps) -> Any:
    return await steps.refused("/orders", "access-1234567890", "says")


async def revoke(steps: Steps) -> Any:
    return await steps.revoke("access-1234567890")


async def identity(steps: Steps) -> None:
    steps.identity(await steps.accepted("/orders", "access-1234567890", "says"))


@pytest.mark.parametrize(
    ("play", "given", "row"),
    [
        (sign_in, answer(200, **TOKENS), "issue           200  alice gets access…"),
        (refresh, answer(200, **TOKENS), "refresh         200  new tokens: access…"),
        (refresh_refused, answer(400, error="invalid_grant"), "old refresh     400  says"),
        (accepted, answer(200), "call            200  /orders says"),
        (refused, answer(401, error="invalid_token"), "call            401  /orders says"),
        (revoke, answer(200), "revoke          200  access… is gone"),
        (identity, answer(200, headers=IDENTITY), "backend sees         demo-key, alice, read"),
    ],
)
async def test_right(play: Play, given: Answer, row: str, console: Console) -> None:
    """A step that is as it should be gets its row, without a whole token."""
    await play(steps_on(given, console))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert (row in written, "1234567890" in written) == (True, False)


@pytest.mark.parametrize(
    ("play", "given", "fault"),
    [
        (sign_in, answer(401, error="invalid_client"), "expected 200, got 401 invalid_client"),
        (sign_in, answer(200, access_token="a"), "expected an access and a refresh token"),
        (refresh, answer(400, error="invalid_grant"), "expected 200, got 400 invalid_grant"),
        (
            refresh,
            answer(200, access_token="a", refresh_token="old-1234567890"),
            "expected a new refresh token, got the old one",
        ),
        (refresh_refused, answer(200, **TOKENS), "expected 400 invalid_grant, got 200"),
        (
            refresh_refused,
            answer(400, error="invalid_request"),
            "expected 400 invalid_grant, got 400 invalid_request",
        ),
        (accepted, answer(401, error="invalid_token"), "expected 200, got 401 invalid_token"),
        (refused, answer(200), "expected 401 invalid_token, got 200"),
        (refused, answer(401), "expected 401 invalid_token, got 401"),
        (revoke, answer(503), "expected 200, got 503"),
        (
            identity,
            answer(200, headers=IDENTITY | {"X-Token-Subject": "mallory"}),
            "expected the client, the user and the scopes that signed in",
        ),
        (identity, answer(200), "expected the client, the user and the scopes that signed in"),
        (
            identity,
            answer(200, headers=IDENTITY | {"authorization": "Bearer x"}),
            "expected no Authorization header",
        ),
    ],
)
async def test_wrong(play: Play, given: Answer, fault: str, console: Console) -> None:
    """A step that isn't as it should be says what was expected."""
    with pytest.raises(Unexpected) as raised:
        await play(steps_on(given, console))
    assert str(raised.value) == fault


@pytest.mark.parametrize(("token", "shown"), [("abcdefghij", "abcdef…"), ("abc", "abc…")])
def test_masked(token: str, shown: str) -> None:
    """Of a token no more than six characters are shown."""
    assert masked(token) == shown
