"""The HTML report: one well-formed page that loads nothing, with all its charts."""

import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from gateway.loadtest.report.page import render_html
from gateway.loadtest.slo import judge, parse_slo
from loadtest.reported import ALL, analysed

VOID = {"meta", "br", "link", "img", "input", "hr"}
LOADING = {"src", "srcset", "data", "action", "formaction", "background", "poster", "ping"}


@dataclass
class Page(HTMLParser):
    """What a page has: its elements, ids, references and text."""

    html: str
    stack: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()
        self.faults += [f"unclosed {tag}" for tag in self.stack]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.faults.append(f"an attribute of {tag} twice")
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(f"unexpected </{tag}>")

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())


@cache
def page(*names: str) -> Page:
    return Page(render_html([analysed(name) for name in names]))


@pytest.mark.parametrize("name", ALL)
def test_every_run_has_a_well_formed_page(name: str) -> None:
    """Elements are closed in order, ids are unique, and what is referred to is there."""
    found = page(name)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    used = re.findall(r"url\(#([^)]+)\)", found.html)
    used += [a["href"][1:] for a in found.all("use") if a["href"]]
    for attributes in found.all("svg"):
        used += (attributes["aria-labelledby"] or "").split()
    assert found.faults == []
    assert len(ids) == len(set(ids))
    assert set(used) <= set(ids)


@pytest.mark.parametrize("name", ALL)
def test_a_page_loads_nothing_and_runs_nothing(name: str) -> None:
    """No address to load from, no script, and a policy that would forbid both."""
    found = page(name)
    assert found.all("script") == found.all("link") == found.all("img") == found.all("iframe") == []
    assert [a for _, a in found.elements if LOADING & set(a)] == []
    assert [a for _, a in found.elements if any(name.startswith("on") for name in a)] == []
    assert all((a.get("href") or "#").startswith("#") for _, a in found.elements)
    assert not re.search(r"@import|url\((?!#)", found.html)
    policies = [
        a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert [policy and policy.startswith("default-src 'none'") for policy in policies] == [True]


@pytest.mark.parametrize(
    ("names", "charts"),
    [
        (["uniform"], ["distribution", "timeline0", "histogram0", "latency"]),
        (["no background"], ["distribution", "timeline0", "histogram0"]),
        (["empty"], []),
        (
            ["uniform", "instant"],
            ["distribution", "timeline0", "histogram0", "timeline1", "histogram1", "latency"],
        ),
    ],
)
def test_the_charts_are_there(names: list[str], charts: list[str]) -> None:
    """Distribution, timeline and histogram of each run, and latency over the run."""
    found = page(*names)
    labelled = [a["aria-labelledby"] for a in found.all("svg")]
    assert labelled == [f"{name}-title {name}-desc" for name in charts]


def test_a_chart_has_a_title_a_caption_and_a_table() -> None:
    """Who can't see a chart hears what it shows, and can read its numbers."""
    found = page("uniform")
    charts = len(found.all("svg"))
    assert {a["role"] for a in found.all("svg")} == {"img"}
    assert len(found.all("figcaption")) == len(found.all("details")) == charts == 4
    assert len(found.all("desc")) == charts


def test_a_thousand_tokens_are_less_than_a_megabyte() -> None:
    """The page stays small; its timeline says that it shows a part."""
    found = page("thousand")
    assert len(found.html.encode()) < 1_000_000
    assert "80 of 1,000 are shown" in found.text


def test_three_runs_side_by_side_are_less_than_a_megabyte() -> None:
    """Several runs fit as well."""
    assert len(page("thousand", "three targets", "uniform").html.encode()) < 1_000_000


def test_headings_are_in_order() -> None:
    """One h1, and no level is skipped."""
    levels = [
        int(tag[1]) for tag, _ in page("uniform", "lost").elements if re.match("h[1-6]$", tag)
    ]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize(("name", "warned"), [("uniform", False), ("lost", True)])
def test_a_run_that_is_not_valid_is_warned_of_on_top(name: str, *, warned: bool) -> None:
    """The warning stands before any figure, with its reason."""
    text = page(name).text
    assert ("Not a valid run" in text) is warned
    if warned:
        assert text.index("Not a valid run") < text.index("half refused by")
        assert "were neither accepted nor refused" in text


def test_verdicts_are_words() -> None:
    """What is shown by colour and sign is said in words too."""
    run = analysed("over")
    text = Page(render_html([run], [judge([parse_slo("p99<=2s")], run)])).text
    for words in ("SLO: broken", "Max age 3 s: broken", "False refusals: none", "The run: valid"):
        assert words in text


def test_colours_follow_the_reader() -> None:
    """Charts have no colours of their own: all are variables that dark mode sets anew."""
    html = page("flapping").html
    svgs = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert [colour for svg in svgs for colour in re.findall(r"#[0-9a-f]{6}\b", svg)] == []
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", "".join(svgs)))
    style = html[html.index("<style>") : html.index("</style>")]
    dark = style[style.index("prefers-color-scheme:dark") :]
    assert all(f"--{name}:#" in style.replace(" ", "") for name in used)
    assert all(f"--{name}:#" in dark.replace(" ", "") for name in used)
    assert "@media print" in style


def test_names_are_text() -> None:
    """What a user named can't become markup, nor mathematics."""
    found = page("hostile", "uniform")
    assert found.faults == []
    assert found.all("b") == []
    assert '_<b>"x"&$y$</b>' in found.text


def test_tables_name_their_rows_and_columns() -> None:
    """A screen reader knows which row and column a figure is in."""
    scopes = {a.get("scope") for a in page("uniform").all("th")}
    assert scopes == {"row", "col"}


def test_the_page_says_its_language_and_title() -> None:
    """A tab has a name."""
    found = page("uniform", "instant")
    assert found.all("html") == [{"lang": "en"}]
    assert "<title>Revocation load test: uniform, instant</title>" in found.html
