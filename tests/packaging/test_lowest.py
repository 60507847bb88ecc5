"""``make test-matrix`` runs the tests with the lowest aiohttp that may be installed."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_lowest_aiohttp_is_tested() -> None:
    """Whoever raises what the package needs has the lock made anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (lowest,) = [
        found[1]
        for need in project["dependencies"]
        if (found := re.match(r"aiohttp>=([\d.]+)", need))
    ]
    pinned = (ROOT / "requirements" / "lowest.txt").read_text("utf-8")
    assert pinned.startswith(f"aiohttp=={lowest} ")
    assert pinned.count("==") == 1
