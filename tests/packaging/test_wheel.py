"""The wheel that the image installs, built from the image's build context."""

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
CONTEXT = ("gateway", "pyproject.toml", "README.md", "LICENSE")
REFERENCE = "config/gateway.toml"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The project's wheel, built by the Dockerfile's command from what the Dockerfile copies.

    And from a test, which a build outside of a container would find there too.
    """
    context = tmp_path_factory.mktemp("context")
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name)
        else:
            shutil.copy(source, context / name)
    (context / "config").mkdir()
    shutil.copy(ROOT / REFERENCE, context / REFERENCE)
    (context / "tests").mkdir()
    (context / "tests" / "test_stray.py").touch()
    subprocess.run(
        [TOOLS / "hatchling", "build", "--target", "wheel", "--directory", "dist"],
        cwd=context,
        check=True,
        capture_output=True,
    )
    [built] = (context / "dist").iterdir()
    return zipfile.Path(built)


def metadata(wheel: zipfile.Path, name: str) -> str:
    [folder] = [path for path in wheel.iterdir() if path.name.endswith(".dist-info")]
    return (folder / name).read_text(encoding="utf-8")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.Path) -> None:
    """Every file of the package is in the wheel, with py.typed; no test, no bytecode."""
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gateway").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {
        name
        for name in wheel.root.namelist()
        if ".dist-info/" not in name and not name.endswith("/")
    }
    assert "gateway/py.typed" in held
    assert package | {"gateway/settings/gateway.toml"} == held


def test_the_wheel_says_what_it_is(wheel: zipfile.Path) -> None:
    """Name, licence, Python version and the licence's text are in the metadata."""
    told: Message = Parser().parsestr(metadata(wheel, "METADATA"))
    expected = {
        "Name": "revocation-gateway",
        "License-Expression": "Apache-2.0",
        "License-File": "LICENSE",
        "Requires-Python": ">=3.11",
        "Provides-Extra": "demo",
    }
    assert expected == {name: told[name] for name in expected}
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")


def test_the_wheel_brings_the_command(wheel: zipfile.Path) -> None:
    """Installing the wheel makes a command named gateway."""
    assert metadata(wheel, "entry_points.txt").split("\n") == [
        "[console_scripts]",
        "gateway = gateway.cli:main",
        "",
    ]


def test_the_wheel_runs(wheel: zipfile.Path, tmp_path: Path) -> None:
    """The command of the wheel, unpacked away from the sources, tells its version."""
    wheel.root.extractall(tmp_path)
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from gateway.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", script, tmp_path, "--version"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "0.1.0" in ran.stdout
