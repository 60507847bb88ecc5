"""Every setting by its dotted name, and how each is written where all there is are strings."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, SecretStr

from gateway.settings.model import Settings
from gateway.settings.sections import RouteSettings

_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class SettingField:
    """A setting: its dotted name, its meaning, and what its type says of it."""

    name: str
    kind: type
    optional: bool
    default: Any
    description: str

    @property
    def secret(self) -> bool:
        """Whether the value may be shown only masked."""
        return self.kind is SecretStr

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "GATEWAY_" + self.name.upper().replace(".", "__")

    def from_text(self, text: str) -> Any:
        """Return what ``text``, from the environment or the command line, stands for.

        What isn't understood stays a string, for the type to refuse.

        Raises:
            ValueError: a list that begins as JSON and isn't.
        """
        value: Any = text
        if self.optional and not text:
            value = None
        elif self.kind is bool:
            value = _TRUTHS.get(text.lower(), text)
        elif self.kind is int and re.fullmatch(r"-?[0-9]{1,18}", text):
            value = int(text)
        elif self.kind is tuple and (self.name == "routes" or text.lstrip()[:1] in {"[", "{"}):
            value = _parse_json(text or "[]")
        elif self.kind is tuple:
            value = [item.strip() for item in text.split(",") if item.strip()]
        return value


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"a list in JSON is allowed; {where}: {error.msg}") from None
    except RecursionError:
        raise ValueError("a list in JSON is allowed, not one this deep") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a list in JSON is allowed, without an object that has a member twice")
    return members


def _kind(annotation: Any) -> tuple[type, bool]:
    """Return the plain type of an annotation, and whether it may be ``None``."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _kind(arguments[0])
    if NoneType in arguments:
        (other,) = (argument for argument in arguments if argument is not NoneType)
        return _kind(other)[0], True
    origin = get_origin(annotation) or annotation
    return origin if isinstance(origin, type) else str, False  # a Literal is written as a string


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[SettingField]:
    """Yield the settings of a model in order, sections unfolded."""
    for name, info in model.model_fields.items():
        kind, optional = _kind(info.annotation)
        if issubclass(kind, BaseModel):
            yield from fields_of(kind, f"{prefix}{name}.")
        else:
            description = info.description or ""
            yield SettingField(prefix + name, kind, optional, info.default, description)


FIELDS: Final[Mapping[str, SettingField]] = {field.name: field for field in fields_of(Settings)}
"""All settings but those within a route, which a route's table or JSON object holds."""

ROUTE_FIELDS: Final[Mapping[str, SettingField]] = {
    field.name: field for field in fields_of(RouteSettings)
}
