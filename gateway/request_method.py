"""Methods that the parser doesn't know, and what stands in their place before it.

Pure: no I/O, no asyncio, no aiohttp. Any token is a method (RFC 9110 §9.1). The parser knows some
by name and takes a request with any other for no HTTP, so it is shown POST, which it reads like
all that have no rules of their own, and the method is put back behind it.
"""

import re

MOST_BYTES = 64
"""The longest method that is told from no HTTP at all."""

PARSED = frozenset(
    {
        *(b"ACL", b"BIND", b"CHECKOUT", b"CONNECT", b"COPY", b"DELETE", b"GET", b"HEAD", b"LINK"),
        *(b"LOCK", b"M-SEARCH", b"MERGE", b"MKACTIVITY", b"MKCALENDAR", b"MKCOL", b"MOVE"),
        *(b"NOTIFY", b"OPTIONS", b"PATCH", b"POST", b"PROPFIND", b"PROPPATCH", b"PURGE", b"PUT"),
        *(b"QUERY", b"REBIND", b"REPORT", b"SEARCH", b"SOURCE", b"SUBSCRIBE", b"TRACE", b"UNBIND"),
        *(b"UNLINK", b"UNLOCK", b"UNSUBSCRIBE"),
    }
)
"""Those that llhttp takes for HTTP/1.1; a test holds them to its word."""

_STAND_IN = b"POST"
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class StandIn:
    """Reads the method of one request after the other, ahead of the parser.

    ``method`` is that of the request at hand, if the parser was shown another.
    """

    __slots__ = ("_held", "_settled", "method")

    def __init__(self) -> None:
        self.next()

    def next(self) -> None:
        """Begin with another request."""
        self.method: str | None = None
        self._held = b""
        self._settled = False

    def take(self, piece: bytes, *, in_head: bool) -> bytes:
        """Return what the parser is shown of a piece of a request.

        A method that may not be all here is held back. ``in_head`` tells that there is more to
        come of the header section.
        """
        if self._settled or not piece:
            return piece
        piece, self._held = self._held + piece, b""
        end = piece.find(b" ", 0, MOST_BYTES + 1)
        if in_head and len(piece) <= MOST_BYTES and _TOKEN.fullmatch(piece):
            self._held = piece
            return b""
        self._settled = True
        method = piece[: max(end, 0)]
        if method in PARSED or not _TOKEN.fullmatch(method):
            return piece  # as it is, also what is none
        self.method = method.decode("ascii")
        return _STAND_IN + piece[end:]
