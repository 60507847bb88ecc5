"""The names of aiohttp on which the fast lane leans without being entitled to.

All of them stand here, so that it can be checked at start whether they still mean what they did.
"""

import asyncio
from importlib import import_module
from typing import Any

from aiohttp import web_protocol

OF_CONNECTIONS = (
    *("_close", "_force_close", "_keepalive_handle", "_keepalive_timeout", "_loop", "_messages"),
    *("_next_keepalive_close_time", "_payload_parser", "_process_keepalive", "_request_count"),
    *("_upgraded", "_waiter", "force_close", "writing_paused"),
)
"""What tells whether a connection has anything of a request, and when it has been idle."""

_REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nb"


def missing_names(
    handler: type = web_protocol.RequestHandler, parsers: str = "aiohttp.http_parser"
) -> list[str]:
    """Return what of them this aiohttp doesn't have, or means otherwise; nothing if all is well."""
    missing = [
        f"{handler.__name__}.{name}" for name in OF_CONNECTIONS if not hasattr(handler, name)
    ]
    try:
        found = _parsed(parsers, "HttpRequestParser", _REQUEST)
    except Exception:  # noqa: BLE001 -- whatever it is, it isn't what the lane was made for
        found = None
    if found != ("POST", True, False):
        missing.append(f"{parsers}.HttpRequestParser")
    return missing


def _parsed(module_name: str, name: str, sample: bytes) -> tuple[Any, bool, bool] | None:
    """Return what a parser makes of a message, used as the lane uses it."""

    class NoFlowControl:
        _reading_paused = False

        def pause_reading(self) -> None: ...

        def resume_reading(self, resume_parser: bool = True) -> None: ...

    module = import_module(module_name)
    parser = getattr(module, name)(
        NoFlowControl(),
        asyncio.get_running_loop(),
        1 << 30,
        payload_exception=ValueError,
        auto_decompress=False,
        max_line_size=1 << 16,
        max_field_size=1 << 16,
    )
    ((message, content),), upgraded, _ = parser.feed_data(sample)
    if content.read_nowait() != b"b" or not content.is_eof() or upgraded:
        return None
    if not all(isinstance(part, bytes) for field in message.raw_headers for part in field):
        return None
    return message.method, message.should_close, message.upgrade
