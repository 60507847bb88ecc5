"""The source archive: whoever has it alone can run the tests."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_all_that_is_tracked_is_in_the_archive(tmp_path: Path) -> None:
    """The tests read the Makefile, the Dockerfile, the locks and the docs: all are there."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is such an archive")
    tracked = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], check=True, capture_output=True, text=True
    ).stdout.split("\0")
    subprocess.run(
        [Path(sys.executable).parent / "hatchling", "build", "-t", "sdist", "-d", tmp_path],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    [archive] = tmp_path.iterdir()
    with tarfile.open(archive) as files:
        held = {name.partition("/")[2] for name in files.getnames()}
    assert {name for name in tracked if name and (ROOT / name).exists()} - held == set()
