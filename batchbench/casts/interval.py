"""Into interval from text: PostgreSQL's own style, words and units, ISO 8601.

The fractions follow interval_in (half a month is 15 days, half a day 12 hours), but what falls
below a microsecond is a fault where PostgreSQL rounds.
"""

from __future__ import annotations

import re
import struct
from fractions import Fraction

import pyarrow as pa

from batchbench.casts.outcome import CastOptions, Plan, UnfitError, checked, each_distinct
from batchbench.casts.temporal import ROUNDED, precision_of
from batchbench.table import Column

_SECOND_US, _DAY_US = 1_000_000, 86_400_000_000
_MONTHS, _DAYS, _MICROS = "months", "days", "micros"

# unit -> field, how many of the field's own units one of it is
_UNITS: dict[str, tuple[str, int]] = {}
for _names, _field, _factor in (
    ("microsecond microseconds us usec usecs", _MICROS, 1),
    ("millisecond milliseconds ms msec msecs", _MICROS, 1_000),
    ("second seconds sec secs s", _MICROS, _SECOND_US),
    ("minute minutes min mins m", _MICROS, 60 * _SECOND_US),
    ("hour hours hr hrs h", _MICROS, 3600 * _SECOND_US),
    ("day days d", _DAYS, 1),
    ("week weeks w", _DAYS, 7),
    ("month months mon mons", _MONTHS, 1),
    ("year years yr yrs y", _MONTHS, 12),
    ("decade decades decs dec", _MONTHS, 120),
    ("century centuries cent c", _MONTHS, 1_200),
    ("millennium millennia mil mils", _MONTHS, 12_000),
):
    _UNITS.update(dict.fromkeys(_names.split(), (_field, _factor)))

_NUMBER = r"(?:[+-]?\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})"
_ISO_NUMBER = r"(-?\d{1,18}(?:\.\d{0,18})?)"
_TOKEN = re.compile(
    r"(?:(?P<clock>(?P<sign>[+-]?)(?P<h>\d{1,12}):(?P<m>\d{1,2})(?::(?P<s>\d{1,2}(?:\.\d{0,18})?))?)"
    rf"|(?P<number>{_NUMBER})\s*(?P<unit>[a-z]+))(?:\s+|\Z)",
    re.I | re.ASCII,
)
_AGO = re.compile(r"\s+ago\Z", re.I | re.ASCII)
_ISO_DATE = re.compile(rf"{_ISO_NUMBER}([YMWD])", re.I | re.ASCII)
_ISO_TIME = re.compile(rf"{_ISO_NUMBER}([HMS])", re.I | re.ASCII)
_ISO_UNITS = {"Y": "year", "M": "month", "W": "week", "D": "day"}
_ISO_TIME_UNITS = {"H": "hour", "M": "minute", "S": "second"}


class _Sum:
    """An interval while its parts are being added up."""

    def __init__(self) -> None:
        self.amounts = {_MONTHS: 0, _DAYS: 0, _MICROS: 0}
        self.seen: set[str] = set()

    def add(self, number: Fraction, unit: str) -> None:
        field, factor = _UNITS[unit]
        if unit in self.seen:
            raise UnfitError("22007", "names a unit twice")
        self.seen.add(unit)
        amount = number * factor
        if field == _MONTHS and factor > 1 and amount.denominator != 1:
            raise UnfitError("22008", "a part of a year is no whole number of months")
        for name, next_factor in ((_MONTHS, 30), (_DAYS, _DAY_US)):
            if field == name:
                whole = int(amount)
                self.amounts[name] += whole
                amount = (amount - whole) * next_factor
                field = _DAYS if name == _MONTHS else _MICROS
        if amount.denominator != 1:
            raise UnfitError("22008", ROUNDED)
        self.amounts[_MICROS] += int(amount)

    def packed(self, negative: bool, precision: int) -> bytes:
        sign = -1 if negative else 1
        micro, days, months = (sign * self.amounts[n] for n in (_MICROS, _DAYS, _MONTHS))
        if micro % 10 ** (6 - precision):
            raise UnfitError("22008", ROUNDED)
        try:
            packed = struct.pack(">qii", micro, days, months)
        except struct.error as error:
            raise UnfitError("22015", "out of range for interval") from error
        if packed in _ENDLESS:
            raise UnfitError("22015", "out of range for interval")
        return packed


# PostgreSQL 17 reads these two as infinity and -infinity, 15 and 16 as huge intervals.
_ENDLESS = (
    struct.pack(">qii", 2**63 - 1, 2**31 - 1, 2**31 - 1),
    struct.pack(">qii", -(2**63), -(2**31), -(2**31)),
)


def interval_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    precision = precision_of(column)
    return checked(each_distinct(lambda text: packed_interval(text, precision), pa.binary(16)))


def packed_interval(text: str, precision: int = 6) -> bytes:
    """The wire form: int64 microseconds, int32 days, int32 months, big-endian.

    Raises UnfitError where the text is no interval, or has digits below `precision` of a second.
    """
    text = text.strip(" \t\n\v\f\r")
    if text.lower() in ("infinity", "-infinity", "+infinity"):
        raise UnfitError("22007", "infinite intervals exist from PostgreSQL 17 on only")
    total = _Sum()
    if text[:1] in ("P", "p"):
        _read_iso(text[1:], total)
        return total.packed(False, precision)
    words, ago = _AGO.subn("", text.removeprefix("@").lstrip())
    _read_words(words, total)
    return total.packed(ago > 0, precision)


def _read_words(text: str, total: _Sum) -> None:
    if not text:
        raise _unreadable()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable()
        if match["clock"]:
            _add_clock(match, total)
        elif match["unit"].lower() in _UNITS:
            total.add(Fraction(match["number"].removesuffix(".")), _singular(match["unit"].lower()))
        else:
            raise _unreadable()
        position = match.end()


_SINGULAR = {
    entry: next(name for name in _UNITS if _UNITS[name] == entry) for entry in _UNITS.values()
}


def _singular(unit: str) -> str:
    return _SINGULAR[_UNITS[unit]]


def _add_clock(match: re.Match[str], total: _Sum) -> None:
    sign = -1 if match["sign"] == "-" else 1
    minutes, seconds = int(match["m"]), Fraction((match["s"] or "0").removesuffix("."))
    if minutes > 59 or seconds >= 60:
        raise UnfitError("22008", "minutes and seconds go up to 59")
    if total.seen & {"hour", "minute", "second"}:
        raise UnfitError("22007", "names a unit twice")
    total.add(sign * (int(match["h"]) * 3600 + minutes * 60 + seconds), "second")
    total.seen |= {"hour", "minute"}


def _read_iso(text: str, total: _Sum) -> None:
    dates, mark, times = text.upper().partition("T")
    if not dates and not mark:
        raise _unreadable()
    for part, pattern, units in (
        (dates, _ISO_DATE, _ISO_UNITS),
        (times, _ISO_TIME, _ISO_TIME_UNITS),
    ):
        position = 0
        while position < len(part):
            match = pattern.match(part, position)
            if match is None:
                raise _unreadable()
            total.add(Fraction(match[1].removesuffix(".")), units[match[2]])
            position = match.end()


def _unreadable() -> UnfitError:
    return UnfitError(
        "22007", "not an interval: write '1 day 02:03:04.5', '90 minutes' or 'P1DT2H'"
    )
