"""README.md does what it says: its commands run, its settings load, its story is the real one."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from processes import GATEWAY
from redis_server import free_port

from gateway.settings import load_settings

ROOT = Path(__file__).parent.parent
STAND_IN = Path(__file__).parent / "demo" / "curl.py"
README = (ROOT / "README.md").read_text()
PAGES = [page.relative_to(ROOT) for page in (ROOT / "docs").glob("*.md")]


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
async def ports() -> AsyncIterator[dict[str, str]]:
    """The ports of a running ``gateway demo``, by the ports that README.md names."""
    flags = {
        "--port": "8080",
        "--tls-port": "8443",
        "--admin-port": "9090",
        "--key-manager-port": "9763",
        "--backend-port": "9000",
    }
    ports = {named: str(free_port()) for named in flags.values()}
    arguments = [part for flag, named in flags.items() for part in (flag, ports[named])]
    demo = await asyncio.create_subprocess_exec(
        *GATEWAY, "demo", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert demo.stdout is not None
        async with asyncio.timeout(20):
            first = await demo.stdout.readline()
        assert b"The gateway runs" in first
        yield ports
    finally:
        demo.terminate()
        await demo.communicate()


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """Where programs are found; with a stand-in for curl on a machine without it."""
    found = os.environ["PATH"]
    if shutil.which("curl") is not None:
        return found
    script = tmp_path / "curl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    script.chmod(0o755)
    return f"{tmp_path}:{found}"


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh"])
async def test_the_curls_answer_as_the_text_says(
    ports: dict[str, str], programs: str, shell: str
) -> None:
    """What a reader pastes into an interactive shell prints the statuses of the text behind it."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} isn't installed")
    (script,) = [block for block in blocks("sh") if "curl" in block]
    _, _, text = README.partition(script)
    expected = re.findall(r"\b\d{3}\b", text.partition("They print ")[2].partition("\n")[0])
    for named, port in ports.items():
        script = script.replace(f":{named}", f":{port}")
    process = await asyncio.create_subprocess_exec(
        *(shell, *{"zsh": ["-f"], "bash": ["--norc"]}.get(shell, []), "-i"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": programs, "PS1": "", "PS2": ""},
        start_new_session=True,  # an interactive shell would take the terminal
    )
    printed, _ = await process.communicate(script.encode())
    assert re.findall(r"^\d{3}$", printed.decode(), re.MULTILINE) == expected
    assert expected == ["200", "200", "200", "401"]


@pytest.mark.parametrize("page", ["README.md", *(str(p) for p in sorted(PAGES))])
def test_no_command_has_a_comment_behind_it(page: str) -> None:
    """An interactive zsh hands "#" and what follows to the command as arguments."""
    text = (ROOT / page).read_text("utf-8")
    commands = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    assert re.findall(r"^.*(?:^|\s)#.*$", commands, re.MULTILINE) == []


def test_every_target_of_make_is_there() -> None:
    """Each ``make …`` in a block of commands names a target of the Makefile."""
    named = {
        line.split()[1]
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("make ")
    }
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "check"} <= named <= set(targets)


def test_check_config_runs_as_written() -> None:
    """The command to look at settings works on the file that it names."""
    (block,) = [block for block in blocks("sh") if "check-config" in block]
    (line,) = [line for line in block.splitlines() if "check-config" in line]
    command = line.split()
    assert command[0] == ".venv/bin/gateway"
    run = subprocess.run(
        [sys.executable, "-m", "gateway", *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert 'path = "/orders"' in run.stdout


def test_the_settings_load(tmp_path: Path) -> None:
    """The settings that matter are settings, with values that are allowed."""
    (settings,) = blocks("toml")
    config = tmp_path / "gateway.toml"
    config.write_text(settings)
    loaded = load_settings(config, environ={}, flags={})
    assert [route.path for route in loaded.routes] == ["/orders", "/payments", "/status"]


def test_the_story_is_the_one_that_is_played() -> None:
    """Headings, steps and statuses of the printed story equal those of a real one."""
    run = subprocess.run(
        [*GATEWAY, "demo", "--story", "--max-age", "1s"]
        + [f"--{name}=0" for name in ("port", "tls-port", "admin-port")]
        + ["--key-manager-port=0", "--backend-port=0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    (story,) = blocks("console")
    assert steps(run.stdout) == steps(story)


def steps(story: str) -> list[tuple[str, str, str]]:
    """Return mark, name and status of each step but the calls while the window is open."""
    return [
        (mark, name.strip(), status)
        for mark, name, status in re.findall(
            r"^ +\d+\.\d\ds +(\S) +(\S.*?) {2,}(\d{3})?", story, re.MULTILINE
        )
        if mark != "•"
    ]


def test_links_lead_somewhere() -> None:
    """Every relative link and picture is a file of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
