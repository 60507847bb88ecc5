"""The reference settings can be had wherever the package is."""

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
