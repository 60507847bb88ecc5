"""Whatever a client sends, both lanes make the same of it: upstream, for the client, in the log."""

from typing import Any

import pytest
from hypothesis import given

from lanes.account import Account, compared
from lanes.asking import (
    GOOD,
    ODDITIES,
    WORLDS,
    Talk,
    build,
    distinct,
    header_lines,
    talk_of,
    talks,
)
from lanes.examples import many_examples
from lanes.pair import Lane, Pair, Pairs

NEXT = b"GET /orders/next HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\n\r\n"


@many_examples
@given(talk=talks())
def test_both_lanes_make_the_same_of_a_request(pairs: Pairs, talk: Talk) -> None:
    """The same reaches the backend, the client, the metrics and the log, and the same closes."""
    _compare(pairs, talk)


@pytest.mark.parametrize("respect", ODDITIES)
def test_each_oddity_alone(pairs: Pairs, respect: str) -> None:
    """What a request may be in one respect makes no difference, by any settings, cached or not."""
    for world in WORLDS:
        for oddity in distinct(ODDITIES[respect]):
            part = GOOD | {respect: oddity}
            ask = build(part, header_lines(part))
            _compare(pairs, talk_of(ask, world))
            if respect in {"token", "authorization"}:
                _compare(pairs, talk_of(ask, world, cached=False))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_split(pairs: Pairs, method: str) -> None:
    """A request may come in two segments, wherever it is split."""
    part = GOOD | {"method": method}
    if method == "POST":
        part["body"] = ([b"Content-Length: 5"], b"hello")
    ask = build(part, header_lines(part))
    for cut in range(1, len(ask.data)):
        _compare(pairs, talk_of(ask, cut=cut))


def _compare(pairs: Pairs, talk: Talk) -> None:
    heads = [ask.to_head for ask in talk.asks]
    with pairs.talking(talk.world, talk.setting) as pair:
        _hold(pair, talk)
        ends = _wait(pair)

        def tell(lane: Lane) -> dict[str, Any]:
            account = Account(lane, heads)
            return {
                "answers": account.answers(),
                "ends": ends[lane],
                "requests": account.requests(),
                "log": account.log(),
                "counted": lane.counted(),
            }

        compared(pair, tell, of=talk)


def _hold(pair: Pair, talk: Talk) -> None:
    for lane in pair.lanes:
        lane.backend.holds = talk.held
    for segment in talk.segments:
        pair.send(segment, settle=talk.apart)
    pair.loop.settle()
    for lane in pair.lanes:
        if talk.ending == "leave":
            lane.client.transport.feed_eof()
        elif talk.ending == "vanish":
            lane.client.transport.feed_reset()
    for lane in pair.lanes:
        lane.backend.holds = False
    pair.loop.settle()
    pair.go_on()


def _wait(pair: Pair) -> dict[Lane, list[str]]:
    """Return how each connection stands: at once, in some seconds, asked once more, after long."""
    ends: dict[Lane, list[str]] = {lane: [] for lane in pair.lanes}

    def look() -> None:
        for lane in pair.lanes:
            ends[lane].append(lane.client.end)

    look()
    pair.loop.advance(3)
    look()
    pair.send(NEXT)
    look()
    pair.loop.advance(100)
    look()
    return ends
