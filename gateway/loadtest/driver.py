"""Run a plan: the only loop that does I/O.

It sends what is due when it is due, however late the answers are. When it can't keep up, the
requests are late by as much and say so, in the record and on the display; what is later than
an answer may take is written down as unsent.

"""

import asyncio
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.loadtest.calls import Call, Kind
from gateway.loadtest.client import Pool, Unreachable, tls_context
from gateway.loadtest.conductor import Conductor
from gateway.loadtest.errors import RunFailed
from gateway.loadtest.header import header_of
from gateway.loadtest.machine import allow_files, collector_at_rest
from gateway.loadtest.options import RunOptions
from gateway.loadtest.origins import Origin
from gateway.loadtest.pace import LagMeter
from gateway.loadtest.plan import Plan
from gateway.loadtest.progress import Progress, Snapshot
from gateway.loadtest.record import RecordWriter
from gateway.loadtest.rows import End, Unsent
from gateway.loadtest.tokens import Requests
from gateway.loadtest.validity import most_lag

_TICK_SECONDS = 0.001
"""The finest a plan is followed: uvloop counts in milliseconds, and would spin below one."""

_REPORT_SECONDS = 0.5
_OAUTH_CONNECTIONS = 16
_SPARE_CONNECTIONS = 0.02
"""Connections opened beforehand for each planned request a second: answers of 20 ms."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, after how many seconds."""

    at: float
    interrupted: bool


class Driver:
    """Runs one plan, once."""

    def __init__(
        self,
        options: RunOptions,
        writer: RecordWriter,
        *,
        progress: Progress | None = None,
        plan: Plan | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._writer = writer
        self._progress = progress
        self._plan = plan or Plan(options)
        self._requests = Requests(options)
        self._conductor = Conductor(options, self._plan, self._requests)
        self._monotonic = monotonic
        self._zero = 0.0
        self._lag = LagMeter()
        self._late_from = most_lag(options.probe_interval)
        self._in_flight = 0
        self._targets: list[Pool] = []
        self._token: Pool | None = None
        self._revocation: Pool | None = None
        self._timer: asyncio.Handle | None = None
        self._reported = (0.0, 0)
        self._draining = False
        self._interrupts = 0
        self._failure: Exception | None = None
        self._over = asyncio.Event()

    async def run(self) -> Ended:
        """Run the plan to its end, or until it is interrupted.

        Raises:
            RunFailed: an endpoint can't be reached at all, or no token is given.
            OSError: the record can't be written.
        """
        self._zero = self._monotonic()
        pools = self._make_pools()
        try:
            await self._connect(pools)
            with collector_at_rest(), self._interruptible():
                self._begin()
                await self._over.wait()
                self._report()
        finally:
            self._draining = True
            self._stop_timer()
            self._over.set()
            for pool in pools:
                await pool.close()
        if self._failure is not None:
            raise self._failure
        ended = Ended(self._now(), bool(self._interrupts))
        self._writer.write(End(ended.at, "interrupted" if ended.interrupted else "completed"))
        self._writer.flush()
        return ended

    def interrupt(self) -> None:
        """End early: once, after the answers under way have come; twice, now."""
        self._interrupts += 1
        if self._interrupts > 1:
            self._over.set()
        elif not self._over.is_set():
            self._drain()

    # Beginning and end.

    def _make_pools(self) -> list[Pool]:
        options, requests = self._options, self._requests
        endpoints = [*requests.targets, requests.revocation]
        endpoints += [requests.token] if requests.token else []
        tls = None
        if any(endpoint.origin.secure for endpoint in endpoints):
            try:
                tls = tls_context(ca_file=options.ca_file, insecure=options.insecure)
            except (OSError, ssl.SSLError) as error:
                raise RunFailed(f"--ca-file: {options.ca_file}: {_reason(error)}") from None

        def pool(origin: Origin, limit: int, *, keep_body: bool) -> Pool:
            return Pool(
                origin,
                done=self._done,
                clock=self._now,
                limit=limit,
                timeout_seconds=options.timeout,
                tls=tls,
                keep_body=keep_body,
            )

        self._targets = [
            pool(endpoint.origin, options.connections, keep_body=False)
            for endpoint in requests.targets
        ]
        self._revocation = pool(requests.revocation.origin, _OAUTH_CONNECTIONS, keep_body=True)
        pools = [*self._targets, self._revocation]
        if requests.token is not None:
            same = requests.token.origin == requests.revocation.origin
            self._token = (
                self._revocation
                if same
                else pool(requests.token.origin, _OAUTH_CONNECTIONS, keep_body=True)
            )
            pools += [] if same else [self._token]
        return pools

    async def _connect(self, pools: list[Pool]) -> None:
        allow_files(self._options.connections * len(self._targets) + 200)
        spare = 2 + round(self._plan.load().rps / len(self._targets) * _SPARE_CONNECTIONS)
        started = await asyncio.gather(
            *(pool.start(spare if pool in self._targets else 2) for pool in pools),
            return_exceptions=True,
        )
        for result in started:
            if isinstance(result, Unreachable):
                raise RunFailed(f"can't connect to {result}") from None
            if isinstance(result, BaseException):
                raise result

    def _begin(self) -> None:
        self._zero = self._monotonic()
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        header = header_of(self._options, datetime.now(UTC), self._plan.load(), loop=loop)
        self._writer.write(header)
        self._writer.flush()
        self._tick()
        self._report_soon()

    def _drain(self) -> None:
        """Plan nothing more, and end with the last answer that is under way."""
        self._draining = True
        self._stop_timer()
        if not self._in_flight:
            self._over.set()

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._over.set()

    # Sending and learning.

    def _now(self) -> float:
        return self._monotonic() - self._zero

    def _tick(self) -> None:
        self._timer = None
        try:
            full = self._send_what_is_due(most := 256)
        except Exception as error:  # noqa: BLE001 (the run ends with it)
            self._fail(error)
            return
        if self._conductor.over:
            self._drain()
        if self._draining:
            return
        loop = asyncio.get_running_loop()
        if full >= most:
            self._timer = loop.call_soon(self._tick)
            return
        wait = max(_TICK_SECONDS, min(self._conductor.next_at - self._now(), 1.0))
        self._timer = loop.call_later(wait, self._tick)

    def _send_what_is_due(self, most: int) -> int:
        now = self._now()
        calls = self._conductor.due(now, most)
        too_late = now - self._options.timeout
        for call in calls:
            self._in_flight += 1
            if call.planned < too_late and call.target is not None:
                self._done(call)
            else:
                self._pool_of(call).send(call)
        return len(calls)

    def _pool_of(self, call: Call) -> Pool:
        if call.target is not None:
            return self._targets[call.target]
        pool = self._token if call.kind is Kind.TOKEN else self._revocation
        assert pool is not None
        return pool

    def _done(self, call: Call) -> None:
        self._in_flight -= 1
        if self._over.is_set():
            return  # aborted: what is cut off now says nothing of the gateway
        try:
            row = self._conductor.answered(call)
            self._writer.write(row)
        except Exception as error:  # noqa: BLE001 (the run ends with it)
            self._fail(error)
            return
        if isinstance(row, Unsent):
            self._conductor.tally.unsent += 1
        else:
            self._lag.add(call.lag)
        if call.kind is Kind.TOKEN:
            self._token_came()
        if self._draining:
            if not self._in_flight:
                self._over.set()
        elif self._conductor.over:
            self._drain()

    def _token_came(self) -> None:
        if self._conductor.hopeless:
            whys = ", ".join(self._conductor.why_no_token)
            self._fail(RunFailed(f"no token could be issued: {whys}"))
        elif not self._draining:  # its first use may be due sooner than anything else
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_soon(self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Saying how it goes.

    def _report_soon(self) -> None:
        asyncio.get_running_loop().call_later(_REPORT_SECONDS, self._report_on)

    def _report_on(self) -> None:
        if not self._over.is_set():
            self._report()
            self._report_soon()

    def _report(self) -> None:
        try:
            self._writer.flush()
        except OSError as error:
            self._fail(error)
        if self._progress is None:
            return
        now, tally = self._now(), self._conductor.tally
        since, requests = self._reported
        self._reported = (now, tally.requests)
        lag = self._lag.recent(0.99)
        self._lag.forget_recent()
        self._progress.show(
            Snapshot(
                at=now,
                seconds=self._plan.load().seconds,
                tally=tally,
                rps=(tally.requests - requests) / max(now - since, 1e-6),
                lag=lag,
                lag_of_all=self._lag.percentile(0.99),
                late=lag > self._late_from,
                waiting=sum(pool.waiting for pool in self._targets),
                ending=self._draining,
            )
        )

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the run early."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        handled = []
        # Neither Windows nor a thread other than the main one can have handlers.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in signals:
                loop.add_signal_handler(number, self.interrupt)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):  # it is an OSError, with OpenSSL's words
        return "it isn't a file of certificates"
    return (error.strerror or "it can't be read").lower()
