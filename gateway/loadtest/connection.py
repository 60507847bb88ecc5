"""One connection to a gateway: a request is written, its answer read, or it fails in a word.

On asyncio's protocols, not its streams: no task wakes up for an answer.
"""

import asyncio
import ssl
from typing import Protocol, cast

from gateway.loadtest.answer import AnswerReader, InvalidAnswer
from gateway.loadtest.calls import Call


class Owner(Protocol):
    """Who opened the connection, and hears what became of it."""

    keep_body: bool

    def clock(self) -> float:
        """Return the seconds since the start of the run."""
        ...

    def answered(self, connection: "Connection", call: Call, *, reusable: bool) -> None:
        """Take an answered or failed call; a reusable connection is free for the next."""
        ...

    def lost(self, connection: "Connection") -> None:
        """Take that the connection has ended."""
        ...


def kind_of(error: BaseException) -> str:
    """Return the record's word for a connection that failed."""
    match error:
        case ssl.SSLError() | ssl.CertificateError():
            return "tls"
        case TimeoutError():
            return "timeout"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return "reset"
        case _:
            return "refused"


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: Owner) -> None:
        self._pool = pool
        self._reader = AnswerReader(keep_body=pool.keep_body)
        self._transport: asyncio.Transport | None = None
        self.call: Call | None = None
        self.rests_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    @property
    def closing(self) -> bool:
        """Whether the connection is about to end."""
        return self._transport is None or self._transport.is_closing()

    def start(self, call: Call) -> None:
        """Send a request; the pool has seen to it that none is under way."""
        assert self._transport is not None
        self.call = call
        call.sent = self._pool.clock()
        self._transport.write(call.request)

    def data_received(self, data: bytes) -> None:
        """Read on; bytes that nothing asked for end the connection."""
        reader = self._reader
        if self.call is None:
            self.abort()
            return
        try:
            reader.feed(data)
        except InvalidAnswer:
            self.fail("invalid")
            return
        if reader.complete:
            self._complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say what became of the request that was under way."""
        self._pool.lost(self)
        if self.call is None:
            return
        if exc is None and self._reader.end():
            self._complete()
        else:
            self.fail("closed" if exc is None else kind_of(exc))

    def fail(self, error: str) -> None:
        """Give the request up, and the connection with it: an answer may still be on its way."""
        call, self.call = self.call, None
        self.abort()
        if call is not None:
            call.error = error
            call.finished = self._pool.clock()
            self._pool.answered(self, call, reusable=False)

    def abort(self) -> None:
        """Close the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _complete(self) -> None:
        reader, call = self._reader, self.call
        assert call is not None
        self.call = None
        call.finished = self._pool.clock()
        call.status = reader.status
        call.body = reader.body
        reusable = reader.reusable
        reader.next_answer()
        if not reusable:
            self.abort()
        self._pool.answered(self, call, reusable=reusable)
