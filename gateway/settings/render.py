"""Settings as text: what ``gateway check-config`` prints, and what a reload changed."""

from typing import Any

import tomli_w
from pydantic import BaseModel, SecretStr

from gateway.settings.fields import FIELDS
from gateway.settings.model import Settings
from gateway.settings.sections import Section
from gateway.settings.store_url import mask_url


def render_settings(settings: Settings) -> str:
    """Return the settings in effect as a settings file, secrets masked, unset ones as comments."""
    tables = []
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, Section):
            tables.append(f"[{name}]\n{_table(value)}")
        else:
            tables += [f"[[{name}]]\n{_table(item)}" for item in value] or [f"# no [[{name}]]\n"]
    return "\n".join(tables)


def _table(section: BaseModel) -> str:
    lines = []
    dumped = section.model_dump(mode="json")
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, SecretStr):
            dumped[name] = mask_url(value.get_secret_value())
        if value is None:
            lines.append(f"# {name} is not set\n")
        elif isinstance(value, tuple):  # tomli_w would give each item a line
            items = ", ".join(_literal(item) for item in dumped[name])
            lines.append(f"{name} = [{items}]\n")
        else:
            lines.append(f"{name} = {_literal(dumped[name])}\n")
    return "".join(lines)


def _literal(value: Any) -> str:
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """Return the dotted names of the settings that differ; ``routes`` counts as one."""
    return [name for name in FIELDS if _value(old, name) != _value(new, name)]


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for step in name.split("."):
        value = getattr(value, step)
    return value
