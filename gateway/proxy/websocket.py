"""A WebSocket between a client and an upstream: two connections, and a relay between them.

What frames mean, and how an end is told of the other's, is pure (``websocket_relay``). Here bytes
are read and written: no more is read from an end than the other one takes (RFC 6455).
"""

import asyncio
import os
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, cast

import aiohttp
import structlog
from aiohttp import ClientResponse, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_writer import StreamWriter

from gateway.exchange import Exchange, RelayedResponse, reason_phrase
from gateway.headers import client_response
from gateway.proxy.http import HttpProxy
from gateway.routes import Route
from gateway.tokens import Facts
from gateway.websocket_frames import GOING_AWAY, POLICY_VIOLATION, Mask, masked_purely
from gateway.websocket_handshake import (
    check_accepted,
    client_handshake,
    client_key,
    upstream_handshake,
)
from gateway.websocket_relay import End, Relay, Writes

log = structlog.stdlib.get_logger(__name__)

_CLOSE_TIMEOUT_SECONDS = 5.0
_READ_AHEAD = 4096  # bytes that wait for an end to take what is before them
_new_key = partial(os.urandom, 4)


def compiled_mask(module: str = "aiohttp._websocket.helpers") -> Mask:
    """Return aiohttp's way to mask, which is compiled; the pure one if it isn't where it was."""
    try:
        mask_in_place = import_module(module).websocket_mask
    except (ImportError, AttributeError):
        return masked_purely

    def masked(payload: bytes, key: bytes) -> bytes:
        data = bytearray(payload)
        mask_in_place(key, data)
        return bytes(data)

    return masked


_masked = compiled_mask()


class WebSocketProxy:
    """Relays WebSockets, and closes those that are open when the gateway stops."""

    def __init__(self, http: HttpProxy, *, most_message: int) -> None:
        self._http = http
        self._most_message = most_message
        self._open: dict[int, _Talk] = {}  # by the exchange's identity
        self._closing = False

    async def forward(
        self, exchange: Exchange, route: Route, facts: Facts | None
    ) -> web.StreamResponse:
        """Open the upstream's end, then accept the client's, and relay until both have closed.

        An upstream that declines the upgrade is passed on like any answer.

        Raises:
            BadRequest: the client's handshake is malformed (RFC 6455 §4.2.1).
            GatewayError: the upstream can't be reached, or isn't a WebSocket.
        """
        assert exchange.head is not None
        key = client_key(exchange.head)  # judged before the upstream hears of it
        nonce = os.urandom(16)
        fields = upstream_handshake(self._http.fields(exchange, facts), nonce)
        async with self._http.asking(exchange, route, fields) as (upstream, body):
            if upstream.status != 101:
                return await self._http.relay(exchange, upstream, body)
            check_accepted(upstream.raw_headers, nonce)
            return await self._accept(exchange, upstream, key)

    async def _accept(
        self, exchange: Exchange, upstream: ClientResponse, key: bytes
    ) -> web.StreamResponse:
        assert exchange.head is not None
        crossing = client_response(
            upstream.raw_headers, request_id=exchange.request_id, date=exchange.date
        )
        fields = client_handshake(crossing, exchange.head, key)
        response = _Switching(101, reason_phrase(101), fields)
        await response.prepare(exchange.request)
        response.send_head()
        exchange.status = response.status
        relay = Relay(new_key=_new_key, most_message=self._most_message, mask=_masked)
        talk = self._open[id(exchange)] = _Talk(exchange.request, upstream, relay)
        try:
            if self._closing:  # it came too late to be told with the others
                talk.tell(GOING_AWAY)
            await talk.run()
        finally:
            del self._open[id(exchange)]
            if relay.has_closed(End.CLIENT):  # and not just gone
                exchange.outcome = exchange.outcome or "proxied"
            if relay.violation is not None:
                end, violation = relay.violation
                # Any client can do it as often as it likes; an upstream has a fault.
                say = log.warning if end is End.UPSTREAM else log.info
                say(
                    "WebSocket closed: an end broke the protocol",
                    route=exchange.route,
                    end=end.value,
                    code=violation.code,
                    why=violation.why,
                )
        exchange.outcome = exchange.outcome or "proxied"
        return response

    async def end(self, exchange: Exchange) -> bool:
        """Close a WebSocket whose token is no longer good; return whether it was open."""
        talk = self._open.get(id(exchange))
        if talk is None:
            return False
        talk.tell(POLICY_VIOLATION)
        await talk.ended()
        return True

    async def close(self) -> None:
        """Tell both ends of every WebSocket that the gateway is going away; none stays open.

        When this is cancelled those that haven't answered are cut off.
        """
        self._closing = True
        talks = tuple(self._open.values())
        try:
            for talk in talks:
                talk.tell(GOING_AWAY)
            await asyncio.gather(*(talk.ended() for talk in talks))
        except asyncio.CancelledError:
            for talk in talks:
                talk.cut_off()
            raise


class _Switching(RelayedResponse):
    """A 101: it has no content, and what follows isn't HTTP."""

    async def _prepare_headers(self) -> None:
        self._keep_alive = False


class _Side:
    """The connection to one end: what it has said and not been read, and a way to write."""

    def __init__(self, protocol: BaseProtocol) -> None:
        loop = asyncio.get_running_loop()
        assert protocol.transport is not None
        self.transport = protocol.transport
        self._protocol = protocol
        self.content = StreamReader(protocol, _READ_AHEAD, loop=loop)
        self._writer = StreamWriter(protocol, loop)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what came (aiohttp calls whoever reads a switched connection so)."""
        self.content.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        """Take it that nothing more comes."""
        self.content.feed_eof()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is gone."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def say_no_more(self) -> None:
        """Close in one direction, so that what was sent is not lost to what still comes."""
        with suppress(OSError, RuntimeError):
            if self.transport.can_write_eof():
                self.transport.write_eof()

    async def drain(self) -> None:
        """Return when the operating system has taken what was sent."""
        if self._protocol.writing_paused:
            with suppress(ConnectionError):
                await self._writer.drain()


class _Talk:
    """One WebSocket under way."""

    def __init__(self, request: web.BaseRequest, upstream: ClientResponse, relay: Relay) -> None:
        connection = upstream.connection
        assert connection is not None
        assert connection.protocol is not None
        connection.protocol.read_timeout = None  # it may be silent for as long as it likes
        self._relay = relay
        self._sides = {
            End.CLIENT: _Side(request.protocol),
            End.UPSTREAM: _Side(connection.protocol),
        }
        self._over = asyncio.Event()
        self._ended = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        client, far = self._sides[End.CLIENT], self._sides[End.UPSTREAM]
        # What came behind each handshake is handed on now.
        connection.protocol.set_parser(far, far.content)
        request.protocol.set_parser(cast("Any", client))
        request.protocol.keep_alive(val=False)

    async def run(self) -> None:
        """Relay until both ends have closed, or have had their time to."""
        pumps = [asyncio.create_task(self._pump(end)) for end in End]
        try:
            try:
                await self._over.wait()
            except asyncio.CancelledError:  # the client's connection is gone
                self._do(self._relay.lose(End.CLIENT))
                await self._over.wait()
                raise
        finally:
            if self._patience is not None:
                self._patience.cancel()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._ended.set()

    def tell(self, code: int) -> None:
        """Begin to close both ends."""
        self._do(self._relay.close(code))

    async def ended(self) -> None:
        """Return when it is over."""
        await self._ended.wait()

    def cut_off(self) -> None:
        """End it at once."""
        self._over.set()
        for side in self._sides.values():
            side.transport.abort()

    async def _pump(self, end: End) -> None:
        side, other = self._sides[end], self._sides[end.other]
        with suppress(aiohttp.ClientError, OSError):  # a reset is an end like any other
            while data := await side.content.readany():
                self._do(self._relay.receive(end, data))
                while self._relay.has_more(end):
                    await other.drain()
                    await asyncio.sleep(0)  # others have their turn
                    self._do(self._relay.receive(end, b""))
                await other.drain()
        self._do(self._relay.lose(end))

    def _do(self, writes: Writes) -> None:
        for end, data in writes.items():
            self._sides[end].write(data)
        if not self._relay.is_closing:
            return
        for end, side in self._sides.items():
            if self._relay.leaves(end):
                side.say_no_more()
        if self._relay.is_over:
            self._over.set()
        elif self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(_CLOSE_TIMEOUT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._do(self._relay.give_up())
        self._over.set()
