"""``make`` on machines that lack something: what it says, and what it leaves behind."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile alone."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def make(checkout: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run ``make .venv/.made`` with a shell script in Python's place."""
    script = checkout / "python"
    script.write_text(f"#!/bin/sh\n{python}\n")
    script.chmod(0o755)
    # Not told of a make that runs these tests.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", f"PYTHON={script}", ".venv/.made"],
        check=False,
        cwd=checkout,
        env=environ,
        capture_output=True,
        text=True,
    )


WITHOUT_PIP = """
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && exit 1;;
  "-m pip --version") exit 1;;
esac
"""


def test_half_an_environment_is_removed(checkout: Path) -> None:
    """Without Debian's python3-venv, a folder without pip is left: it goes."""
    made = make(checkout, WITHOUT_PIP)
    assert made.returncode != 0
    assert "apt-get install python3-venv" in made.stderr
    assert not (checkout / ".venv").exists()


def test_half_an_environment_from_before_is_made_anew(checkout: Path) -> None:
    """What an earlier try left behind doesn't break the next one."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    left = checkout / ".venv" / "bin" / "python"
    left.write_text("#!/bin/sh\nexit 1\n")
    left.chmod(0o755)
    made = make(
        checkout, '[ "$*" = "-m venv .venv" ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python; :'
    )
    assert made.returncode == 0
    assert (checkout / ".venv" / ".made").exists()


def test_an_environment_that_works_is_kept(checkout: Path) -> None:
    """One that somebody made by hand is used as it is."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    own = checkout / ".venv" / "bin" / "python"
    own.write_text("#!/bin/sh\nexit 0\n")
    own.chmod(0o755)
    made = make(checkout, '[ "$1" = "-c" ]')
    assert made.returncode == 0
    assert own.read_text() == "#!/bin/sh\nexit 0\n"


def test_an_old_python_is_told_of(checkout: Path) -> None:
    """Python 3.10 ends it before anything is made."""
    made = make(checkout, "exit 1")
    assert made.returncode != 0
    assert "Python 3.11 or later is needed" in made.stderr
    assert not (checkout / ".venv").exists()
