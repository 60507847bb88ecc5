"""How an answer's content is framed: where an upstream's ends, and how a client is told.

Pure: no I/O, no asyncio, no aiohttp.
"""

import re
from dataclasses import dataclass

from gateway.errors import UpstreamInvalid
from gateway.request_head import RawHeaders

_DIGITS = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class ReceivedContent:
    """Where the content of an upstream's answer ends (RFC 9112 §6.3).

    ``announced`` is the length that the client is told of; ``length`` is that of what follows,
    ``None`` where it ends otherwise: by ``chunked``, or with the connection. After an answer that
    ``closes`` it is in doubt whether more follows, or nothing can.
    """

    announced: int | None = None
    length: int | None = None
    chunked: bool = False
    closes: bool = False


def received_content(
    status: int, version: tuple[int, int], fields: RawHeaders, *, to_head: bool = False
) -> ReceivedContent:
    """Return how the content of an answer with these fields is framed; ``to_head`` if HEAD asked.

    Raises:
        UpstreamInvalid: two could frame it differently: more than one length, one that is no
            number, a length beside chunks (RFC 9112 §6.3, RFC 9110 §8.6), or another coding than
            chunked, the only one that is undone here (RFC 9112 §6.1).
    """
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-length":
            lengths.append(value)
        elif lower == b"transfer-encoding":
            codings.append(value.lower())
    if len(lengths) + len(codings) > 1:
        raise UpstreamInvalid(cause="framing")
    if codings not in ([], [b"chunked"]) or not all(map(_DIGITS.fullmatch, lengths)):
        raise UpstreamInvalid(cause="framing")
    announced = int(lengths[0]) if lengths else None
    chunked = bool(codings)
    if status < 200 or status == 204:
        # They have no content whatever they announce; whether it comes nobody knows.
        return ReceivedContent(length=0, closes=chunked or bool(announced))
    if status == 205:  # RFC 9110 §15.3.6: no content, and not every client expects any
        return ReceivedContent(announced=0, length=0, closes=announced != 0)
    # HTTP/1.0 has no chunks: they are undone, and that is all that is believed (RFC 9112 §6.1).
    faulty = chunked and version == (1, 0)
    if status == 304 or to_head:
        return ReceivedContent(announced=announced, length=0, closes=faulty)
    if chunked:
        return ReceivedContent(chunked=True, closes=faulty)
    return ReceivedContent(announced=announced, length=announced, closes=announced is None)


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
