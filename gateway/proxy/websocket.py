"""A WebSocket relayed frame by frame, with its subprotocol, pings and close codes (RFC 6455)."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import ClientSession, ClientWebSocketResponse, ClientWSTimeout, WSMsgType, hdrs, web
from multidict import CIMultiDict
from yarl import URL

from gateway.errors import BadRequest
from gateway.exchange import Exchange, RelayedResponse, reason_phrase
from gateway.fields import one_spelling
from gateway.headers import HeaderPolicy, client_response, upstream_request
from gateway.routes import Route
from gateway.tokens import Facts
from gateway.upstream import upstream_errors

_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})
_GOING_AWAY = 1001
_POLICY_VIOLATION = 1008
_BAD_GATEWAY = 1014  # IANA's WebSocket Close Code Number Registry
_CLOSE_TIMEOUT_SECONDS = 5.0
# aiohttp makes these itself, on each of the two connections.
_HANDSHAKE = frozenset(
    {
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
    }
)

Socket = ClientWebSocketResponse[bool] | web.WebSocketResponse[bool]


class _ClientSocket(web.WebSocketResponse[bool]):
    """The client's end: aiohttp's, but without the ``Server`` field that it adds.

    ``subprotocol`` is the one to accept. aiohttp chooses by itself and logs what was offered where
    nothing fits; but some offer their token there.
    """

    def __init__(self, offered: tuple[str, ...]) -> None:
        super().__init__(
            protocols=("", *offered),  # so that there always is one that fits
            autoping=False,
            autoclose=False,
            max_msg_size=0,
            compress=False,
            decode_text=False,
            timeout=_CLOSE_TIMEOUT_SECONDS,
        )
        self.subprotocol: str | None = None

    def _handshake(
        self, request: web.BaseRequest
    ) -> tuple[CIMultiDict[str], str | None, int, bool]:
        headers, _, compress, notakeover = super()._handshake(request)
        headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL, None)
        if self.subprotocol is not None:
            headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = self.subprotocol
        return headers, self.subprotocol, compress, notakeover

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


@dataclass(frozen=True, slots=True)
class _End:
    """How an end closed; ``code`` is ``None`` where it went without a close frame."""

    socket: Socket
    code: int | None = None
    reason: bytes = b""


class WebSocketProxy:
    """Relays WebSockets, and closes those that are open when the gateway stops."""

    def __init__(self, session: ClientSession, *, policy: HeaderPolicy) -> None:
        self._session = session
        self._policy = policy
        self._open: set[Socket] = set()
        self._ends: dict[int, tuple[Socket, Socket]] = {}  # by the exchange's identity
        self._closing = False

    async def forward(
        self, exchange: Exchange, route: Route, facts: Facts | None
    ) -> web.StreamResponse:
        """Open the upstream's end, then accept the client's, and relay until one closes.

        An upstream that declines the upgrade is passed on: its status and header section.

        Raises:
            BadRequest: the client's handshake is malformed (RFC 6455 §4.2.1).
            GatewayError: the upstream can't be reached, or isn't a WebSocket.
        """
        assert exchange.head is not None
        assert exchange.target is not None
        offered = _subprotocols(exchange)
        client = _ClientSocket(offered)
        # The handshake is judged before the upstream hears of it.
        if not client.can_prepare(exchange.request):
            raise BadRequest("The WebSocket handshake is malformed.")
        fields = [
            field
            for field in upstream_request(
                exchange.head,
                policy=self._policy,
                peer=exchange.peer,
                scheme_name=exchange.scheme,
                request_id=exchange.request_id,
                facts=facts,
            )
            if field[0].lower() not in _HANDSHAKE
        ]
        with upstream_errors():
            try:
                upstream = await self._session.ws_connect(
                    URL(route.url(exchange.target), encoded=True),
                    headers=CIMultiDict(one_spelling(fields)),
                    protocols=offered,
                    autoping=False,
                    autoclose=False,
                    max_msg_size=0,
                    compress=0,
                    decode_text=False,
                    timeout=ClientWSTimeout(ws_close=_CLOSE_TIMEOUT_SECONDS),
                )
            except aiohttp.WSServerHandshakeError as declined:
                if declined.status == 101:
                    raise  # it accepted, but not as RFC 6455 §4.2.2 has it
                return _declined(declined, exchange)
        try:
            client.subprotocol = upstream.protocol
            return await self._accept(exchange, client, upstream)
        finally:
            await _close(upstream, _GOING_AWAY)

    async def _accept(
        self,
        exchange: Exchange,
        client: _ClientSocket,
        upstream: ClientWebSocketResponse[bool],
    ) -> web.StreamResponse:
        client.headers["X-Request-ID"] = exchange.request_id.decode("ascii")
        await client.prepare(exchange.request)
        exchange.status = client.status
        self._open |= {client, upstream}
        self._ends[id(exchange)] = (client, upstream)
        try:
            if self._closing:  # it came too late to be told with the others
                await self.close()
            else:
                await _relay(client, upstream)
        finally:
            self._open -= {client, upstream}
            del self._ends[id(exchange)]
        exchange.outcome = exchange.outcome or "proxied"
        return client

    async def end(self, exchange: Exchange) -> bool:
        """Close a WebSocket whose token is no longer good; return whether it was open."""
        ends = self._ends.get(id(exchange), ())
        await asyncio.gather(
            *(_close(socket, _POLICY_VIOLATION) for socket in ends), return_exceptions=True
        )
        return bool(ends)

    async def close(self) -> None:
        """Tell both ends of every WebSocket that the gateway is going away; none stays open."""
        self._closing = True
        await asyncio.gather(
            *(_close(socket, _GOING_AWAY) for socket in tuple(self._open)),
            return_exceptions=True,
        )


def _subprotocols(exchange: Exchange) -> tuple[str, ...]:
    assert exchange.head is not None
    return tuple(
        name.strip().decode("ascii")
        for lower, _, value in exchange.head.fields
        if lower == b"sec-websocket-protocol"
        for name in value.split(b",")
        if name.strip()
    )


def _declined(declined: aiohttp.WSServerHandshakeError, exchange: Exchange) -> RelayedResponse:
    # aiohttp has given up the content by now: what describes it goes too.
    fields = [
        field
        for field in client_response(
            [
                (name.encode(), value.encode("utf-8", "surrogateescape"))
                for name, value in (declined.headers or {}).items()
            ],
            request_id=exchange.request_id,
            date=exchange.date,
        )
        if not field[0].lower().startswith(b"content-")
    ]
    exchange.outcome = "proxied"
    return RelayedResponse(declined.status, reason_phrase(declined.status), fields, body=b"")


async def _relay(client: Socket, upstream: Socket) -> None:
    """Carry frames both ways until one end closes; then close the other likewise."""
    pumps = {
        asyncio.create_task(_pump(client, upstream)),
        asyncio.create_task(_pump(upstream, client)),
    }
    try:
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
    end = done.pop().result()
    other, lost = (upstream, _GOING_AWAY) if end.socket is client else (client, _BAD_GATEWAY)
    code = lost if end.code is None else _sendable(end.code)
    await _close(other, code, end.reason)
    await _close(end.socket, code)  # echoes what it said itself (RFC 6455 §5.5.1)


async def _pump(source: Socket, sink: Socket) -> _End:
    while True:
        message = await source.receive()
        if message.type in _DATA:
            try:
                await sink.send_frame(bytes(message.data), message.type)
            except ConnectionError:
                return _End(sink)
        elif message.type is WSMsgType.CLOSE:
            return _End(source, message.data, (message.extra or "").encode())
        else:
            return _End(source)


async def _close(socket: Socket, code: int, reason: bytes = b"") -> None:
    """Close an end; one that talks on and on is cut off, though it never falls silent."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
            await socket.close(code=code, message=reason)


def _sendable(code: int) -> int:
    # 1005, 1006 and 1015 tell of what was not sent, and never stand in a frame (RFC 6455 §7.4.1).
    return code if 1000 <= code < 5000 and code not in {1004, 1005, 1006, 1015} else 1000
