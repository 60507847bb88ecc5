"""What is wrong with settings, said in one line each: name, value, origin, what is allowed.

A secret's value is masked, and so is the password of any URL. The value of a setting that
doesn't exist isn't shown: it may be a misspelt secret.
"""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from gateway.settings.fields import FIELDS, ROUTE_FIELDS
from gateway.settings.model import Settings
from gateway.settings.store_url import mask_url
from gateway.settings.types import Conflict, Place

_LONGEST = 100

_ALLOWED = {
    "string_type": "a string is allowed",
    "string_too_short": "a string that isn't empty is allowed",
    "too_short": "a string that isn't empty is allowed",  # a secret's
    "string_unicode": "Unicode text is allowed",
    "bool_type": "true or false is allowed",
    "tuple_type": "a list is allowed",
    "model_type": "a table is allowed",
    "literal_error": "{expected} is allowed",
}


def dotted(place: Place) -> str:
    """Write a place as people do: ``routes[0].path``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def fault(place: Place, value: Any, origin: str, allowed: str) -> str:
    """Return the line that says what is wrong with a setting."""
    return f"{dotted(place)} = {shown(place, value)} ({origin}): {allowed}"


def shown(place: Place, value: Any) -> str:
    """Return a value as a fault shows it: on one line, not too long, secrets masked."""
    field = FIELDS.get(".".join(str(step) for step in place[:2]))
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if field is not None and field.secret:
        is_url = field.name == "store.url" and isinstance(value, str)
        text = json.dumps(mask_url(value) if is_url else "***")
    elif len(place) == 1 and field is None:
        text = json.dumps("***")  # a section that isn't a table: there is no saying what it is
    elif isinstance(value, str) and "://" in value:
        text = json.dumps(mask_url(value))
    else:
        text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def unknown(name: str, origin: str, names: Iterable[str]) -> str:
    """Return the line for a setting that doesn't exist, with the likeliest that does."""
    meant = _likeliest(name, names)
    hint = f"; did you mean {meant}?" if meant else ""
    return f"{name} ({origin}): there is no such setting{hint}"


def _likeliest(name: str, names: Iterable[str]) -> str | None:
    """Return the name nearest in spelling, of those that end alike first."""
    plain = _plain(name)
    known = {_plain(other): other for other in names}
    for other, as_written in known.items():
        if plain.startswith(f"{other}."):  # GATEWAY_ROUTES__0__PATH
            return as_written
    alike = [other for other in known if other.endswith("." + plain.rpartition(".")[2])]
    found = get_close_matches(plain, alike or known, n=1, cutoff=0.5 if alike else 0.7)
    return known[found[0]] if found else None


def _plain(name: str) -> str:
    return name.removeprefix("GATEWAY_").replace("__", ".").lower()


def faults_of(
    error: ValidationError, origins: Mapping[str, str], *, within: Place = ()
) -> list[str]:
    """Return a line for each thing that pydantic found.

    ``origins`` are by dotted name; ``within`` is where the model that was validated stands.
    """
    lines: list[str] = []
    for found in error.errors(include_url=False):
        place, value = (*within, *found["loc"]), found["input"]
        context = found.get("ctx", {})
        if isinstance(conflict := context.get("error"), Conflict):
            for steps, allowed in conflict.faults:
                whole = (*place, *steps)
                if (given := _at(value, steps)) is not None:
                    lines.append(fault(whole, given, origin_of(whole, origins), allowed))
                else:
                    default = FIELDS[dotted(whole)].default
                    lines.append(fault(whole, default, "default", allowed))
            continue
        origin = origin_of(place, origins)
        if found["type"] == "extra_forbidden":
            lines.append(unknown(dotted(place), origin, _siblings(place)))
        elif found["type"] == "missing":
            meaning = ROUTE_FIELDS[str(place[-1])].description
            lines.append(f"{dotted(place)} ({origin}): a value is needed. {meaning}")
        elif found["type"] == "value_error":
            lines.append(fault(place, value, origin, str(context["error"])))
        else:
            template = _ALLOWED.get(found["type"], found["msg"])
            expected = str(context.get("expected", "")).replace("'", '"')
            lines.append(fault(place, value, origin, template.format(expected=expected)))
    return lines


def origin_of(place: Place, origins: Mapping[str, str]) -> str:
    """Return where a value came from: as given for itself, or for the list or table it is in."""
    for length in range(len(place), 0, -1):
        if origin := origins.get(".".join(str(step) for step in place[:length])):
            return origin
    return "default"


def _siblings(place: Place) -> list[str]:
    """Return the names that one may have meant who wrote ``path``."""
    if place[0] == "routes":
        return [dotted((*place[:-1], name)) for name in ROUTE_FIELDS]
    return [*Settings.model_fields, *FIELDS] if len(place) == 1 else list(FIELDS)


def _at(value: Any, steps: Place) -> Any:
    """Return what was given ``steps`` down from a value; ``None`` where nothing was."""
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list | tuple) and isinstance(step, int):
            value = value[step]
    return value
