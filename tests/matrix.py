"""The tests on each supported Python that this machine has, with the other end of what may vary.

``make test`` runs them on one Python, with the newest of everything. Each other Python that is
found takes one of the variants here; what is left of these is run on this Python. What was run is
said at the end.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis_server import choose_program

ROOT = Path(__file__).parent.parent
AXE = ROOT / "requirements" / "axe.txt"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
ONCE = (
    *("tests/packaging", "tests/test_dashboards.py", "tests/test_house.py", "tests/test_readme.py"),
    *("tests/admin/test_live_page.py", "tests/keymanager/test_grants_browser.py"),
    *("tests/loadtest/test_report_browser.py", "tests/loadtest/test_report_picture.py"),
)
"""What packages, pages, browsers and pictures show, which is the same in all variants."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run the tests."""

    name: str
    options: tuple[str, ...]
    lowest: bool = False


VARIANTS = (
    Variant(
        "lowest aiohttp, asyncio's event loop, the oldest Redis",
        # With "=": a path on its own would be taken for tests before the option is known.
        ("--event-loop=asyncio", f"--redis-server={choose_program('oldest').path}"),
        lowest=True,
    ),
    Variant("no fast lane, Valkey", ("--fast-lane=off", "--redis-server=valkey")),
)


def pythons() -> Iterator[tuple[str, Path]]:
    """Yield the other supported Pythons of this machine: from the path, else from pyenv."""
    for version in SUPPORTED:
        if version == sys.version_info[:2]:
            continue
        name = ".".join(map(str, version))
        places = [shutil.which(f"python{name}")]
        if (pyenv := shutil.which("pyenv")) is not None:
            root = subprocess.run(
                [pyenv, "root"], check=True, capture_output=True, text=True
            ).stdout.strip()
            places += sorted(
                str(path) for path in Path(root, "versions").glob(f"{name}.*/bin/python")
            )
        for place in filter(None, places):
            if _is(place, name):
                yield name, Path(place)
                break


def _is(place: str, name: str) -> bool:
    """Whether a program is this Python: a shim of pyenv may stand for one that isn't chosen."""
    asked = subprocess.run(
        [place, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"],
        check=False,
        capture_output=True,
        text=True,
    )
    return asked.stdout.strip() == name


def environment(name: str, python: Path) -> Path:
    """Return the Python of an environment in build/ with all that the tests need; make it once."""
    folder = ROOT / "build" / f"python{name}"
    made = folder / ".made"
    lock = ROOT / "requirements" / "dev.txt"
    if not made.exists() or made.stat().st_mtime < lock.stat().st_mtime:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", folder], check=True)
        _install(folder / "bin" / "python", "--require-hashes", "-r", str(lock))
        _install(folder / "bin" / "python", "--require-hashes", "--no-deps", "-r", str(AXE))
        _install(
            folder / "bin" / "python", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)
        )
        made.touch()
    return folder / "bin" / "python"


def lowest_aiohttp(name: str, python: Path) -> Path:
    """Return a folder with the lowest aiohttp, to be put before what is installed."""
    folder = ROOT / "build" / f"lowest{name}"
    lock = ROOT / "requirements" / "lowest.txt"
    made = folder / ".made"
    if not made.exists() or made.stat().st_mtime < lock.stat().st_mtime:
        shutil.rmtree(folder, ignore_errors=True)
        _install(python, "--no-deps", "--require-hashes", "--target", str(folder), "-r", str(lock))
        made.touch()
    return folder


def _install(python: Path, *arguments: str) -> None:
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-compile", *arguments], check=True)


def cells() -> Iterator[tuple[str, Path, Variant]]:
    """Yield which Python runs which variant."""
    own = (".".join(map(str, sys.version_info[:2])), Path(sys.executable))
    others = [(name, environment(name, python)) for name, python in pythons()]
    for place, variant in enumerate(VARIANTS):
        yield *(others[place] if place < len(others) else own), variant


def run(name: str, python: Path, variant: Variant, arguments: Sequence[str]) -> int:
    environ = dict(os.environ)
    if variant.lowest:
        environ["PYTHONPATH"] = str(lowest_aiohttp(name, python))
    command = [str(python), "-m", "pytest", "--numprocesses", "auto", "-m", "not once"]
    command += [f"--ignore={path}" for path in ONCE]
    command += [*variant.options, *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, env=environ).returncode


def main() -> None:
    ran = []
    for name, python, variant in cells():
        sys.stdout.write(f"== Python {name}: {variant.name}\n")
        sys.stdout.flush()
        code = run(name, python, variant, sys.argv[1:])
        ran.append(f"Python {name}, {variant.name}: {'passed' if code == 0 else 'FAILED'}")
        if code != 0:
            break
    sys.stdout.write("\n".join(ran) + "\n")
    sys.exit(any(line.endswith("FAILED") for line in ran))


if __name__ == "__main__":
    main()
