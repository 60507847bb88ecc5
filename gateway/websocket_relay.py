"""What becomes of a WebSocket's frames between its two ends, and how it ends.

Pure: no I/O, no asyncio, no aiohttp. Whatever an end says, or that it is gone, leads to bytes for
one end or both.
"""

from collections.abc import Callable
from enum import Enum

from gateway.websocket_frames import (
    BAD_GATEWAY,
    CLOSE,
    GOING_AWAY,
    MESSAGE_TOO_BIG,
    Close,
    FrameReader,
    Mask,
    Piece,
    Violation,
    frame,
    masked_purely,
)


class End(Enum):
    """An end of a WebSocket."""

    CLIENT = "client"
    UPSTREAM = "upstream"

    @property
    def other(self) -> "End":
        """The end at the other side of the gateway."""
        return End.UPSTREAM if self is End.CLIENT else End.CLIENT


Writes = dict[End, bytes]
"""What is to be sent to which end."""

# What an end hears when the other one is lost.
_LOST = {End.CLIENT: Close(BAD_GATEWAY), End.UPSTREAM: Close(GOING_AWAY)}


class _Standing:
    """How things stand with one end."""

    def __init__(self, reader: FrameReader) -> None:
        self.reader = reader
        self.said: Close | None = None
        self.told = False
        self.broken = False
        self.gone = False

    @property
    def echo(self) -> Close | None:
        """What an end that has closed hears back: its own code (RFC 6455 §5.5.1)."""
        return None if self.said is None else Close(self.said.code)

    @property
    def is_over(self) -> bool:
        return self.gone or (self.told and self.said is not None)


class Relay:
    """Carries frames both ways until either end closes, breaks the protocol or is gone.

    An end that closes is heard by the other, and when that has closed too it hears its own code.
    One that breaks the protocol is told so; to the other it is lost. ``new_key`` returns the key
    of another frame to the upstream; ``most_message`` bounds a message, where it isn't 0.
    """

    def __init__(
        self,
        *,
        new_key: Callable[[], bytes],
        most_message: int = 0,
        mask: Mask = masked_purely,
    ) -> None:
        self._new_key = new_key
        self._mask = mask
        self._ends = {
            end: _Standing(
                FrameReader(masked=end is End.CLIENT, most_message=most_message, mask=mask)
            )
            for end in End
        }
        self.violation: tuple[End, Violation] | None = None
        self.is_closing = False
        """Whether the end has begun: nobody should wait for it for ever."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return all(standing.is_over for standing in self._ends.values())

    def has_closed(self, end: End) -> bool:
        """Whether an end has said in good order that it closes."""
        return self._ends[end].said is not None

    def leaves(self, end: End) -> bool:
        """Whether an end is told all that it will be, whatever it says: nobody listens."""
        standing = self._ends[end]
        return standing.told and (standing.broken or self._ends[end.other].gone)

    def has_more(self, end: End) -> bool:
        """Whether an end has said more than was read at a time: ``receive`` nothing for it."""
        return self._ends[end].reader.has_more

    def receive(self, end: End, data: bytes) -> Writes:
        """Take what an end says."""
        standing, to = self._ends[end], end.other
        events = standing.reader.feed(data)
        if not events:
            return {}
        last = None if isinstance(events[-1], Piece) else events.pop()
        other = self._ends[to]
        passed = b""
        if not other.told and not other.gone:
            passed = b"".join(
                [self._frame(to, *event) for event in events if isinstance(event, Piece)]
            )
        if isinstance(last, Close):
            self.is_closing = True
            standing.said = last
            passed += self._tell(to, other.echo or last)
        elif isinstance(last, Violation):
            standing.broken = True
            self.violation = end, last
            told = Close(last.code)
            passed += self._tell(to, told if last.code == MESSAGE_TOO_BIG else _LOST[to])
            return {
                each: said for each, said in ((end, self._tell(end, told)), (to, passed)) if said
            }
        return {to: passed} if passed else {}

    def lose(self, end: End) -> Writes:
        """Take it that an end's connection is gone."""
        self._ends[end].gone = self.is_closing = True
        return self._close_both({end.other: self._ends[end.other].echo or _LOST[end.other]})

    def close(self, code: int) -> Writes:
        """Close both ends, for a reason of the gateway's own."""
        return self._close_both(dict.fromkeys(End, Close(code)))

    def give_up(self) -> Writes:
        """Wait for nobody any longer: who has closed and not been answered is answered now."""
        return self._close_both(
            {end: standing.echo or _LOST[end] for end, standing in self._ends.items()}
        )

    def _close_both(self, closes: dict[End, Close]) -> Writes:
        writes = {end: self._tell(end, close) for end, close in closes.items()}
        return {end: data for end, data in writes.items() if data}

    def _tell(self, end: End, close: Close) -> bytes:
        standing = self._ends[end]
        if standing.told or standing.gone:
            return b""
        standing.told = self.is_closing = True
        return self._frame(end, CLOSE, close.payload, True)

    def _frame(self, end: End, opcode: int, payload: bytes, final: bool) -> bytes:
        key = self._new_key() if end is End.UPSTREAM else b""
        return frame(opcode, payload, final=final, key=key, mask=self._mask)
