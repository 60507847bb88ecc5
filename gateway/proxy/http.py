"""One request to a backend, and its answer back, streamed both ways."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import aiohttp
import structlog
from aiohttp import ClientResponse, ClientSession, TraceConfig, hdrs
from multidict import CIMultiDict
from yarl import URL

from gateway.errors import UpstreamInvalid
from gateway.exchange import Exchange, RelayedResponse, RequestBody
from gateway.headers import HeaderPolicy, client_response, one_spelling, upstream_request
from gateway.metrics import Metrics
from gateway.routes import Route
from gateway.tokens import Facts
from gateway.upstream import upstream_errors

log = structlog.stdlib.get_logger(__name__)

# RFC 9110 §9.2.2; those of them that a gateway forwards.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_UPSTREAM_FAULTS = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(slots=True)
class _Attempt:
    """One sending of a request: whether it went out on a connection that had been idle."""

    reused: bool = False


def reuse_trace() -> TraceConfig:
    """Return the trace that tells an ``_Attempt`` on what kind of connection it went out."""

    async def note(_session: ClientSession, context: SimpleNamespace, _params: Any) -> None:
        attempt = context.trace_request_ctx
        if isinstance(attempt, _Attempt):
            attempt.reused = True

    trace = TraceConfig()
    trace.on_connection_reuseconn.append(note)
    return trace


class HttpProxy:
    """Forwards plain HTTP exchanges."""

    def __init__(
        self,
        session: ClientSession,
        *,
        policy: HeaderPolicy,
        metrics: Metrics,
        max_body: int,
        body_timeout_seconds: float,
        write_timeout_seconds: float,
    ) -> None:
        self._session = session
        self._policy = policy
        self._metrics = metrics
        self._max_body = max_body
        self._body_timeout_seconds = body_timeout_seconds
        self._write_timeout_seconds = write_timeout_seconds

    async def forward(
        self, exchange: Exchange, route: Route, facts: Facts | None
    ) -> RelayedResponse:
        """Send the request to the route's upstream and stream the answer to the client.

        Raises:
            GatewayError: there is no answer to pass on, and nothing was sent to the client yet.
            ConnectionResetError: either side went away in the middle of the answer.
        """
        assert exchange.head is not None
        body = RequestBody(
            exchange.request,
            exchange.head,
            most=self._max_body,
            timeout_seconds=self._body_timeout_seconds,
        )
        body.check_length()
        with upstream_errors(body):
            upstream = await self._send(exchange, route, facts, body)
        try:
            return await self._relay(exchange, upstream, body)
        finally:
            # Whole answers have given their connection back by now; any other is closed, with
            # whatever the client was still sending.
            upstream.close()

    async def _send(
        self, exchange: Exchange, route: Route, facts: Facts | None, body: RequestBody
    ) -> ClientResponse:
        assert exchange.head is not None
        assert exchange.target is not None
        fields = upstream_request(
            exchange.head,
            policy=self._policy,
            peer=exchange.peer,
            scheme_name=exchange.scheme,
            request_id=exchange.request_id,
            facts=facts,
        )
        method = exchange.request.method
        url = URL(route.url(exchange.target), encoded=True)
        headers = CIMultiDict(one_spelling(fields))
        has_body = exchange.head.has_body

        async def attempt(context: _Attempt) -> ClientResponse:
            return await self._session.request(
                method,
                url,
                headers=headers,
                data=body.chunks() if has_body else None,
                allow_redirects=False,
                trace_request_ctx=context,
            )

        first = _Attempt()
        try:
            return await attempt(first)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # An upstream may close an idle connection just as a request goes out on it. Only
            # then, and only what may be repeated, is sent once more (RFC 9110 §9.2.2).
            if has_body or not first.reused or method not in _IDEMPOTENT:
                raise
            self._metrics.upstream_retried(route.name)
            return await attempt(_Attempt())

    async def _relay(
        self, exchange: Exchange, upstream: ClientResponse, body: RequestBody
    ) -> RelayedResponse:
        if upstream.status < 200:
            raise UpstreamInvalid("The upstream switched protocols unasked.")
        response = RelayedResponse(
            upstream.status,
            upstream.reason or "",
            client_response(
                upstream.raw_headers, request_id=exchange.request_id, date=exchange.date
            ),
            content_length=_content_length(upstream),
        )
        if exchange.closes:
            response.force_close()
        await response.prepare(exchange.request)
        content = upstream.content
        while True:
            try:
                chunk = content.read_nowait()
                if not chunk and not content.at_eof():
                    # Nothing more for now: what there is goes out before waiting (RFC 9112 §6).
                    response.send_head()
                    chunk = await content.readany()
            except _UPSTREAM_FAULTS as error:
                # The client must not take half an answer for a whole one (RFC 9112 §8).
                self._note_abort(exchange, body, error)
                _abort(exchange, "the upstream failed within its answer")
            if not chunk:
                break
            try:
                async with asyncio.timeout(self._write_timeout_seconds):
                    await response.write(chunk)
            except TimeoutError:
                exchange.outcome = "client_stalled"
                _abort(exchange, "the client left the answer unread")
        await response.write_eof()
        exchange.outcome = "proxied"
        return response

    def _note_abort(self, exchange: Exchange, body: RequestBody, error: Exception) -> None:
        if body.fault is not None:  # it was the client's own content that broke off
            exchange.outcome = body.fault.outcome
            return
        exchange.outcome = "upstream_aborted"
        self._metrics.upstream_failed(exchange.route, exchange.outcome)
        log.warning(
            "upstream failed within its answer", route=exchange.route, error=type(error).__name__
        )


def _abort(exchange: Exchange, why: str) -> NoReturn:
    """Cut the client's connection off, so that nobody takes what was sent for the whole."""
    if exchange.request.transport is not None:
        exchange.request.transport.abort()
    raise ConnectionResetError(why) from None


def _content_length(upstream: ClientResponse) -> int | None:
    value = upstream.headers.get(hdrs.CONTENT_LENGTH)
    if value is None or upstream.headers.get(hdrs.TRANSFER_ENCODING) is not None:
        return None
    return int(value)  # the parser has seen to it that it is one
