"""What stands at either side of a gateway: a client that keeps what it gets, and a backend."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lanes.memory import MemoryTransport
from lanes.messages import Message, take_message

GOOD_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
GOOD_ANSWER_TO_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n"


class Client:
    """The far end of a client's connection to the gateway."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.stream = b""
        self.end: Literal["open", "closed", "reset"] = "open"

    def received(self, data: bytes) -> None:
        self.stream += data

    def ended(self, *, reset: bool) -> None:
        self.end = "reset" if reset else "closed"


@dataclass(frozen=True)
class Reply:
    """What a backend says to a request, piece by piece, and what it does then.

    ``apart`` says that each piece comes only when the backend is told to go on.
    """

    pieces: Sequence[bytes] = (GOOD_ANSWER,)
    then: Literal["keep", "close", "reset"] = "keep"
    apart: bool = False


def good_answer(request: Message) -> Reply:
    """Answer 200."""
    to_head = request.head.startswith(b"HEAD ")
    return Reply((GOOD_ANSWER_TO_HEAD if to_head else GOOD_ANSWER,))


@dataclass
class Backend:
    """What is upstream of one gateway: it keeps all requests, and answers as a test says.

    An ``early`` one answers the header section, ahead of the content. While it ``holds``, or has
    pieces left to say, it waits for ``go_on``.
    """

    answer: Callable[[Message], Reply] = good_answer
    early: bool = False
    holds: bool = False
    requests: list[Message] = field(default_factory=list)
    connections: list["BackendConnection"] = field(default_factory=list)
    to_do: list[Callable[[], None]] = field(default_factory=list)

    def accept(self, transport: MemoryTransport) -> "BackendConnection":
        connection = BackendConnection(self, transport)
        self.connections.append(connection)
        return connection

    def go_on(self) -> bool:
        """Say what is to be said next; return whether there was anything."""
        if not self.to_do:
            return False
        self.to_do.pop(0)()
        return True

    def reset(self) -> None:
        """Close all connections and forget everything."""
        for connection in self.connections:
            connection.transport.feed_eof()
        self.answer, self.early, self.holds = good_answer, False, False
        self.forget()
        self.connections.clear()

    def forget(self) -> None:
        """Forget what was asked."""
        self.requests.clear()
        self.to_do.clear()


class BackendConnection:
    """The far end of the gateway's connection to a backend."""

    def __init__(self, backend: Backend, transport: MemoryTransport) -> None:
        self.transport = transport
        self.is_open = True
        self._backend = backend
        self._stream = b""
        self._answered = False

    def received(self, data: bytes) -> None:
        self._stream += data
        while self._stream:
            message, rest = take_message(self._stream, answer=False)
            begun = message.body is not None and self._backend.early
            if (begun or message.whole) and not self._answered:
                self._answered = True
                self._say(self._backend.answer(message))
            if not message.whole:
                return
            self._backend.requests.append(message)
            self._stream, self._answered = rest, False

    def ended(self, *, reset: bool) -> None:  # noqa: ARG002 -- nobody listens any more
        self.is_open = False
        if self._stream:  # half a request
            self._backend.requests.append(take_message(self._stream, answer=False)[0])
            self._stream = b""

    def _say(self, reply: Reply) -> None:
        steps: list[Callable[[], None]] = [
            lambda piece=piece: self.transport.feed(piece)  # type: ignore[misc]
            for piece in reply.pieces
            if piece
        ]
        if reply.then == "close":
            steps.append(self.transport.feed_eof)
        elif reply.then == "reset":
            steps.append(self.transport.feed_reset)
        to_do = self._backend.to_do
        waits = self._backend.holds or bool(to_do)
        to_do += steps
        while to_do and not waits:
            self._backend.go_on()
            waits = reply.apart
