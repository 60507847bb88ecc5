"""How many connections an upstream may have, beside others that take what they get."""

import asyncio
from typing import Any

import pytest
from backends import Connection, recording, scripted
from hypothesis import given
from hypothesis import strategies as st
from proxy.gateways import FAST_LANE, HANDLER_LANE, running, until
from wire import fetch, request

from gateway.shares import entitlement, room


@pytest.mark.parametrize(
    ("limit", "used", "own", "others", "upstreams", "more"),
    [
        # One upstream has all.
        (1000, 0, 0, [], 1, 1000),
        (1000, 1000, 1000, [], 1, 0),
        # Of two, each is entitled to an eighth.
        (1000, 0, 0, [], 2, 1000),
        (1000, 500, 500, [], 2, 375),
        (1000, 875, 875, [], 2, 0),
        (1000, 875, 0, [875], 2, 125),
        (1000, 999, 124, [875], 2, 1),
        (1000, 1000, 125, [875], 2, 0),
        (1000, 500, 250, [250], 2, 500),
        # Many that take all they get leave the last one its share.
        (1000, 775, 775, [], 10, 0),
        (1000, 975, 100, [100] * 8 + [75], 10, 25),
        (1000, 975, 0, [100] * 9 + [75], 11, 25),
        # A limit that is too small to be shared.
        (7, 6, 6, [], 2, 1),
        (7, 7, 0, [7], 2, 0),
    ],
)
def test_room(
    limit: int, used: int, own: int, others: list[int], upstreams: int, more: int
) -> None:
    """All that is free, but for what others are entitled to and don't have."""
    assert room(limit, used=used, own=own, others=others, upstreams=upstreams) == more


@given(
    limit=st.integers(1, 200),
    upstreams=st.integers(1, 8),
    asked=st.lists(st.integers(0, 7), max_size=400),
)
def test_whoever_is_entitled_finds_room(limit: int, upstreams: int, asked: list[int]) -> None:
    """However the others ask, and never are there more than the limit."""
    counts = [0] * upstreams

    def may(index: int) -> bool:
        others = [count for at, count in enumerate(counts) if at != index and count]
        return (
            room(
                limit,
                used=sum(counts),
                own=counts[index],
                others=others,
                upstreams=upstreams,
            )
            > 0
        )

    for index in (each % upstreams for each in asked):
        if may(index):
            counts[index] += 1
        assert sum(counts) <= limit
    for index in range(upstreams):
        while counts[index] < entitlement(limit, upstreams):
            assert may(index)
            counts[index] += 1


async def _silent(connection: Connection) -> None:
    await connection.head()
    await connection.rest()


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handlers"])
async def test_a_silent_upstream_leaves_others_their_connections(lane: dict[str, Any]) -> None:
    """Two that hold all they get don't keep a third one's route from being answered."""
    async with (
        scripted(_silent) as silent,
        scripted(_silent) as other,
        recording() as good,
    ):
        upstreams = {"/silent": silent.url, "/other": other.url, "/good": good.url}
        routes = [
            {"path": path, "upstream": url, "public": True} for path, url in upstreams.items()
        ]
        limits = {"upstream_connections": 12}
        async with running(good.url, proxy=lane, routes=routes, limits=limits) as gateway:
            held = [
                asyncio.create_task(fetch(gateway.url, request(path, token=None)))
                for path in ("/silent", "/other") * 20
            ]
            await until(lambda: len(silent.connections) + len(other.connections) == 11)
            for _ in range(3):
                assert (await fetch(gateway.url, request("/good", token=None))).status == 200
            assert [task for task in held if task.done()] == []
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)


@pytest.mark.parametrize("lane", [FAST_LANE, HANDLER_LANE], ids=["fast", "handlers"])
async def test_an_upstream_alone_has_all_connections(lane: dict[str, Any]) -> None:
    """Nothing is kept for others that there aren't."""
    async with (
        scripted(_silent) as silent,
        running(silent.url, proxy=lane, limits={"upstream_connections": 4}) as gateway,
    ):
        held = [asyncio.create_task(fetch(gateway.url, request("/"))) for _ in range(4)]
        await until(lambda: len(silent.connections) == 4)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
