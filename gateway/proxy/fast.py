"""The fast lane: whole simple requests, proxied without a task or a request object.

It takes a request only if nothing about it is in doubt; every other one goes to the handler lane
with its bytes untouched. What it decides, it decides by the same functions.
"""

import asyncio
import math
import os
import re
from collections.abc import Callable
from email.utils import formatdate
from hashlib import sha256

import structlog
from yarl import URL

from gateway.bearer import credentials
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.failures import UpstreamFailures
from gateway.headers import HeaderPolicy
from gateway.metrics import Metrics
from gateway.proxy.fast_exchange import FastExchange
from gateway.proxy.pools import UpstreamPools
from gateway.proxy.remembered import LINES_BYTES, PUBLIC_LINES_BYTES, Remembered
from gateway.proxy.server import GatewayConnection
from gateway.proxy.whole_request import FastRoute, Section, Sections, WholeRequest
from gateway.resolver import Resolver
from gateway.routes import Routes, parse_target
from gateway.settings import Settings
from gateway.tokens import token_key
from gateway.upstream import origin
from gateway.validator import Validator

log = structlog.stdlib.get_logger(__name__)

_REQUEST_LINE = re.compile(rb"(DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT) (/[\x21-\x7e]*) HTTP/1\.1")
_PLAIN = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch  # as ``inspect_request`` has it
_REQUEST_ID = b"X-Request-ID: "
_REPEATS = GatewayConnection.REPEATS
_MOST_BODY = 64 * 1024
_LINE_BYTES = 800  # what a request line that is known takes beside its bytes, three times
_MOST_REPEATED = 2048
"""Bytes of a request that its connection keeps to know it again, without the token."""
_MOST_FIELDS = 128  # of a section that is simple
_HEADER_SLACK = 4 * _MOST_FIELDS  # each is counted with up to four bytes more than it has
_SHORTEST_TICK, _LONGEST_TICK = 0.005, 0.25


class FastLane:
    """Takes whole simple requests whose route and token leave no doubt.

    ``endpoint`` tells the paths of the gateway's own. ``log_access`` is called at the end of an
    exchange, if there is an access log, and ``idle`` when none is left under way. ``taken`` counts
    them all.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        routes: Routes,
        policy: HeaderPolicy,
        validator: Validator,
        endpoint: Callable[[str, str], str | None],
        metrics: Metrics,
        failures: UpstreamFailures,
        clock: Clock,
        idle: Callable[[], None],
        log_access: Callable[[FastExchange, str, float], None] | None,
        resolver: Resolver | None = None,
    ) -> None:
        limits, proxy = settings.limits, settings.proxy
        loop = asyncio.get_running_loop()
        waits = (limits.connect_timeout, limits.read_timeout, settings.store.timeout)
        connect, read, lookup = (wait.total_seconds() for wait in waits)
        upstream_idle = limits.upstream_idle_timeout.total_seconds()
        # Coarse, but no coarser than the shortest of what is timed by it.
        tick = max(
            _SHORTEST_TICK, min(_LONGEST_TICK, min(connect, read, lookup, upstream_idle) / 10)
        )
        self._tick_seconds = tick
        # The one under way when the wait begins doesn't count.
        self.connect_ticks, self.read_ticks, self.lookup_ticks = (
            math.ceil(seconds / tick) + 1 for seconds in (connect, read, lookup)
        )
        self.validator = validator
        self.metrics = metrics
        self.failures = failures
        self.realm = proxy.realm
        self.identity_prefix = policy.identity_prefix
        self.revalidate_seconds = limits.revalidate_streams.total_seconds()
        self.draining = False
        self.taken = 0
        self._routes = routes
        self._endpoint = endpoint
        self._clock = clock
        self._idle = idle
        self._log_access = log_access
        self._preserve_host = proxy.preserve_host
        self._max_body = min(limits.body, _MOST_BODY)
        self._max_head = limits.headers - _HEADER_SLACK
        self._sections = Sections(
            loop,
            policy=policy,
            max_header_bytes=limits.headers,
            max_fields=min(limits.header_fields, _MOST_FIELDS),
            underscores=proxy.headers_with_underscores,
        )
        self._lines: Remembered[bytes, FastRoute] = Remembered(LINES_BYTES)
        self._public_lines: Remembered[bytes, FastRoute] = Remembered(PUBLIC_LINES_BYTES)
        self._pools = UpstreamPools(
            connections=limits.upstream_connections,
            connect_timeout_seconds=connect,
            idle_timeout_seconds=upstream_idle,
            tick_seconds=tick,
            ca_file=proxy.ca_file,
            resolver=resolver,
            accept_incomplete_close=proxy.accept_incomplete_close,
            upstreams=len({origin(route.upstream) for route in settings.routes}),
            most_fields=limits.header_fields,
        )
        self._active: set[FastExchange] = set()
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._date = (0, b"")
        self._request_ids: list[bytes] = []

    @property
    def in_flight(self) -> int:
        """How many exchanges are under way."""
        return len(self._active)

    def take(self, client: GatewayConnection, data: bytes) -> bool:
        """Take a request if ``data`` is exactly one that the lane is sure of, and tell if it did.

        ``client`` is told then that an exchange has begun, and when it has ended: perhaps at once.
        """
        if self.draining:
            return False
        request = self._remembered(client, data) if client.repeats else self._read(client, data)
        if request is None:
            return False
        exchange = FastExchange(self, client, request)
        exchange.started = self._clock.monotonic()
        self.taken += 1
        self.metrics.request_started()
        self._active.add(exchange)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)
        client.fast_begun(exchange)
        try:
            if request.key is None:
                if request.is_news:
                    self.keep(client, request)
                exchange.proceed(None)
                return True
            facts = self.validator.cached(request.key, exchange.route.max_age_seconds)
            if facts is None:
                exchange.look_up()
            else:
                exchange.judge(facts)
        except Exception:
            log.exception("internal error", request_id=exchange.request_id.decode())
            exchange.fault()
        return True

    def _remembered(self, client: GatewayConnection, data: bytes) -> WholeRequest | None:
        """Return what a request says, which its client may have said before."""
        digest = sha256(data).digest()
        last = client.last_request
        if last is not None and last[0] == digest and last[1] is self:
            client.repeats = _REPEATS
            known: WholeRequest = last[2]
            return known
        request = self._read(client, data)
        if request is not None and request.repeats and len(data) <= _MOST_REPEATED:
            request.digest = digest
            request.is_news = True
        return request

    def keep(self, client: GatewayConnection, request: WholeRequest) -> None:
        """Keep what was learned by a request, which was let through."""
        request.is_news = False
        if request.digest is not None:
            client.last_request = request.digest, self, request
            client.repeats -= 1
        if request.new_section is not None:
            self._sections.keep(request.new_section, request.section)
            request.new_section = None
        if request.new_line is not None:
            line, request.new_line = request.new_line, None
            target = request.target
            known = self._public_lines if target.route.public else self._lines
            known.put(line, target, _LINE_BYTES + 3 * len(line))

    @property
    def remembered_bytes(self) -> int:
        """How much memory is taken by what is remembered of requests, of all connections."""
        lines = self._lines.held_bytes + self._public_lines.held_bytes
        return lines + self._sections.held_bytes

    def _read(self, client: GatewayConnection, data: bytes) -> WholeRequest | None:
        """Return what a request says, ``None`` if there is any doubt that it is a whole one."""
        line_end = data.find(b"\r\n")
        head_end = data.find(b"\r\n\r\n", line_end)
        if head_end <= line_end or head_end > self._max_head:
            return None
        line = data[:line_end]
        new_line = None
        target = self._lines.get(line) or self._public_lines.get(line)
        if target is None:
            target = self._read_line(line)
            if target is None:
                return None
            if b"?" not in line:  # queries seldom come again, and may hold what nobody should keep
                new_line = line
        public = target.route.public
        found = self._sections.find(
            data, line_end, head_end, client.peer, secure=client.secure, public=public
        )
        if found is None:
            return None
        section, authorization, new_section = found
        body = data[head_end + 4 :]
        if len(body) != section.content_length or len(body) > self._max_body:
            return None
        request = self._judge(section, target, authorization, body)
        if request is not None and (new_line is not None or new_section is not None):
            request.new_line, request.new_section = new_line, new_section
            request.is_news = True
        return request

    def _judge(
        self, section: Section, target: FastRoute, authorization: bytes | None, body: bytes
    ) -> WholeRequest | None:
        key = None
        before, after = section.to_upstream
        if not target.route.public:
            given = section.authorizations if authorization is None else (authorization,)
            try:
                key = token_key(credentials(given, target.target.query, realm=self.realm))
            except GatewayError:
                return None
        elif authorization is not None and (after is not None or not _PLAIN(authorization)):
            return None  # a value that is forwarded unjudged, or that no parser has seen
        start = target.start + before + _REQUEST_ID
        if after is not None and authorization is not None:
            start = target.start + before + authorization + after + _REQUEST_ID
        repeats = after is None and not body and section.cut
        announced = section.announced(target.method)
        return WholeRequest(section, target, key, start, announced, body, repeats)

    def _read_line(self, line: bytes) -> FastRoute | None:
        """Return what a request line says, ``None`` if there is any doubt."""
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            return None
        method = match[1].decode("ascii")
        try:
            target = parse_target(method, match[2].decode("ascii"))
            if self._endpoint(target.judged, method) is not None:
                return None
            route = self._routes.match(method, target.judged)
        except GatewayError:
            return None
        url = route.url(target)
        scheme_name, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        if not slash:
            return None
        start = f"{method} /{path} HTTP/1.1\r\n"
        if not self._preserve_host:
            start += f"Host: {URL(route.upstream, encoded=True).host_port_subcomponent}\r\n"
        pool = self._pools.pool(f"{scheme_name}://{authority}")
        return FastRoute(method, target, route, pool, start.encode("ascii"))

    def ended(self, exchange: FastExchange, outcome: str) -> None:
        """An exchange has ended, well or not."""
        seconds = self._clock.monotonic() - exchange.started
        self._active.discard(exchange)
        self.metrics.request_ended(exchange.route.name, outcome, seconds)
        if self._log_access is not None:
            self._log_access(exchange, outcome, seconds)
        if not self._active:
            self._idle()

    def new_request_id(self) -> bytes:
        """Return an id for a request whose client gave none."""
        if not self._request_ids:
            digits = os.urandom(16 * 256).hex().encode()
            self._request_ids = [digits[at : at + 32] for at in range(0, len(digits), 32)]
        return self._request_ids.pop()

    def date_field(self) -> bytes:
        """Return a ``Date`` field for an answer that has none (RFC 9110 §6.6.1)."""
        now = int(self._clock.wall())
        if now != self._date[0]:
            self._date = now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._date[1]

    async def close(self) -> None:
        """Close the connections to upstreams, those of exchanges under way when these end."""
        if self._timer is not None:
            self._timer.cancel()
        await self._pools.close()

    def _tick(self) -> None:
        self._timer = None
        for exchange in list(self._active):
            if exchange.ticks_left:
                exchange.ticks_left -= 1
                if not exchange.ticks_left:
                    exchange.out_of_patience()
        any_left = self._pools.tick()
        if (any_left or self._active) and self._timer is None:
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)
