"""A key manager that does what a test says, and keeps each request byte for byte."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from streams import listening

Fields = list[tuple[bytes, bytes]]


@dataclass
class Message:
    """A request or an answer: its first line, its fields and its content, as they came."""

    line: bytes
    fields: Fields
    content: bytes

    @property
    def status(self) -> int:
        return int(self.line.split()[1])

    def values(self, name: bytes) -> list[bytes]:
        return [value for given, value in self.fields if given.lower() == name.lower()]

    @property
    def json(self) -> Any:
        return json.loads(self.content)


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Read one message with a Content-Length, or without content."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    fields = [
        (name, value.strip()) for name, _, value in (item.partition(b":") for item in rest if item)
    ]
    message = Message(line, fields, b"")
    lengths = message.values(b"Content-Length")
    message.content = await reader.readexactly(int(lengths[0])) if lengths else b""
    return message


def answer(
    status: int = 200, content: bytes | dict[str, Any] = b"", fields: Fields | None = None
) -> bytes:
    """Return an answer as bytes; a dict is a JSON object of its content type."""
    fields = list(fields or [])
    if isinstance(content, dict):
        content = json.dumps(content).encode()
        fields.insert(0, (b"Content-Type", b"application/json"))
    fields.append((b"Content-Length", str(len(content)).encode()))
    head = b"".join(b"%b: %b\r\n" % item for item in fields)
    return b"HTTP/1.1 %d Said So\r\n%b\r\n%b" % (status, head, content)


def bearer(token: str, **members: Any) -> bytes:
    """Return a token response (RFC 6749 §5.1); a member that is ``None`` is left out."""
    everything = {"access_token": token, "token_type": "Bearer", "expires_in": 3600, **members}
    document = {name: value for name, value in everything.items() if value is not None}
    return answer(200, document, [(b"Cache-Control", b"no-store"), (b"Pragma", b"no-cache")])


@dataclass
class Reaction:
    """What becomes of one request: its answer, sent once the gate is open; or the end.

    One that repeats sends its answer again and again, until the connection is closed.
    """

    answer: bytes = b""
    closes: bool = False
    repeats: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedKeyManager:
    """Plays the reactions that a test lines up, and answers 200 with nothing after them."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.connections = 0
        self._reactions: list[Reaction] = []
        self._port = AsyncExitStack()
        self.url = ""

    async def __aenter__(self) -> Self:
        port = await self._port.enter_async_context(listening(self._serve))
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and all connections."""
        await self._port.aclose()

    def will(
        self,
        answer: bytes = b"",
        *,
        closes: bool = False,
        waits: bool = False,
        repeats: bool = False,
    ) -> Reaction:
        """Line up a reaction; one that waits does so until its gate is opened."""
        reaction = Reaction(answer, closes, repeats)
        if not waits:
            reaction.gate.set()
        self._reactions.append(reaction)
        return reaction

    def _next(self) -> Reaction:
        if not self._reactions:
            self.will(answer())
        return self._reactions.pop(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            message = await read_message(reader)
            self.requests.append(message)
            self.received.put_nowait(message)
            reaction = self._next()
            await reaction.gate.wait()
            writer.write(reaction.answer)
            while reaction.repeats:
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(reaction.answer)
            if reaction.closes:
                return
