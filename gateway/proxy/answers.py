"""The header sections of upstreams' answers: parsed once, however often they come.

An upstream says the same of each answer of a kind, but for the second in ``Date``. What was
learned of a header section is kept by what it says; one that may say a secret, by a field's name,
isn't kept.
"""

import re
from dataclasses import dataclass
from typing import Literal

from gateway.answer_head import MOST_FIELDS, ReceivedHead, inspect_answer
from gateway.errors import UpstreamInvalid
from gateway.fields import render
from gateway.framing import answer_framing
from gateway.headers import crossing_response
from gateway.proxy.remembered import ANSWERS_BYTES, Remembered

_ENTRY_BYTES = 400  # what an item takes beside its bytes
_LINE_END = re.compile(rb"[\r\n]+")
_SECRET = re.compile(rb"auth|cookie|credential|key|pass|secret|session|token")


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What the header section of an answer says.

    ``start`` is the status line and the fields for the client, as they go out; ``dated`` whether
    there is a ``Date``; ``framed`` are the fields that frame the content, ``chunked`` is how they
    may do it. ``content_length`` is ``None`` where the end is found otherwise; ``bodiless`` answers
    have no content (204, 205, 304). After an answer that ``closes`` the upstream's connection can't
    be used again.
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


def read_head(received: ReceivedHead, *, to_head: bool) -> AnswerHead:
    """Return what a final answer's header section says; ``to_head`` if HEAD was asked.

    Raises:
        UpstreamInvalid: it switches protocols, and nobody asked for that.
    """
    if received.status < 200:
        raise UpstreamInvalid(cause="switched_protocols")
    fields, dated = crossing_response(received.fields, received.status)
    announced, bodiless = received.content.announced, received.status in {204, 205, 304}
    framing = answer_framing(
        received.status, announced, bodiless=bodiless or to_head, http_1_1=True
    )
    return AnswerHead(
        status=received.status,
        start=b"HTTP/1.1 %d %b\r\n" % (received.status, received.reason) + render(fields),
        dated=dated,
        framed=render(framing.fields),
        chunked=framing.chunked,
        content_length=announced,
        bodiless=bodiless,
        closes=received.closes,
    )


def render_interim(received: ReceivedHead) -> bytes:
    """Return an interim answer as it goes out to a client (RFC 9110 §15.2).

    Empty for 100: the gateway answers ``Expect`` itself, and asks nobody else to.
    """
    if received.status == 100:
        return b""
    fields, _ = crossing_response(received.fields)
    line = b"HTTP/1.1 %d %b\r\n" % (received.status, received.reason)
    return line + render(fields) + b"\r\n"


class AnswerHeads:
    """What was learned of header sections, and is known when they come again."""

    def __init__(self, most_fields: int = MOST_FIELDS) -> None:
        self._most_fields = most_fields
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

    def _inspect(self, section: bytes) -> ReceivedHead:
        return inspect_answer(section + b"\r\n\r\n", most_fields=self._most_fields)

    def _learn(self, section: bytes) -> AnswerHead | None:
        try:
            head = read_head(self._inspect(section), to_head=False)
        except UpstreamInvalid:
            return None
        return head if head.content_length is not None or head.bodiless else None
