"""The reference settings can be had wherever the package is."""

import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from gateway.settings.reference import reference_settings

ROOT = Path(__file__).parent.parent.parent
FILE = (ROOT / "config" / "gateway.toml").read_text(encoding="utf-8")


def test_a_checkout_has_them() -> None:
    """They are the file that the repository shows."""
    assert reference_settings() == FILE


def test_a_wheel_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installed the package has no repository; the file is in it, and the code finds it."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    installed = tmp_path / "installed" / "gateway" / "settings"
    assert (installed / "gateway.toml").read_text(encoding="utf-8") == FILE
    monkeypatch.setattr("gateway.settings.reference._INSTALLED", installed / "gateway.toml")
    monkeypatch.setattr("gateway.settings.reference._CHECKED_OUT", Path("/nowhere"))
    assert tomllib.loads(reference_settings())["cache"] == tomllib.loads(FILE)["cache"]


def test_an_image_s_build_has_them() -> None:
    """The image is built of a wheel too, and nothing gets into its build that isn't let in."""
    copied = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = {name for line in copied for name in line.split()}
    let_in = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert "config/gateway.toml" in sources
    assert sources - let_in == set()
