"""How an answer's content is framed: where an upstream's ends, and how a client is told.

Pure: no I/O, no asyncio, no aiohttp.
"""

from dataclasses import dataclass

from gateway.errors import UpstreamInvalid
from gateway.request_head import RawHeaders

_HTTP_1 = frozenset({(1, 0), (1, 1)})


def announced_length(
    status: int, version: tuple[int, int] | None, headers: RawHeaders
) -> int | None:
    """Return the length that an upstream's answer announces, ``None`` where its end isn't by one.

    ``headers`` come from a parser, which has seen to it that a ``Content-Length`` is a number, and
    the only one.

    Raises:
        UpstreamInvalid: the answer wouldn't mean the same to the client. It switches protocols
            unasked, is not of HTTP/1, or is coded otherwise than chunked: codings end here
            (RFC 9112 §6.1), and that is the only one that is undone.
    """
    if status < 200:
        raise UpstreamInvalid("The upstream switched protocols unasked.")
    codings, length = [], None
    for name, value in headers:
        lower = name.lower()
        if lower == b"transfer-encoding":
            codings.append(value.lower())
        elif lower == b"content-length":
            length = int(value)
    if version not in _HTTP_1 or codings not in ([], [b"chunked"]):
        raise UpstreamInvalid
    return None if codings else length


@dataclass(frozen=True, slots=True)
class Framing:
    """How the content of an answer is framed for the client (RFC 9112 §6.3).

    ``fields`` say so; without ``chunked`` and with ``until_close`` its end is the connection's.
    """

    fields: tuple[tuple[bytes, bytes], ...] = ()
    chunked: bool = False
    until_close: bool = False


def answer_framing(
    status: int, content_length: int | None, *, bodiless: bool, http_1_1: bool
) -> Framing:
    """Return the framing of an answer whose upstream or maker announced ``content_length``.

    ``bodiless`` is an answer without content whatever it announces: to HEAD, and 204 and 304.
    """
    if content_length is not None and status != 204 and status >= 200:
        return Framing(((b"Content-Length", b"%d" % content_length),))
    if bodiless:
        return Framing()
    if http_1_1:
        return Framing(((b"Transfer-Encoding", b"chunked"),), chunked=True)
    return Framing(until_close=True)
