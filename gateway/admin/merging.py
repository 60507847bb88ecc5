"""The answers of several workers' admin APIs, made one.

Pure: documents in, a document out. A token that several workers have cached is one token, which
passes until the last of them lets it lapse, and has passed as often as it has at all of them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web

from gateway.admin.access import CHALLENGE
from gateway.admin.answers import NO_STORE
from gateway.admin.fleet import WorkerAnswer
from gateway.admin.state import MOST_SHOWN

State = dict[str, Any]


def merge_states(states: Sequence[State]) -> State:
    """Return the states of workers as that of one gateway; at least one is needed.

    What is counted is summed, what can be wrong is as wrong as at the worst.
    """
    first = states[0]
    lags = [state["feed"]["lag_seconds"] for state in states]
    known_lags = [lag for lag in lags if lag is not None]
    caches = [state["cache"] for state in states]
    counts = ("entries", "negative_entries", "hits", "negative_hits", "misses")
    return {
        **first,
        "at": max(state["at"] for state in states),
        "uptime_seconds": max(state["uptime_seconds"] for state in states),
        "feed": {
            "enabled": first["feed"]["enabled"],
            "up": all(state["feed"]["up"] for state in states),
            "lag_seconds": max(known_lags, default=None),
        },
        "store": {"reachable": all(state["store"]["reachable"] for state in states)},
        "traffic": {"by_route": _sum_by_route(state["traffic"]["by_route"] for state in states)},
        "cache": {
            **{name: sum(cache[name] for cache in caches) for name in counts},
            "evictions": _sum(cache["evictions"] for cache in caches),
        },
        "revoked": _merge_revoked([state["revoked"] for state in states]),
        "exposure": _merge_exposures([state["exposure"] for state in states]),
    }


def combine_states(answers: Sequence[WorkerAnswer]) -> web.Response:
    """Answer ``GET /api/state`` for all workers; one that doesn't answer is left out."""
    good = [json.loads(answer.body) for answer in answers if answer.status == 200]
    if not good:
        return _worst(answers)
    return _answer(merge_states(good))


def combine_evictions(answers: Sequence[WorkerAnswer]) -> web.Response:
    """Answer ``POST /api/evict``: all have evicted, or the worst answer says what is wrong."""
    if any(answer.status != 200 for answer in answers):
        return _worst(answers)
    told = [json.loads(answer.body) for answer in answers]
    return _answer({**told[0], "evicted": sum(one["evicted"] for one in told)})


def _worst(answers: Sequence[WorkerAnswer]) -> web.Response:
    response = max(answers, key=lambda answer: answer.status).response()
    if response.status == 401:
        response.headers.update(CHALLENGE)
    return response


def _answer(document: dict[str, Any]) -> web.Response:
    return web.json_response(document, headers=NO_STORE)


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _sum_by_route(routes: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for each in routes:
        for route, outcomes in each.items():
            total[route] = _sum([total.get(route, {}), outcomes])
    return total


def _merge_revoked(books: Sequence[dict[str, Any]]) -> dict[str, Any]:
    tokens: dict[str, dict[str, Any]] = {}
    for token in (token for book in books for token in book["tokens"]):
        key = token["token_key"]
        tokens[key] = _merge_token(tokens[key], token) if key in tokens else token
    # Of those that aren't shown nobody knows whether two workers mean the same.
    left_out = sum(book["left_out"] for book in books)
    shown = sorted(tokens.values(), key=lambda token: (token["lapses_at"], token["token_key"]))
    shown = shown[:MOST_SHOWN]
    count = len(tokens) + left_out
    return {"count": count, "left_out": count - len(shown), "tokens": shown}


def _merge_token(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    lasts = [at for at in (one["last_accept_at"], other["last_accept_at"]) if at is not None]
    return {
        **one,
        "client_id": one["client_id"] or other["client_id"],
        "revoked_at": min(one["revoked_at"], other["revoked_at"]),
        "lapses_at": max(one["lapses_at"], other["lapses_at"]),
        "stale_accepts": one["stale_accepts"] + other["stale_accepts"],
        "last_accept_at": max(lasts, default=None),
    }


def _merge_exposures(exposures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    # All run the same code, so all have the same buckets.
    return {
        "le": exposures[0]["le"],
        "counts": [
            sum(column) for column in zip(*(each["counts"] for each in exposures), strict=True)
        ],
        "sum": sum(each["sum"] for each in exposures),
        "count": sum(each["count"] for each in exposures),
    }
