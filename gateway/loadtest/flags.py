"""What the flags of the load tester are checked by where click has no type for it.

Each error names the flag, the value and what is allowed, and none repeats a secret.
"""
# ruff: noqa: PLC0415 (imports in functions keep --help quick)

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import SecretStr

    from gateway.loadtest.slo import Slo

_T = TypeVar("_T")


def duration(_: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds in a duration such as ``250ms`` or ``15m``."""
    from gateway.settings.types import parse_duration

    if value is None:
        return None
    try:
        return parse_duration(value).total_seconds()
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}.", param=param) from None


def slos(_: click.Context, param: click.Parameter, value: tuple[str, ...]) -> "tuple[Slo, ...]":
    """Return each SLO, such as ``p99<=2s``."""
    from gateway.loadtest.slo import parse_slo

    parsed = []
    for text in value:
        try:
            parsed.append(parse_slo(text))
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: {error}.", param=param) from None
    return tuple(parsed)


def statuses(_: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Return the statuses in a list such as ``401,403``; the options check their range."""
    if not re.fullmatch(r"[0-9]{3}(,[0-9]{3})*", value):
        raise click.BadParameter(f"{value!r}: statuses such as 401,403 are allowed.", param=param)
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
