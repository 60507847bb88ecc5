"""What all gateways have around them: a backend, Redis with the tokens, TLS keys; an authorizer."""

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from peers import Scene
from peers.nginx import MODULES, binary, require_lua
from peers.peer import HERE, UNPRIVILEGED, configure
from redis_program import REDIS_SERVER

from rig import tokens
from rig.processes import Process, free_ports, processors, running

KIB = 1024


@dataclass(frozen=True)
class Surroundings:
    """The scene with its processes, whose use of the processor is reported apart."""

    scene: Scene
    tokens: Path
    redis: Process
    backend: Process


@contextmanager
def surroundings(folder: Path, tools: Path, count: int) -> Iterator[Surroundings]:
    """Run all that gateways need until the block ends, with ``count`` tokens in Redis.

    Raises:
        NotHere: nginx or its Lua module isn't installed.
    """
    binary()
    require_lua()
    allow_descriptors()
    ports = dict(zip(("backend", "redis"), free_ports(2), strict=True))
    certificate, key = make_certificate(folder)
    scene = Scene(folder, **ports, certificate=certificate, key=key, tools=tools,
                  processors=processors())  # fmt: skip
    apart = scene.processors[1]
    with ExitStack() as stack:
        redis_command = [REDIS_SERVER, "--port", str(ports["redis"])]
        redis_command += ["--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        redis = stack.enter_context(
            running(redis_command, on=apart, log=folder / "redis.log", ports=[ports["redis"]])
        )
        tokens.write(ports["redis"], folder / "tokens", count)
        make_files(folder / "backend" / "files")
        backend = stack.enter_context(_nginx(scene, "backend", folder / "backend", scene.backend))
        yield Surroundings(scene, folder / "tokens", redis, backend)


@contextmanager
def authorizer(scene: Scene, folder: Path) -> Iterator[tuple[Scene, Process]]:
    """Run an authorizer for one gateway until the block ends; that gateway's scene.

    Each has its own, so that none finds in its cache what another has asked for.
    """
    (port,) = free_ports(1)
    with _nginx(scene, "authorizer", folder, port) as process:
        yield replace(scene, authorizer=port), process


@contextmanager
def _nginx(scene: Scene, name: str, folder: Path, port: int) -> Iterator[Process]:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    values = {
        "folder": folder,
        "port": port,
        "user": UNPRIVILEGED,
        "lua": HERE / "lua",
        "modules": MODULES,
    }
    config = configure(f"{name}.conf", folder / "nginx.conf", values)
    with running(
        [binary(), "-p", folder, "-c", config, "-e", "stderr"],
        on=scene.processors[1],
        environ={"BENCH_REDIS_PORT": str(scene.redis)},
        log=folder / "log",
        ports=[port],
    ) as process:
        yield process


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that is there until the block ends, in memory if there is room.

    nginx writes a file for each answer that it caches; a disk isn't what is measured.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 2**30
    with TemporaryDirectory(prefix="bench-", dir=memory if roomy else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def allow_descriptors() -> None:
    """Let this process, and what it starts, have as many descriptors as it may allow itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
