"""The access log: a line for each request, at a price that each request can pay.

A record's whole way, through structlog and logging, costs tens of microseconds. Where a line of
JSON is all that would come of it, the line is put together here: the same text, to the byte, and
redacted by the same rule.
"""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

import structlog
from structlog.contextvars import get_contextvars

from gateway.clock import SystemClock
from gateway.logs import StderrHandler, redact, redacted

NAME = "gateway.access"

_log = structlog.stdlib.get_logger(NAME)


class AccessLog:
    """Writes a line for each request; ``wall`` tells the time in epoch seconds."""

    def __init__(self, wall: Callable[[], float] = SystemClock.wall) -> None:
        self._logger = logging.getLogger(NAME)
        self._wall = wall
        self._second = -1.0
        self._stamp = ""

    def request(
        self,
        *,
        request_id: str,
        peer: str | None,
        method: str | None,
        path: str | None,
        status: int,
        route: str,
        outcome: str,
        client_id: str | None,
        seconds: float,
        bytes_sent: int,
    ) -> None:
        """Tell of a request that was answered or given up after ``seconds``.

        ``path`` comes without the query. ``method`` and ``path`` are ``None`` where there never
        was a request line that made sense.
        """
        handler = StderrHandler.alone_for(self._logger)
        duration_ms = round(seconds * 1e6) / 1000
        if handler is not None and handler.is_json:
            if self._logger.isEnabledFor(logging.INFO):
                handler.write(
                    f'{{"timestamp": "{self._timestamp()}", "level": "info", "logger": "{NAME}", '
                    f'"event": "request", "request_id": {_quoted(request_id)}, '
                    f'"peer": {_remembered(peer)}, '
                    f'"method": {_METHODS.get(method) or _quoted(method)}, '
                    f'"path": {_quoted(path)}, "status": {status}, "route": {_remembered(route)}, '
                    f'"outcome": {_remembered(outcome)}, "client_id": {_remembered(client_id)}, '
                    f'"duration_ms": {duration_ms!r}, "bytes_sent": {bytes_sent}{_context()}}}'
                )
            return
        said = {
            "request_id": request_id,
            "peer": peer,
            "method": method,
            "path": path,
            "status": status,
            "route": route,
            "outcome": outcome,
            "client_id": client_id,
            "duration_ms": duration_ms,
            "bytes_sent": bytes_sent,
        }
        if handler is None:
            _log.info("request", **said)
        elif self._logger.isEnabledFor(logging.INFO):
            stamps = {"timestamp": self._timestamp(), "level": "info", "logger": NAME}
            record = {**stamps, "event": "request", **said}
            # What is bound for all records comes last, and takes no other's place.
            handler.write(handler.render(record | get_contextvars() | record))

    def _timestamp(self) -> str:
        """Return the time as structlog's stamp has it (ISO 8601, no fraction if it is zero)."""
        now = self._wall()
        second = now // 1
        if second != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).isoformat()[:19]
        microseconds = int((now - second) * 1e6)
        return f"{self._stamp}.{microseconds:06}Z" if microseconds else f"{self._stamp}Z"


def _quoted(text: str | None) -> str:
    return "null" if text is None else encode_basestring_ascii(redact(text))


# For what comes again and again and no client can make long: addresses, names from the settings
# and of registered clients.
_remembered = lru_cache(maxsize=4096)(_quoted)
_METHODS = {method: _quoted(method) for method in (None, "GET", "HEAD", "POST", "PUT", "DELETE")}

_MEMBERS = {
    *("timestamp", "level", "logger", "event", "request_id", "peer", "method", "path", "status"),
    *("route", "outcome", "client_id", "duration_ms", "bytes_sent"),
}


def _context() -> str:
    """Return what is bound for all records, such as a worker's number, as more members."""
    bound = get_contextvars()
    if not bound:
        return ""
    return "".join(
        f", {encode_basestring_ascii(name)}: {_json(value)}"
        for name, value in bound.items()
        if name not in _MEMBERS
    )


def _json(value: Any) -> str:
    return str(value) if type(value) is int else json.dumps(redacted(value))
