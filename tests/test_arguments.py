"""Arguments of the command line, from what is written to what is meant."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from gateway import arguments

PARAM = click.Option(["--it"])
CONTEXT = click.Context(click.Command("it"))


@pytest.mark.parametrize(
    ("callback", "written", "meant"),
    [
        (arguments.duration, "1h30m", timedelta(minutes=90)),
        (arguments.assignments, (), {}),
        (arguments.assignments, ("a.b=c=d", "e.f="), {"a.b": "c=d", "e.f": ""}),
        (arguments.store_url, "memory://", "memory://"),
        (arguments.store_url, "rediss://:p@h", "rediss://:p@h"),
        (arguments.pairs, ("a:b:c", "d", "e:"), (("a", "b:c"), ("d", None), ("e", None))),
        (arguments.pairs_file, None, ()),
    ],
)
def test_an_argument_means_what_it_says(callback: Any, written: object, meant: object) -> None:
    """A secret may hold colons, a value equals signs."""
    assert callback(CONTEXT, PARAM, written) == meant


@pytest.mark.parametrize(
    ("callback", "written"),
    [
        (arguments.duration, "0s"),
        (arguments.duration, "3"),
        (arguments.assignments, ("a.b=c", "a.b")),
        (arguments.store_url, "redis+sentinel://h/main"),
        (arguments.store_url, "hunter2"),
        (arguments.pairs, (":hunter2",)),
        (arguments.pairs_file, Path("/nowhere")),
    ],
)
def test_another_argument_is_refused(callback: Any, written: object) -> None:
    """As click's own types do, but without a secret in the message."""
    with pytest.raises(click.BadParameter) as refusal:
        callback(CONTEXT, PARAM, written)
    assert "hunter2" not in str(refusal.value)


def test_a_file_has_a_pair_on_each_line(tmp_path: Path) -> None:
    """Blank lines don't count, and what isn't text is refused."""
    file = tmp_path / "clients"
    file.write_text("a:b\n\nc:d e\n")
    assert arguments.pairs_file(CONTEXT, PARAM, file) == (("a", "b"), ("c", "d e"))
    file.write_bytes(b"\xff")
    with pytest.raises(click.BadParameter, match="not utf-8 text"):
        arguments.pairs_file(CONTEXT, PARAM, file)
