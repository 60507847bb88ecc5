"""The Dockerfile and the build context, as far as they can be checked without building."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent

Instruction = tuple[str, str]


def stages(dockerfile: str) -> list[list[Instruction]]:
    """Return what stands before the first FROM, then each stage, as (keyword, rest)."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[Instruction]] = [[]]
    for line in text.splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            found.append([])
        if keyword:
            found[-1].append((keyword, " ".join(rest.split())))
    return found


def values(stage: list[Instruction], keyword: str) -> list[str]:
    return [rest for name, rest in stage if name == keyword]


GLOBAL, BUILD, FINAL = stages((ROOT / "Dockerfile").read_text())
COPIED = [source for rest in values(BUILD, "COPY") for source in rest.split()[:-1]]


def test_hadolint_has_nothing_to_say() -> None:
    """The Dockerfile passes hadolint."""
    linted = subprocess.run(
        [TOOLS / "hadolint", "--no-color", ROOT / "Dockerfile"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_both_stages_have_one_base_of_one_patch_release() -> None:
    """The environment's interpreter links lead to the same Python in the final stage."""
    assert [values(stage, "FROM")[0].split()[0] for stage in (BUILD, FINAL)] == [
        "${PYTHON_IMAGE}",
        "${PYTHON_IMAGE}",
    ]
    [default] = values(GLOBAL, "ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-[a-z]+", default)


@pytest.mark.parametrize("source", COPIED)
def test_what_is_copied_is_committed(source: str) -> None:
    """A fresh clone has each path that the image is built from."""
    listed = subprocess.run(
        ["git", "ls-files", "--", source], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert listed.stdout, f"{source} is not in git"


def test_the_build_context_is_what_is_copied() -> None:
    """The ignore file keeps everything out but the sources of COPY; bytecode stays out of those."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns == ["*", *patterns[1:-1], "**/__pycache__"]
    assert {f"!{source}" for source in COPIED} == set(patterns[1:-1])


def test_every_download_is_pinned_by_hash() -> None:
    """Each pip install checks hashes, or takes the project's own wheel without an index."""
    installs = [
        step
        for run in values(BUILD, "RUN")
        for step in run.split(" && ")
        if re.search(r"\bpip\b.*\binstall\b", step)
    ]
    unpinned = [
        step
        for step in installs
        if not {"--require-hashes", "--only-binary"} <= set(step.split())
        and not {"--no-index", "--no-deps"} <= set(step.split())
    ]
    assert len(installs) == 3
    assert unpinned == []


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("ENTRYPOINT", ["gateway"]),
        ("CMD", ["serve"]),
        ("USER", "10001:10001"),
        ("STOPSIGNAL", "SIGTERM"),
        ("EXPOSE", "8080 9090"),
        ("COPY", "--from=build /opt/gateway /opt/gateway"),
        ("RUN", None),
    ],
)
def test_the_final_stage(keyword: str, expected: object) -> None:
    """The image runs one program, in exec form, as a numbered user, with nothing but its files."""
    found = values(FINAL, keyword)
    last = found[-1] if found else None
    assert (json.loads(last) if last and last.startswith("[") else last) == expected


def test_the_health_check_is_the_command_in_exec_form() -> None:
    """Docker asks ``gateway healthcheck``, without a shell between."""
    [check] = values(FINAL, "HEALTHCHECK")
    assert json.loads(check.partition(" CMD ")[2]) == ["gateway", "healthcheck"]


def test_labels_agree_with_the_package() -> None:
    """Title, description, licence and default version of the image are the package's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(
        re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', values(FINAL, "LABEL")[0])
    )
    defaults = dict(argument.split("=", 1) for argument in values(FINAL, "ARG"))
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
        "version": "${VERSION}",
        "revision": "${REVISION}",
        "source": "${SOURCE}",
    }
    assert defaults == {"VERSION": project["version"], "REVISION": "", "SOURCE": ""}
