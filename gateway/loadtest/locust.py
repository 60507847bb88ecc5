"""The same plan on Locust's workers, where one machine is not enough (extra ``locust``).

A locustfile is one line, ``from gateway.loadtest.locust import RevocationUser``, and what
``gateway loadtest run`` takes as flags is given as one text, to the master alone::

    locust -f locustfile.py --headless --master --expect-workers 4 -u 4 -r 4 \
        --loadtest '--target … --token-url … --revoke-url … --client-id … --seed 7'
    locust -f locustfile.py --worker            # four times, anywhere

There is one user for each worker, with its share of the plan; ``--seed`` is needed, for all must
make the same plan. Worker 2 writes ``run.worker-2.jsonl`` for ``--out run.jsonl``, and ``gateway
loadtest merge run.jsonl run.worker-*.jsonl`` makes them one record. Secrets are best in the
workers' environments, as ``gateway loadtest run`` reads them there. Locust's statistics count
response times from the planned instant.
"""
# Locust and gevent are an extra, and mostly without types.
# mypy: disable-error-code="import-untyped,import-not-found,misc,untyped-decorator,no-untyped-call"

import shlex
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Group
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from gateway.errors import SettingsError
from gateway.loadtest.blocking import BlockingClient
from gateway.loadtest.calls import Call, Kind
from gateway.loadtest.cli import options_from, run
from gateway.loadtest.client import tls_context
from gateway.loadtest.conductor import Conductor
from gateway.loadtest.header import header_of
from gateway.loadtest.options import Grant, RunOptions
from gateway.loadtest.plan import Plan, Share
from gateway.loadtest.record import NewRecord
from gateway.loadtest.rows import End
from gateway.loadtest.tokens import Requests

_DONE = "loadtest-done"
_LONGEST_WAIT_SECONDS = 0.05


@events.init_command_line_parser.add_listener
def add_arguments(parser: Any) -> None:
    """Let Locust take the flags of ``gateway loadtest run``."""
    parser.add_argument(
        "--loadtest",
        env_var="GATEWAY_LOADTEST",
        default="",
        help="What `gateway loadtest run` takes as flags, as one text; without secrets",
    )


@events.init.add_listener
def end_with_the_workers(environment: Environment, **_: Any) -> None:
    """End the test when every worker's share is done."""
    runner = environment.runner
    if not isinstance(runner, MasterRunner):
        return
    done: set[str] = set()

    def note(msg: Any, **_: Any) -> None:
        done.add(msg.data["worker"])
        if len(done) >= runner.worker_count:
            runner.quit()

    runner.register_message(_DONE, note)


def read_flags(text: str) -> tuple[RunOptions, Path]:
    """Return the options of a run, and its record's file, from the flags of ``loadtest run``.

    Raises:
        SettingsError: a flag is wrong.
    """
    words = shlex.split(text)
    if "--seed" not in words and not any(word.startswith("--seed=") for word in words):
        raise SettingsError("--loadtest: --seed is needed in it, for all workers plan alike")
    try:
        with run.make_context("run", words) as context:
            given = dict(context.params)
            for name in ("quiet", "html_file", "json_file", "png_file"):
                given.pop(name)
            out = given.pop("out")
            return options_from(given), out
    except click.ClickException as error:
        raise SettingsError(f"--loadtest: {error.format_message()}") from None


def share_of(environment: Environment) -> Share:
    """Return which part of the plan this process has."""
    runner = environment.runner
    if not isinstance(runner, WorkerRunner):
        return Share()
    assert environment.parsed_options is not None
    workers = max(1, int(environment.parsed_options.expect_workers))
    if runner.worker_index >= workers:
        raise SettingsError(f"--expect-workers: {workers}: as many as there are is needed")
    return Share(runner.worker_index, workers)


class RevocationUser(User):
    """One worker's share of the plan."""

    _taken = False

    def on_start(self) -> None:
        """Prepare the share; a second user of a process has nothing to do."""
        if RevocationUser._taken:
            raise StopUser
        RevocationUser._taken = True
        assert self.environment.parsed_options is not None
        share = share_of(self.environment)
        options, out = read_flags(self.environment.parsed_options.loadtest)
        if share.of > 1 and options.grant is Grant.REFRESH_TOKEN and not options.given_tokens:
            raise SettingsError("--grant: refresh_token: a chain is one worker's alone")
        if share.of > 1:
            out = out.with_name(f"{out.stem}.worker-{share.index}{out.suffix}")
        self._share = _ShareOfRun(self.environment, options, share, out)

    @task
    def play(self) -> None:
        """Run the share from its beginning to its end."""
        try:
            self._share.run()
        finally:
            self._share.close()
        _say_done(self.environment)
        raise StopUser

    def on_stop(self) -> None:
        """Leave the place to another test of the same process."""
        RevocationUser._taken = False


def _say_done(environment: Environment) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.send_message(_DONE, {"worker": runner.client_id})
    elif isinstance(runner, LocalRunner):
        gevent.spawn(runner.quit)


class _ShareOfRun:
    """The driver's work, done by greenlets."""

    def __init__(
        self, environment: Environment, options: RunOptions, share: Share, out: Path
    ) -> None:
        self._environment = environment
        self._options = options
        self._share = share
        self._plan = Plan(options, share)
        self._requests = Requests(options)
        self._conductor = Conductor(options, self._plan, self._requests)
        self._zero = time.monotonic()
        tls = tls_context(ca_file=options.ca_file, insecure=options.insecure)
        endpoints = [*self._requests.targets, self._requests.revocation]
        endpoints.append(self._requests.token or self._requests.revocation)
        self._clients = [
            BlockingClient(
                endpoint.origin, clock=self._now, timeout_seconds=options.timeout, tls=tls
            )
            for endpoint in endpoints
        ]
        self._free = [BoundedSemaphore(options.connections) for _ in endpoints]
        self._greenlets = Group()
        self._writer = NewRecord(out)

    def run(self) -> None:
        """Send what is due when it is due, until the share is over."""
        self._zero = time.monotonic()
        load = self._plan.load()
        self._writer.write(
            header_of(
                self._options, datetime.now(UTC), load, loop="gevent", worker=self._share.index
            )
        )
        conductor = self._conductor
        while not conductor.over:
            if conductor.hopeless:
                whys = ", ".join(conductor.why_no_token)
                raise SettingsError(f"no token could be issued: {whys}")
            for call in conductor.due(self._now()):
                self._greenlets.spawn(self._send, call)
            wait = min(conductor.next_at - self._now(), _LONGEST_WAIT_SECONDS)
            gevent.sleep(max(0.0, wait))

    def close(self) -> None:
        """Wait for the answers under way, and end the record."""
        over = self._conductor.over
        self._greenlets.join(timeout=self._options.timeout)
        with suppress(ValueError):
            self._writer.write(End(self._now(), "completed" if over else "interrupted"))
            self._writer.close()
        for client in self._clients:
            client.close()

    def _now(self) -> float:
        return time.monotonic() - self._zero

    def _send(self, call: Call) -> None:
        place = call.target
        if place is None:
            place = -1 if call.kind is Kind.TOKEN else -2
        left = call.planned + self._options.timeout - self._now()
        if left > 0 and self._free[place].acquire(timeout=left):
            try:
                self._clients[place].exchange(call)
            finally:
                self._free[place].release()
        row = self._conductor.answered(call)
        if not self._writer.closed:
            self._writer.write(row)
        if call.finished is not None:
            self._environment.events.request.fire(
                request_type=str(call.kind),
                name="" if call.target is None else f"target {call.target}",
                response_time=(call.finished - call.planned) * 1000,
                response_length=0,
                exception=None if call.error is None else RuntimeError(call.error),
                context={},
            )
