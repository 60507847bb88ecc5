"""A 2xx to a revocation means that the token is gone, whoever waits where (decision 0016)."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from revocation_machine import RevocationMachine

from gateway import recording
from gateway.errors import StoreUnavailable
from gateway.grant_book import GrantBook
from gateway.grants import Grant
from gateway.issued import Issued
from gateway.recording import Recorder, Revocation
from gateway.store import TokenStore

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.mark.timeout(3600 if LONG else 120)
def test_nothing_brings_back_what_a_2xx_said_is_gone() -> None:
    """Issue, refresh, revoke, stall, fail, recover: the store never has more than is true."""
    run_state_machine_as_test(
        RevocationMachine,
        settings=settings(
            max_examples=3_000 if LONG else 60,
            stateful_step_count=30,
            deadline=None,
            derandomize=not LONG,
            suppress_health_check=list(HealthCheck),
        ),
    )


def remove(store: TokenStore, lives_seconds: Any) -> Any:
    return store.delete(list(lives_seconds))


async def write_over(store: TokenStore, documents: Any) -> list[bool]:
    for new in documents:
        await store.put(new.key, new.document, expires_in_seconds=new.expires_in_seconds)
    return [True] * len(documents)


_end, _judge_link, _plan = GrantBook.end, GrantBook._judge, GrantBook._plan


async def end_what_is_known(book: GrantBook, key: Any, grant: Grant, **more: Any) -> Any:
    return {} if grant == Grant() else await _end(book, key, grant, **more)


async def end_one(book: GrantBook, key: Any, grant: Grant, **more: Any) -> Any:
    await _end(book, key, grant, **more)
    return grant.access


async def end_without_a_look_back(book: GrantBook, plan: Any, found: Any) -> Any:
    linked = await _judge_link(book, plan, found)
    linked.has_ended = False
    return linked


async def forget_who_was_revoked(book: GrantBook, plan: Any, found: Any) -> Any:
    linked = await _judge_link(book, plan, found)
    linked.doomed = {}
    return linked


def plan_without_family(book: GrantBook, token: Any, known: Any) -> Any:
    plan = _plan(book, token, known)
    new = plan._updates.get(token.refresh_key)
    if new is not None and "family" in new.fields:
        fields = {name: value for name, value in new.fields.items() if name != "family"}
        fields[token.key.hex()] = str(token.exp)
        plan._updates[token.refresh_key] = replace(new, fields=fields)
    return plan


_revoke, _completed = Recorder.revoke, Issued.completed


def believe_the_client(issued: Issued, grant: Grant) -> Issued:
    completed = _completed(issued, grant)
    return replace(completed, scope=issued.requested_scope or completed.scope)


async def revoke_and_hope(recorder: Recorder, *keys: Any, **more: Any) -> None:
    with contextlib.suppress(StoreUnavailable):
        await _revoke(recorder, *keys, **more)


ALIVE = "is back after a 2xx|still there"
FAULTS: dict[str, tuple[Any, str, Any, str]] = {
    "a revocation removes": (TokenStore, "end", remove, ALIVE),
    "a recording writes over": (TokenStore, "record", write_over, ALIVE),
    "what isn't known isn't marked": (GrantBook, "end", end_what_is_known, ALIVE),
    "a refresh token has only its own": (GrantBook, "end", end_one, ALIVE),
    "a recording doesn't look at marks": (GrantBook, "_judge", end_without_a_look_back, ALIVE),
    "a mark isn't carried on": (GrantBook, "_judge", forget_who_was_revoked, ALIVE),
    "a refresh token begins anew": (GrantBook, "_plan", plan_without_family, ALIVE),
    "a token is held for ever": (recording, "HELD_SECONDS", 1e9, ALIVE),
    "an end is forgotten at once": (recording, "ENDED_SECONDS", 1.0, ALIVE),
    "a failure is a success": (Recorder, "revoke", revoke_and_hope, ALIVE),
    "anyone may revoke": (Revocation, "may_end", lambda *_: True, "nobody has them"),
    "the wish of a client counts": (Issued, "completed", believe_the_client, "more scope"),
}


@pytest.mark.once("it is the test that is tested")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", FAULTS)
def test_finds_a_planted_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any one of them, some order of events breaks the promise in the way that one would."""
    where, name, instead, complaint = FAULTS[fault]
    monkeypatch.setattr(where, name, instead)
    machine = type("FaultyMachine", (RevocationMachine,), {})
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=2_000,
                stateful_step_count=30,
                phases=[Phase.generate],
                deadline=None,
                database=None,
                derandomize=True,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
