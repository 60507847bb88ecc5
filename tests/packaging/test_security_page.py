"""SECURITY.md claims what tests show; the tests and links of all pages are there."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from gateway.settings.fields import FIELDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md")))
]
WHO = (
    *("client without a good token", "client", "other client", "key manager", "backend"),
    *("store writer", "whoever reaches the admin port", "other page in an operator's browser"),
)
"""Whom the table has at the least, besides outer proxies."""


def rows() -> list[list[str]]:
    """Return the cells of the table of who may not do what, without its head."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(page: str) -> Iterator[tuple[str, str]]:
    """Yield each test file that a page names, with the test or "" for the whole.

    Behind one with its file, ``test_…`` alone is a test of the same file.
    """
    file = ""
    for span in re.findall(r"`([^`\n]+)`", page):
        if found := re.fullmatch(r"(tests/[\w/]+\.py)(?:::([\w:]+))?", span):
            file = found[1]
            yield file, found[2] or ""
        elif file and re.fullmatch(r"(?:Test\w+::)?test_\w+", span):
            yield file, span


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of a file's tests and classes, as pytest joins them; "" is the file."""

    def within(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name
            elif isinstance(node, ast.ClassDef):
                yield prefix + node.name
                yield from within(node.body, f"{prefix}{node.name}::")

    path = ROOT / file
    if not path.is_file():
        return frozenset()
    return frozenset({"", *within(ast.parse(path.read_text("utf-8")).body, "")})


@pytest.mark.parametrize("page", PAGES)
def test_each_test_that_a_page_names_exists(page: str) -> None:
    """A claim whose test was renamed or removed is one that nobody holds."""
    missing = [
        f"{file}::{test}"
        for file, test in named((ROOT / page).read_text("utf-8"))
        if test not in names_in(file)
    ]
    assert missing == []


def test_each_row_names_a_test() -> None:
    """Who may not do something is told by what shows it."""
    assert len(rows()) >= 20
    assert [row for row in rows() if len(row) != 3 or not list(named(row[2]))] == []


def test_nobody_is_left_out() -> None:
    """Everyone whom the gateway meets has a row."""
    assert set(WHO) - {who for who, _, _ in rows()} == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link of a page leads to a file or a directory, and to a heading of it."""
    lost = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", (ROOT / page).read_text("utf-8")):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in headings(file)):
            lost.append(target)
    assert lost == []


def headings(file: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in found}


def test_settings_exist() -> None:
    """Each setting that the page names is one of the gateway's."""
    dotted = set(re.findall(r"`((?:cache|key_manager|limits|proxy|revocation)\.\w+)`", PAGE))
    assert dotted - set(FIELDS) == set()
    assert len(dotted) >= 6


def test_nobody_is_named() -> None:
    """Reports go by the form of the repository's host: an address here would be out of date."""
    assert re.findall(r"\S+@\S+|https?://\S+", PAGE) == []


def test_readme_leads_here() -> None:
    """Whoever looks for it finds it."""
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text("utf-8")
