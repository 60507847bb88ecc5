"""The states of several workers as one."""

import json
from typing import Any

import pytest
from clocks import FakeClock
from watched import WatchedGateway, busy, revoked

from gateway.admin.fleet import WorkerAnswer
from gateway.admin.merging import combine_evictions, combine_states, merge_states
from gateway.admin.state import describe

NOW = FakeClock().wall()


def state(**changes: Any) -> dict[str, Any]:
    """Return what a busy worker tells, as it comes over HTTP."""
    gateway = WatchedGateway(tally=busy(), **changes)
    told: dict[str, Any] = json.loads(json.dumps(describe(gateway)))
    return told


def answer(document: Any, status: int = 200) -> WorkerAnswer:
    return WorkerAnswer(1, status, json.dumps(document).encode())


def test_one_state_is_itself() -> None:
    """A gateway that has lost all workers but one."""
    assert merge_states([state()]) == state()


def test_what_is_counted_is_summed() -> None:
    """Traffic, cache and exposures; bounds stay what they are."""
    merged, one = merge_states([state(), state()]), state()
    assert merged["traffic"]["by_route"] == {"orders": {"proxied": 2000, "invalid_token": 40}}
    assert merged["cache"]["hits"] == 2 * one["cache"]["hits"]
    assert merged["cache"]["evictions"] == {"size": 4, "revoked": 2}
    assert merged["exposure"] == {
        "le": [0.1, 1.0, 10.0],
        "counts": [2, 0, 4, 2],
        "sum": 63.0,
        "count": 8,
    }
    assert merged["routes"] == one["routes"]


def test_what_is_wrong_with_one_is_wrong() -> None:
    """A feed or a store that one worker has lost."""
    lost = state(store_reachable=False)
    lost["feed"] = {"enabled": True, "up": False, "lag_seconds": 9.0}
    merged = merge_states([state(), lost])
    assert merged["store"] == {"reachable": False}
    assert merged["feed"] == {"enabled": True, "up": False, "lag_seconds": 9.0}


def test_a_token_of_two_workers_is_one() -> None:
    """It passes until the last lets it lapse, and has passed at both."""
    mine = revoked("a", at=NOW - 5, lapses_in=10, accepts=2)
    theirs = revoked("a", at=NOW - 4, lapses_in=20)
    other = revoked("b", at=NOW, lapses_in=7)
    merged = merge_states([state(book=[mine]), state(book=[theirs, other])])["revoked"]
    assert (merged["count"], merged["left_out"]) == (2, 0)
    assert merged["tokens"][1] == {
        "token_key": mine.key.hex(),
        "client_id": "client-a",
        "revoked_at": "2023-11-14T22:13:15.000Z",
        "lapses_at": "2023-11-14T22:13:36.000Z",
        "stale_accepts": 2,
        "last_accept_at": "2023-11-14T22:13:16.000Z",
    }


def test_no_more_are_shown_than_of_one_worker() -> None:
    """And it is said how many are left out."""
    books = [[revoked(f"{name}{n}", at=NOW, lapses_in=n) for n in range(80)] for name in ("a", "b")]
    merged = merge_states([state(book=book) for book in books])["revoked"]
    assert (merged["count"], merged["left_out"], len(merged["tokens"])) == (160, 60, 100)


@pytest.mark.parametrize("combine", [combine_states, combine_evictions])
def test_a_refusal_is_passed_on(combine: Any) -> None:
    """All workers refuse alike, for want of the token for example."""
    response = combine([answer({"error": "unauthorized"}, 401)] * 2)
    assert (response.status, json.loads(response.body)) == (401, {"error": "unauthorized"})
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="gateway admin"'


def test_a_worker_that_does_not_answer_is_left_out_of_the_state() -> None:
    """The others' is better than none."""
    response = combine_states([answer(state()), WorkerAnswer(2, 504)])
    assert (response.status, json.loads(response.text or "")) == (200, state())


def test_an_eviction_has_evicted_everywhere_or_says_so() -> None:
    """Summed; a worker that didn't answer may hold the token still."""
    told = {"scope": "gateway", "by": "all", "evicted": 3}
    response = combine_evictions([answer(told), answer(told)])
    assert json.loads(response.text or "") == told | {"evicted": 6}
    assert combine_evictions([answer(told), WorkerAnswer(2, 504)]).status == 504
