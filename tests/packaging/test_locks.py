"""The locks install with each pip that is promised, and ``make lock`` makes them so."""

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLDEST_PIP = "23.0.1" if sys.version_info < (3, 12) else "23.2.1"
"""That of Debian 12; pip before 23.1.2 doesn't run on Python 3.12."""


@cache
def lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")


def test_the_lowest_aiohttp_is_tested() -> None:
    """Whoever raises what the package needs has the lock made anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (lowest,) = [
        found[1]
        for need in project["dependencies"]
        if (found := re.match(r"aiohttp>=([\d.]+)", need))
    ]
    assert lock("lowest").startswith(f"aiohttp=={lowest} ")
    assert lock("lowest").count("==") == 1


@pytest.mark.parametrize("name", ["axe", "bench", "build", "dev", "lowest", "run"])
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    """Each requirement is pinned by version and hashes; where they come from is the user's."""
    pinned = [line for line in lock(name).splitlines() if line and line[0] not in " #"]
    assert [line for line in pinned if not re.match(r"[\w.-]+(\[[\w,]+\])?==\S+ ", line)] == []
    assert lock(name).count("\n    --hash=sha256:") >= len(pinned)
    assert "://" not in lock(name)


@pytest.fixture(scope="module", params=[OLDEST_PIP, "newest"])
def pip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pip, which came from the same index as all else."""
    folder = tmp_path_factory.mktemp("pip")
    wanted = "pip" if request.param == "newest" else f"pip=={request.param}"
    run = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    got = subprocess.run(
        [*run, "--no-compile", "--no-deps", "--target", folder, wanted],
        check=False,
        capture_output=True,
        text=True,
    )
    if got.returncode != 0:
        pytest.skip(f"no {wanted} to be had: {got.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.once("each Python of make test-matrix installs its lock anyway")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "arguments",
    [
        ("-r", "requirements/dev.txt"),
        ("-r", "requirements/run.txt", "-r", "requirements/build.txt"),
        ("-r", "requirements/bench.txt"),
        ("--no-deps", "-r", "requirements/lowest.txt"),
        ("--no-deps", "-r", "requirements/axe.txt"),
    ],
    ids=lambda arguments: arguments[-1].rpartition("/")[2],
)
def test_a_pip_without_extras_in_hash_mode_takes_the_locks(
    pip: Path, arguments: tuple[str, ...]
) -> None:
    """Before 23.3, pip asks for ``coverage[toml]`` in the lock where a package needs it so."""
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    resolved = subprocess.run(
        [*install, "--dry-run", "--ignore-installed", "--require-hashes", *arguments],
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(pip), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert "ERROR" not in resolved.stderr
    assert resolved.returncode == 0
