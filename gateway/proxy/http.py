"""One request to a backend, and its answer back, streamed both ways."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp
import structlog
from aiohttp import ClientResponse, ClientSession, HttpVersion11, TraceConfig
from yarl import URL

from gateway.answer_head import ReceivedHead
from gateway.errors import UpstreamInvalid
from gateway.exchange import Exchange, RelayedResponse, RequestBody
from gateway.failures import UpstreamFailures
from gateway.fields import Fields
from gateway.framing import received_content
from gateway.headers import HeaderPolicy, client_response, upstream_request
from gateway.metrics import Metrics
from gateway.proxy.answers import render_interim
from gateway.routes import Route
from gateway.tokens import Facts
from gateway.upstream import (
    IDEMPOTENT,
    AnswerListener,
    origin,
    outgoing,
    upstream_error,
    upstream_errors,
)

log = structlog.stdlib.get_logger(__name__)

_UPSTREAM_FAULTS = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass
class _Attempt(AnswerListener):
    """One sending of a request: whether it went out on a connection that had been idle.

    ``sent`` is called when its header section is out, ``comes`` when the upstream isn't silent,
    and ``interim`` for each interim answer.
    """

    sent: Callable[[], None]
    comes: Callable[[], None]
    interim: Callable[[ReceivedHead], None]
    reused: bool = False

    def answer_comes(self) -> None:
        """The upstream isn't silent."""
        self.comes()

    def interim_answer(self, received: ReceivedHead) -> None:
        """An interim answer is here."""
        self.interim(received)


def reuse_trace() -> TraceConfig:
    """Return the trace that tells an ``_Attempt`` when and on what kind of connection it went."""

    async def note(_session: ClientSession, context: SimpleNamespace, _params: Any) -> None:
        attempt = context.trace_request_ctx
        if isinstance(attempt, _Attempt):
            attempt.reused = True

    async def tell(_session: ClientSession, context: SimpleNamespace, _params: Any) -> None:
        attempt = context.trace_request_ctx
        if isinstance(attempt, _Attempt):
            attempt.sent()

    trace = TraceConfig()
    trace.on_connection_reuseconn.append(note)
    trace.on_request_headers_sent.append(tell)
    return trace


class HttpProxy:
    """Forwards plain HTTP exchanges."""

    def __init__(
        self,
        session: ClientSession,
        *,
        policy: HeaderPolicy,
        metrics: Metrics,
        failures: UpstreamFailures,
        max_body: int,
        body_timeout_seconds: float,
    ) -> None:
        self._session = session
        self._policy = policy
        self._metrics = metrics
        self._failures = failures
        self._max_body = max_body
        self._body_timeout_seconds = body_timeout_seconds
        self._read_timeout_seconds = session.timeout.sock_read

    async def forward(
        self, exchange: Exchange, route: Route, facts: Facts | None
    ) -> RelayedResponse:
        """Send the request to the route's upstream and stream the answer to the client.

        Raises:
            GatewayError: there is no answer to pass on, and nothing was sent to the client yet.
            ConnectionResetError: either side went away in the middle of the answer.
        """
        fields = self.fields(exchange, facts)
        async with self.asking(exchange, route, fields) as (upstream, body):
            return await self.relay(exchange, upstream, body)

    def fields(self, exchange: Exchange, facts: Facts | None) -> Fields:
        """Return the header section for the upstream."""
        assert exchange.head is not None
        return upstream_request(
            exchange.head,
            policy=self._policy,
            peer=exchange.peer,
            scheme_name=exchange.scheme,
            request_id=exchange.request_id,
            facts=facts,
        )

    @asynccontextmanager
    async def asking(
        self, exchange: Exchange, route: Route, fields: Fields
    ) -> AsyncIterator[tuple[ClientResponse, RequestBody]]:
        """Send the request with these fields; gives the beginning of the answer.

        Raises:
            GatewayError: there is none to pass on.
        """
        assert exchange.head is not None
        body = RequestBody(
            exchange.request,
            exchange.head,
            most=self._max_body,
            timeout_seconds=self._body_timeout_seconds,
            holds=exchange.holds,
        )
        body.check_length()
        with upstream_errors(body):
            upstream = await self._send(exchange, route, fields, body)
        try:
            yield upstream, body
        finally:
            # Whole answers have given their connection back by now; any other is closed, with
            # whatever the client was still sending.
            upstream.close()

    async def _send(
        self, exchange: Exchange, route: Route, fields: Fields, body: RequestBody
    ) -> ClientResponse:
        assert exchange.head is not None
        assert exchange.target is not None
        method = exchange.request.method
        url = route.url(exchange.target)
        exchange.upstream = origin(url)
        headers = outgoing(fields, url)
        has_body = exchange.head.has_body

        reused = False

        async def attempt() -> ClientResponse:
            nonlocal reused
            async with asyncio.timeout(None) as patience:
                tried = _Attempt(
                    sent=lambda: None if has_body else self._wait(patience),
                    comes=lambda: self._wait_on(patience),
                    interim=lambda received: self._pass_interim(exchange, received),
                )
                try:
                    with tried.listens():
                        return await self._session.request(
                            method,
                            URL(url, encoded=True),
                            headers=headers,
                            data=self._handed_over(body, patience) if has_body else None,
                            allow_redirects=False,
                            trace_request_ctx=tried,
                        )
                finally:
                    reused = tried.reused

        try:
            return await attempt()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # An upstream may close an idle connection just as a request goes out on it. Only
            # then, and only what may be repeated, is sent once more (RFC 9110 §9.2.2).
            if has_body or not reused or method not in IDEMPOTENT:
                raise
            self._metrics.upstream_retried(route.name)
            return await attempt()

    @staticmethod
    def _pass_interim(exchange: Exchange, received: ReceivedHead) -> None:
        """Pass an interim answer on to who may know what it is: not HTTP/1.0 (RFC 9110 §15.2)."""
        transport = exchange.request.transport
        if transport is not None and exchange.request.version >= HttpVersion11:
            transport.write(render_interim(received))

    async def _handed_over(
        self, body: RequestBody, patience: asyncio.Timeout
    ) -> AsyncIterator[bytes]:
        """Yield the content; ``patience`` ends when the upstream leaves it untaken for too long.

        aiohttp has a time-out for what an upstream says, but none for what it doesn't listen to.
        """
        async for chunk in body.chunks():
            self._wait(patience)
            yield chunk
            self._wait_no_more(patience)
        self._wait(patience)

    def _wait(self, patience: asyncio.Timeout) -> None:
        """Wait for the upstream, from now on for as long as it may be silent."""
        seconds = self._read_timeout_seconds
        with suppress(RuntimeError):  # the answer is here already, ahead of the content's end
            loop = asyncio.get_running_loop()
            patience.reschedule(None if seconds is None else loop.time() + seconds)

    def _wait_on(self, patience: asyncio.Timeout) -> None:
        """The upstream said something: if it is waited for, the wait begins anew."""
        if patience.when() is not None:
            self._wait(patience)

    @staticmethod
    def _wait_no_more(patience: asyncio.Timeout) -> None:
        with suppress(RuntimeError):  # as above
            patience.reschedule(None)

    async def relay(
        self, exchange: Exchange, upstream: ClientResponse, body: RequestBody
    ) -> RelayedResponse:
        """Stream an answer to the client.

        Raises:
            UpstreamInvalid: it can't be passed on, and nothing was sent to the client yet.
            ConnectionResetError: either side went away in the middle of it.
        """
        if upstream.status < 200:
            raise UpstreamInvalid(cause="switched_protocols")
        content_received = received_content(
            upstream.status,
            upstream.version or HttpVersion11,
            upstream.raw_headers,
            to_head=upstream.method == "HEAD",
        )
        response = RelayedResponse(
            upstream.status,
            upstream.reason or "",
            client_response(
                upstream.raw_headers,
                request_id=exchange.request_id,
                date=exchange.date,
                status=upstream.status,
            ),
            content_length=content_received.announced,
        )
        if exchange.closes:
            response.force_close()
        await response.prepare(exchange.request)
        exchange.status = response.status
        content = upstream.content
        while True:
            with self._within_answer(exchange, body):
                chunk = content.read_nowait()
            if not chunk and not content.at_eof():
                # Nothing more for now: what there is goes out before waiting.
                response.send_head()
                with self._within_answer(exchange, body):
                    chunk = await content.readany()
            if not chunk:
                break
            await response.write(chunk)
        await response.write_eof()
        exchange.outcome = "proxied"
        return response

    @contextmanager
    def _within_answer(self, exchange: Exchange, body: RequestBody) -> Iterator[None]:
        """Have the client cut off when the upstream fails: half an answer isn't one.

        So it is by ``GatewayConnection``, for any error of a connection (RFC 9112 §8).
        """
        try:
            yield
        except _UPSTREAM_FAULTS as error:
            self._note_abort(exchange, body, error)
            raise ConnectionResetError("the upstream failed within its answer") from None

    def _note_abort(self, exchange: Exchange, body: RequestBody, error: Exception) -> None:
        if body.fault is not None:  # it was the client's own content that broke off
            exchange.outcome = body.fault.outcome
            return
        exchange.outcome = "upstream_aborted"
        failure = upstream_error(error)
        self._failures.failed(exchange.route, exchange.upstream, failure, exchange.outcome)
        log.warning(
            "upstream failed within its answer", route=exchange.route, error=type(error).__name__
        )
