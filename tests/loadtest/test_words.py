"""Numbers as a reader meets them."""

import pytest

from gateway.loadtest.survival import Percentile
from gateway.loadtest.words import bound, count_of, duration, limits, p_value, percent, percentile


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1e-7, "0 s"),
        (35e-6, "35.0 µs"),
        (0.0009994, "999 µs"),
        (0.0009996, "1.00 ms"),
        (0.0042, "4.20 ms"),
        (0.82, "820 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (1.474, "1.47 s"),
        (9.996, "10.0 s"),
        (99.96, "100 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (892.0, "14 min 52 s"),
        (3599.0, "59 min 59 s"),
        (3600.0, "1 h 00 min"),
        (5430.0, "1 h 30 min"),
    ],
)
def test_a_duration_has_three_digits(seconds: float, text: str) -> None:
    """Three digits and the unit that fits, also where rounding crosses over."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.0, "3 s"),
        (0.25, "250 ms"),
        (2.5, "2.5 s"),
        (900.0, "15 min"),
        (3600.0, "1 h"),
        (100.0, "100 s"),
        (0.0, "0 s"),
    ],
)
def test_a_bound_is_written_as_it_was_chosen(seconds: float, text: str) -> None:
    """What somebody chose has no digits that they didn't choose."""
    assert bound(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.00001, "<0.01 %"),
        (0.01, "1 %"),
        (0.0101, "1.01 %"),
        (0.125, "12.5 %"),
        (0.9999, "100 %"),
        (1.0, "100 %"),
    ],
)
def test_a_share_is_percent(share: float, text: str) -> None:
    """A share that isn't zero isn't said to be zero."""
    assert percent(share) == text


KNOWN = Percentile(1.474, known=True, low=1.3, high=1.6)
UNKNOWN = Percentile(9.8, known=False, low=2.9, high=None)


@pytest.mark.parametrize(
    ("found", "longest", "text"),
    [
        (KNOWN, False, "1.47 s"),
        (UNKNOWN, False, "> 9.80 s"),
        (UNKNOWN, True, "≥ 9.80 s"),
        (None, False, "-"),
    ],
)
def test_a_percentile_that_is_not_known_is_larger(
    found: Percentile | None, text: str, *, longest: bool
) -> None:
    """What a run leaves open is never given as a number."""
    assert percentile(found, longest=longest) == text


@pytest.mark.parametrize(
    ("found", "text"),
    [(KNOWN, "1.30 s to 1.60 s"), (UNKNOWN, "2.90 s or more"), (None, "-")],
)
def test_limits_are_given_as_a_range(found: Percentile | None, text: str) -> None:
    """Limits without an upper one say so."""
    assert limits(found) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "<0.001"), (0.0123, "0.012"), (0.32, "0.32"), (1.0, "1.00")]
)
def test_a_p_value_has_two_digits(value: float, text: str) -> None:
    """More digits would claim more than there is."""
    assert p_value(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 windows"), (1, "1 window"), (2000, "2,000 windows")]
)
def test_a_count_has_its_noun(count: int, text: str) -> None:
    """One window, two windows."""
    assert count_of(count, "window") == text
