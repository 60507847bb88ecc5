"""An exchange of a test's own, that asks an upstream over a connection of the fast lane."""

import asyncio

from wire import PATIENCE_SECONDS

from gateway.errors import GatewayError
from gateway.proxy.answers import AnswerHead
from gateway.proxy.pools import UpstreamPools
from gateway.proxy.upstream import UpstreamConnection


class Asked:
    """An ``UpstreamExchange`` that writes down what it is told.

    ``events`` are the names of the calls so far, ``content`` all that came, ``error`` why no more.
    One that ``faults`` raises on that call.
    """

    def __init__(self, name: str = "", *, method: str = "GET", faults: str = "") -> None:
        self.name = name
        self.bodiless = method == "HEAD"
        self.events: list[str] = []
        self.error: GatewayError | None = None
        self.silent: bool | None = None
        self.reused: bool | None = None
        self.status = 0
        self.interim: list[bytes] = []
        self.connection: UpstreamConnection | None = None
        self._pieces: list[bytes] = []
        self._method = method
        self._faults = faults
        self._ended = asyncio.Event()
        self._begun = asyncio.Event()

    def send_on(self, connection: UpstreamConnection, *, reused: bool) -> None:
        self._note("send_on")
        self.connection, self.reused = connection, reused
        assert connection.transport is not None
        connection.transport.write(f"{self._method} /{self.name} HTTP/1.1\r\n\r\n".encode())

    def answer_comes(self, interim: bytes) -> None:
        self._note("answer_comes")
        self.interim.append(interim)

    def answer_whole(self, head: AnswerHead, content: bytes) -> None:
        self._note("answer_whole")
        self.status, self._pieces = head.status, [content]
        self._begun.set()
        self._ended.set()

    def answer_begins(self, head: AnswerHead, content: bytes) -> None:
        self._note("answer_begins")
        self.status, self._pieces = head.status, [content]
        self._begun.set()

    def answer_goes_on(self, content: bytes) -> None:
        self._note("answer_goes_on")
        self._pieces.append(content)

    def answer_ends(self) -> None:
        self._note("answer_ends")
        self._ended.set()

    def upstream_failed(self, error: GatewayError, *, silent: bool) -> None:
        self._note("upstream_failed")
        self.error, self.silent = error, silent
        self._ended.set()

    def fault(self) -> None:
        self._note("fault")
        self._ended.set()

    def _note(self, event: str) -> None:
        self.events.append(event)
        if event == self._faults:
            raise ZeroDivisionError

    async def begun(self) -> "Asked":
        """Return when the answer has begun."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._begun.wait()
        return self

    async def ended(self) -> "Asked":
        """Return when the answer is whole, or there is none to come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._ended.wait()
        return self

    @property
    def content(self) -> bytes:
        """All of the answer's content so far."""
        return b"".join(self._pieces)

    @property
    def is_sent(self) -> bool:
        """Whether it has had a connection."""
        return "send_on" in self.events


async def ask(pools: UpstreamPools, url: str, *, method: str = "GET", fresh: bool = False) -> Asked:
    """Ask an upstream, and return when that has ended."""
    exchange = Asked(method=method)
    pools.pool(url).submit(exchange, fresh=fresh)
    return await exchange.ended()
