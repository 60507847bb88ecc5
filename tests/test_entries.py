"""Entries as bytes: whatever was packed comes out again."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, _pack_grant, _unpack_grant, pack, times, unpack
from gateway.tokens import INACTIVE, MOST_REMEMBERED, Facts

TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
SECONDS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    "facts",
    [
        INACTIVE,
        Facts(True),
        Facts(True, ""),
        Facts(True, None, ""),
        Facts(True, username=""),
        Facts(True, None, "", username="ALICE"),
        Facts(True, "app", "a-user", frozenset({"read", "write"}), 1_700_000_000.5),
        Facts(True, nbf=1_700_000_000.5),
        Facts(True, '["it\'s", \\]', "\0\n€😀", frozenset({"a\u00a0b", '"', "\0"}), 0.0),
        Facts(True, "c" * 70_000, "s" * 70_000, frozenset({"s" * 70_000}), -1.0),
    ],
)
def test_facts_come_out_as_they_were(facts: Facts) -> None:
    """Absent is not empty, and no character has a meaning."""
    entry = Entry(facts, 1.5, float("inf"), 7)
    if facts.nbf is not None:
        entry.begins_at = facts.nbf
    assert unpack(pack(entry.facts, entry.validated, entry.expires, entry.number)) == entry


@given(
    facts=st.builds(
        Facts,
        active=st.booleans(),
        client_id=TEXT,
        sub=TEXT,
        scopes=st.frozensets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)).map(
            lambda scopes: frozenset(scope for scope in scopes if " " not in scope)
        ),
        exp=st.none() | SECONDS,
        nbf=st.none() | SECONDS,
        username=TEXT,
    ),
    validated=st.floats(allow_nan=False),
    expires=st.floats(allow_nan=False),
    number=st.integers(0, 2**64 - 1),
    ends_at=st.floats(allow_nan=False),
)
def test_entries_come_out_as_they_were(
    facts: Facts, validated: float, expires: float, number: int, ends_at: float
) -> None:
    """So do all times, infinite ones too, which can be read without the rest."""
    packed = pack(facts, validated, expires, number, ends_at=ends_at)
    begins_at = float("-inf") if facts.nbf is None else facts.nbf
    assert unpack(packed) == Entry(facts, validated, expires, number, begins_at, ends_at)
    assert times(packed) == (validated, expires, number)


def test_long_scopes_are_not_remembered() -> None:
    """They serve as any other, but thousands of them would fill what is kept at hand of grants."""
    _pack_grant.cache_clear()
    _unpack_grant.cache_clear()
    for long in (frozenset({"s" * MOST_REMEMBERED, "t"}), frozenset(map(str, range(1_000)))):
        facts = Facts(True, "app", scopes=long)
        assert unpack(pack(facts, 1.0, 2.0)).facts == facts
    assert (_pack_grant.cache_info().currsize, _unpack_grant.cache_info().currsize) == (0, 0)
    pack(Facts(True, "app", scopes=frozenset({"read"})), 1.0, 2.0)
    assert _pack_grant.cache_info().currsize == 1


def test_the_collector_never_meets_them() -> None:
    """What is packed is no container."""
    assert not gc.is_tracked(pack(Facts(True, "app", "a-user"), 1.0, 2.0))
