"""The book of revoked tokens: who is in it, until when, and what was let through meanwhile."""

import gc
from itertools import islice
from typing import Any

import pytest
from clocks import FakeClock
from scripted import CountingMetrics, keys

from gateway.entries import Entry
from gateway.revocations import MOST_AT_ONCE, RevokedTokens
from gateway.tokens import Facts, TokenKey

A, B, C = keys(3)


class Book:
    """A book with a max age of 900 s, and what it counted."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.metrics = CountingMetrics()
        self.tokens = RevokedTokens(max_age_seconds=900.0, clock=clock, metrics=self.metrics)

    def mark(self, key: TokenKey, *, age: float = 0.0, life: float = float("inf")) -> None:
        now = self.clock.monotonic()
        entry = Entry(Facts(active=True, client_id="a"), now - age, now + life)
        self.tokens.mark(key, entry, revoked=now)


@pytest.fixture
def book(clock: FakeClock) -> Book:
    return Book(clock)


@pytest.mark.parametrize(
    ("age", "life", "serves"),
    [(0.0, float("inf"), 900), (600.0, float("inf"), 300), (0.0, 30.0, 30), (899.5, 30.0, 0.5)],
)
def test_it_passes_until_its_facts_lapse(
    book: Book, age: float, life: float, serves: float
) -> None:
    """Until max age after its validation, or its ``exp`` if that comes first."""
    book.mark(A, age=age, life=life)
    (token,) = book.tokens
    assert book.tokens.lapses_at(token) == book.clock.wall() + serves
    book.clock.advance(serves - 0.25)
    assert len(book.tokens) == 1
    book.clock.advance(0.25)
    assert len(book.tokens) == 0
    assert book.metrics.exposures == [0.0]


def test_exposure_is_from_revocation_to_the_last_accept(book: Book) -> None:
    """Recorded once, when the facts serve no more; each accept is counted by its route."""
    book.mark(A)
    for route in ("/orders", "/orders", "/payments"):
        book.clock.advance(10)
        book.tokens.accepted(A, route)
    book.tokens.accepted(B, "/orders")  # not revoked
    (token,) = book.tokens
    assert token.accepts == 3
    book.clock.advance(100)
    book.tokens.left(A)
    book.tokens.left(A)
    assert book.metrics.stale_accepts == ["/orders", "/orders", "/payments"]
    assert book.metrics.exposures == [30.0]
    assert list(book.tokens) == []


def test_the_earlier_report_counts(book: Book, clock: FakeClock) -> None:
    """The feed may be heard before the gateway that revoked says since when."""
    book.mark(A)
    marked_at, marked = clock.wall(), clock.monotonic()
    clock.advance(2)
    entry = Entry(Facts(active=True), marked, float("inf"))
    book.tokens.mark(A, entry, revoked=marked - 5)
    book.tokens.mark(A, entry, revoked=marked + 1)
    (token,) = book.tokens
    assert (token.revoked_at, token.revoked) == (marked_at - 5, marked - 5)


def test_another_max_age_counts_at_once(book: Book) -> None:
    """A reload that narrows the window lets go of what it closes, and keeps the rest."""
    book.mark(A, age=100)
    book.mark(B)
    book.tokens.set_max_age(60)
    assert [token.key for token in book.tokens] == [B]
    book.tokens.set_max_age(900)
    book.clock.advance(60)
    assert [token.key for token in book.tokens] == [B]


def test_clear_records_all(book: Book) -> None:
    """Whatever evicts everything ends the exposure of everything."""
    for key in (A, B, C):
        book.mark(key)
    book.tokens.clear()
    assert (len(book.tokens), book.metrics.exposures) == (0, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("gone", ["lapsed", "cleared"])
def test_very_many_go_in_parts(book: Book, gone: str) -> None:
    """None of them passes any more, but no call records the exposure of more than some."""
    many = keys(2 * MOST_AT_ONCE + 500)
    for key in many[2:]:
        book.mark(key)
    if gone == "lapsed":
        book.clock.advance(450)
        book.mark(many[0])
        book.clock.advance(450)
    else:
        book.tokens.clear()
        assert len(book.metrics.exposures) == MOST_AT_ONCE
        book.mark(many[0])
        book.metrics.exposures.clear()
    assert [token.key for token in book.tokens] == [many[0]]
    assert len(book.metrics.exposures) == MOST_AT_ONCE
    assert len(book.tokens) == 1
    calls = 0
    while book.tokens.lapse():
        calls += 1
    assert calls <= 1
    assert len(book.tokens) == 1
    recorded = len(many) - 2 - (MOST_AT_ONCE if gone == "cleared" else 0)
    assert len(book.metrics.exposures) == recorded


def test_tokens_that_come_and_go_leave_nothing(book: Book) -> None:
    """The order in which tokens lapse has those alone that are there."""
    for _ in range(10_000):
        book.mark(A)
        book.tokens.left(A)
    assert list(book.tokens._order.keys) == []


def test_the_collector_has_nothing_to_walk_through(book: Book) -> None:
    """Marks are bytes, as what the cache keeps is: FLUSHALL may make hundreds of thousands."""
    for key in keys(3_000):
        book.mark(key)
        book.tokens.accepted(key, "/")
    gc.collect()
    reached: list[Any] = [book.tokens._shards, book.tokens._order.keys._parts]
    while reached:
        one = reached.pop()
        parts = [*one, *one.values()] if isinstance(one, dict) else one
        reached += [part for part in parts if gc.is_tracked(part)]
        assert len(parts) <= 300


def test_another_max_age_for_very_many(book: Book) -> None:
    """They are put in their new order in parts, and are in the book all the while."""
    many = keys(3 * MOST_AT_ONCE)
    for number, key in enumerate(many):
        book.mark(key, age=number % 700)
    book.tokens.set_max_age(800)
    assert (len(book.tokens), len(list(book.tokens))) == (len(many), len(many))
    for key in many[::2]:
        book.tokens.left(key)
    book.tokens.set_max_age(600)
    book.tokens.set_max_age(350)
    while book.tokens.lapse():
        pass
    kept = [number for number in range(1, len(many), 2) if number % 700 < 350]
    assert {token.key for token in book.tokens} == {many[number] for number in kept}
    assert len(book.tokens) == len(kept)
    assert len(book.metrics.exposures) == len(many) - len(kept)


def test_a_page_of_very_many(book: Book) -> None:
    """Whoever asks for those after one begins there, in the order in which they lapse."""
    many = keys(1_500)
    for number, key in enumerate(many):
        book.mark(key, age=number)
    expected = [(key, book.clock.monotonic() + 900 - age) for age, key in enumerate(many[:900])]
    expected.reverse()
    found: list[tuple[TokenKey, float]] = []
    lapses, key = 0.0, TokenKey(b"")
    while page := list(islice(book.tokens.after(lapses, key), 100)):
        found += [(token.key, book.tokens.lapses(token)) for token in page]
        lapses, key = found[-1][1], found[-1][0]
    assert found == expected
