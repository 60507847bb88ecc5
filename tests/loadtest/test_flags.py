"""Flags that click has no type for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from gateway.loadtest import flags

PARAM = click.Option(["--it"])
CONTEXT = click.Context(click.Command("run"))


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (flags.duration, None, None),
        (flags.duration, "250ms", 0.25),
        (flags.duration, "0s", 0.0),
        (flags.duration, "15m", 900.0),
        (flags.statuses, "401,403", (401, 403)),
    ],
)
def test_values(check: Callable[..., Any], value: Any, expected: Any) -> None:
    """What is written becomes what is meant."""
    assert expected == check(CONTEXT, PARAM, value)


@pytest.mark.parametrize(
    ("check", "value", "fault"),
    [
        (flags.duration, "5", "'5': a duration such as"),
        (flags.slos, ("p99<=2s", "p99"), "'p99': an SLO such as"),
        (flags.statuses, "401, 403", "'401, 403': statuses such as 401,403 are allowed."),
        (flags.header_fields, ("X-Key hush",), "'Name: value' is allowed."),
        (flags.header_fields, (": hush",), "'Name: value' is allowed."),
    ],
)
def test_faults(check: Callable[..., Any], value: Any, fault: str) -> None:
    """What is wrong is said with what is allowed; a header may be a key, and isn't shown."""
    with pytest.raises(click.BadParameter) as caught:
        check(CONTEXT, PARAM, value)
    assert caught.value.message.startswith(fault)
    assert "hush" not in caught.value.message


def test_slos_and_headers() -> None:
    """Each SLO and each header may be given again."""
    slos = flags.slos(CONTEXT, PARAM, ("p99<=2s", "false_refusals==0"))
    fields = flags.header_fields(CONTEXT, PARAM, ("X-Key: a: b ", "X-Empty:"))
    assert [slo.text for slo in slos] == ["p99<=2s", "false_refusals==0"]
    assert [(name, value.get_secret_value()) for name, value in fields] == [
        ("X-Key", "a: b"),
        ("X-Empty", ""),
    ]


@pytest.mark.parametrize(
    ("value", "in_file", "by_environment", "expected"),
    [
        (None, False, False, None),
        ("flag", False, False, "flag"),
        ("environment", False, True, "environment"),
        (None, True, False, "file"),
        ("environment", True, True, "file"),
    ],
)
def test_where_a_secret_comes_from(
    tmp_path: Path, value: str | None, in_file: bool, by_environment: bool, expected: str | None
) -> None:
    """A file beats the environment."""
    path = tmp_path / "secret"
    path.write_text("file\n")
    secret = flags.secret_from(
        "--key", value, path if in_file else None, by_environment=by_environment
    )
    assert expected == (secret.get_secret_value() if secret else None)


def test_a_flag_and_a_file() -> None:
    """Both at once are a mistake."""
    with pytest.raises(click.UsageError, match="--key and --key-file don't go together"):
        flags.secret_from("--key", "a", Path("b"), by_environment=False)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "no such file or directory."),
        (b"\xff\xfe", "UTF-8 text is allowed."),
        (b"hush\nhush", "one line with the secret is allowed, there are 2."),
    ],
)
def test_files_that_can_t_be_used(tmp_path: Path, content: bytes | None, fault: str) -> None:
    """The flag, the path and what is wrong are said, and nothing of what is in it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(click.BadParameter) as caught:
        flags.secret_from("--key", None, path, by_environment=False)
    assert caught.value.message == f"{str(path)!r}: {fault}"
    assert caught.value.param_hint == "'--key-file'"


def test_tokens_from_a_file(tmp_path: Path) -> None:
    """No file, no tokens."""
    path = tmp_path / "tokens"
    path.write_text("a\nb\n")
    assert (len(flags.tokens_from(path)), flags.tokens_from(None)) == (2, ())
