"""Settings from where people write them: file < environment < flags.

A variable is ours when its name begins with ``GATEWAY_`` and holds ``__``
(``GATEWAY_CACHE__MAX_AGE``), or is ``GATEWAY_ROUTES``. Others are left alone: Kubernetes sets
``GATEWAY_PORT`` and its like in every pod beside a Service called "gateway".
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.errors import SettingsError
from gateway.settings.checks import missing_packages, missing_parts, unusable_files
from gateway.settings.faults import fault, faults_of, unknown
from gateway.settings.fields import FIELDS, SettingField
from gateway.settings.model import Settings
from gateway.settings.sections import Admin

_VARIABLES = {field.variable: field for field in FIELDS.values()}
_SECRET_FILES = {f"{name}_FILE": field for name, field in _VARIABLES.items() if field.secret}


def load_settings(
    config: Path | None, *, environ: Mapping[str, str], flags: Mapping[str, object]
) -> Settings:
    """Return the settings of a file, the environment and the command line, checked as a whole.

    ``flags`` are by dotted name (``listen.port``); strings in them are read as those of the
    environment are.

    Raises:
        SettingsError: with one line for each fault.
    """
    given = Given(config, environ, flags)
    try:
        settings = Settings.model_validate(given.values)
    except ValidationError as error:
        raise SettingsError(*given.faults, *faults_of(error, given.origins)) from None
    faults = given.faults or [
        *missing_parts(settings, given.origins),
        *missing_packages(settings, given.origins),
        *unusable_files(settings, given.origins),
    ]
    if faults:
        raise SettingsError(*faults)
    return settings


def load_admin(config: Path | None, *, environ: Mapping[str, str]) -> Admin:
    """Return only where the admin port is, whatever else is wrong with the settings.

    For a health check: a gateway goes on with the settings it started with when its file has
    been edited badly, and must not be killed for it.

    Raises:
        SettingsError: the file can't be read, or what it says of ``admin`` is wrong.
    """
    given = Given(config, environ, {})
    try:
        return Admin.model_validate(given.values.get("admin", {}))
    except ValidationError as error:
        raise SettingsError(*faults_of(error, given.origins, within=("admin",))) from None


def misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that would be a setting's if its underscores were two.

    Not for ``GATEWAY_ADMIN_PORT = tcp://10.0.0.1:9090``, which Kubernetes sets.
    """
    meant = {name.replace("_", ""): name for name in (*_VARIABLES, *_SECRET_FILES)}
    for name, value in sorted(environ.items()):
        right = meant.get(name.upper().replace("_", ""))
        taken = name.startswith("GATEWAY_") and (name == right or "__" in name)
        if right is not None and not taken and not re.match(r"(tcp|udp|sctp)://", value):
            yield f"{name} is ignored: the variable of that setting is {right}"


class Given:
    """The values given by all sources, merged, with where each came from.

    Raises:
        SettingsError: the file can't be read at all.
    """

    def __init__(
        self, config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]
    ) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.faults: list[str] = []
        if config is not None:
            self._take_file(config)
        self._take_environment(environ)
        self._take_flags(flags)

    def _take_file(self, config: Path) -> None:
        self.values = read_file(config)
        self.origins = dict.fromkeys(self.values, str(config))

    def _take_environment(self, environ: Mapping[str, str]) -> None:
        for name, text in sorted(environ.items()):
            if field := _VARIABLES.get(name):
                if not (text and environ.get(f"{name}_FILE")) or not field.secret:
                    self._take(field, text, name)
                else:
                    both = f"{name} and {name}_FILE"
                    self._refuse(field, text, both, "only one of the two is allowed")
            elif field := _SECRET_FILES.get(name):
                if text and not environ.get(name.removesuffix("_FILE")):
                    self._take_secret(field, Path(text), name)
            elif name.startswith("GATEWAY_") and "__" in name:
                self.faults.append(unknown(name, "environment", [*_VARIABLES, *_SECRET_FILES]))

    def _take_secret(self, field: SettingField, path: Path, name: str) -> None:
        try:
            secret = re.sub(r"\r?\n\Z", "", path.read_text())
        except (OSError, ValueError) as error:
            self.faults.append(f"{name} = {json.dumps(str(path))} (environment): {_reason(error)}")
            return
        if secret:
            self._take(field, secret, name)
        else:
            self.faults.append(f"{name} = {json.dumps(str(path))} (environment): it is empty")

    def _take_flags(self, flags: Mapping[str, object]) -> None:
        for name, value in flags.items():
            if value is None:
                continue
            if field := FIELDS.get(name):
                self._take(field, value, "command line")
            else:
                self.faults.append(unknown(name, "command line", FIELDS))

    def _take(self, field: SettingField, value: object, origin: str) -> None:
        """Set a value over what earlier sources said."""
        try:
            value = field.from_text(value) if isinstance(value, str) else value
        except ValueError as error:
            self._refuse(field, value, origin, str(error))
            return
        section, _, name = field.name.rpartition(".")
        table = self.values.setdefault(section, {}) if section else self.values
        if isinstance(table, dict):  # else the file has it wrong, and that is said
            table[name] = value
            self.origins[field.name] = origin

    def _refuse(self, field: SettingField, value: object, origin: str, allowed: str) -> None:
        self.faults.append(fault(tuple(field.name.split(".")), value, origin, allowed))


def read_file(config: Path) -> dict[str, Any]:
    """Return the tables of a settings file.

    Raises:
        SettingsError: it can't be read or isn't TOML; with the line, never with what is in it.
    """
    text = ""
    try:
        text = config.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config}: {_syntax_fault(str(error), text)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{config}: {_reason(error)}") from None


def _syntax_fault(message: str, text: str) -> str:
    """Return what is wrong with a text that isn't TOML, naming a setting that stands twice."""
    if found := re.fullmatch(r"Cannot overwrite a value \(at (line (\d+), .*)\)", message):
        line = text.splitlines()[int(found[2]) - 1]
        name = re.match(r"\s*([\w.-]+)\s*=", line)
        return f"{name[1] if name else 'a setting'} is set twice (at {found[1]})"
    if found := re.fullmatch(r"Cannot declare \((.*?),?\) twice (.*)", message):
        table = found[1].replace("'", "").replace(", ", ".")
        return f"the table [{table}] stands twice {found[2]}"
    return f"not TOML: {message}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"can't be read: {(error.strerror or 'unknown error').lower()}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text, at byte {error.start}"
    return "can't be read"
