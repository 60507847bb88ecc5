"""Whole runs against a scripted gateway, in a tenth of the usual times."""

import asyncio
import io
import signal
import socket
import ssl
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway.demo.certificate import write_certificate
from gateway.loadtest.analysis import analyse
from gateway.loadtest.driver import Driver, Ended
from gateway.loadtest.errors import RunFailed
from gateway.loadtest.options import Arrivals, Grant, digest
from gateway.loadtest.plan import Plan
from gateway.loadtest.progress import Snapshot
from gateway.loadtest.record import Background, Probe, Record, RecordWriter, read_record
from loadtest.fake_gateway import FakeGateway, serving
from loadtest.told import SECRET, options
from loadtest.waiting import until


class Shown:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)


class Run:
    """A small, quick run: 4 tokens, probes every 10 ms, all over in a fifth of a second."""

    def __init__(self, url: str, **given: Any) -> None:
        quick: dict[str, Any] = {
            "targets": (f"{url}/orders",),
            "token_url": f"{url}/token",
            "revoke_url": f"{url}/revoke",
            "tokens": 4,
            "given_probe_interval": 0.01,
            "revoke_rate": 200.0,
            "arrivals": Arrivals.EVEN,
            "background_rps": 100.0,
            "given_background_tokens": 2,
            "given_watch": 0.1,
            "max_age": 0.02,
            "timeout": 0.5,
        }
        self.options = options(**{**quick, **given})
        self.stream = io.StringIO()
        self.shown = Shown()
        self.writer = RecordWriter(self.stream)
        plan = Plan(self.options, lead_seconds=0.02)
        self.driver = Driver(self.options, self.writer, progress=self.shown, plan=plan)
        self.ended: Ended | None = None

    async def play(self) -> Record:
        async with asyncio.timeout(10):
            self.ended = await self.driver.run()
        return self.record()

    def record(self) -> Record:
        self.writer.flush()
        return read_record(io.StringIO(self.stream.getvalue()))


async def test_a_run() -> None:
    """A run issues, probes, revokes, sees each token refused, and writes all of it down."""
    gateway = FakeGateway(window_seconds=0.05)
    async with serving(gateway) as url:
        run = Run(url)
        record = await run.play()
    assert record.header.arguments["tokens"] == 4
    assert [issue.status for issue in record.issues] == [200] * 6
    assert {issue.digest for issue in record.issues} == {digest(f"t{n}") for n in range(6)}
    assert sorted(revoke.token for revoke in record.revokes) == [0, 1, 2, 3]
    assert {row.token for row in record.background} == {4, 5}
    assert {row.status for row in record.background} == {200}
    assert record.unsent == []
    assert record.end is not None
    assert record.end.reason == "completed"
    windows = analyse(record).windows
    assert len(windows) == 4
    for window in windows:
        # Whatever the machine was busy with, these two hold: the window is 50 ms from handling.
        assert window.since_answered.lower < 0.05
        assert window.since_sent.upper is not None
        assert window.since_sent.upper > 0.05
    assert run.shown.snapshots[-1].tally.refused == 4


async def test_replicas() -> None:
    """Each target is probed by itself, and the window of each is its own."""
    gateway = FakeGateway()

    def slower(request: web.Request) -> web.StreamResponse | None:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        since = time.monotonic() - gateway.revoked_at.get(token, time.monotonic())
        return web.Response() if request.path == "/b" and since < 0.04 else None

    gateway.on_probe = slower
    async with serving(gateway) as url:
        record = await Run(url, targets=(f"{url}/a", f"{url}/b")).play()
    ends: dict[int, list[float]] = {0: [], 1: []}
    for window in analyse(record).windows:
        assert window.since_sent.upper is not None
        ends[window.target].append(window.since_sent.upper)
    assert (len(ends[0]), len(ends[1])) == (4, 4)
    assert min(ends[1]) >= 0.04
    assert min(ends[0]) < min(ends[1])


async def test_a_stalled_target_holds_nothing_back() -> None:
    """While a gateway stands still requests go on as planned, and latency counts from the plan."""
    gateway = FakeGateway(window_seconds=0.05)
    async with serving(gateway) as url:
        run = Run(url, background_rps=400.0, tokens=1, connections=200)
        gateway.stall = asyncio.Event()
        playing = asyncio.create_task(run.play())
        await gateway.until(lambda: len(gateway.seen) >= 40)
        gateway.stall.set()
        gateway.stall = None
        record = await playing
    requests: list[Probe | Background] = [*record.probes, *record.background]
    released = min(request.finished for request in requests)
    before = sorted(request.planned for request in requests if request.planned < released)
    assert len(before) >= 40
    # The plan has the same instants; background traffic began once its tokens had come.
    arrivals = Plan(run.options, lead_seconds=0.02).background()
    planned = [round(at, 6) for at, _, _ in islice(arrivals, 5000)]
    known = sorted(row.planned for row in record.background)
    begun = planned.index(known[0])
    assert known == planned[begun : begun + len(known)]
    first = min(requests, key=lambda request: request.planned)
    assert first.finished - first.planned >= released - before[0]


async def test_too_few_connections_are_said() -> None:
    """Requests that find no connection are late, or come back unsent: both are shown."""
    gateway = FakeGateway()
    gateway.stall = asyncio.Event()
    async with serving(gateway) as url:
        run = Run(url, connections=1, timeout=0.1, background_rps=300.0, tokens=1)
        playing = asyncio.create_task(run.play())
        await until(lambda: bool(run.driver._conductor.tally.unsent))
        run.driver.interrupt()
        gateway.stall.set()
        record = await playing
    assert len(record.unsent) > 0
    assert {row.kind for row in record.unsent} <= {"probe", "background"}
    last = run.shown.snapshots[-1]
    assert (last.late, last.tally.unsent > 0) == (True, True)


async def test_a_generator_that_stands_still_says_so() -> None:
    """What was due meanwhile is late by as long, or written down as unsent, and shown."""
    gateway = FakeGateway(window_seconds=60.0)
    async with serving(gateway) as url:
        run = Run(url, given_watch=3.0, timeout=0.5)
        stood_still = 0.0
        run.driver._monotonic = lambda: time.monotonic() + stood_still
        playing = asyncio.create_task(run.play())
        await gateway.until(lambda: len(gateway.revoked_at) >= 4)
        stood_still = 2.0
        await until(lambda: run.driver._lag.percentile(1.0) > 0.3)
        run.driver.interrupt()
        record = await playing
    lags = [probe.sent - probe.planned for probe in record.probes]
    assert 0.3 < max(lags) < 0.6
    # 4 tokens were due every 10 ms for the 1.5 s that no answer could be waited for any more.
    assert len([row for row in record.unsent if row.kind == "probe"]) >= 500
    last = run.shown.snapshots[-1]
    assert (last.late, last.tally.unsent) == (True, len(record.unsent))


async def test_time_outs() -> None:
    """Answers that don't come in time are errors of the run, neither accepted nor refused."""
    gateway = FakeGateway()

    async with serving(gateway) as url:
        run = Run(url, timeout=0.05, tokens=1)
        playing = asyncio.create_task(run.play())
        await until(lambda: bool(run.driver._conductor.tally.revoked))
        gateway.stall = asyncio.Event()
        record = await playing
        gateway.stall.set()
    late = [probe for probe in record.probes if probe.error]
    assert {probe.error for probe in late} == {"timeout"}
    assert all(probe.finished - probe.sent >= 0.05 for probe in late)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_keeps_what_was_measured(number: signal.Signals) -> None:
    """A signal ends the run early; answers under way are waited for, and the record is whole."""
    gateway = FakeGateway(window_seconds=60)
    async with serving(gateway) as url:
        run = Run(url, given_watch=60.0)
        playing = asyncio.create_task(run.play())
        await gateway.until(lambda: len(gateway.revoked_at) >= 4)
        signal.raise_signal(number)
        record = await playing
    assert record.end is not None
    assert record.end.reason == "interrupted"
    assert run.ended is not None
    assert run.ended.interrupted
    assert len(record.revokes) == 4
    assert all(probe.status == 200 for probe in record.probes)


async def test_a_second_interrupt_doesn_t_wait() -> None:
    """Answers that don't come aren't waited for when a second signal asks for it."""
    gateway = FakeGateway()
    gateway.stall = asyncio.Event()
    async with serving(gateway) as url:
        run = Run(url, timeout=60.0)
        playing = asyncio.create_task(run.play())
        await gateway.until(lambda: len(gateway.seen) >= 3)
        run.driver.interrupt()
        await asyncio.sleep(0)
        assert not playing.done()
        run.driver.interrupt()
        record = await playing
        gateway.stall.set()
    assert record.probes == []
    assert record.end is not None


async def test_no_token_ends_the_run() -> None:
    """When no token comes at all, the run fails with the status and the OAuth error code."""
    gateway = FakeGateway()
    gateway.on_token = lambda _: web.json_response(
        {"error": "invalid_client", "error_description": SECRET}, status=401
    )
    async with serving(gateway) as url:
        run = Run(url)
        with pytest.raises(RunFailed) as caught:
            await run.play()
    assert str(caught.value) == ("no token could be issued: HTTP status 401, error invalid_client")
    assert {issue.status for issue in run.record().issues} == {401}


async def test_some_tokens_don_t_come() -> None:
    """A failed issue is written down, and the others are measured."""
    gateway = FakeGateway()
    asked = iter(range(100))
    gateway.on_token = lambda _: web.Response(status=503) if next(asked) in {1, 4} else None
    async with serving(gateway) as url:
        record = await Run(url).play()
    assert sorted(issue.status or 0 for issue in record.issues) == [200] * 4 + [503] * 2
    assert record.end is not None


async def test_a_chain_of_refresh_tokens() -> None:
    """Each token comes by rotation of the refresh token before it."""
    gateway = FakeGateway()
    async with serving(gateway) as url:
        record = await Run(
            url,
            grant=Grant.REFRESH_TOKEN,
            refresh_token=SecretStr("r0"),
            tokens=2,
            given_background_tokens=1,
        ).play()
    assert [issue.status for issue in record.issues] == [200] * 3
    refreshed = [form["refresh_token"] for form in gateway.forms if "refresh_token" in form]
    assert refreshed == ["r0", "r1", "r2"]
    assert len(record.revokes) == 2


async def test_tokens_issued_elsewhere() -> None:
    """Given tokens are revoked at the endpoint, and appear in the record by their digests."""
    gateway = FakeGateway()
    async with serving(gateway) as url:
        run = Run(
            url,
            given_tokens=tuple(SecretStr(f"given-{n}") for n in range(3)),
            token_url=None,
            tokens=2,
            given_background_tokens=1,
        )
        record = await run.play()
    assert record.issues == []
    assert set(gateway.revoked_at) == {"given-0", "given-1"}
    assert record.header.arguments["given_digests"] == [digest(f"given-{n}") for n in range(3)]


async def test_no_secret_is_written_or_said(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No token, client secret, password or header's value is in the record, a log or a line."""
    gateway = FakeGateway(window_seconds=0.02)
    asked = iter(range(100))
    echo = {"error": SECRET, "error_description": SECRET}
    gateway.on_token = lambda _: web.json_response(echo, status=400) if next(asked) == 2 else None
    async with serving(gateway) as url:
        run = Run(
            url,
            grant=Grant.PASSWORD,
            username="alice",
            password=SecretStr("wonderland"),
            headers=(("X-Key", SecretStr("sesame")),),
            targets=(f"{url}/orders?key=queried",),
        )
        await run.play()
    shown = repr(run.shown.snapshots) + repr(run.driver.__dict__)
    written = run.stream.getvalue() + "".join(capfd.readouterr()) + caplog.text + shown
    secrets = [SECRET, SECRET.replace(" ", "+"), "wonderland", "alice", "sesame", "queried"]
    secrets += ['"t0"', "Bearer t", "token=t"]
    assert [secret for secret in secrets if secret in written] == []
    assert digest("t0") in written


async def test_a_target_that_isn_t_there() -> None:
    """A target that can't be connected to ends the run before it begins."""
    gateway = FakeGateway()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        async with serving(gateway) as url:
            with pytest.raises(RunFailed, match=f"can't connect to 127.0.0.1:{port}: refused"):
                await Run(url, targets=(f"http://127.0.0.1:{port}/",)).play()


async def test_tls(tmp_path: Path) -> None:
    """TLS is spoken with a certificate from a file; a file that is none is said to be so."""
    files = write_certificate(tmp_path, "127.0.0.1", now_at=time.time())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    gateway = FakeGateway()
    runner = web.AppRunner(gateway.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        record = await Run(url, ca_file=str(files.certificate), tokens=2).play()
        with pytest.raises(RunFailed, match=r"can't connect to 127\.0\.0\.1:[0-9]+: tls"):
            await Run(url).play()
        with pytest.raises(RunFailed, match=r"--ca-file: .*key\.pem: it isn't a file of"):
            await Run(url, ca_file=str(files.key)).play()
    finally:
        await runner.cleanup()
    assert len(analyse(record).windows) == 2


class FullDisk(io.StringIO):
    """Takes the header, and then no more."""

    def write(self, text: str) -> int:
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().write(text)


async def test_a_record_that_can_t_be_written() -> None:
    """A run whose record can't be written ends with that, instead of measuring for nothing."""
    gateway = FakeGateway(window_seconds=60)
    async with serving(gateway) as url:
        run = Run(url, given_watch=60.0)
        run.driver._writer = RecordWriter(FullDisk())
        with pytest.raises(OSError, match="No space left"):
            await run.play()


async def test_the_display_is_fed() -> None:
    """Snapshots say how far the run is; the last one is of its end."""
    gateway = FakeGateway()
    async with serving(gateway) as url:
        run = Run(url)
        await run.play()
    last = run.shown.snapshots[-1]
    assert (last.tally.issued, last.tally.revoked, last.tally.refused) == (6, 4, 4)
    assert last.tally.requests == len(run.record().probes) + len(run.record().background)
    assert last.ending
