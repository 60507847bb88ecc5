"""One request on the fast lane and its answer: a state machine that no task waits in."""

from typing import TYPE_CHECKING

import structlog

from gateway.bearer import authorize
from gateway.causes import CONNECT_TIMEOUT, SILENT
from gateway.errors import GatewayError, StoreUnavailable, UpstreamTimeout
from gateway.exchange import error_parts, reason_phrase
from gateway.fields import render
from gateway.identity import rendered_identity
from gateway.lookups import Lookup
from gateway.proxy.answers import AnswerHead
from gateway.proxy.revalidation import Revalidation
from gateway.proxy.upstream import UpstreamConnection
from gateway.proxy.whole_request import WholeRequest
from gateway.routes import Target
from gateway.tokens import Facts, TokenKey
from gateway.upstream import IDEMPOTENT

if TYPE_CHECKING:
    from gateway.proxy.fast import FastLane
    from gateway.proxy.server import GatewayConnection

log = structlog.stdlib.get_logger(__name__)

_REQUEST_ID = b"X-Request-ID: "
_CLOSE = b"Connection: close\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class FastExchange:
    """A whole simple request under way.

    ``proceed`` forwards it; where its route asks for a token ``judge`` does with the facts
    that are known, or ``look_up`` finds them first. It tells its client's connection when it
    has ended, and is told by it when the client is slow, ready again, or gone.
    """

    upstream: UpstreamConnection | None = None
    client_id: str | None = None
    status = 0
    started = 0.0
    bytes_sent = 0
    ticks_left = 0
    """Ticks until the patience with whoever is waited for ends; 0 while there is none needed."""
    _lookup: Lookup | None = None
    _revalidation: Revalidation | None = None
    _to_upstream = b""
    _reused = False
    _retried = False
    _chunked = False
    _flushing = False
    _waiting = False
    _closes = False
    ended = False

    def __init__(
        self, lane: "FastLane", client: "GatewayConnection", request: WholeRequest
    ) -> None:
        target = request.target
        self._lane = lane
        self.client = client
        self._request = request
        self.route = target.route
        self.bodiless = target.method == "HEAD"
        self.request_id = request.section.request_id or lane.new_request_id()

    @property
    def method(self) -> str:
        """The method of the request."""
        return self._request.target.method

    @property
    def target(self) -> Target:
        """The target of the request."""
        return self._request.target.target

    # The token.

    def look_up(self) -> None:
        """Have the store asked for the facts."""
        key = self._request.key
        assert key is not None
        self.ticks_left = self._lane.lookup_ticks
        self._lookup = self._lane.validator.look_up(
            key, self.route.max_age_seconds, self._looked_up
        )

    def _looked_up(self, facts: Facts | None) -> None:
        self._lookup = None
        self.ticks_left = 0
        try:
            if facts is not None:
                self.judge(facts)
            else:
                self._judge_without_store()
        except Exception:
            log.exception("internal error", request_id=self.request_id.decode())
            self.fault()

    def _leave_lookup(self) -> None:
        if self._lookup is not None:
            self._lane.validator.leave(self._lookup, self._looked_up)
            self._lookup = None
            self.ticks_left = 0

    def _judge_without_store(self) -> None:
        key = self._request.key
        assert key is not None
        facts = self._lane.validator.stale(key, self.route.max_age_seconds)
        if facts is not None:
            self.judge(facts)
        else:
            self.refuse(StoreUnavailable())

    def judge(self, facts: Facts) -> None:
        """Forward the request if the facts of its token let it pass."""
        self.client_id = facts.client_id
        try:
            authorize(facts, self.route.scopes, realm=self._lane.realm)
        except GatewayError as error:
            self.refuse(error)
            return
        key = self._request.key
        assert key is not None
        self._lane.validator.accepted(key, self.route.name)
        if not self.client.proven:
            self.client.prove()
        if self._request.is_news:
            self._lane.keep(self.client, self._request)
        self.proceed(facts)

    # The request.

    def proceed(self, facts: Facts | None) -> None:
        """Forward the request; ``facts`` are those of its token, if its route asks for one."""
        lane, request = self._lane, self._request
        if facts is not request.facts:
            request.facts = facts
            request.identity = rendered_identity(facts, lane.identity_prefix) if facts else b""
        if lane.revalidate_seconds and request.key is not None:
            self._revalidate(request.key)
        self._to_upstream = b"".join(
            (
                request.start,
                self.request_id,
                b"\r\n",
                request.identity,
                request.announced,
                b"\r\n",
                request.body,
            )
        )
        self._waiting = True
        self.ticks_left = lane.connect_ticks
        request.target.pool.submit(self)

    def send_on(self, connection: UpstreamConnection, *, reused: bool) -> None:
        """Write the request."""
        self._waiting = False
        self.upstream = connection
        self._reused = reused
        self.ticks_left = self._lane.read_ticks
        assert connection.transport is not None
        connection.transport.write(self._to_upstream)

    def upstream_failed(self, error: GatewayError, *, silent: bool) -> None:
        """Try once more where that is allowed, tell the client, or cut it off."""
        self._waiting = False
        was_sent, self.upstream = self.upstream is not None, None
        if self.status:
            # Part of an answer is out. It must not look whole (RFC 9112 §8).
            self._note_failure(error, "upstream_aborted")
            log.warning(
                "upstream failed within its answer",
                route=self.route.name,
                error=type(error).__name__,
            )
            self._cut_off("upstream_aborted")
            return
        # An upstream may close an idle connection just as a request goes out on it. Only then,
        # and only what may be repeated, is sent once more (RFC 9110 §9.2.2).
        if (
            was_sent
            and silent
            and self._reused
            and not self._retried
            and not self._request.body
            and self.method in IDEMPOTENT
        ):
            self._retried = True
            self._lane.metrics.upstream_retried(self.route.name)
            self._waiting = True
            self.ticks_left = self._lane.connect_ticks
            self._request.target.pool.submit(self, fresh=True)
            return
        self.refuse(error)

    # The answer.

    def answer_comes(self, interim: bytes) -> None:
        """Wait on, as the upstream isn't silent; pass an interim answer on (RFC 9110 §15.2)."""
        if not self.client.writing_paused:
            self.ticks_left = self._lane.read_ticks
        transport = self.client.transport
        if interim and transport is not None:
            transport.write(interim)

    def answer_whole(self, head: AnswerHead, content: bytes) -> None:
        """Pass the answer on, all of it at once."""
        self.upstream = None
        self._send_head(head, b"" if self.bodiless else content)
        self._complete()

    def answer_begins(self, head: AnswerHead, content: bytes) -> None:
        """Pass the beginning of the answer on."""
        self._chunked = head.chunked
        self.ticks_left = self._lane.read_ticks
        self._send_head(head, content)

    def answer_goes_on(self, content: bytes) -> None:
        """Pass more of the answer on."""
        if not self.client.writing_paused:
            self.ticks_left = self._lane.read_ticks
        if self._chunked:
            content = b"%x\r\n%b\r\n" % (len(content), content)
        self._write(content)

    def answer_ends(self) -> None:
        """End the answer."""
        self.upstream = None
        if self._chunked:
            self._write(_LAST_CHUNK)
        self._complete()

    def _note_failure(self, error: GatewayError, outcome: str = "") -> None:
        upstream = self._request.target.pool.origin
        self._lane.failures.failed(self.route.name, upstream, error, outcome)

    def _send_head(self, head: AnswerHead, content: bytes) -> None:
        self.status = head.status
        lane = self._lane
        parts = [head.start, _REQUEST_ID, self.request_id, b"\r\n", head.framed]
        if not head.dated:
            parts.insert(1, lane.date_field())
        if self._request.section.closes or lane.draining:
            self._closes = True
            parts.append(_CLOSE)
        parts.append(b"\r\n")
        parts.append(content)
        self._write(b"".join(parts))

    def _write(self, data: bytes) -> None:
        transport = self.client.transport
        if transport is not None and data:
            self.bytes_sent += len(data)
            transport.write(data)

    def refuse(self, error: GatewayError) -> None:
        """Answer with an error of the gateway's own."""
        self.status = error.status
        if error.outcome.startswith("upstream_"):
            self._note_failure(error)
        self._closes = error.close or self._request.section.closes or self._lane.draining
        cors = self.route.cors
        said = cors.answer_fields(self._request.section.origin) if cors is not None else ()
        fields, body = error_parts(error, self.request_id, said)
        line = f"HTTP/1.1 {error.status} {reason_phrase(error.status)}\r\n"
        self._write(
            b"%b%b%bContent-Length: %d\r\n%b\r\n%b"
            % (
                line.encode(),
                render(fields),
                self._lane.date_field(),
                len(body),
                _CLOSE if self._closes else b"",
                b"" if self.bodiless else body,
            )
        )
        self._complete(error.outcome)

    def _complete(self, outcome: str = "proxied") -> None:
        """All is written; the exchange ends when the operating system has taken it."""
        failures = self._lane.failures
        if failures.failing and outcome == "proxied":
            failures.answered(self._request.target.pool.origin)
        self.ticks_left = 0
        self._outcome = outcome
        if self.client.writing_paused:
            self._flushing = True
        else:
            self._end(outcome)

    # What may come meanwhile.

    def client_slow(self) -> None:
        """The client leaves some of the answer untaken: read no more of it for now."""
        if self.upstream is not None:
            self.ticks_left = 0  # not the upstream's fault
            self.upstream.hold()

    def client_ready(self) -> None:
        """The client took it."""
        if self._flushing:
            self._end(self._outcome)
        elif self.upstream is not None:
            self.ticks_left = self._lane.read_ticks
            self.upstream.go_on()

    def client_gone(self, outcome: str) -> None:
        """There is nobody left to answer."""
        self.status = self.status or 499
        self._end(outcome)

    def out_of_patience(self) -> None:
        """Whoever is waited for has taken too long."""
        if self._lookup is not None:
            self._leave_lookup()
            self._judge_without_store()
            return
        waiting = self._waiting
        self._leave_upstream()
        # No second attempt: an upstream that is slow is not one that has closed.
        self._retried = True
        cause = CONNECT_TIMEOUT if waiting else SILENT
        self.upstream_failed(UpstreamTimeout(cause=cause), silent=True)

    def fault(self) -> None:
        """The gateway itself failed: say so, or cut the client off."""
        if self.ended:
            return
        self._leave_upstream()
        if self.status:
            self._cut_off("server_error")
        else:
            error = GatewayError("Internal error.")
            error.close = True
            self.refuse(error)

    def _revalidate(self, key: TokenKey) -> None:
        lane, route = self._lane, self.route

        async def check() -> None:
            found = await lane.validator.validate(key, route.max_age_seconds)
            authorize(found, route.scopes, realm=lane.realm)

        async def end() -> None:
            log.info("exchange cut off: its token is no longer good", route=route.name)
            self.status = self.status or 499
            self._cut_off("token_ended")

        self._revalidation = Revalidation(lane.revalidate_seconds, check=check, end=end)
        self._revalidation.start()

    def _cut_off(self, outcome: str) -> None:
        transport = self.client.transport
        self._closes = True
        self._end(outcome)
        if transport is not None:
            transport.abort()

    def _leave_upstream(self) -> None:
        if self._waiting:
            self._waiting = False
            self._request.target.pool.withdraw(self)
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            upstream.abandon()

    def _end(self, outcome: str) -> None:
        if self.ended:
            return
        self.ended = True
        self.ticks_left = 0
        if self._lookup is not None:
            self._leave_lookup()
        if self._waiting or self.upstream is not None:
            self._leave_upstream()
        if self._revalidation is not None:
            self._revalidation.stop()
        lane = self._lane
        lane.ended(self, outcome)
        self.client.fast_ended(closes=self._closes or lane.draining)
