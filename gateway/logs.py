"""Logging, on standard error: JSON for machines or lines for people, ours and libraries' alike.

Loggers are structlog's or the standard library's and are called ``gateway.<module>``; access
lines come from ``gateway.access``. Nothing here makes it right to log a secret: redaction is
the last resort against what libraries put in their messages and tracebacks.
"""

import logging
import os
import re
import sys
from contextlib import suppress
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.settings import Logging

_CREDENTIAL = re.compile(
    r"""( \b(?:bearer|basic)\s+                                       # RFC 6750 §2.1, RFC 7617
        | (?:token|secret|password|passwd)["']?\s*[=:]\s*b?["']?      # a form, JSON, a repr
        | [?&]code=
        ) [^\s"'&,;)}\]]+
      | (://) [^\s/?\#]* (?=@)                                        # RFC 3986 §3.2.1
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HINT = re.compile(r"[\s=:]")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_UNRENDERED = "a log record of %s:%s can't be rendered: %s"
_LEADING = ("timestamp", "level", "logger", "event")
_TEXTS = ("exception", "stack")
_STAMPS: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
# One list for good: loggers keep the one they were made with.
_CHAIN: list[Processor] = [
    structlog.stdlib.filter_by_level,
    *_STAMPS,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.StackInfoRenderer(),
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]


def configure_logging(settings: Logging) -> None:
    """Render all logging as ``settings`` say. May be called again, to apply others."""
    structlog.configure(
        processors=_CHAIN,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if isinstance(handler, _Handler)]
    handler = ours[0] if ours else _Handler()
    handler.setFormatter(_formatter(settings.format))
    if not ours:
        root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.getLogger("gateway.access").disabled = not settings.access_log
    logging.captureWarnings(capture=True)


def redact(text: str) -> str:
    """Return a text with ``***`` for whatever looks like a credential in it."""
    if not _HINT.search(text):  # most of what is logged, at a tenth of the cost
        return text
    return _CREDENTIAL.sub(lambda found: f"{found[1] or found[2]}***", text)


class _Handler(logging.Handler):
    """Writes to what ``sys.stderr`` is at the time, and never shows what it can't render."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 (logging's own handling prints the arguments)
            where = (record.pathname, record.lineno, type(error).__name__)
            line = self.format(
                logging.LogRecord("gateway.logs", logging.ERROR, "", 0, _UNRENDERED, where, None)
            )
        with suppress(OSError, ValueError):  # a closed stderr leaves nowhere to say so
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def _formatter(style: str) -> structlog.stdlib.ProcessorFormatter:
    renderers: list[Processor] = [structlog.processors.JSONRenderer()]
    if style == "console":
        colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        renderers = [
            _escape_controls,
            structlog.dev.ConsoleRenderer(
                colors=colors,
                # rich's would show local variables, tokens among them
                exception_formatter=structlog.dev.plain_traceback,
                sort_keys=False,
            ),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_STAMPS, _foreign_stack],
        processors=[
            structlog.processors.format_exc_info,
            _redact_values,
            _in_order,
            *renderers,
        ],
    )


def _foreign_stack(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    if stack := event_dict.pop("stack_info", None):
        event_dict["stack"] = stack
    return event_dict


def _redact_values(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Redact what a record says; of our own records not the event, which is a constant text."""
    as_it_is = _LEADING if event_dict["_from_structlog"] else _LEADING[:-1]
    return {
        key: value if key in as_it_is else _redacted(value)
        for key, value in event_dict.items()
        if not key.startswith("_")
    }


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item) for item in value]
    return redact(repr(value))


def _in_order(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    leading = {key: event_dict.pop(key) for key in _LEADING if key in event_dict}
    return {**leading, **event_dict}


def _escape_controls(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Keep one record on one line and a client's bytes from steering the terminal."""
    return {
        key: value.translate(_CONTROLS) if isinstance(value, str) and key not in _TEXTS else value
        for key, value in event_dict.items()
    }
