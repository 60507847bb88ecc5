"""The rules of the house, held by tests: what may import what, read the time, or go untested."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
ONLY_STORE = (
    *("store.py", "store_connections.py", "round_trips.py", "redis_faults.py"),
    *("tracking.py", "notices.py", "keymanager/", "demo/stack.py"),
)
"""Who may import redis: the store, its feed, notices, the key manager, and the demo's memory."""
PURE = (
    *("answer_head", "answer_reader", "bearer", "bound", "cache", "entries", "errors", "framing"),
    *("headers", "request_head", "revocations", "routes", "shares", "suspects", "tokens"),
)
TESTED_BY = {
    # What only composes others is tested as a whole.
    "app.py": "e2e/test_revocation_window.py",
    "process.py": "e2e/test_serve.py",
    "traffic.py": "proxy/test_pipeline_reload.py",
    "proxy/pool.py": "proxy/test_pools.py",
    "loadtest/figures.py": "loadtest/test_analysis.py",
    "loadtest/rows.py": "loadtest/test_record.py",
    "loadtest/report/charts.py": "loadtest/test_report_page.py",
    "loadtest/report/figure_tables.py": "loadtest/test_report_tables.py",
    "loadtest/report/glossary.py": "loadtest/test_report_page.py",
    "loadtest/report/markup.py": "loadtest/test_report_page.py",
    "loadtest/report/names.py": "loadtest/test_report_page.py",
    "loadtest/report/opening.py": "loadtest/test_report_page.py",
    "loadtest/report/palette.py": "loadtest/test_report_page.py",
    "loadtest/report/style.py": "loadtest/test_report_page.py",
    "loadtest/report/svg.py": "loadtest/test_report_page.py",
    "loadtest/report/timeline.py": "loadtest/test_report_page.py",
}
"""Where a module's tests stand if not in a file of its name."""


@cache
def tracked() -> tuple[PurePosixPath, ...]:
    """Return the files of the repository, or of the unpacked archive where there is none."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True
        ).stdout.split("\0")
    else:
        listed = [
            str(path.relative_to(ROOT))
            for folder in ("gateway", "tests", "config", "docs")
            for path in (ROOT / folder).rglob("*")
            if "__pycache__" not in path.parts
        ]
    return tuple(PurePosixPath(name) for name in listed if name and (ROOT / name).is_file())


def modules(folder: str) -> Iterator[PurePosixPath]:
    """Yield the Python files under a folder, by their paths from there."""
    for path in tracked():
        if path.parts[0] == folder and path.suffix == ".py":
            yield path.relative_to(folder)


@cache
def tree(folder: str, path: PurePosixPath) -> ast.Module:
    return ast.parse((ROOT / folder / path).read_text("utf-8"))


def calls(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with its dotted name, as far as it is one."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(module: ast.Module) -> Iterator[str]:
    """Yield the full names that a module imports, wherever it does."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(module: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


def test_every_module_has_tests() -> None:
    """``gateway/x/y.py`` has ``tests/x/test_y.py``, or ``test_y_….py``, or is in the table."""
    tests = {str(path) for path in modules("tests")}
    untested = [
        str(path)
        for path in modules("gateway")
        if path.name not in {"__init__.py", "__main__.py"}
        and TESTED_BY.get(str(path)) not in tests
        and not any(re.fullmatch(names_of_tests(path), test) for test in tests)
    ]
    assert untested == []


def names_of_tests(module: PurePosixPath) -> str:
    """Return the pattern of the test files of a module; "report/page" may be "report_page"."""
    within = "(/|_)".join(re.escape(part) for part in module.with_suffix("").parts[1:-1])
    first = f"{re.escape(module.parts[0])}/" if len(module.parts) > 1 else ""
    return rf"{first}(test_)?{within + '(/|_)' if within else ''}(test_)?{module.stem}(_\w+)?\.py"


def test_every_test_says_what_it_shows() -> None:
    """Each test has a docstring of one sentence."""
    silent = []
    for path in modules("tests"):
        for node in ast.walk(tree("tests", path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            said = " ".join((ast.get_docstring(node) or "").split())
            one_sentence = said.endswith(".") and not re.search(r"[^A-Z.][.!?] [A-Z]", said)
            if node.name.startswith("test_") and not one_sentence:
                silent.append(f"{path}: {node.name}")
    assert silent == []


def test_only_the_clock_reads_the_time() -> None:
    """Time is injected, so that tests move it; the load tester alone measures the real one."""
    readers = [
        f"{path}: {name}"
        for path in modules("gateway")
        if path.name != "clock.py" and path.parts[0] != "loadtest"
        for name in [
            *(name for name in imported(tree("gateway", path)) if name.partition(".")[0] == "time"),
            *(name for name, _ in calls(tree("gateway", path)) if _reads_a_date(name)),
        ]
    ]
    assert readers == []


def _reads_a_date(name: str) -> bool:
    return bool(re.search(r"\b(datetime|date)\.(now|utcnow|today)$", name))


def test_no_task_is_dropped() -> None:
    """Whoever starts a task keeps it: the loop holds it weakly, and it could be collected."""
    dropped = []
    for folder in ("gateway", "tests"):
        for path in modules(folder):
            module = tree(folder, path)
            groups = {
                ast.unparse(item.optional_vars)
                for node in ast.walk(module)
                if isinstance(node, ast.AsyncWith)
                for item in node.items
                if item.optional_vars is not None and "TaskGroup" in ast.unparse(item.context_expr)
            }
            dropped += [
                f"{folder}/{path}:{node.lineno}"
                for node in ast.walk(module)
                if isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Call)
                and isinstance(node.value.func, ast.Attribute)
                and node.value.func.attr in {"create_task", "ensure_future"}
                and ast.unparse(node.value.func.value) not in groups
            ]
    assert dropped == []


def test_no_test_waits_for_time_to_pass() -> None:
    """Tests wait for what happens, not for how long it may take."""
    sleepers = [
        f"{path}:{node.lineno}"
        for path in modules("tests")
        if path.name != "redis_server.py"  # polls a process until it answers
        for name, node in calls(tree("tests", path))
        if name in {"time.sleep", "asyncio.sleep"}
        and [ast.unparse(argument) for argument in node.args] != ["0"]
    ]
    assert sleepers == []


def test_only_the_store_speaks_redis() -> None:
    """Redis is behind the store; all else sees documents by token key."""
    speakers = [
        str(path)
        for path in modules("gateway")
        if {"redis", "fakeredis"} & packages(tree("gateway", path))
        and not str(path).startswith(ONLY_STORE)
    ]
    assert speakers == []


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_do_no_io(name: str) -> None:
    """What decides is pure, so that its tests are tables and the fast lane can share it."""
    impure = {"aiohttp", "asyncio", "logging", "os", "redis", "socket", "structlog", "time"}
    assert impure & packages(tree("gateway", PurePosixPath(f"{name}.py"))) == set()


def test_no_vague_names() -> None:
    """A module is named after its one idea."""
    vague = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "core"}
    assert [str(path) for path in modules("gateway") if path.stem in vague] == []


def test_nothing_of_this_machine() -> None:
    """No file has a path of whoever's machine it was written on, nor where packages came from."""
    traces = re.compile(
        "|".join(
            [
                *(rf"{re.escape(place)}\b" for place in _places()),
                r"/(?:Users|home)/(?!app\b|user\b|nonroot\b)\w+/",
                r"(?m:^\s*(?:-i|-f|--(?:extra-)?index-url|--find-links|--trusted-host)\b)",
                r"\bfiles\.\w+hosted\.org\b",
            ]
        )
    )
    found = []
    for path in tracked():
        try:
            text = (ROOT / path).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        if path != PurePosixPath("tests/test_house.py") and (trace := traces.search(text)):
            found.append(f"{path}: {trace[0]}")
    assert found == []


def _places() -> set[str]:
    """Return where this checkout and its interpreter are, if that is telling."""
    # "/app" or "/src" is in many a Dockerfile; two levels down it is somebody's own.
    return {str(path) for path in (ROOT, Path(sys.prefix)) if len(path.parts) > 2}
