"""Servers and clients on streams that leave nothing to do for after the end of their test.

A connection that closes when its loop has ended already is a fault, and shows in some other test.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_PATIENCE_SECONDS = 10.0


@asynccontextmanager
async def listening(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection on a free port meanwhile, and close it then; gives the port.

    At the end whatever still serves is cancelled. That a client goes away is no fault.
    """
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        writers.append(writer)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*map(cut, writers))
        for fault in ended:
            if isinstance(fault, Exception):
                raise fault


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection in good order, and wait until it is."""
    writer.close()
    with suppress(OSError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await writer.wait_closed()


async def cut(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, with what hasn't been sent yet, and wait until it is ended."""
    writer.transport.abort()
    with suppress(OSError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await writer.wait_closed()
