"""Moments at the ends of every calendar, and how PostgreSQL writes them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from hypothesis import strategies as st

from tests.edges.given import Given, words

Values = st.SearchStrategy[Any]
Instant = Callable[[int, str], Given]

DAY_US = 86_400_000_000
_DAYS_TO_2000 = 10_957  # from 1970
_CYCLE_DAYS = 146_097  # of 400 years
_MICRO = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1)


def date_text(days: int) -> str:
    """Days since 1970 as PostgreSQL writes a date, in any year."""
    cycles, rest = divmod(days + dt.date(1970, 1, 1).toordinal() - 1, _CYCLE_DAYS)
    day = dt.date.fromordinal(rest + 1)
    year = day.year + 400 * cycles
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04}-{day.month:02}-{day.day:02}{era}"


def clock_text(micros: int) -> str:
    """Microseconds since midnight."""
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"


def timestamp_text(micros: int, zone: str = "") -> str:
    """Microseconds since 1970 as PostgreSQL writes a timestamp, in any year."""
    days, of_day = divmod(micros, DAY_US)
    day, _, era = date_text(days).partition(" ")
    return f"{day} {clock_text(of_day)}{zone}{' ' + era if era else ''}"


# PostgreSQL's ends, since 1970: 4714-11-24 BC, 294276-12-31, 5874897-12-31.
_FIRST_DAY = -2_451_545 + _DAYS_TO_2000
_LAST_DAY = 2_145_031_948 + _DAYS_TO_2000
_FIRST_US = -211_813_488_000_000_000 + _DAYS_TO_2000 * DAY_US
_LAST_US = 9_223_371_331_199_999_999 + _DAYS_TO_2000 * DAY_US
_PLACES_US = [0, -1, 946_684_800_000_000, 951_782_400_000_000, 1_711_846_800_000_000]
_YEAR_1_DAY, _YEAR_9999_DAY = -719_162, 2_932_896

DAYS = st.one_of(
    st.integers(_YEAR_1_DAY, _YEAR_9999_DAY),
    st.integers(-(2**31), 2**31 - 1),
    st.builds(
        int.__add__,
        st.sampled_from([_FIRST_DAY, _LAST_DAY, _YEAR_1_DAY, _YEAR_9999_DAY, 0, _DAYS_TO_2000]),
        st.integers(-2, 2),
    ),
    st.sampled_from([-(2**31), 2**31 - 1]),
)


def ticks_near(per_second: int) -> Values:
    """Counts of a unit since 1970 within 64 bits, about PostgreSQL's ends where they are there."""
    ends = [us * per_second // 1_000_000 for us in (_FIRST_US, _LAST_US + 1, *_PLACES_US)]
    ends += [-(2**63), 2**63 - 1, _YEAR_1_DAY * 86_400 * per_second]
    near = st.builds(int.__add__, st.sampled_from(ends), st.integers(-2, 2))
    recent = st.integers(-(2 * 10**9) * per_second, 4 * 10**9 * per_second)
    daily = st.integers(-20_000, 40_000).map(lambda day: day * 86_400 * per_second)
    anywhere = near | recent | daily | st.integers(-(2**63), 2**63 - 1)
    return anywhere.filter(lambda v: -(2**63) <= v < 2**63)


PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def as_micros(ticks: int, unit: str) -> int | None:
    micros, rest = divmod(ticks * 10**6, PER_SECOND[unit])
    return None if rest else micros


def instant(ticks: int, unit: str, zone: str) -> Given:
    micros = as_micros(ticks, unit)
    if micros is None:
        return Given(ticks, "2000-01-01", fate="refused")
    return Given(ticks, timestamp_text(micros, zone))


def midnight(ticks: int, unit: str) -> Given:
    """Into a date: only what is midnight, where timestamps end and beyond."""
    day, rest = divmod(ticks, 86_400 * PER_SECOND[unit])
    return Given(ticks, date_text(day), fate="refused" if rest else "held")


def local(ticks: int, unit: str) -> Given:
    return instant(ticks, unit, "")


def utc(ticks: int, unit: str) -> Given:
    return instant(ticks, unit, "+00")


# ------------------------------------------------------------------ Python's own times

_OFFSETS = st.sampled_from(
    [dt.timezone(dt.timedelta(seconds=s)) for s in (0, -27_000, 50_400, 86_340, 3_723)]
) | st.sampled_from(words("Europe/Berlin America/New_York Asia/Kathmandu")).map(ZoneInfo)
_MOMENTS = (
    "2000-01-01 1999-12-31T23:59:59.000001 2024-02-29 1900-02-28T12:00 2025-03-30T02:30"
    " 0001-01-01 9999-12-31T23:59:59.999999"
)
NAIVE = st.datetimes() | st.sampled_from(words(_MOMENTS)).map(dt.datetime.fromisoformat)
_FOLDED = st.builds(
    lambda fold: dt.datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold),
    st.integers(0, 1),
)
AWARE = st.builds(lambda when, zone: when.replace(tzinfo=zone), NAIVE, _OFFSETS) | _FOLDED


def _since_1970(when: dt.datetime) -> int:
    return (when - _EPOCH) // _MICRO


def _utc_micros(when: dt.datetime) -> int:
    offset = when.utcoffset() or dt.timedelta(0)
    return (when.replace(tzinfo=None) - _EPOCH) // _MICRO - offset // _MICRO


def naive(when: dt.datetime) -> Given:
    return Given(when, timestamp_text(_since_1970(when)), via="timestamp")


def aware(when: dt.datetime) -> Given:
    return Given(when, timestamp_text(_utc_micros(when), "+00"), via="timestamptz")


def pandas_time(ticks: int, zone: str | None) -> Given:
    given = instant(ticks, "ns", "+00" if zone else "")
    when = pd.Timestamp(ticks, unit="ns", tz="UTC" if zone else None)
    return Given(when.tz_convert(zone) if zone else when, given.text, fate=given.fate)


NS_INSIDE = st.integers(-(2**63) + 10**15, 2**63 - 10**15) | st.integers(-(10**6), 10**6).map(
    lambda v: v * 1000
)
