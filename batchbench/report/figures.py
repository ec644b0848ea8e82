"""Figures as text: a value with its spread, a difference with its interval."""

from __future__ import annotations

import math

UNKNOWN = "??"
EQUIVALENT = "~"


def plural(count: int, noun: str) -> str:
    """ "1 trial", "3 trials"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def number(value: float, digits: int = 3) -> str:
    """A number of so many digits that count: 756,009 -> "756,000", 0.01234 -> "0.0123"."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return _rounded(value, places)


def with_spread(value: float, spread: float | None) -> str:
    """ "756,000 ± 44,000", rounded to two digits of the spread; "756,000" where none is known."""
    if spread is None:
        return number(value)
    if spread == 0:
        return f"{number(value)} ± 0"
    places = 1 - math.floor(math.log10(spread))
    return f"{_rounded(value, places)} ± {_rounded(spread, places)}"


def _rounded(value: float, places: int) -> str:
    return f"{round(value, places):,.{max(places, 0)}f}"


def short(value: float) -> str:
    """For a cell or an axis: "756k", "1.2M"."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 0.9995:
            return f"{_trimmed(value / factor)}{letter}"
    return _trimmed(value)


def _trimmed(value: float) -> str:
    if value == 0:
        return "0"
    return number(value, 3 if abs(value) >= 100 else 2).removesuffix(".0")


def milliseconds(seconds: float | None) -> str:
    """ "12.3"; "" of None."""
    return "" if seconds is None else number(seconds * 1e3)


def percent(ratio: float) -> str:
    """A ratio as a change: 1.23 -> "+23%", 0.996 -> "−0.4%"."""
    change = (ratio - 1) * 100
    digits = 0 if abs(change) >= 9.95 else 1
    text = f"{change:+.{digits}f}".replace("-", "−")
    return f"{text}%"


def change_text(ratio: float, low: float | None, high: float | None, pairs: int) -> str:
    """ "+23% [+15%, +31%]"; without an interval it says "??" and how few pairs there are."""
    if low is None or high is None:
        return f"about {percent(ratio)}, {UNKNOWN} ({plural(pairs, 'pair')}: no interval)"
    return f"{percent(ratio)} [{percent(low)}, {percent(high)}]"


def ratio_text(ratio: float, low: float | None, high: float | None) -> str:
    """ "0.94 [0.91, 0.97]"."""
    if low is None or high is None:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def graphic(value: float) -> float:
    """A number as a chart needs it: five digits."""
    return float(f"{value:.5g}")
