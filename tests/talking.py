"""A conversation in bytes with one handler of aiohttp's server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from streams import cut

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(
    handler: Handler,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve with a handler, and connect to it; all of it may take ten seconds."""
    # Without lingering, content that nobody reads doesn't hold the connection open.
    server = web.Server(handler, lingering_time=0)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    async with asyncio.timeout(10), listener:
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            await cut(writer)
            await server.shutdown()


async def talk(handler: Handler, *sent: bytes) -> bytes:
    """Send bytes to a handler; return all that comes back until the connection closes."""
    async with serving(handler) as (reader, writer):
        for data in sent:
            writer.write(data)
            await writer.drain()
        return await reader.read()


def request(method: str = "GET", *lines: str, version: str = "1.1") -> bytes:
    """Return a request after whose answer the connection is closed."""
    head = [f"{method} / HTTP/{version}", "Host: a", *lines]
    if version == "1.1":
        head.append("Connection: close")
    return "\r\n".join([*head, "", ""]).encode()
