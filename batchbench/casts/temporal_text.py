"""Into date, time, timestamp and timestamptz from text.

ISO 8601 goes through Arrow's parser, whole columns at a time. What that does not take (BC, years
of more than four digits, infinity, unpadded months, AM and PM) goes through `_DATE_TIME`, value
by value. Spellings whose meaning hangs on a setting (1/2/2024) or on the clock (today) are faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchbench.casts.outcome import (
    CastOptions,
    Converted,
    Kernel,
    Plan,
    Reader,
    UnfitError,
    arrow,
    byte_lengths,
    checked,
    each,
    each_distinct,
    numbers,
    parsed,
    patch,
    reject,
    text_bytes,
    valid_mask,
)
from batchbench.casts.temporal import (
    BEYOND_CALENDAR,
    DATE_END,
    DATE_MIN,
    DAY_US,
    EPOCH_DAYS,
    EPOCH_US,
    NOT_ONE_INSTANT,
    ROUNDED,
    TIMESTAMP_END,
    TIMESTAMP_MIN,
    Shift,
    integers,
    precise,
    to_local,
    to_utc,
    zone_of,
)
from batchbench.table import Column

_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d*))?)?"
    r"(?:\s*(?P<half>[AP]M))?"
)
_DATE_TIME = re.compile(
    r"(?P<year>\d{3,7})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
    rf"(?:(?:\s*T\s*|\s+){_TIME})?"
    r"(?:\s*(?P<zone>Z|UTC|GMT|[+-](?:\d{4}|\d{6}|\d{1,2}(?::\d\d){0,2})))?"
    r"(?:\s*(?P<era>AD|BC))?",
    re.I | re.ASCII,
)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?)?(.*)", re.I | re.ASCII)
_TIME_ONLY = re.compile(_TIME, re.I | re.ASCII)
_ZONE = re.compile(r"([+-])(\d{1,2})(?::?(\d\d))?(?::?(\d\d))?")
_ENDLESS = {"infinity": 1, "+infinity": 1, "-infinity": -1}

_YEAR_1_US = (date(1, 1, 1) - date(1970, 1, 1)).days * DAY_US
_LARGEST_OFFSET_S = 16 * 3600


# ------------------------------------------------------------------ one value


def _moment(text: str, type_name: str) -> tuple[int, int, int | None]:
    """Days since 2000, microseconds of the day, and the offset from UTC in seconds, if given."""
    compact = _COMPACT.fullmatch(text)
    if compact is not None:
        year, month, day, hour, minute, second, rest = compact.groups()
        clock = f" {hour}:{minute}:{second or '00'}" if hour else ""
        text = f"{year}-{month}-{day}{clock}{rest}"
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        if text.lower() == "epoch":
            return -EPOCH_DAYS, 0, 0
        raise UnfitError("22007", f"not a {type_name} in ISO 8601: write 2024-12-31 23:59:59.5+00")
    parts = match.groupdict()
    day_us = 0 if parts["hour"] is None else _time_of_day(parts)
    return _days(parts), day_us, _offset_s(parts["zone"])


def _days(parts: dict[str, str | None]) -> int:
    """Days since 2000 in the Gregorian calendar, which PostgreSQL carries back without end."""
    year, month, day = (int(parts[name] or 0) for name in ("year", "month", "day"))
    if year == 0:
        raise UnfitError("22008", "there is no year 0")
    if (parts["era"] or "").upper() == "BC":
        year = 1 - year
    cycles, year = divmod(year - 1, 400)  # the calendar repeats after 146,097 days
    try:
        of_cycle = date(year + 1, month, day).toordinal()
    except ValueError as error:
        raise UnfitError("22008", "no such month or day") from error
    return of_cycle + cycles * 146_097 - date(2000, 1, 1).toordinal()


def _time_of_day(parts: dict[str, str | None]) -> int:
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    half = (parts["half"] or "").upper()
    if half:
        if hour > 12:
            raise UnfitError("22008", "no such time of day")
        hour = hour % 12 + (12 if half == "PM" else 0)
    fraction = (parts["fraction"] or "").rstrip("0")
    if len(fraction) > 6:
        raise UnfitError("22008", ROUNDED)
    if second == 60:
        raise UnfitError("22008", "a leap second would become the next minute")
    micro = ((hour * 60 + minute) * 60 + second) * 1_000_000 + int(fraction.ljust(6, "0"))
    if minute > 59 or second > 59 or micro > DAY_US:
        raise UnfitError("22008", "no such time of day")
    return micro


def _offset_s(zone: str | None) -> int | None:
    if zone is None:
        return None
    match = _ZONE.fullmatch(zone)
    if match is None:
        return 0  # Z, UTC, GMT
    sign, hour, minute, second = match.groups()
    offset_s = int(hour) * 3600 + int(minute or 0) * 60 + int(second or 0)
    if int(minute or 0) > 59 or int(second or 0) > 59 or offset_s >= _LARGEST_OFFSET_S:
        raise UnfitError("22009", "time zone offset out of range")
    return offset_s if sign == "+" else -offset_s


def _shifted(micro: int, shift: Shift, zone: str) -> int:
    found, bad = shift(np.array([micro]), zone)
    if bad[0]:
        raise UnfitError("22008", NOT_ONE_INSTANT)
    return int(found[0])


def _instant(text: str) -> tuple[int, bool]:
    """Microseconds since 2000, and whether the text says its offset from UTC."""
    days, day_us, offset_s = _moment(text, "timestamp")
    micro = days * DAY_US + day_us - (offset_s or 0) * 1_000_000
    if not TIMESTAMP_MIN <= micro < TIMESTAMP_END:
        raise UnfitError("22008", BEYOND_CALENDAR)
    return micro, offset_s is not None


def _timestamp(column: Column, zone: str | None) -> Callable[[str], int]:
    """A converter of one text into microseconds since 2000."""
    instants = column.type.kind == "timestamptz"

    def convert(text: str) -> int:
        endless = _ENDLESS.get(text.lower())
        if endless is not None:
            return 2**63 - 1 if endless > 0 else -(2**63)
        micro, zoned = _instant(text)
        if instants == zoned or text.lower() == "epoch":
            return micro
        if zone is None:
            raise UnfitError("22007", _NO_OFFSET if instants else _OFFSET)
        return _shifted(micro, to_utc if instants else to_local, zone)

    return convert


_NO_OFFSET = "has no offset from UTC: add one, or say which zone with assume_timezone"
_OFFSET = "has an offset from UTC, which the column would drop: say which zone with assume_timezone"


def _date(text: str) -> int:
    """Days since 2000."""
    endless = _ENDLESS.get(text.lower())
    if endless is not None:
        return 2**31 - 1 if endless > 0 else -(2**31)
    days, day_us, offset_s = _moment(text, "date")
    if offset_s is not None and text.lower() != "epoch":
        raise UnfitError("22007", "has an offset from UTC, a date has none")
    if day_us:
        raise UnfitError("22008", "has a time of day, a date has none")
    if not DATE_MIN <= days < DATE_END:
        raise UnfitError("22008", BEYOND_CALENDAR)
    return days


def _time(text: str) -> int:
    """Microseconds since midnight."""
    match = _TIME_ONLY.fullmatch(text)
    if match is None:
        raise UnfitError("22007", "not a time of day: write 23:59:59.5, without an offset")
    return _time_of_day(match.groupdict())


# ------------------------------------------------------------------ whole columns

_CLOCK_SHAPE = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_DATE_SHAPE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_NAIVE_SHAPE = rf"^{_DATE_SHAPE}([ T]{_CLOCK_SHAPE})?$"
_ZONED_SHAPE = rf"^{_DATE_SHAPE}[ T]{_CLOCK_SHAPE}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$"
_MINUTES_FROM = 13  # where they begin, with their colon: after 2024-12-31 23
_OFFSET_FROM = 16  # where the offset may begin: after 2024-12-31 23:59
_LENGTH_WITH_MICROSECONDS = 26  # 2024-12-31 23:59:59.999999, without an offset


def _tidy(values: pa.Array) -> pa.Array:
    """Cut off blanks, a blank before the offset, and zeros beyond microseconds."""
    trimmed = pc.ascii_trim_whitespace(values)
    for sign in "+-":
        places = numbers(pc.find_substring(trimmed, f" {sign}"))
        if int(places.min(initial=_OFFSET_FROM, where=places > 0)) >= _OFFSET_FROM:
            trimmed = pc.replace_substring(trimmed, f" {sign}", sign, max_replacements=1)
    if int(byte_lengths(trimmed).max(initial=0)) <= _LENGTH_WITH_MICROSECONDS:
        return trimmed
    return pc.replace_substring_regex(trimmed, r"(\.[0-9]{6})0+", r"\1")


def _since_2000(found: pa.Array) -> pa.Array:
    """Arrow's microseconds since 1970 as PostgreSQL's. Arrow's parser knows a year 0."""
    raw = integers(found)
    if bool((raw < _YEAR_1_US).any()):
        raise UnfitError("22008", "year 0")
    return arrow(raw - EPOCH_US, pa.int64(), valid_mask(found))


def _naive(values: pa.Array) -> pa.Array:
    found = _since_2000(values.cast(pa.timestamp("us")))
    _hold_minutes(values.drop_null())
    return found


def _zoned(values: pa.Array) -> pa.Array:
    found = _since_2000(values.cast(pa.timestamp("us", "UTC")))
    _hold_minutes(values.drop_null())
    if _any_large_offset(values.drop_null()):
        raise UnfitError("22009", "time zone offset out of range")
    return found


def _hold_minutes(values: pa.Array) -> None:
    """Raise UnfitError where a text that Arrow has parsed has an hour alone, no text for 15."""
    lengths = byte_lengths(values)
    timed = lengths > _MINUTES_FROM - len(" 23")
    if bool(timed.any()):
        starts = (np.cumsum(lengths) - lengths)[timed]
        short = lengths[timed] <= _MINUTES_FROM
        colons = text_bytes(values)[np.where(short, starts, starts + _MINUTES_FROM)]
        if bool((short | (colons != ord(":"))).any()):
            raise UnfitError("22007", "no minutes")


def _any_large_offset(values: pa.Array) -> bool:
    """Whether a time that Arrow has parsed is 16 hours or more off UTC, which it lets pass."""
    characters, ends = text_bytes(values), np.cumsum(byte_lengths(values))
    if bool((characters[ends - 1] == ord("Z")).all()):
        return False
    for width in (len("+00:00"), len("+0000"), len("+00")):
        sign, tens, ones = (characters[ends - width + place] for place in range(3))
        hours = (tens - np.uint8(ord("0"))) * 10 + (ones - np.uint8(ord("0")))
        signed = (sign == ord("+")) | (sign == ord("-"))
        if bool((signed & (hours >= _LARGEST_OFFSET_S // 3600)).any()):
            return True
    return False


def timestamp_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Text with an offset into timestamptz, without one into timestamp; else assume_timezone."""
    instants = column.type.kind == "timestamptz"
    zone = options.assume_timezone and zone_of(source, column, options, "")
    slow: Kernel = each_distinct(_timestamp(column, zone), pa.int64())
    if zone:
        slow = _other_kind(instants, zone, slow)
    reader = Reader(
        _ZONED_SHAPE if instants else _NAIVE_SHAPE, _zoned if instants else _naive, slow
    )
    return checked(precise(column, lambda values: parsed(values, reader, _tidy)))


def _other_kind(instants: bool, zone: str, slow: Kernel) -> Kernel:
    """A kernel for text that has an offset where the column has none, or the other way round."""
    reader = Reader(
        _NAIVE_SHAPE if instants else _ZONED_SHAPE,
        _naive if instants else _zoned,
        each(lambda text: _instant(text)[0], pa.int64()),
    )
    shift = to_utc if instants else to_local

    def kernel(values: pa.Array) -> Converted:
        odd = ~reader.fitting(values) & valid_mask(values)
        read = reader.read(pc.if_else(pa.array(odd), pa.scalar(None, values.type), values))
        micro, bad = shift(numbers(read.values), zone)
        done = Converted(arrow(micro, pa.int64(), valid_mask(read.values)), read.faults)
        return patch(reject(done, bad, "22008", NOT_ONE_INSTANT), odd, values, slow)

    return kernel


def date_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    def fast(values: pa.Array) -> pa.Array:
        found = values.cast(pa.date32())
        days = integers(found)
        if bool((days < _YEAR_1_US // DAY_US).any()):
            raise UnfitError("22008", "year 0")
        return arrow(days - EPOCH_DAYS, pa.int32(), valid_mask(found))

    reader = Reader(rf"^{_DATE_SHAPE}$", fast, each_distinct(_date, pa.int32()))
    return checked(lambda values: parsed(values, reader))


def time_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    def fast(values: pa.Array) -> pa.Array:
        # Arrow parses no times of day, but timestamps; 10 characters are a date.
        first_day = pc.binary_join_element_wise(
            pa.scalar("1970-01-01", source), values, pa.scalar(" ", source)
        )
        if pc.min(pc.binary_length(values)).as_py() in (0, 1, 2):
            raise UnfitError("22007", "not a time of day")
        found = first_day.cast(pa.timestamp("us"))
        return arrow(integers(found), pa.int64(), valid_mask(found))

    reader = Reader(rf"^{_CLOCK_SHAPE}$", fast, each_distinct(_time, pa.int64()))
    return checked(precise(column, lambda values: parsed(values, reader)))
