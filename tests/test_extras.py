"""Advice that works where the gateway is installed, and names nothing that isn't ours."""

import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from gateway.extras import DISTRIBUTION, how_to_install

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("extra", ["demo", "loadtest", "uvloop"])
def test_the_advice_is_what_the_extra_needs(extra: str) -> None:
    """Each requirement of the extra that holds here, and no other."""
    expected = {
        need.name
        for text in metadata.requires(DISTRIBUTION) or []
        if (need := Requirement(text)).marker is not None
        and need.marker.evaluate({"extra": extra})
        and not need.marker.evaluate({"extra": ""})
    }
    command, *rest = shlex.split(how_to_install(extra))
    assert (command, rest[0]) == ("pip", "install")
    assert {Requirement(argument).name for argument in rest[1:]} == expected


def test_where_the_package_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkout on the path, its own extra is what can be installed."""

    def nothing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", nothing)
    assert how_to_install("demo") == "pip install '.[demo]'"


def test_nobody_is_told_to_install_this_project_by_name() -> None:
    """The name isn't ours on any index: whoever takes it there would be installed."""
    places = [ROOT / "README.md", *(ROOT / "gateway").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    advice = re.compile(rf"pip install [^\n]*\b{DISTRIBUTION}\b(?!@)")
    assert [str(path) for path in places if advice.search(path.read_text("utf-8"))] == []
