"""What each of two gateways did, as plain values, and what is not the same in both.

A backend's own dates are of another century than the gateways', whose are left aside.
"""

import re
from collections.abc import Callable, Sequence
from difflib import unified_diff
from pprint import pformat
from typing import Any

from lanes.messages import Message, take_message
from lanes.pair import Lane, Pair

CUT_OFF = "cut off"
_MADE_UP = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_DATE = re.compile(rb"(?<=\nDate: )[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} 20[0-9]{2} [0-9:]{8} GMT")
_WEBSOCKET_KEY = re.compile(rb"(?i)(?<=sec-websocket-key: )[^\r]*")


class Account:
    """What one gateway did, as plain values; what is made up at random is only numbered."""

    def __init__(self, lane: Lane, heads: Sequence[bool] = ()) -> None:
        self._lane = lane
        self._heads = heads
        self._made_up: dict[bytes, bytes] = {}

    def answers(self) -> list[Any]:
        """Return what the client got: header sections as they are, content, and whether whole."""
        client = self._lane.client
        found: list[Any] = []
        rest, heads = client.stream, list(self._heads)
        while rest:
            try:
                to_head = heads[0] if heads else False
                message, rest = take_message(
                    rest, answer=True, to_head=to_head, ended=client.end == "closed"
                )
                if message.body is not None and message.status >= 200:
                    heads = heads[1:]
            except (ValueError, IndexError):
                found.append(self._without_chance(rest))
                break
            found.append(self._message(message))
        return found

    def requests(self) -> list[Any]:
        """Return what the backend got."""
        return [self._message(message) for message in self._lane.backend.requests]

    def log(self) -> list[dict[str, Any]]:
        """Return what was logged, but for durations, and what a library calls its errors."""
        return [
            {
                name: self._without_chance(value.encode()) if isinstance(value, str) else value
                for name, value in record.items()
                if name not in {"duration_ms", "error", "exc_info"}
            }
            for record in self._lane.log
        ]

    def _message(self, message: Message) -> list[Any]:
        head = self._without_chance(message.head).splitlines(keepends=True)
        body = message.body and self._without_chance(message.body)
        return [head, body, message.trailer, "whole" if message.whole else CUT_OFF]

    def _without_chance(self, data: bytes) -> bytes:
        data = _DATE.sub(b"<date>", _WEBSOCKET_KEY.sub(b"<key>", data))
        return _MADE_UP.sub(self._numbered, data)

    def _numbered(self, found: re.Match[bytes]) -> bytes:
        return self._made_up.setdefault(found[0], b"<id %d>" % len(self._made_up))


def compared(pair: Pair, tell: Callable[[Lane], dict[str, Any]], *, of: object) -> None:
    """Fail unless there is the same to tell of both gateways.

    How much came of an answer before it was cut off is a matter of timing; so is how many bytes
    a chunked one took.
    """
    fast, handler = (tell(lane) for lane in pair.lanes)
    for one, other in zip(fast["answers"], handler["answers"], strict=False):
        if one[-1] == other[-1] == CUT_OFF and one[0] == other[0]:
            _even_out(one, other)
    if any(_is_elastic(answer) for told in (fast, handler) for answer in told["answers"]):
        for record in [*fast["log"], *handler["log"]]:
            record.pop("bytes_sent", None)
    if fast != handler:
        raise AssertionError(f"{of}\n{_differences(handler, fast)}")


def _differences(handler: dict[str, Any], fast: dict[str, Any]) -> str:
    return "\n".join(
        line
        for name in handler
        if handler[name] != fast[name]
        for line in unified_diff(
            pformat(handler[name], width=100).splitlines(),
            pformat(fast[name], width=100).splitlines(),
            f"{name} of the handler lane",
            f"{name} of the fast lane",
            lineterm="",
        )
    )


def _even_out(one: list[Any], other: list[Any]) -> None:
    shorter, longer = sorted([one[1] or b"", other[1] or b""], key=len)
    if longer.startswith(shorter):
        one[1] = other[1] = shorter


def _is_elastic(answer: Any) -> bool:
    chunked = b"Transfer-Encoding: chunked\r\n"
    return isinstance(answer, list) and (answer[-1] == CUT_OFF or chunked in answer[0])
