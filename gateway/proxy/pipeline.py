"""The path of a request through the handler lane: route, bearer, validator, headers, proxy."""

import secrets
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

import structlog
from aiohttp import HttpVersion10, HttpVersion11, web

from gateway.access_log import AccessLog
from gateway.bearer import authorize, credentials
from gateway.clock import Clock
from gateway.cors import origin_of, preflight_of
from gateway.errors import BadRequest, GatewayError
from gateway.exchange import (
    Exchange,
    RelayedResponse,
    cut_off,
    error_response,
    reason_phrase,
)
from gateway.failures import UpstreamFailures
from gateway.fields import Fields
from gateway.metrics import Metrics
from gateway.proxy.http import HttpProxy
from gateway.proxy.revalidation import Revalidation
from gateway.proxy.server import hold, how_client_left, is_last, may_have_trailers, prove
from gateway.proxy.websocket import WebSocketProxy
from gateway.request_head import addressed, hops_left, inspect_request, with_hops
from gateway.routes import Route, Routes, Target, parse_target
from gateway.tokens import Facts, TokenKey, token_key
from gateway.validator import Validator

if TYPE_CHECKING:
    from gateway.proxy.fast_exchange import FastExchange

log = structlog.stdlib.get_logger(__name__)
access_log = AccessLog()

_ENDPOINT_METHODS = "OPTIONS, POST"
_SERVED_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


class OAuthAnswers(Protocol):
    """What the pipeline needs of ``oauth.OAuthEndpoints``."""

    def endpoint(self, path: str, method: str) -> str | None:
        """Return which endpoint has this path, if one does."""
        ...

    def answer(self, endpoint: str, exchange: Exchange) -> Awaitable[RelayedResponse]:
        """Forward a request to the key manager."""
        ...


class Pipeline:
    """Answers requests, each in stages; what a stage refuses is rendered and counted here."""

    def __init__(
        self,
        *,
        routes: Routes,
        validator: Validator,
        http: HttpProxy,
        websocket: WebSocketProxy,
        oauth: OAuthAnswers,
        metrics: Metrics,
        failures: UpstreamFailures,
        clock: Clock,
        realm: str,
        max_header_bytes: int,
        max_header_fields: int,
        underscores: str,
        access_log_enabled: bool,
        revalidate_seconds: float = 0.0,
    ) -> None:
        self._revalidate_seconds = revalidate_seconds
        self._routes = routes
        self._validator = validator
        self._http = http
        self._websocket = websocket
        self._oauth = oauth
        self._metrics = metrics
        self._failures = failures
        self._clock = clock
        self._realm = realm
        self._max_header_bytes = max_header_bytes
        self._max_header_fields = max_header_fields
        self._underscores = underscores
        self._access_log_enabled = access_log_enabled
        self.draining = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; the handler of the traffic port."""
        exchange = self._begin(request)
        started = self._clock.monotonic()
        self._metrics.request_started()
        try:
            response = await self._answer_or_refuse(exchange)
            exchange.status = response.status
            if exchange.closes:
                response.force_close()
            await response.prepare(request)
            await response.write_eof()
        except BaseException:
            # The client went away: its connection broke, or aiohttp cancelled this task for it.
            exchange.outcome = exchange.outcome or how_client_left(request)
            exchange.status = exchange.status or 499
            raise
        else:
            return response
        finally:
            seconds = self._clock.monotonic() - started
            self._metrics.request_ended(exchange.route, exchange.outcome, seconds)
            if self._access_log_enabled:
                self._log_access(exchange, seconds)

    def refuse(self, request: web.BaseRequest, error: GatewayError) -> web.StreamResponse:
        """Answer what never was a request."""
        exchange = self._begin(request)
        exchange.outcome, exchange.status = error.outcome, error.status
        self._metrics.request_started()
        self._metrics.request_ended("", error.outcome, 0.0)
        if self._access_log_enabled:
            self._log_access(exchange, 0.0)
        response = error_response(error, exchange)
        response.minor_version = 1  # nobody knows the client's (RFC 9110 §2.5)
        return response

    async def _answer_or_refuse(self, exchange: Exchange) -> web.StreamResponse:
        try:
            response = await self._answer(exchange)
        except GatewayError as error:
            exchange.outcome = error.outcome
            if error.outcome.startswith("upstream_"):
                self._failures.failed(exchange.route, exchange.upstream, error)
            return error_response(error, exchange)
        except ConnectionError:
            raise
        except Exception:
            log.exception("internal error", request_id=exchange.request_id.decode())
            if exchange.request.writer.output_size:
                # Part of an answer is out. It must not look whole: the client is cut off for this.
                exchange.outcome = "server_error"
                raise ConnectionResetError("internal error within an answer") from None
            fault = GatewayError("Internal error.")
            fault.close = True
            exchange.outcome = fault.outcome
            return error_response(fault, exchange)
        if self._failures.failing:
            self._failures.answered(exchange.upstream)
        return response

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        target, hops = self._inspect(exchange)
        if target.path == "*":
            return self._answer_options(exchange, _SERVED_METHODS)
        exchange.target = target
        endpoint = self._oauth.endpoint(target.judged, request.method)
        if endpoint is not None:
            exchange.route = endpoint
            if hops == 0:
                return self._answer_options(exchange, _ENDPOINT_METHODS)
            response = await self._oauth.answer(endpoint, exchange)
            exchange.outcome = "proxied"
            return response
        preflight = self._answer_preflight(exchange, target)
        if preflight is not None:
            return preflight
        route = self._routes.match(request.method, target.judged)
        return await self._answer_by(route, exchange, target, hops)

    def _inspect(self, exchange: Exchange) -> tuple[Target, int | None]:
        """Return what a request is for, and how often it may be forwarded if it says so."""
        request = exchange.request
        if request.version not in {HttpVersion10, HttpVersion11}:
            raise BadRequest("Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        head = inspect_request(
            request.raw_headers,
            http_1_1=request.version == HttpVersion11,
            max_bytes=self._max_header_bytes - len(request.raw_path),
            max_fields=self._max_header_fields,
            underscores=self._underscores,
        )
        exchange.head = head
        if head.request_id is not None:
            exchange.request_id = head.request_id
        target = parse_target(request.method, request.raw_path)
        # Before the log may have the method: it could be anything.
        self._routes.recognise(request.method)
        head = addressed(head, target.authority)
        hops = hops_left(head) if request.method == "OPTIONS" else None
        exchange.head = with_hops(head, hops - 1) if hops else head
        return target, hops

    async def _answer_by(
        self, route: Route, exchange: Exchange, target: Target, hops: int | None
    ) -> web.StreamResponse:
        head = exchange.head
        assert head is not None
        exchange.route = route.name
        if route.cors is not None:
            exchange.cors = route.cors.answer_fields(origin_of(head.fields))
        facts = None
        if not route.public:
            token = credentials(head.authorizations, target.query, realm=self._realm)
            key = token_key(token)
            facts = await self._validator.validate(key, route.max_age_seconds)
            exchange.client_id = facts.client_id
            authorize(facts, route.scopes, realm=self._realm)
            self._validator.accepted(key, route.name)
            prove(exchange.request)
            if self._revalidate_seconds and hops != 0:
                return await self._forward_watched(exchange, route, facts, key)
        if hops == 0:
            return self._answer_options(exchange, route.allowed or _SERVED_METHODS)
        return await self._forward(exchange, route, facts)

    async def _forward(
        self, exchange: Exchange, route: Route, facts: Facts | None
    ) -> web.StreamResponse:
        if _is_websocket(exchange):
            return await self._websocket.forward(exchange, route, facts)
        return await self._http.forward(exchange, route, facts)

    async def _forward_watched(
        self, exchange: Exchange, route: Route, facts: Facts, key: TokenKey
    ) -> web.StreamResponse:
        """Forward a request for no longer than its token is good."""

        async def check() -> None:
            found = await self._validator.validate(key, route.max_age_seconds)
            authorize(found, route.scopes, realm=self._realm)

        async def end() -> None:
            exchange.outcome = "token_ended"
            log.info("exchange cut off: its token is no longer good", route=route.name)
            if _is_websocket(exchange) and await self._websocket.end(exchange):
                return
            cut_off(exchange.request)  # which cancels the task that forwards

        async with Revalidation(self._revalidate_seconds, check=check, end=end):
            return await self._forward(exchange, route, facts)

    def _answer_preflight(self, exchange: Exchange, target: Target) -> RelayedResponse | None:
        """Answer a preflight from an origin that its route lists; it never has a token."""
        assert exchange.head is not None
        asked = preflight_of(exchange.request.method, exchange.head.fields)
        origin = origin_of(exchange.head.fields)
        if asked is None or origin is None:
            return None
        route = self._routes.match_preflight(target.judged, asked.method)
        if route is None or route.cors is None or not route.cors.allows(origin):
            return None
        exchange.route = route.name
        return self._answer_here(exchange, 204, route.cors.preflight_fields(origin, asked))

    def _answer_options(self, exchange: Exchange, methods: str) -> RelayedResponse:
        # About the gateway as a whole (RFC 9110 §9.3.7), or on its way forwarded often enough
        # (§7.6.2).
        return self._answer_here(exchange, 200, [(b"Allow", methods.encode())])

    @staticmethod
    def _answer_here(exchange: Exchange, status: int, fields: Fields) -> RelayedResponse:
        exchange.outcome = "answered"
        fields = [
            *fields,
            (b"Date", exchange.date),
            (b"X-Request-ID", exchange.request_id),
        ]
        response = RelayedResponse(status, reason_phrase(status), fields, body=b"")
        if exchange.leaves_doubt:
            response.force_close()
        return response

    def _begin(self, request: web.BaseRequest) -> Exchange:
        return Exchange(
            request=request,
            request_id=secrets.token_hex(16).encode(),
            peer=request.remote,
            scheme="https" if request.secure else "http",
            wall=self._clock.wall,
            stopping=lambda: self.draining or is_last(request),
            has_trailers=lambda: may_have_trailers(request),
            holds=lambda size: hold(request, size),
        )

    def log_fast(self, exchange: "FastExchange", outcome: str, seconds: float) -> None:
        """Log an exchange of the fast lane as any other."""
        access_log.request(
            request_id=exchange.request_id.decode("ascii"),
            peer=exchange.client.peer,
            method=exchange.method,
            path=exchange.target.path,
            status=exchange.status,
            route=exchange.route.name,
            outcome=outcome,
            client_id=exchange.client_id,
            seconds=seconds,
            bytes_sent=exchange.bytes_sent,
        )

    def _log_access(self, exchange: Exchange, seconds: float) -> None:
        # Without the query, which may hold what its sender shouldn't have put there.
        access_log.request(
            request_id=exchange.request_id.decode("ascii"),
            peer=exchange.peer,
            method=exchange.request.method if exchange.target else None,
            path=exchange.target.path if exchange.target else None,
            status=exchange.status,
            route=exchange.route,
            outcome=exchange.outcome,
            client_id=exchange.client_id,
            seconds=seconds,
            bytes_sent=exchange.request.writer.output_size,
        )


def _is_websocket(exchange: Exchange) -> bool:
    assert exchange.head is not None
    return exchange.head.upgrade == b"websocket" and exchange.request.method == "GET"
