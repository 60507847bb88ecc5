"""A backend to put behind the gateway: it echoes, streams, waits and fails as it is asked.

========================  =====================================================================
``/sse?count=&interval=``   so many server-sent events, so many seconds apart
``/ws``                     a WebSocket that sends back what it gets
``/bytes/N``                N bytes, streamed
``/slow/SECONDS``           an echo after so long
``/status/CODE``            an echo with that status
anything else             an echo: what was received, as JSON
========================  =====================================================================

Each is there under any prefix too (``/orders/sse``): the gateway forwards paths as they came.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import hdrs, web

MOST_EVENTS = 1000
MOST_SECONDS = 60.0
MOST_BYTES = 2**30
SHOWN_BYTES = 4096
"""The longest body that is shown in an echo; of longer ones it gives the length."""

_CHUNK = b"0123456789abcdef" * 4096


def create_backend() -> web.Application:
    """Return the application."""
    app = web.Application()
    for prefix in ("", "/{prefix:.+}"):
        app.router.add_get(f"{prefix}/sse", send_events)
        app.router.add_get(f"{prefix}/ws", echo_messages)
        app.router.add_get(prefix + r"/bytes/{size:\d{1,12}}", send_bytes)
        app.router.add_route("*", prefix + r"/slow/{seconds:\d{1,4}(\.\d{1,3})?}", echo_late)
        app.router.add_route("*", prefix + r"/status/{code:\d{3}}", echo_status)
    app.router.add_route("*", "/{path:.*}", echo)
    return app


@asynccontextmanager
async def serving_backend(*, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the backend meanwhile; gives its base URL. ``port`` 0 takes a free one.

    Raises:
        OSError: the address can't be listened on.
    """
    runner = web.AppRunner(
        create_backend(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def echo(request: web.Request) -> web.Response:
    """Answer with what was received."""
    return _json(await _received(request))


async def echo_late(request: web.Request) -> web.Response:
    """Answer with what was received, later."""
    await asyncio.sleep(_at_most(float(request.match_info["seconds"]), MOST_SECONDS, "seconds"))
    return _json(await _received(request))


async def echo_status(request: web.Request) -> web.Response:
    """Answer with what was received, under the status that was asked for."""
    code = int(request.match_info["code"])
    if not 200 <= code <= 599:
        raise web.HTTPBadRequest(text="A status from 200 to 599 is allowed.\n")
    received = await _received(request)
    if code in {204, 205, 304}:  # which have no content (RFC 9110 §15.3.5, §15.3.6, §15.4.5)
        return web.Response(status=code)
    return _json(received, status=code)


async def send_bytes(request: web.Request) -> web.StreamResponse:
    """Stream as many bytes as were asked for."""
    size = left = round(_at_most(int(request.match_info["size"]), MOST_BYTES, "bytes"))
    response = web.StreamResponse()
    response.content_type = "application/octet-stream"
    response.content_length = size
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        while left:
            chunk = _CHUNK[:left]
            await response.write(chunk)  # waits while whoever reads is slower
            left -= len(chunk)
    await response.write_eof()
    return response


async def send_events(request: web.Request) -> web.StreamResponse:
    """Stream server-sent events: ``count`` (5), ``interval`` seconds (1) apart."""
    count = int(_number(request, "count", 5, MOST_EVENTS))
    interval = _number(request, "interval", 1, MOST_SECONDS)
    response = web.StreamResponse(headers={"Cache-Control": "no-store"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        for number in range(1, count + 1):
            if number > 1:
                await asyncio.sleep(interval)
            event = json.dumps({"event": number, "of": count})
            await response.write(f"id: {number}\ndata: {event}\n\n".encode())
    await response.write_eof()
    return response


async def echo_messages(request: web.Request) -> web.WebSocketResponse:
    """Send every message back; of the subprotocols offered, take the first."""
    offered = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").split(",")
    socket = web.WebSocketResponse(protocols=[name.strip() for name in offered if name.strip()])
    await socket.prepare(request)
    async for message in socket:
        if message.type is web.WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is web.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def _received(request: web.Request) -> dict[str, Any]:
    size, shown = 0, b""
    async for chunk in request.content.iter_any():
        size += len(chunk)
        shown += chunk[: SHOWN_BYTES - len(shown)]
    headers: dict[str, str] = {}
    for name, value in request.raw_headers:
        text, before = value.decode("latin-1"), headers.get(name.decode("latin-1"))
        # One member for each name: fields of one name are a list (RFC 9110 §5.3).
        headers[name.decode("latin-1")] = text if before is None else f"{before}, {text}"
    path, _, query = request.raw_path.partition("?")
    return {
        "method": request.method,
        "path": path,
        "query": query,
        "headers": headers,
        "body_bytes": size,
        "body": _text(shown) if size <= SHOWN_BYTES else None,
    }


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _number(request: web.Request, name: str, default: float, most: float) -> float:
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        value = -1
    return _at_most(value, most, name)


def _at_most(value: float, most: float, name: str) -> float:
    if not 0 <= value <= most:
        raise web.HTTPBadRequest(text=f"{name}: a number from 0 to {most:g} is allowed.\n")
    return value


def _json(received: dict[str, Any], *, status: int = 200) -> web.Response:
    # Indented, with a line's end: people read it in a terminal.
    text = json.dumps(received, indent=2) + "\n"
    return web.Response(status=status, text=text, content_type="application/json")
