"""Logging, on standard error: JSON for machines or lines for people, ours and libraries' alike.

Loggers are structlog's or the standard library's and are called ``gateway.<module>``; access
lines come from ``gateway.access``. Nothing here makes it right to log a secret: redaction is
the last resort against what libraries put in their messages and tracebacks.
"""

import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Self

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
_FILTER = structlog.stdlib.filter_by_level
_ROOT = logging.getLogger()
# One list for good: loggers keep the one they were made with.
_CHAIN: list[Processor] = [
    _FILTER,
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
    ours = [handler for handler in _ROOT.handlers if isinstance(handler, StderrHandler)]
    handler = ours[0] if ours else StderrHandler()
    handler.apply(settings)
    if not ours:
        _ROOT.addHandler(handler)
    _ROOT.setLevel(settings.level.upper())
    logging.getLogger("gateway.access").disabled = not settings.access_log
    logging.captureWarnings(capture=True)


def redact(text: str) -> str:
    """Return a text with ``***`` for whatever looks like a credential in it."""
    if "=" not in text and ":" not in text and text.split(None, 1) == [text]:
        return text  # most of what is logged, at a tenth of the cost: no match is without these
    return _CREDENTIAL.sub(lambda found: f"{found[1] or found[2]}***", text)


def redacted(value: Any) -> Any:
    """Return a value as JSON can hold it, with the texts in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(item) for item in value]
    return redact(repr(value))


class StderrHandler(logging.Handler):
    """Writes to what ``sys.stderr`` is at the time, and never shows what it can't render."""

    is_json = False
    _renderers: Sequence[Processor] = ()

    @classmethod
    def alone_for(cls, logger: logging.Logger) -> Self | None:
        """Return the handler of a logger's records, if a line by it is all that comes of them.

        ``None`` if somebody else listens to, filters or captures what is logged, as tests do: a
        record then has to go its whole way.
        """
        handlers = _ROOT.handlers
        if len(handlers) != 1 or logger.handlers or logger.filters or _CHAIN[0] is not _FILTER:
            return None
        (handler,) = handlers
        if type(handler) is not cls or handler.level or handler.filters:
            return None
        above: logging.Logger | None = logger
        while above is not _ROOT:
            if above is None or above.handlers or not above.propagate:
                return None
            above = above.parent
        return handler

    def apply(self, settings: Logging) -> None:
        """Render as the settings say from now on."""
        self.is_json = settings.format == "json"
        self._renderers = _renderers(settings.format)
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[*_STAMPS, _foreign_stack], processors=self._renderers
            )
        )

    def render(self, event_dict: EventDict) -> str:
        """Return the line of a record of ours that has its stamps already."""
        rendered: Any = {**event_dict, "_from_structlog": True}
        for renderer in self._renderers:
            rendered = renderer(None, "", rendered)
        return str(rendered)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record that came its whole way."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 (logging's own handling prints the arguments)
            where = (record.pathname, record.lineno, type(error).__name__)
            line = self.format(
                logging.LogRecord("gateway.logs", logging.ERROR, "", 0, _UNRENDERED, where, None)
            )
        self.write(line)

    def write(self, line: str) -> None:
        """Write a line at once: whatever becomes of the process, it is out."""
        self.acquire()  # once more where emit's caller has: it is reentrant
        try:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # a closed stderr leaves nowhere to say so
            pass
        finally:
            self.release()


def _renderers(style: str) -> list[Processor]:
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
    return [structlog.processors.format_exc_info, _redact_values, _in_order, *renderers]


def _foreign_stack(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    if stack := event_dict.pop("stack_info", None):
        event_dict["stack"] = stack
    return event_dict


def _redact_values(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Redact what a record says; of our own records not the event, which is a constant text."""
    as_it_is = _LEADING if event_dict["_from_structlog"] else _LEADING[:-1]
    return {
        key: value if key in as_it_is else redacted(value)
        for key, value in event_dict.items()
        if not key.startswith("_")
    }


def _in_order(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    leading = {key: event_dict.pop(key) for key in _LEADING if key in event_dict}
    return {**leading, **event_dict}


def _escape_controls(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Keep one record on one line and a client's bytes from steering the terminal."""
    return {
        key: value.translate(_CONTROLS)
        # No control character is printable, and most of what is logged is: it costs less to ask.
        if isinstance(value, str) and not value.isprintable() and key not in _TEXTS
        else value
        for key, value in event_dict.items()
    }
