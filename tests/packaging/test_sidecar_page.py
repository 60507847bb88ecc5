"""docs/sidecar.md says what the manifests and the gateway do."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

from gateway.settings.fields import FIELDS
from gateway.tokens import Facts, parse_facts, token_key

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sidecar.md").read_text()
MANIFESTS = {
    language: [file.read_text() for file in sorted((ROOT / "docs/sidecar").glob(f"*.{language}"))]
    for language in ("yaml", "toml")
}
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EXCERPTS = [(language, text) for language, text in BLOCKS if language in MANIFESTS]


def holds(manifest: str, excerpt: str) -> bool:
    """Tell whether the lines of ``excerpt`` stand in ``manifest``, however far indented."""
    wanted, lines = excerpt.splitlines(), manifest.splitlines()
    return any(
        dedent("\n".join(lines[start : start + len(wanted)])).splitlines() == wanted
        for start in range(len(lines) - len(wanted) + 1)
    )


@pytest.mark.parametrize(
    ("language", "excerpt"), EXCERPTS, ids=[text.splitlines()[0] for _, text in EXCERPTS]
)
def test_an_excerpt_is_in_a_manifest(language: str, excerpt: str) -> None:
    """What the page shows of the manifests stands in one of them, line by line."""
    assert any(holds(manifest, excerpt) for manifest in MANIFESTS[language])


def test_links_lead_somewhere() -> None:
    """Each relative link of the page leads to a file or a directory."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE)
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []


def test_settings_and_variables_exist() -> None:
    """Each setting and each variable that the page names is one of the gateway's."""
    dotted = set(re.findall(r"`((?:listen|admin|store|cache|proxy|limits)\.\w+)`", PAGE))
    variables = {name.removesuffix("_FILE") for name in re.findall(r"`(GATEWAY_[A-Z]+__\w+)", PAGE)}
    assert dotted - set(FIELDS) == set()
    assert variables - {field.variable for field in FIELDS.values()} == set()
    assert len(dotted) >= 5
    assert len(variables) >= 3


def test_the_token_put_by_hand_is_one() -> None:
    """The page's command stores a document that the gateway reads, under a key that it asks."""
    token = re.search(r"printf %s (\S+) \| sha256sum", PAGE)
    stored = re.search(r"redis-cli SET \"(\S+?)\$digest\" '(.*)' EX 600", PAGE)
    assert token is not None
    assert stored is not None
    assert f"Authorization: Bearer {token[1]}'" in PAGE
    assert stored[1] == FIELDS["store.key_prefix"].default
    assert len(token_key(token[1]).hex()) == 64
    assert parse_facts(stored[2], now_at=0.0) == Facts(
        active=True, sub="alice", scopes=frozenset({"read"})
    )
