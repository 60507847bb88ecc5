"""A client that sends exactly these bytes, and reads what comes back without mending it."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from streams import cut

PATIENCE_SECONDS = 10.0
"""A test that waits for longer fails; none takes nearly as long."""

Pairs = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it came, with the interim ones before it."""

    version: bytes
    status: int
    reason: bytes
    fields: Pairs
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    def values(self, name: str) -> list[bytes]:
        """Return the values of all fields of this name, in any case."""
        return [value for key, value in self.fields if key.lower() == name.lower().encode()]

    def value(self, name: str) -> bytes | None:
        """Return the value of the only field of this name."""
        values = self.values(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def names(self) -> list[bytes]:
        """The names of the fields, as spelt and in order."""
        return [name for name, _ in self.fields]

    @property
    def error(self) -> Any:
        """The members of a JSON error."""
        return json.loads(self.body)


def request(
    target: str = "/",
    *fields: str | bytes,
    method: str = "GET",
    token: str | None = "good",
    body: bytes = b"",
    version: str = "HTTP/1.1",
) -> bytes:
    """Return a request: with Host, a bearer token, and Content-Length where there is a body."""
    lines = [f"{method} {target} {version}".encode()]
    lines += [line.encode() if isinstance(line, str) else line for line in fields]
    names = {line.partition(b":")[0].lower() for line in lines}
    if b"host" not in names:
        lines.insert(1, b"Host: gateway.test")
    if token is not None and b"authorization" not in names:
        lines.append(f"Authorization: Bearer {token}".encode())
    if body and not names & {b"content-length", b"transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}".encode())
    return b"\r\n".join([*lines, b"", b""]) + body


class Client:
    """One connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *data: bytes) -> None:
        """Send bytes, and wait until the operating system has taken them."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            self.writer.write(b"".join(data))
            await self.writer.drain()

    async def head(self) -> Answer:
        """Read a header section, and those of interim answers before it."""
        interim = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                section = await self.reader.readuntil(b"\r\n\r\n")
                line, *lines = section[:-4].split(b"\r\n")
                version, status, reason = line.split(b" ", 2)
                if int(status) >= 200 or int(status) == 101:
                    break
                interim.append(int(status))
        fields = [(name, value[1:]) for name, _, value in (row.partition(b":") for row in lines)]
        return Answer(version, int(status), reason, fields, interim=interim)

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Read a whole answer; ``bodiless`` is for those to HEAD."""
        head = await self.head()
        async with asyncio.timeout(PATIENCE_SECONDS):
            body = b""
            if not bodiless and head.status not in {101, 204, 304}:
                body = await self._body(head)
        return Answer(head.version, head.status, head.reason, head.fields, body, head.interim)

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked answer; the last one is empty."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def read(self, count: int) -> bytes:
        """Read so many bytes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        """Read until the gateway closes; raises ``ConnectionResetError`` if it cuts off."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()

    async def ended(self) -> bool:
        """Wait until the connection is gone, whatever the way; tell if nothing came before."""
        try:
            return not await self.rest()
        except ConnectionError:
            return True

    def abort(self) -> None:
        """Go away without a word."""
        self.writer.transport.abort()

    async def _body(self, head: Answer) -> bytes:
        if head.value("Transfer-Encoding") == b"chunked":
            chunks = []
            while chunk := await self.chunk():
                chunks.append(chunk)
            return b"".join(chunks)
        length = head.value("Content-Length")
        return await (self.rest() if length is None else self.reader.readexactly(int(length)))


@asynccontextmanager
async def connect(
    url: str, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
) -> AsyncIterator[Client]:
    """Connect to where ``url`` says; ``receive_buffer`` is what the system may hold back."""
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setblocking(False)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port))
    except OSError:
        connection.close()
        raise
    reader, writer = await asyncio.open_connection(
        sock=connection, ssl=tls, server_hostname=parts.hostname if tls else None
    )
    try:
        yield Client(reader, writer)
    finally:
        await cut(writer)


async def fetch(url: str, data: bytes, *, bodiless: bool = False) -> Answer:
    """Send one request on a connection of its own and return the answer."""
    async with connect(url) as client:
        await client.send(data)
        return await client.answer(bodiless=bodiless)
