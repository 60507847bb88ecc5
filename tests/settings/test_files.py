"""The settings files of the repository say what the model says."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from gateway.demo import DemoOptions
from gateway.demo.stack import demo_settings
from gateway.settings import RouteSettings, Settings, changed_settings, load_settings
from gateway.settings.fields import FIELDS, ROUTE_FIELDS
from gateway.settings.sections import Section

CONFIG = Path(__file__).parents[2] / "config"
TEXT = (CONFIG / "gateway.toml").read_text()
SECTIONS = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}


def commented_out() -> dict[str, str]:
    """Return, by dotted name, the lines `# name = value` outside of the example routes."""
    section, found = "", {}
    for line in TEXT.splitlines():
        if header := re.match(r"(?:# )?\[+(\w+)\]", line):
            section = header[1]
        elif (setting := re.match(r"# (\w+) = (.+)", line)) and section != "routes":
            found[f"{section}.{setting[1]}"] = f"{setting[1]} = {setting[2]}"
    return found


def field(name: str) -> FieldInfo:
    """Return the model's field of a dotted name."""
    section, _, own = name.partition(".")
    return SECTIONS[section].model_fields[own]


def test_every_setting_is_in_the_file() -> None:
    """Set where it has a default, commented out where it has none; and nothing else is."""
    read = tomllib.loads(TEXT)
    given = {f"{section}.{name}" for section, table in read.items() for name in table}
    optional = {name for name, field in FIELDS.items() if field.optional}
    assert set(commented_out()) == optional
    assert given == set(FIELDS) - optional - {"routes"}


def test_what_the_file_sets_is_the_default(pytestconfig: pytest.Config) -> None:
    """Starting without the file is starting with it."""
    if pytestconfig.getoption("--fast-lane") == "off":
        pytest.skip("this run has another default")
    assert Settings.model_validate(tomllib.loads(TEXT)) == Settings()


@pytest.mark.parametrize(("name", "line"), commented_out().items())
def test_what_is_commented_out_would_be_taken(name: str, line: str) -> None:
    """Each example is a right value of its setting."""
    info = field(name)
    ((_, value),) = tomllib.loads(line).items()
    TypeAdapter[Any](info.rebuild_annotation()).validate_python(value)


def test_the_example_routes_would_be_taken() -> None:
    """The first has every setting of a route."""
    lines = TEXT[TEXT.index("# [[routes]]") :].partition("\n\n")[0].splitlines()
    routes = tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
    settings = Settings.model_validate(routes)
    assert len(settings.routes) == 2
    assert set(routes["routes"][0]) == set(ROUTE_FIELDS)
    assert set(RouteSettings.model_fields) == set(ROUTE_FIELDS)


def test_comments_name_only_settings_that_exist() -> None:
    """As section.name, or as a variable of the environment."""
    comments = "\n".join(re.findall("#.*", TEXT))
    sections = "|".join(SECTIONS)
    named = set(re.findall(rf"\b(?:{sections})\.\w+", comments))
    variables = {field.variable for field in FIELDS.values()}
    written = {name.removesuffix("_FILE") for name in re.findall(r"GATEWAY_\w+", comments)}
    assert "cache.max_age" in named
    assert named <= {*FIELDS}
    assert written <= variables


def test_the_demos_file_is_what_the_demo_serves() -> None:
    """But for the admin token, TLS, which needs the demo's own certificate, and how it logs."""
    served = demo_settings(
        DemoOptions(store="redis://127.0.0.1:6379/0"),
        backend_url="http://127.0.0.1:9000",
        key_manager_url="http://127.0.0.1:9763",
    )
    written = load_settings(CONFIG / "demo.toml", environ={}, flags={})
    assert changed_settings(served, written) == ["admin.token", "logging.level", "logging.format"]
