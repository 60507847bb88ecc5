"""The access log: a line put together here is the line that structlog and logging would write."""

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars
from structlog.testing import capture_logs

from gateway.access_log import NAME, AccessLog
from gateway.logs import configure_logging
from gateway.settings import Logging

SECRET = "s3cr3t-VALUE_0"
STYLES: list[Literal["json", "console"]] = ["json", "console"]
USUAL: dict[str, Any] = {
    "request_id": "5f2b0a7c9d3e4f16",
    "peer": "192.0.2.17",
    "method": "GET",
    "path": "/orders/1",
    "status": 200,
    "route": "orders",
    "outcome": "proxied",
    "client_id": "app",
    "seconds": 0.0012345,
    "bytes_sent": 1374,
}
UNUSUAL = [
    {},
    {"method": None, "path": None, "client_id": None, "peer": None, "route": "", "status": 400},
    {"method": "PROPFIND"},
    {"peer": "2001:db8::1%eth0"},
    {"path": '/a"b\\c', "client_id": 'an "app"\\', "route": "a b"},
    {"path": "/\x00\x1b[2J\r\n\t\x7f\x85\u2028"},
    {"path": "/größe/\U0001f600/\udcff", "client_id": "größe"},
    {"path": "", "request_id": "", "client_id": "", "outcome": ""},
    {"path": "/token=abc;x:y", "request_id": "a.b_c:d+e/f=g-h"},
    {"seconds": 0.0}, {"seconds": 1e-9}, {"seconds": 0.0005}, {"seconds": 3600.0001},
    {"status": 0, "bytes_sent": 0}, {"bytes_sent": 10**12},
]  # fmt: skip
CREDENTIALS = [
    f"Bearer {SECRET}",
    f"basic\u2003{SECRET}",
    f"/a?access_token={SECRET}",
    f"refresh_token:{SECRET}",
    f"/x?code={SECRET}",
    f"https://{SECRET}@host/path",
]


@contextmanager
def alone(
    monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Iterator[tuple[AccessLog, io.StringIO]]:
    """Set logging up as a process does, with nobody else listening; it is as it was afterwards."""
    root, access = logging.getLogger(), logging.getLogger(NAME)
    before = root.level, root.handlers[:], access.disabled
    stderr = io.StringIO()
    root.handlers.clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", stderr)
            configure_logging(Logging(**settings))
            yield AccessLog(), stderr
    finally:
        logging.captureWarnings(capture=False)
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        access.disabled = before[2]


@contextmanager
def long_way() -> Iterator[None]:
    """Have records go through structlog and logging, because somebody filters them."""

    def allow(_: logging.LogRecord) -> bool:
        return True

    logger = logging.getLogger(NAME)
    logger.addFilter(allow)
    yield
    logger.removeFilter(allow)


def both_ways(log: AccessLog, stderr: io.StringIO, values: dict[str, Any]) -> tuple[str, str]:
    """Return the line by the long way and by the short one, without the time."""
    lines = []
    for way in (True, False):
        begin = stderr.tell()
        if way:
            with long_way():
                log.request(**values)
        else:
            log.request(**values)
        lines.append(re.sub(r"\d{4}-\d\d-\d\dT[\d:.]{8,15}Z", "…", stderr.getvalue()[begin:]))
    return lines[0], lines[1]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("values", UNUSUAL)
def test_the_line_is_the_same_by_either_way(
    values: dict[str, Any], style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members, their order, types and escapes, to the byte, and one line only."""
    with alone(monkeypatch, format=style) as (log, stderr):
        long, short = both_ways(log, stderr, USUAL | values)
    assert long == short
    assert "request" in short
    assert short.endswith("\n")
    assert len(short[:-1].split("\n")) == 1


@pytest.mark.parametrize("style", STYLES)
def test_the_short_way_is_taken(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above would compare the long way with itself."""
    records: list[logging.LogRecord] = []
    with alone(monkeypatch, format=style) as (log, stderr):
        monkeypatch.setattr(logging.getLogger().handlers[0], "emit", records.append)
        both_ways(log, stderr, USUAL)
    assert len(records) == 1
    assert stderr.getvalue().count("\n") == 1


TEXT = st.one_of(
    st.text(st.characters(), max_size=40),
    st.text(st.characters(categories=["Cc", "Cs", "Zs"]), max_size=10),
    st.lists(st.sampled_from([*" =:'@\x1f", "bearer", "Basic ", "token", "&code="])).map("".join),
)


@given(
    values=st.fixed_dictionaries(
        {
            **dict.fromkeys(("request_id", "route", "outcome"), TEXT),
            **dict.fromkeys(("peer", "method", "path", "client_id"), TEXT | st.none()),
            "status": st.integers(0, 999),
            "seconds": st.floats(0, 1e6),
            "bytes_sent": st.integers(0),
        }
    )
)
def test_whatever_the_values_are(values: dict[str, Any]) -> None:
    """No text makes the two ways differ, nor is there one by which a line is broken."""
    with pytest.MonkeyPatch.context() as monkeypatch, alone(monkeypatch) as (log, stderr):
        long, short = both_ways(log, stderr, values)
    assert long == short
    assert short.count("\n") == 1
    assert short.replace("…", "").isascii()
    json.loads(short)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("member", ["request_id", "peer", "method", "path", "route", "client_id"])
@pytest.mark.parametrize("text", CREDENTIALS)
def test_what_looks_like_a_credential_stays_out(
    text: str, member: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever value it is in: a client makes up most of them."""
    with alone(monkeypatch, format=style) as (log, stderr):
        log.request(**USUAL | {member: text})
        log.request(**USUAL | {member: text})
    assert stderr.getvalue().count("***") == 2
    assert SECRET not in stderr.getvalue()


@pytest.mark.parametrize(
    "at",
    [0.0, 1.5, 1_763_856_517.0, 1_763_856_517.000031, 1_763_856_517.25, 1_763_856_517.999999],
)
def test_the_time_is_written_as_structlog_writes_it(
    at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In UTC, with microseconds where there are any."""
    with alone(monkeypatch) as (_, stderr):
        AccessLog(wall=lambda: at).request(**USUAL)
    stamp = json.loads(stderr.getvalue())["timestamp"]
    exact = datetime.fromtimestamp(at, UTC)
    assert abs((datetime.fromisoformat(stamp) - exact).total_seconds()) <= 1e-6
    assert len(exact.isoformat().replace("+00:00", "Z")) == len(stamp)
    assert stamp.endswith("Z")


def test_the_time_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the next second, and back where it is set back."""
    times = iter([100.25, 100.5, 101.25, 99.0])
    with alone(monkeypatch) as (_, stderr):
        log = AccessLog(wall=lambda: next(times))
        for _ in range(4):
            log.request(**USUAL)
    assert [json.loads(line)["timestamp"][17:] for line in stderr.getvalue().splitlines()] == [
        "40.250000Z",
        "40.500000Z",
        "41.250000Z",
        "39Z",
    ]


@pytest.mark.parametrize("style", STYLES)
def test_what_is_bound_for_all_records_is_in_it(
    style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's number comes last; nothing that is bound takes the place of a member."""
    bound = {"worker": 2, "path": "/elsewhere", "level": "x", "note": f"Bearer {SECRET}"}
    with bound_contextvars(**bound), alone(monkeypatch, format=style) as (log, stderr):
        long, short = both_ways(log, stderr, USUAL)
    assert sorted(long.split()) == sorted(short.split())
    assert "worker" in short
    assert "elsewhere" not in short
    assert SECRET not in short


def test_settings_apply_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be turned off, be below the level, and change its format, as by a reload."""
    with alone(monkeypatch) as (log, stderr):
        off, quiet = Logging(access_log=False), Logging(level="warning")
        people = Logging(format="console")
        for number, settings in enumerate([Logging(), off, quiet, people, Logging()]):
            configure_logging(settings)
            log.request(**USUAL | {"path": f"/{number}"})
    lines = stderr.getvalue().splitlines()
    assert [re.findall(r"path(?:=|\": \")(/\d)", line)[0] for line in lines] == ["/0", "/3", "/4"]
    assert [line[0] == "{" for line in lines] == [True, False, True]


def test_a_line_is_out_at_once_and_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among other records, and on what standard error is at the time."""
    with alone(monkeypatch) as (log, stderr):
        other = structlog.stdlib.get_logger("gateway.app")
        other.info("before")
        log.request(**USUAL)
        logging.getLogger("asyncio").info("after")
        later = io.StringIO()
        monkeypatch.setattr("sys.stderr", later)
        log.request(**USUAL)
    events = [json.loads(line)["event"] for line in stderr.getvalue().splitlines()]
    assert events == ["before", "request", "after"]
    assert json.loads(later.getvalue())["event"] == "request"


def test_a_closed_standard_error_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request isn't failed because nobody reads the log any more."""
    with alone(monkeypatch) as (log, stderr):
        stderr.close()
        log.request(**USUAL)


def test_whoever_listens_gets_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler anywhere above, a filter and structlog's capture see it as any other record."""
    seen: list[logging.LogRecord] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    listener = Listener()
    with alone(monkeypatch) as (log, stderr):
        for name in ("", "gateway", NAME):
            logging.getLogger(name).addHandler(listener)
            log.request(**USUAL)
            logging.getLogger(name).removeHandler(listener)
        assert [record.name for record in seen] == [NAME] * 3
        assert stderr.getvalue().count("\n") == 3
        with capture_logs() as captured:
            log.request(**USUAL)
        assert stderr.getvalue().count("\n") == 3
    (record,) = captured
    assert (record["event"], record["path"], record["log_level"]) == (
        "request",
        "/orders/1",
        "info",
    )


def test_who_stops_records_on_their_way_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By not propagating, or by a filter or a level of the handler."""
    with alone(monkeypatch) as (log, stderr):
        (handler,) = logging.getLogger().handlers
        logger = logging.getLogger(NAME)
        monkeypatch.setattr(logger, "propagate", False)
        monkeypatch.setattr(logging, "lastResort", logging.NullHandler())
        log.request(**USUAL)
        monkeypatch.setattr(logger, "propagate", True)
        handler.setLevel("ERROR")
        log.request(**USUAL)
        handler.setLevel("NOTSET")
        monkeypatch.setattr(handler, "filters", [lambda _: False])
        log.request(**USUAL)
    assert stderr.getvalue() == ""
