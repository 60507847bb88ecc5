"""What command line arguments are checked by where click has no type for it.

Each is a click callback: from what was written to what is meant. None repeats a secret.
"""
# ruff: noqa: PLC0415 (imports in functions keep --help quick)

from datetime import timedelta
from pathlib import Path

import click

Pair = tuple[str, str | None]
"""A name and its secret."""


def duration(_: click.Context, param: click.Parameter, value: str) -> timedelta:
    """Return a duration above zero, written as settings have it."""
    from gateway.settings.types import parse_duration

    try:
        parsed = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}.", param=param) from None
    if not parsed:
        raise click.BadParameter(f"{value!r}: a duration above zero is allowed.", param=param)
    return parsed


def assignments(_: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Return each ``section.name=value``; neither half is looked at here."""
    if not all("=" in item for item in value):
        raise click.BadParameter("section.name=value is allowed.", param=param)
    return {name.strip(): text for name, _, text in (item.partition("=") for item in value)}


def store_url(_: click.Context, param: click.Parameter, value: str) -> str:
    """Return the URL of one Redis, or ``memory://``."""
    from gateway.settings.store_url import parse_store_url

    try:
        kind = parse_store_url(value).kind
    except ValueError as error:  # redis-py's own would quote parts of a password
        raise click.BadParameter(f"{error}.", param=param) from None
    if kind not in {"redis", "unix", "memory"}:
        raise click.BadParameter("one Redis, or memory://, is allowed.", param=param)
    return value


def pairs(_: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[Pair, ...]:
    """Return each ``name:secret``; the secret is ``None`` where there is none."""
    halves = [item.partition(":") for item in value]
    if not all(name for name, _, _ in halves):
        raise click.BadParameter("name:secret is allowed.", param=param)
    return tuple((name, secret or None) for name, _, secret in halves)


def pairs_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> tuple[Pair, ...]:
    """Return the ``name:secret`` on each line of a file; blank lines don't count."""
    if value is None:
        return ()
    try:
        lines = value.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise click.BadParameter(f"{str(value)!r}: {reason.lower()}.", param=param) from None
    return pairs(ctx, param, tuple(line for line in lines if line.strip()))
