"""The checks before a commit."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent


def test_pre_commit_takes_the_file() -> None:
    """The file is what pre-commit expects."""
    checked = subprocess.run(
        [TOOLS / "pre-commit", "validate-config", ".pre-commit-config.yaml"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_hooks_are_tools_of_the_lock() -> None:
    """Every hook is local and runs a tool of the development environment: nothing is fetched."""
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {"system"} == {hook["language"] for hook in hooks}
    programs = [Path(hook["entry"].split()[0]) for hook in hooks]
    assert {Path(".venv/bin")} == {program.parent for program in programs}
    assert [program.name for program in programs if not (TOOLS / program.name).exists()] == []
