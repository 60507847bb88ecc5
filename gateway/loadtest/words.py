"""Numbers as a reader meets them, in every report alike."""

from gateway.loadtest.survival import Percentile


def duration(seconds: float) -> str:
    """Write a duration to three digits in a unit that fits: ``1.47 s``, ``820 ms``."""
    if seconds >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02} min"
    if seconds >= 119.5:
        whole = round(seconds)
        return f"{whole // 60} min {whole % 60:02} s"
    for least, factor, unit in ((0.9995, 1.0, "s"), (0.0009995, 1e3, "ms")):
        if seconds >= least:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds * 1e6)} µs" if seconds >= 5e-7 else "0 s"


def _three_digits(value: float) -> str:
    places = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{places}f}"


def bound(seconds: float) -> str:
    """Write a duration that somebody chose, without the zeros: ``3 s``, ``15 min``."""
    text = duration(seconds)
    if "." in text:
        number, _, unit = text.partition(" ")
        return f"{number.rstrip('0').rstrip('.')} {unit}"
    return text.removesuffix(" 00 s").removesuffix(" 00 min")


def percent(share: float) -> str:
    """Write a share as percent, to three digits at most: ``12.5 %``, ``<0.01 %``."""
    if 0 < share < 0.0001:
        return "<0.01 %"
    digits = _three_digits(share * 100)
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits} %"


def percentile(found: Percentile | None, *, longest: bool = False) -> str:
    """Write a percentile; one the run doesn't show as ``> 9.80 s``, a maximum as ``≥ 9.80 s``."""
    if found is None:
        return "-"
    if found.known:
        return duration(found.seconds)
    return f"{'≥' if longest else '>'} {duration(found.seconds)}"


def limits(found: Percentile | None) -> str:
    """Write a percentile's confidence limits: ``1.31 s to 1.60 s``, ``2.90 s or more``."""
    if found is None:
        return "-"
    low = duration(found.low)
    return f"{low} or more" if found.high is None else f"{low} to {duration(found.high)}"


def p_value(value: float) -> str:
    """Write a p-value: ``0.32``, ``<0.001``."""
    return "<0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def count_of(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 window``, ``2,000 windows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
