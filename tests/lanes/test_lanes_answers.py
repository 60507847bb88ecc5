"""Whatever a backend answers, both lanes make the same of it for the client, and go on alike."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given

from lanes.account import Account, compared
from lanes.answering import (
    ASKS,
    GOOD,
    ODDITIES,
    Answer,
    answers,
    build,
    fitting,
    header_lines,
    plain,
)
from lanes.asking import distinct
from lanes.examples import many_examples
from lanes.far_ends import Reply, good_answer
from lanes.messages import Message
from lanes.pair import Lane, Pair, Pairs, Setting

WHOLE = [
    ([b"Content-Length: 5"], b"hello"),
    ([b"Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"),
    ([], b"until the end"),
]


@many_examples
@given(answer=answers())
@example(answer=plain(b"H", b"TTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"hellox"))
def test_both_lanes_make_the_same_of_an_answer(pairs: Pairs, answer: Answer) -> None:
    """The client gets the same, as does its next request; the backend is asked as often."""
    _compare(pairs, answer)


@pytest.mark.parametrize("respect", ODDITIES)
def test_each_oddity_alone(pairs: Pairs, respect: str) -> None:
    """What an answer may be in one respect makes no difference, whatever was asked."""
    for asked in ("GET", "HEAD", "POST", "GET on HTTP/1.0, kept alive"):
        for oddity in distinct(ODDITIES[respect]):
            part = GOOD | {respect: oddity}
            said = [build(fit, header_lines(fit)) for fit in (fitting(part, asked), part)]
            for data in dict.fromkeys(said):
                _compare(pairs, plain(data, asked=asked, then=part["then"]))


@pytest.mark.parametrize("content", range(len(WHOLE)))
def test_every_split_and_every_end(pairs: Pairs, content: int) -> None:
    """An answer may come in two pieces, or break off, after whichever byte, on a new connection."""
    part = GOOD | {"content": WHOLE[content]}
    data = build(part, header_lines(part))
    for cut in range(len(data) + 1):
        _compare(pairs, plain(data[:cut], data[cut:]))
        _compare(pairs, plain(data[:cut]))
        _compare(pairs, plain(data[:cut], then="close"))
        _compare(pairs, plain(data[:cut], then="reset"))


@pytest.mark.parametrize("asked", ["GET", "POST"])
def test_every_end_on_a_used_connection(pairs: Pairs, asked: str) -> None:
    """What may be asked again is, in the same cases, when a connection ends that was idle."""
    data = build(GOOD, header_lines(GOOD))
    for cut in range(len(data) + 1):
        _compare(pairs, plain(data[:cut], asked=asked, then="close", connected=True))
        _compare(pairs, plain(data[:cut], asked=asked, then="reset", connected=True))


def _compare(pairs: Pairs, answer: Answer) -> None:
    heads = [answer.asked.startswith("HEAD"), False]
    with pairs.talking("default", Setting(["good"], connected=answer.connected)) as pair:
        ends = _hold(pair, answer)

        def tell(lane: Lane) -> dict[str, Any]:
            account = Account(lane, heads)
            return {
                "answers": account.answers(),
                "ends": ends[lane],
                "requests": [
                    # What answers ahead of the content may close before all of it is sent.
                    [head] if answer.early else [head, *rest]
                    for head, *rest in account.requests()
                ],
                "log": account.log(),
                "counted": lane.counted(),
            }

        compared(pair, tell, of=answer)


def _hold(pair: Pair, answer: Answer) -> dict[Lane, list[str]]:
    """Ask, have it answered, and ask once more; return how each connection stood meanwhile."""
    ends: dict[Lane, list[str]] = {lane: [] for lane in pair.lanes}

    def look() -> None:
        for lane in pair.lanes:
            ends[lane].append(lane.client.end)

    for lane in pair.lanes:
        lane.backend.early = answer.early
        lane.backend.answer = _saying(answer.reply, again=answer.again)
    pair.send(ASKS[answer.asked])
    pair.go_on()
    look()
    pair.loop.advance(70)  # longer than limits.read_timeout, shorter than limits.idle_timeout
    look()
    for lane in pair.lanes:
        lane.backend.answer = good_answer
    pair.send(ASKS["GET"])
    look()
    pair.loop.advance(100)
    look()
    return ends


def _saying(reply: Reply, *, again: bool) -> Callable[[Message], Reply]:
    said: list[Reply] = []

    def answer(request: Message) -> Reply:
        if said and not again:
            return good_answer(request)
        said.append(reply)
        return reply

    return answer
