"""A client's connection that gives aiohttp one request at a time, to the end that we see.

A subclass of aiohttp's connection protocol. Whatever port it is of, what may follow a request is
decided here: where ``RequestFramer`` and aiohttp's parser don't agree, and after what nobody can
frame, nothing more is read.
"""

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web, web_protocol
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.errors import BadRequest, GatewayError
from gateway.request_framing import RequestFramer
from gateway.request_head import too_many_bytes, too_many_fields
from gateway.request_method import StandIn

_MOST_HELD = 64 * 1024  # bytes of what is read ahead of its turn
_HELD_PART = 16 * 1024
_FORGET_SECONDS = 0.5  # how long an idle connection keeps its last request
_NONE_HELD: deque[bytes] = deque()  # an empty one is three quarters of a KiB


class FramedConnection(RequestHandler):
    """One client connection.

    aiohttp is given one request at a time, and the next when that one is answered and all here:
    what comes ahead of its turn is held back. So no byte is read as part of a request before it is
    sure that there is another one.

    A subclass calls ``_begin_reading`` when it has taken the connection, and answers in
    ``handle_error`` what never was a request: its ``exc`` is a ``GatewayError`` then.
    """

    __slots__ = (
        "_answered",
        "_aside",
        "_between",
        "_content",
        "_deadlines",
        "_forgetting",
        "_framer",
        "_goes_on_soon",
        "_held",
        "_held_back",
        "_held_bytes",
        "_over",
        "_stand_in",
        "_switched",
        "_under_way",
    )

    def __init__(
        self, server: web.Server, *, loop: asyncio.AbstractEventLoop, **kwargs: Any
    ) -> None:
        super().__init__(server, loop=loop, **kwargs)
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._forgetting: asyncio.TimerHandle | None = None
        self._framer = RequestFramer()
        self._stand_in = StandIn()
        self._between = False  # nothing of a request is here, and one may come
        self._aside = False  # one is under way that aiohttp knows nothing of
        self._under_way = False  # aiohttp has one
        self._answered = False  # and has answered it, though its content may still be coming
        self._content: StreamReader = EMPTY_PAYLOAD
        self._over = True  # nothing more is read as a request
        self._switched = False  # another protocol is spoken
        self._held = _NONE_HELD
        self._held_bytes = 0
        self._held_back = False
        self._goes_on_soon = False

    @abstractmethod
    def _head_limits(self) -> tuple[int, float]:
        """Return the most bytes of a header section, and how many seconds it may take."""

    def _take_aside(self, data: bytes) -> bool:  # noqa: ARG002 -- for subclasses
        """Serve a request otherwise, if ``data`` is one for that; tell if it is."""
        return False

    def _begin_reading(self) -> None:
        self._between, self._over = True, False

    def data_received(self, data: bytes) -> None:
        """Give the parser what is its turn to have, and hold the rest back."""
        if self._between:
            if not self._take_aside(data):
                self._read(data)
        elif not data:  # the parser goes on with what it kept when it was paused
            self._feed(data)
            self._go_on_soon()
        elif self._switched:
            super().data_received(data)
        elif self._over and not self._wants_content:
            pass
        elif self._held or self._aside or self._framer.whole:
            # It was sent ahead, or the client says more than it should. Reading goes on meanwhile,
            # or nobody would learn that the client leaves.
            self._hold_back(data)
        else:
            self._read(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keep nothing of what came: the collector may find the connection only much later."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._let_go()
        super().connection_lost(exc)

    @property
    def held_bytes(self) -> int:
        """How much there is of what came and nobody has taken yet."""
        # What has come of a header section is in the parser as well.
        size = 2 * self._framer.held_bytes + self._held_bytes
        if self._content is not EMPTY_PAYLOAD:
            size += self._content._size  # noqa: SLF001 -- what nobody has read of it
        return size

    def _account(self) -> None:
        """Hear that ``held_bytes`` may have changed; for subclasses."""

    def _let_go(self) -> None:
        self._drop_held()
        self._framer = RequestFramer()
        if self._content is not EMPTY_PAYLOAD:
            self._content._buffer.clear()  # noqa: SLF001

    def _hold_back(self, data: bytes) -> None:
        if not self._held:
            self._held = deque()
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _MOST_HELD and not self._held_back:
            self._held_back = True
            self._pause_transport_reading()
        self._account()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send what is left of an answer; then the next request may begin, if one may at all."""
        if self._framer.is_last:
            resp.force_close()
        resp, gone = await super().finish_response(request, resp, start_time)
        self._answered = True
        if self._forgetting is None:
            self._forgetting = self._loop.call_later(_FORGET_SECONDS, self._forget)
        if gone or not resp.keep_alive:
            self._end_reading()
        else:
            self._go_on()
        return resp, gone

    def set_parser(self, parser: Any, data_received_cb: Callable[[], None] | None = None) -> None:
        """Switch to another protocol: what the client sent ahead belongs to that."""
        super().set_parser(parser, data_received_cb)
        self._switched = True
        held = self._drop_held()
        for data in held:
            super().data_received(data)
        self._let_read()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 -- aiohttp's
        """Take no request more, and end with the one that is under way."""
        self._end_reading()
        await super().shutdown(timeout)

    def _forget(self) -> None:
        """Let go of the last request: aiohttp keeps it until there is another."""
        self._forgetting = None
        waiter = self._waiter
        if self._parser is None or waiter is None or waiter.done() or not self._between:
            return
        self._parser = vars(web_protocol)["HttpRequestParser"](  # as aiohttp makes it
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=self._max_msg_queue_size,
        )
        waiter.cancel()  # which ends the task
        self._task_handler = self._loop.create_task(self.start())
        if self._keepalive_handle is not None:
            # Due at this very moment it would find nobody waiting, and never come again.
            self._keepalive_handle.cancel()
            left_seconds = self._next_keepalive_close_time - self._loop.time()
            self._keepalive_handle = self._loop.call_later(
                max(0.0, left_seconds), self._process_keepalive
            )

    def _read(self, data: bytes) -> None:
        """Give the parser what belongs to the request at hand; a header section has its time."""
        framer, heads = self._framer, self._framer.heads
        try:
            max_head, seconds = self._head_limits()
            piece, behind = framer.take(data, max_head)
        except GatewayError as error:
            self._refuse(error)
            return
        self._between = framer.idle and not self._over
        if behind and not (self._over and framer.whole):
            # In parts, or thousands of requests in one piece would each copy what is behind them.
            parts = [behind[at : at + _HELD_PART] for at in range(0, len(behind), _HELD_PART)]
            self._held = deque([*parts, *self._held])
            self._held_bytes += len(behind)
        shown = self._stand_in.take(piece, in_head=framer.in_head)
        if shown:
            self._feed(shown, begins=framer.heads - heads)
        if not framer.in_head or self._over:
            self._call_off("header")
        elif "header" not in self._deadlines:
            self._deadlines["header"] = self._loop.call_later(seconds, self._header_late)
        self._account()
        if self._answered and framer.whole:
            self._go_on()
        elif self._held and not framer.whole:
            self._go_on_soon()  # others have their turn between very many chunks

    def _feed(self, data: bytes, *, begins: int = 0) -> None:
        """Feed the parser with what makes so many requests begin."""
        count = self._request_count
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001 -- the parser's: some targets make yarl raise anything
            self._refuse(BadRequest("The request is malformed."))
            return
        found = self._request_count - count
        fault = self._messages[-1][0] if found else None
        if isinstance(fault, _ErrInfo):
            self._messages.pop()
            self._refuse(_as_error(fault.exc, self.max_headers))
        elif found != begins:
            # The parser reads it otherwise than the gateway does.
            for _ in range(found):
                self._messages.pop()
            self._refuse(BadRequest("The request is malformed."))
        elif begins:
            message, content = self._messages[-1]
            self._under_way, self._content = True, content
            if self._stand_in.method is not None:
                named = cast("Any", message)._replace(method=self._stand_in.method)
                self._messages[-1] = named, content

    def _go_on_soon(self) -> None:
        if not self._goes_on_soon:
            self._goes_on_soon = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._goes_on_soon = False
        self._go_on()

    def _go_on(self) -> None:
        """Begin with what was held back, once its turn has come."""
        if self._switched or self._aside or self.transport is None:
            return
        if self._under_way and self._framer.whole:
            if self._over or not (self._answered and self._content.is_eof()):
                return
            self._under_way = self._answered = False
            self._content = EMPTY_PAYLOAD
            self._framer.next()
            self._stand_in.next()
            if self._upgraded and self._parser is not None:  # nobody took the upgrade
                self._parser.set_upgraded(False)
                self._upgraded = False
        if self._over and not self._wants_content:
            return
        if self._framer.idle:
            self._between = True
        elif self._reading_paused:
            return  # until somebody has read some of the content
        if self._held and not self._framer.whole:
            data = self._held.popleft()
            self._held_bytes -= len(data)
            self._held = self._held or _NONE_HELD
            if not self._between or not self._take_aside(data):
                self._read(data)
        self._let_read()
        self._account()

    @property
    def _wants_content(self) -> bool:
        """Whether content is read of the request under way, if only to be thrown away."""
        return self._under_way and not self._framer.whole and not self._close

    def _drop_held(self) -> deque[bytes]:
        held, self._held, self._held_bytes = self._held, _NONE_HELD, 0
        return held

    def _let_read(self) -> None:
        if self._held_back and self._held_bytes <= _MOST_HELD:
            self._held_back = False
            if not self._reading_paused and not self._buffer_paused:
                self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        self._account()
        if not self._held_back:
            super()._resume_transport_reading()

    def _end_reading(self) -> None:
        """Read nothing more as a request."""
        self._over, self._between = True, False
        if not self._wants_content:
            self._drop_held()
        self._call_off("header")

    def _refuse(self, error: GatewayError) -> None:
        """Answer what isn't a request, or have the one under way fail whose content it is."""
        if self._under_way:
            # Nobody knows where the next one would begin.
            self._close = True
        self._end_reading()
        if self._under_way:
            if not self._content.is_eof():
                if not self._answered:
                    self._content.set_exception(web.RequestPayloadError("malformed"))
                self._content.feed_eof()
            return
        self._request_count += 1
        self._messages.append((_ErrInfo(error.status, error, ""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _process_keepalive(self) -> None:
        if not self._aside and not self._framer.in_head:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(
                self._keepalive_timeout, self._process_keepalive
            )

    @property
    def to_head(self) -> bool:
        """Whether what is refused has the method HEAD, as far as it can be read."""
        return self._framer.to_head

    @property
    def over(self) -> bool:
        """Whether nothing more is read as a request, once the one under way is answered."""
        return self._over

    def may_have_trailers(self) -> bool:
        """Whether there are, or may be, trailers behind the content of the request under way."""
        return not self._framer.whole or self._framer.had_trailers

    def _header_late(self) -> None:
        del self._deadlines["header"]
        if self._framer.in_head:
            self.force_close()

    def _call_off(self, what: str) -> None:
        timer = self._deadlines.pop(what, None)
        if timer is not None:
            timer.cancel()


def _as_error(fault: BaseException, max_fields: int) -> GatewayError:
    """Return what a fault that the parser found is to the client; none of its text is repeated."""
    if isinstance(fault, LineTooLong):
        return too_many_bytes()
    if isinstance(fault, HttpProcessingError) and fault.message.startswith("Too many headers"):
        return too_many_fields(max_fields)
    return BadRequest("The request is malformed.")
