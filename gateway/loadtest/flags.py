"""What the flags of the load tester are checked by where click has no type for it.

Each error names the flag, the value and what is allowed, and none repeats a secret.
"""
# ruff: noqa: PLC0415 (imports in functions keep --help quick)

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import SecretStr

    from gateway.loadtest.slo import Slo

_T = TypeVar("_T")


class Duration(click.ParamType[float]):
    """A duration such as ``250ms`` or ``15m``; becomes seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        from gateway.settings.types import parse_duration

        if isinstance(value, float):
            return value
        try:
            return parse_duration(value).total_seconds()
        except ValueError as error:
            self.fail(f"{value!r}: {error}.", param, ctx)


class SloText(click.ParamType["Slo"]):
    """An SLO such as ``p99<=2s``."""

    name = "slo"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Slo":
        """Return the SLO."""
        from gateway.loadtest.slo import Slo, parse_slo

        if isinstance(value, Slo):
            return value
        try:
            return parse_slo(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}.", param, ctx)


class Statuses(click.ParamType[tuple[int, ...]]):
    """Statuses, separated by commas."""

    name = "statuses"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers; the options check their range."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"[0-9]{3}(,[0-9]{3})*", value):
            self.fail(f"{value!r}: statuses such as 401,403 are allowed.", param, ctx)
        return tuple(map(int, value.split(",")))


def header_fields(
    _: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> "tuple[tuple[str, SecretStr], ...]":
    """Return each ``Name: value``. A value may be a key, so no error shows it."""
    from pydantic import SecretStr

    fields = []
    for text in value:
        name, colon, content = text.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter("'Name: value' is allowed.", param=param)
        fields.append((name.strip(), SecretStr(content.strip())))
    return tuple(fields)


def secret_from(
    flag: str, value: str | None, path: Path | None, *, by_environment: bool
) -> "SecretStr | None":
    """Return a secret given by flag or environment, or in a file; a file beats the environment.

    Raises:
        click.BadParameter: both flag and file are given, or the file isn't one.
    """
    from pydantic import SecretStr

    from gateway.loadtest.given import one_secret

    if path is None:
        return SecretStr(value) if value else None
    if value and not by_environment:
        raise click.UsageError(f"{flag} and {flag}-file don't go together.")
    return _read(f"{flag}-file", path, one_secret)


def tokens_from(path: Path | None) -> "tuple[SecretStr, ...]":
    """Return the tokens in a file; none without one.

    Raises:
        click.BadParameter: it can't be read, or has something else in it.
    """
    from gateway.loadtest.given import tokens_in

    return () if path is None else _read("--tokens-file", path, tokens_in)


def _read(flag: str, path: Path, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or "it can't be read").lower()
    except UnicodeDecodeError:
        reason = "UTF-8 text is allowed"
    except ValueError as error:
        reason = str(error)
    raise click.BadParameter(f"{str(path)!r}: {reason}.", param_hint=f"'{flag}'")
