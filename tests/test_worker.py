"""The process of a worker, before it serves; what it does then is in ``test_supervisor.py``."""

import subprocess

from gateway.worker_process import COMMAND


def test_without_a_supervisor_it_ends() -> None:
    """Nothing on standard input is a supervisor that ended before it could say anything."""
    run = subprocess.run(
        COMMAND, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30
    )
    assert (run.returncode, run.stderr) == (1, b"")
