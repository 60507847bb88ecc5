"""Logging: one record is one line, for machines or for people, and holds no credential."""

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
import structlog

from gateway.logs import _CONTROLS, configure_logging, redact
from gateway.settings import Logging

SECRET = "s3cr3t-VALUE_0"
STYLES: list[Literal["json", "console"]] = ["json", "console"]
Stderr = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Logging is the process's: put it back for the tests that follow."""
    root, access = logging.getLogger(), logging.getLogger("gateway.access")
    level, handlers, disabled = root.level, root.handlers[:], access.disabled
    show_warning = warnings.showwarning
    yield
    logging.captureWarnings(capture=False)
    warnings.showwarning = show_warning
    root.setLevel(level)
    root.handlers[:] = handlers
    access.disabled = disabled


def read(stderr: Stderr) -> list[dict[str, Any]]:
    """Return the records on standard error, from JSON."""
    return [json.loads(line) for line in stderr.readouterr().err.splitlines()]


def test_a_record_of_ours_is_a_json_object(capsys: Stderr) -> None:
    """Time in UTC, level, logger and event first, then what it says, typed."""
    configure_logging(Logging())
    structlog.stdlib.get_logger("gateway.access").info("request", status=200, route=None)
    (record,) = read(capsys)
    stamp = record.pop("timestamp")
    assert list(record.items()) == [
        ("level", "info"),
        ("logger", "gateway.access"),
        ("event", "request"),
        ("status", 200),
        ("route", None),
    ]
    assert stamp.endswith("Z")
    assert abs(datetime.fromisoformat(stamp) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_record_of_a_library_is_a_json_object_too(capsys: Stderr) -> None:
    """aiohttp, redis and asyncio use the standard library's logging."""
    configure_logging(Logging())
    logging.getLogger("asyncio").warning("Executing %s took %.1f seconds", "x", 0.25)
    (record,) = read(capsys)
    assert (record["level"], record["logger"], record["event"]) == (
        "warning",
        "asyncio",
        "Executing x took 0.2 seconds",
    )


def test_a_record_is_a_line_for_people(capsys: Stderr) -> None:
    """The same in the console's style, without colours where it isn't a terminal."""
    configure_logging(Logging(format="console"))
    structlog.stdlib.get_logger("gateway.app").warning("listening", port=8080, host="a b")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.partition("Z ")[2].split() == [
        "[warning", "]", "listening", "[gateway.app]", "port=8080", "host='a", "b'",
    ]  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_nothing_in_a_record_breaks_its_line(style: Any, capsys: Stderr) -> None:
    """Nor steers a terminal: a path or a message may come from anyone."""
    configure_logging(Logging(format=style))
    evil = "a\nb\r\x1b[2J\x85\u2028"
    structlog.stdlib.get_logger("gateway.access").info("request", path=evil, k=[evil])
    logging.getLogger("aiohttp").warning("got %s", evil)
    output = capsys.readouterr().err
    assert output.count("\n") == 2
    assert not {"\r", "\x1b", "\x85"} & set(output)


def fail(text: str) -> None:
    """Raise what a library might, with a cause."""
    raise ValueError(text) from KeyError(text)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: basic {SECRET}==",
        f"b'Authorization', b'Bearer {SECRET}'",
        f"GET /a?access_token={SECRET}&b=c HTTP/1.1",
        f"refresh_token={SECRET}&grant_type=refresh_token",
        f'{{"access_token": "{SECRET}", "token_type": "Bearer"}}',
        f"{{'refresh_token': b'{SECRET}'}}",
        f"token={SECRET}",
        f"client_secret = {SECRET}",
        f"PASSWORD={SECRET}",
        f"GET /callback?code={SECRET}&state=x",
        f"Error connecting to redis://user:{SECRET}@host:6379/0",
        f"https://{SECRET}@host/path",
    ],
)
def test_no_credential_of_a_librarys_record_gets_out(style: Any, text: str, capsys: Stderr) -> None:
    """Not by its message, its arguments, its exception or what that was caused by."""
    configure_logging(Logging(format=style))
    logger = logging.getLogger("aiohttp.server")
    logger.error(text)
    logger.error("Error handling request: %s", text)
    logger.error("bytes: %r", text.encode())
    try:
        fail(text)
    except ValueError:
        logger.exception("failed", stack_info=True)
    output = capsys.readouterr().err
    assert output.count("***") >= 5
    assert "ValueError" in output
    assert SECRET not in output


@pytest.mark.parametrize("style", STYLES)
def test_no_credential_of_a_record_of_ours_gets_out(style: Any, capsys: Stderr) -> None:
    """What it quotes and the exceptions it tells of may be a library's."""
    configure_logging(Logging(format=style))
    log = structlog.stdlib.get_logger("gateway.oauth")
    text = f"Bearer {SECRET}"
    try:
        fail(text)
    except ValueError as error:
        log.exception(
            "failed", error=error, text=text, list=[text], table={"a": (text,)}, bytes=text.encode()
        )
    output = capsys.readouterr().err
    assert output.count("***") == 7
    assert SECRET not in output


@pytest.mark.parametrize(
    "text",
    ["request", "/orders/1", "token_type: Bearer", "3 tokens recorded", "http://h:80/a", "a@b",
     "status=200 path=/token"],
)  # fmt: skip
def test_what_is_no_credential_is_left_alone(text: str) -> None:
    """A log that is all asterisks helps nobody."""
    assert redact(text) == text


def test_every_blank_is_looked_at() -> None:
    """What parts a scheme from its credentials is any blank there is, in all of Unicode."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    blanks = re.findall(r"\s", everything)
    assert len(blanks) > 20
    for blank in blanks:
        assert redact(f"Bearer{blank}{SECRET}") == f"Bearer{blank}***"


def test_no_control_character_is_taken_for_printable() -> None:
    """Or it would get to a terminal as it is."""
    assert not [code for code in _CONTROLS if chr(code).isprintable()]


@pytest.mark.parametrize("style", STYLES)
def test_a_record_that_cannot_be_rendered_is_told_of_without_its_arguments(
    style: Any, capsys: Stderr
) -> None:
    """Logging's own way would print them."""
    logging.getLogger().handlers.clear()  # pytest's own handlers raise
    configure_logging(Logging(format=style))
    logging.getLogger("aiohttp").warning("%d", SECRET)
    output = capsys.readouterr().err
    assert "a log record of " in output
    assert "test_logs.py" in output
    assert "can't be rendered: TypeError" in output
    assert SECRET not in output


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_records_below_the_level_are_dropped(level: Any, events: list[str], capsys: Stderr) -> None:
    """Ours and others' alike."""
    configure_logging(Logging(level=level))
    for name in ("debug", "info", "warning", "error"):
        getattr(structlog.stdlib.get_logger("gateway.app"), name)(name)
        getattr(logging.getLogger("redis"), name)(name)
    assert [record["event"] for record in read(capsys)] == [each for each in events for _ in "12"]


def test_other_settings_can_be_applied(capsys: Stderr) -> None:
    """A reload changes what is there: the line doesn't come twice, loggers in use follow."""
    log = structlog.stdlib.get_logger("gateway.app")
    access = structlog.stdlib.get_logger("gateway.access")
    configure_logging(Logging())
    configure_logging(Logging())
    log.info("one")
    access.info("request")
    configure_logging(Logging(level="warning", access_log=False))
    log.info("two")
    configure_logging(Logging(access_log=False))
    log.info("three")
    access.info("request")
    configure_logging(Logging(format="console"))
    access.info("request")
    *records, line = capsys.readouterr().err.splitlines()
    assert [json.loads(record)["event"] for record in records] == ["one", "request", "three"]
    assert "request" in line
    assert not line.startswith("{")


def test_warnings_are_logged(capsys: Stderr) -> None:
    """As records of py.warnings, on one line."""
    configure_logging(Logging())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (record,) = read(capsys)
    assert (record["logger"], "DeprecationWarning: old" in record["event"]) == ("py.warnings", True)


def test_the_context_of_a_record_is_in_it(capsys: Stderr) -> None:
    """What is bound for a request comes with every record of it."""
    configure_logging(Logging())
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.stdlib.get_logger("gateway.app").info("own")
        logging.getLogger("asyncio").info("foreign")
    assert [record["request_id"] for record in read(capsys)] == ["r1", "r1"]


def test_a_closed_standard_error_is_no_failure(
    capsys: Stderr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request isn't failed because nobody reads the log any more."""

    class Closed:
        def write(self, _: str) -> None:
            raise BrokenPipeError

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stderr", Closed())
    configure_logging(Logging())
    structlog.stdlib.get_logger("gateway.app").info("unheard")
