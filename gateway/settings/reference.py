"""The reference settings: every setting with its default and meaning, as a commented file.

In an installed package it lies beside this module; in a checkout it is ``config/gateway.toml``.
"""

from pathlib import Path

_INSTALLED = Path(__file__).with_name("gateway.toml")
_CHECKED_OUT = Path(__file__).parents[2] / "config" / "gateway.toml"


def reference_settings() -> str:
    """Return the text of the file."""
    file = _INSTALLED if _INSTALLED.exists() else _CHECKED_OUT
    return file.read_text(encoding="utf-8")
