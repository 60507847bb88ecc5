"""The life of a token, played by real calls; every step has something that it must come to."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from gateway.clock import Clock
from gateway.demo.calls import Answer, Calls, opened_calls
from gateway.demo.grant_steps import GrantSteps
from gateway.demo.stack import CLIENT_ID, REDIRECT_URI, USERNAME, Stack
from gateway.demo.steps import Unexpected, check, masked
from gateway.demo.timeline import Timeline
from gateway.demo.window import Verdict, Window

Sleep = Callable[[float], Awaitable[None]]

_EXPIRY_SECONDS = 1.0
"""Expiry times are in whole seconds: a refresh so much later has a later one."""
_COUNTING_TRIES = 10
_COUNTING_SECONDS = 0.1


async def play(
    stack: Stack, timeline: Timeline, clock: Clock, *, sleep: Sleep = asyncio.sleep
) -> bool:
    """Play the story to its end, or to the first step that isn't as it should be.

    Returns whether every step was. ``sleep`` waits for seconds of ``clock``.
    """
    async with opened_calls(stack, clock) as calls:
        story = Story(
            calls,
            timeline,
            clock,
            sleep,
            max_age_seconds=stack.max_age_seconds,
            redirect_uri=stack.redirect_uri,
        )
        try:
            with timeline.running():
                await story.grants_bring_refresh_tokens()
                await story.refresh_token_is_replaced()
                await story.user_and_admin_revoke()
                await story.route_without_window()
                await story.route_with_window()
                await story.counters()
        except Unexpected as fault:
            timeline.failed(story.steps.name, fault.status, str(fault))
        except (aiohttp.ClientError, TimeoutError) as error:
            timeline.failed(story.steps.name, None, f"no answer: {type(error).__name__}")
        else:
            return True
    return False


class Story:
    """The chapters, each with tokens of its own.

    A used refresh token that is used again ends its grant, access tokens included (RFC 9700
    §4.14.2), and a route without a window lets the gateway know at once what other routes would
    have learned later. So no chapter goes on with the tokens of the one before.

    Every method raises ``Unexpected`` from a step that isn't as it should be.
    """

    def __init__(
        self,
        calls: Calls,
        timeline: Timeline,
        clock: Clock,
        sleep: Sleep,
        *,
        max_age_seconds: float,
        redirect_uri: str = REDIRECT_URI,
    ) -> None:
        self.steps = GrantSteps(calls, timeline, redirect_uri)
        self._calls = calls
        self._timeline = timeline
        self._clock = clock
        self._sleep = sleep
        self._max_age_seconds = max_age_seconds

    async def grants_bring_refresh_tokens(self) -> None:
        """A refresh token comes with every grant but the implicit one, where one is wanted."""
        steps = self.steps
        self._timeline.chapter("Every grant but the implicit one brings a refresh token")
        await steps.password_grant()
        await steps.client_grant()
        refresh = await steps.code_grant()
        await steps.refresh_grant(refresh)
        await steps.implicit_grant()
        await steps.grant_without_refresh()

    async def refresh_token_is_replaced(self) -> None:
        """Tokens are issued, used and refreshed; the old refresh token is no good any more."""
        steps = self.steps
        self._timeline.chapter("A refresh token is good for one use")
        access, refresh = await steps.sign_in()
        answer = await steps.accepted("/orders/1", access, "accepted over https")
        steps.identity(answer)
        before = await steps.expiry(refresh)
        await self._sleep(_EXPIRY_SECONDS)
        newer_access, newer_refresh = await steps.refresh(refresh)
        await steps.new_expiry(newer_refresh, before)
        await steps.accepted("/orders/2", newer_access, "accepted over http", tls=False)
        await steps.refresh_refused("old refresh", refresh, "invalid_grant: it was used before")
        says = "invalid_grant: the replay has ended the grant"
        await steps.refresh_refused("new refresh", newer_refresh, says)

    async def user_and_admin_revoke(self) -> None:
        """Who isn't the client revokes: the user on a page, an administrator by a call."""
        steps = self.steps
        self._timeline.chapter("Revoked by the user, and by an administrator")
        access = await steps.sign_in_for("write")
        await steps.accepted("/payments/1", access, "accepted")
        page = await steps.open_grants()
        page = await steps.user_revokes(page, "write")
        await steps.refused("/payments/1", access, "invalid_token")
        await steps.user_revokes_all(page)
        access = await steps.sign_in_for("write")
        await steps.admin_revokes(f"{masked(access)}, by the token", token=access)
        await steps.refused("/payments/1", access, "invalid_token")
        access = await steps.sign_in_for("write")
        await steps.admin_revokes(f"all that {USERNAME} granted", username=USERNAME)
        await steps.refused("/payments/1", access, "invalid_token")
        access = await steps.client_token()
        await steps.admin_revokes(f"all that {CLIENT_ID} has", client_id=CLIENT_ID)
        await steps.refused("/payments/1", access, "invalid_token")

    async def route_without_window(self) -> None:
        """Where max age is 0s a revoked token is refused at once."""
        self._timeline.chapter("Revoked, on a route without a window: /payments, max_age 0s")
        access, _ = await self.steps.sign_in()
        await self.steps.accepted("/payments/1", access, "accepted: the store was asked")
        await self.steps.revoke(access)
        await self.steps.refused("/payments/1", access, "invalid_token at once")

    async def route_with_window(self) -> None:
        """Elsewhere it is accepted until its facts lapse, and no longer."""
        promise = f"{self._max_age_seconds:g}s"
        self._timeline.chapter(f"Revoked, on a route with a window: /orders, max_age {promise}")
        access, _ = await self.steps.sign_in()
        answer = await self.steps.accepted("/orders/3", access, "accepted: validated just now")
        window = Window(answer.span, self._max_age_seconds)
        revoked = await self.steps.revoke(access)
        lapse = await self._wait_for_lapse(access, window)
        shortest, longest = window.measured(lapse.last_accepted.span, lapse.first_refused.span)
        exposure = lapse.last_accepted.span.sent - revoked.span.answered
        says = f"promised {promise}, measured {shortest:.2f}s to {longest:.2f}s"
        self.steps.done("window", says)
        self.steps.done("exposure", f"{exposure:.2f}s from the revocation to the last 200")

    async def counters(self) -> None:
        """The gateway has counted what was seen from outside."""
        self._timeline.chapter("What the gateway counted, by outcome (/metrics on the admin port)")
        self.steps.name = "counted"
        counted = await self._calls.counted()
        for _ in range(_COUNTING_TRIES):
            if counted >= self._calls.outcomes:  # others may be calling too: there can be more
                break
            # A request is counted when its answer is out, which may be just after it is here.
            await self._sleep(_COUNTING_SECONDS)
            counted = await self._calls.counted()
        for outcome, number in sorted(self._calls.outcomes.items()):
            if counted[outcome] < number:
                raise Unexpected(f"{outcome}: expected {number}, got {counted[outcome]}")
        says = ", ".join(f"{number} {outcome}" for outcome, number in counted.most_common())
        self.steps.done("counted", says)

    async def _wait_for_lapse(self, access: str, window: Window) -> "_Lapse":
        """Call until the revoked token is refused; the calls before must all have been accepted."""
        accepted: list[Answer] = []
        self.steps.name = "still accepted"
        answer = await self._call_in_window(access, window)
        for instant in window.poll_instants(self._clock.monotonic()):
            if answer.status != 200:
                break
            accepted.append(answer)
            self._show_wait(len(accepted), window)
            await self._sleep(max(0.0, instant - self._clock.monotonic()))
            answer = await self._call_in_window(access, window)
        if not accepted:
            says = "the window had closed before the first call: give a longer --max-age"
            raise Unexpected(says, answer.status)
        last = accepted[-1]
        calls = "1 call" if len(accepted) == 1 else f"{len(accepted)} calls"
        says = f"{calls}, the last {window.age(last.span):.2f}s after validation"
        self._timeline.done(self.steps.name, last.status, says)
        self.steps.name = "lapsed"
        says = f"invalid_token, {window.age(answer.span):.2f}s after validation"
        self._timeline.done(self.steps.name, answer.status, says)
        return _Lapse(last, answer)

    async def _call_in_window(self, access: str, window: Window) -> Answer:
        answer = await self._calls.get("/orders/3", access)
        if answer.status != 200:
            check(answer, status=401, error="invalid_token")
        verdict = window.judge(answer.span, accepted=answer.status == 200)
        if verdict is not Verdict.KEPT:
            says = f"{verdict.value}: {window.age(answer.span):.2f}s after validation"
            raise Unexpected(says, answer.status)
        return answer

    def _show_wait(self, accepted: int, window: Window) -> None:
        left = max(0.0, window.latest_lapse - self._clock.monotonic())
        self._timeline.waiting(
            self.steps.name,
            200,
            f"{accepted} since the revocation; lapses in {left:.1f}s",
            elapsed=self._max_age_seconds - left,
            total=self._max_age_seconds,
        )


@dataclass(frozen=True, slots=True)
class _Lapse:
    """The two answers between which the facts lapsed."""

    last_accepted: Answer
    first_refused: Answer
