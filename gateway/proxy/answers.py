"""The header sections of upstreams' answers: parsed once, however often they come.

An upstream says the same of each answer of a kind, but for the second in ``Date``. What was
learned of a header section is kept by what it says; one that may say a secret, by a field's name,
isn't kept.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Literal

from aiohttp import http_parser
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import UpstreamInvalid
from gateway.fields import render
from gateway.framing import announced_length, answer_framing
from gateway.headers import crossing_response
from gateway.proxy.remembered import ANSWERS_BYTES, Remembered

_HEADER_BYTES = 64 * 1024
# More than any one read brings: content is taken out of the parser as it goes in.
_NEVER_FULL = 1 << 30
_ENTRY_BYTES = 400  # what an item takes beside its bytes
_LINE_END = re.compile(rb"[\r\n]+")
_SECRET = re.compile(rb"auth|cookie|credential|key|pass|secret|session|token")


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What the header section of an answer says.

    ``start`` is the status line and the fields for the client, as they go out; ``dated`` whether
    there is a ``Date``; ``framed`` are the fields that frame the content, ``chunked`` is how they
    may do it. ``content_length`` is ``None`` where the end is found otherwise; ``bodiless`` answers
    have no content (204, 304). After an answer that ``closes`` the upstream's connection can't be
    used again.
    """

    status: int
    start: bytes
    dated: bool
    framed: bytes
    chunked: bool
    content_length: int | None
    bodiless: bool
    closes: bool


def names_secret(section: bytes, *, known: int = 0) -> bool:
    """Whether more than ``known`` of a header section's fields may be secret, by their names."""
    # A parser may end lines where we wouldn't.
    lines = _LINE_END.split(section)
    names = b" ".join([line.partition(b":")[0] for line in lines]).lower()
    return len(_SECRET.findall(names)) > known


class NoFlowControl:
    """Whom a parser tells to slow down: nobody, as what it holds is taken at once."""

    _reading_paused = False

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing."""


def open_parser(
    loop: asyncio.AbstractEventLoop, *, with_body: bool
) -> "http_parser.HttpResponseParser":
    """Return a parser for one answer, as strict and as lenient as ``ClientSession``'s."""
    return http_parser.HttpResponseParser(
        NoFlowControl(),  # type: ignore[arg-type]
        loop,
        _NEVER_FULL,
        payload_exception=ClientPayloadError,
        response_with_body=with_body,
        read_until_eof=True,
        auto_decompress=False,
        max_line_size=_HEADER_BYTES,
        max_field_size=_HEADER_BYTES,
    )


def read_head(message: "http_parser.RawResponseMessage", *, to_head: bool) -> AnswerHead:
    """Return what a final answer's header section says; ``to_head`` if HEAD was asked.

    Raises:
        UpstreamInvalid: the answer wouldn't mean the same to the client.
    """
    length = announced_length(message.code, message.version, message.raw_headers)
    fields, dated = crossing_response(message.raw_headers)
    line = f"HTTP/1.1 {message.code} {message.reason}\r\n"
    bodiless = message.code in {204, 304}
    framing = answer_framing(message.code, length, bodiless=bodiless or to_head, http_1_1=True)
    return AnswerHead(
        status=message.code,
        start=line.encode("utf-8", "surrogateescape") + render(fields),
        dated=dated,
        framed=render(framing.fields),
        chunked=framing.chunked,
        content_length=length,
        bodiless=bodiless,
        closes=message.should_close,
    )


class AnswerHeads:
    """What was learned of header sections, and is known when they come again."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: Remembered[bytes, AnswerHead | Literal[False]] = Remembered(ANSWERS_BYTES)

    def find(self, section: bytes) -> AnswerHead | None:
        """Return what a header section says, if it is simple: one final answer, framed by length.

        ``section`` is all before the empty line. ``None`` is for all else, which takes a parser.
        """
        known = self._known.get(section)
        if known is not None:
            return known or None
        head = self._learn(section)
        if not names_secret(section):
            self._known.put(section, head or False, _ENTRY_BYTES + 2 * len(section))
        return head

    def _learn(self, section: bytes) -> AnswerHead | None:
        if not section.startswith(b"HTTP/1."):
            return None
        parser = open_parser(self._loop, with_body=False)
        try:
            messages, upgraded, _ = parser.feed_data(section + b"\r\n\r\n")
            if len(messages) != 1 or upgraded:
                return None
            head = read_head(messages[0][0], to_head=False)
        except (HttpProcessingError, UpstreamInvalid):
            return None
        return head if head.content_length is not None or head.bodiless else None
