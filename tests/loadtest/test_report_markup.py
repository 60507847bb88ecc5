"""The page's pieces: whatever they're given is text."""

from html.parser import HTMLParser

import pytest

from gateway.loadtest.report.findings import Finding, Tone
from gateway.loadtest.report.markup import chart, finding_list, table
from gateway.loadtest.report.tables import Table

HOSTILE = '<b onclick="x">&amp;'
TABLE = Table(HOSTILE, ["", HOSTILE], [[HOSTILE, HOSTILE]], HOSTILE)


@pytest.mark.parametrize(
    ("html", "count"),
    [
        (finding_list([Finding(HOSTILE, HOSTILE, Tone.BAD, HOSTILE)]), 3),
        (table(TABLE), 5),
        (chart("<svg></svg>", HOSTILE, TABLE), 6),
    ],
    ids=["findings", "table", "chart"],
)
def test_what_is_given_is_text(html: str, count: int) -> None:
    """Names, figures and sentences are shown as they are, and become no markup."""
    tags: list[str] = []
    pieces: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.extend([tag, *(name for name, _ in attrs)])

        def handle_data(self, data: str) -> None:
            pieces.append(data)

    Reader().feed(html)
    assert set(tags).isdisjoint({"b", "onclick"})
    assert "".join(pieces).count(HOSTILE) == count


@pytest.mark.parametrize(("tone", "sign"), [(Tone.GOOD, "✓"), (Tone.BAD, "✗"), (Tone.UNSURE, "?")])
def test_a_sign_is_not_read_aloud(tone: Tone, sign: str) -> None:
    """The sign repeats the verdict's word: a screen reader says only the word."""
    html = finding_list([Finding("Max age", "verdict", tone, "Why.")])
    assert f'<span class="sign" aria-hidden="true">{sign}</span>Max age: ' in html
    assert f'<li class="{tone.value}">' in html
