"""Processes that the benchmark starts, what they have used of the processor, and their memory.

All of it is the kernel's own account of each process, so that nothing is measured by whoever is
measured.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")


class DidNotStart(RuntimeError):
    """A process ended or stayed silent where it should have listened."""


def processor_seconds(pid: int) -> float:
    """Return user and system time of all threads of a process, those that have ended too.

    It is read from the process's own clock (clock_getcpuclockid(3)), to the nanosecond:
    /proc/<pid>/stat has the same in hundredths of a second, and a round isn't long.

    Raises:
        OSError: there is no such process.
    """
    whole_process = 2  # CPUCLOCK_SCHED, without the flag for a single thread
    return time.clock_gettime((~pid << 3) | whole_process)


def parent(stat: str) -> int:
    """Return the parent's process id, by a line of /proc/<pid>/stat (proc(5)).

    The second field is a name in brackets that may hold anything.
    """
    return int(stat.rpartition(")")[2].split()[1])


def family(root: int, parents: Mapping[int, int]) -> set[int]:
    """Return a process with all that it has started, by each process's parent."""
    found = {root}
    while more := {pid for pid, above in parents.items() if above in found} - found:
        found |= more
    return found


def _stats() -> Iterator[tuple[int, str]]:
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue


class Process:
    """One process of ours, with its children."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self.popen = popen

    @property
    def pids(self) -> set[int]:
        """The process ids of it and of all that it has started."""
        return family(self.popen.pid, {pid: parent(stat) for pid, stat in _stats()})

    def processor_seconds(self) -> float:
        """Return the user and system time that they have used so far."""
        return sum(processor_seconds(pid) for pid in self.pids)

    def memory_bytes(self) -> int:
        """Return their memory: what each shares with others is divided among these (PSS)."""
        total = 0
        for pid in self.pids:
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total


def processors() -> tuple[set[int], set[int]]:
    """Return where gateways run, and where all else does: apart, if there are two processors."""
    usable = sorted(os.sched_getaffinity(0))
    return ({usable[0]}, set(usable[1:])) if len(usable) > 1 else (set(usable), set(usable))


def pinned(command: Sequence[str], on: Iterable[int]) -> list[str]:
    """Return the command so that it and all that it starts stay on these processors."""
    places = ",".join(map(str, sorted(on)))
    return ["taskset", "-c", places, *command] if places else list(command)


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    on: Iterable[int] = (),
    environ: Mapping[str, str] | None = None,
    log: Path,
    ports: Sequence[int] = (),
) -> Iterator[Process]:
    """Run a process until the block ends, on these processors; enter once it listens on all ports.

    Raises:
        DidNotStart: it ended or didn't listen within two minutes; with the end of its log.
    """
    with log.open("wb") as output:
        popen = subprocess.Popen(
            pinned([str(part) for part in command], on),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )
    try:
        for port in ports:
            if not listens(port, popen):
                said = log.read_text("utf-8", "replace")[-2000:]
                raise DidNotStart(f"{Path(command[0]).name} doesn't listen on {port}: {said}")
        yield Process(popen)
    finally:
        _stop(popen)


def _stop(popen: "subprocess.Popen[bytes]") -> None:
    if popen.poll() is None:
        popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(10)
        except subprocess.TimeoutExpired:
            popen.kill()
    popen.wait()


def listens(port: int, popen: "subprocess.Popen[bytes]", patience_seconds: float = 120) -> bool:
    """Wait until something accepts on the port; false if the process ends or the time is up."""
    until = time.monotonic() + patience_seconds
    while time.monotonic() < until and popen.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.03)
        else:
            return True
    return False


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
