"""Which server a run has, of those that packages bring."""

import sys
from pathlib import Path

import pytest
from redis_server import Program, RedisServer, choose_program, programs


def test_every_python_has_a_redis_and_a_valkey() -> None:
    """What the tests need comes with the lock: nobody installs a server by hand."""
    assert {"Redis", "Valkey"} <= {program.name for program in programs()}


def test_the_newest_is_redis_and_the_oldest_is_the_oldest() -> None:
    """Valkey counts on from Redis 7.2, so its numbers don't compare."""
    newest, oldest, valkey = map(choose_program, ("newest", "oldest", "valkey"))
    assert newest.name == "Redis"
    assert newest.version >= (8,)
    assert valkey.name == "Valkey"
    assert oldest == min(programs())


def test_a_program_by_its_path() -> None:
    """A server that somebody has built is taken as well."""
    assert choose_program(str(RedisServer.program)) == Program.at(RedisServer.program)


@pytest.mark.parametrize(
    ("path", "said"), [(sys.executable, "isn't a redis-server"), ("/nonexistent", "No such file")]
)
def test_what_is_no_server(path: str, said: str) -> None:
    """One line says so."""
    with pytest.raises(ValueError, match=said):
        choose_program(str(Path(path)))
