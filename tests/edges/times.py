"""Column types of dates, times and intervals, and values at their edges."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.given import (
    Carrier,
    Given,
    Kind,
    arrow_raw,
    literal,
    python,
    texts,
)
from tests.edges.moments import (
    AWARE,
    DAY_US,
    DAYS,
    NAIVE,
    NS_INSIDE,
    PER_SECOND,
    Instant,
    Values,
    as_micros,
    aware,
    clock_text,
    date_text,
    local,
    midnight,
    naive,
    pandas_time,
    ticks_near,
    timestamp_text,
    utc,
)

Givens = st.SearchStrategy[Given]

# ------------------------------------------------------------------ typed carriers


def _arrow_timestamps(zone: str | None, make: Instant) -> list[Carrier]:
    return [
        arrow_raw(
            pa.timestamp(unit, zone),
            ticks_near(per).map(lambda v, unit=unit: make(v, unit)),
            lossy_in_parquet=unit == "s",
        )
        for unit, per in PER_SECOND.items()
    ]


def _frame_timestamps(zone: str | None, make: Instant) -> list[Carrier]:
    carriers = []
    for unit, per in PER_SECOND.items():
        dtype = f"datetime64[{unit}, {zone}]" if zone else f"datetime64[{unit}]"
        ticks = ticks_near(per).filter(lambda v: v != -(2**63))
        given = ticks.map(lambda v, unit=unit: make(v, unit))
        carriers.append(Carrier(dtype, "frame", given, lambda vs, d=dtype: _times_series(vs, d)))
    return carriers


def _times_series(ticks: list[Any], dtype: str) -> pd.Series:
    """A Series of the counts behind its times; the smallest is pandas' NaT."""
    raw = np.array([-(2**63) if v is None else v for v in ticks], np.int64)
    unit = dtype.partition("[")[2].rstrip("]").partition(",")[0]
    plain = pd.Series(raw.view(f"datetime64[{unit}]"))
    zone = dtype.rstrip("]").partition(", ")[2]
    return plain.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else plain


_DATES = (
    python("date", (st.dates() | st.sampled_from([dt.date.min, dt.date.max])).map(
        lambda d: Given(d, date_text((d - dt.date(1970, 1, 1)).days)))),
    arrow_raw(pa.date32(), DAYS.map(lambda d: Given(d, date_text(d)))),
)  # fmt: skip


_DAY_MS = 86_400_000


def _date64_value(millis: int) -> Given:
    """Arrow says that date64 is whole days."""
    day, rest = divmod(millis, _DAY_MS)
    return Given(millis, date_text(day), fate="refused" if rest else "held")


_DATE64 = arrow_raw(
    pa.date64(),
    (DAYS.map(lambda d: d * _DAY_MS) | st.integers(-(10**13), 10**13)).map(_date64_value),
    lossy_in_parquet=True,
)


_DATE_TEXT = literal(
    "2025-09-09", "0001-01-01", "0001-01-01 BC", "4714-11-24 BC", "4714-11-23 BC", "5874897-12-31",
    "5874898-01-01", "infinity", "-infinity", "Infinity", "2024-02-29", "2023-02-29", "1900-02-29",
    "0000-01-01", "2024-13-01", "2024-00-10", "2024-01-32", "20240105", "10000-01-01", "epoch",
    " 2024-01-05 ", "2024-01-05 BC", "2024-01-05 AD", "", "x", "2024", "2024-01", "99999999-01-01",
    "2000-02-29", "0004-02-29 BC", "0005-02-29 BC", "2024-02-30",
) | DAYS.map(date_text).map(lambda t: Given(t, t))  # fmt: skip
_ODD_DATES = literal(
    "today", "now", "tomorrow", "1/2/2024", "Jan 5 2024", "5 January 2024", "J2451187", "2024.005",
    "2024-1-5", "24-01-05", "-0044-03-15", "+2024-01-05", "2024-01-05T00:00:00", "2024-01-05 00:00",
    "allballs", "2024-W01-1", fate="free",
)  # fmt: skip
_DATES_WITH_MORE = literal(
    "2024-01-05 10:00", "2024-01-05T23:59:59.5", "2024-01-05 00:00:01", fate="refused"
)

_MIDNIGHTS = st.dates().map(lambda d: dt.datetime(d.year, d.month, d.day))
DATE = Kind(
    "date",
    "date",
    (
        texts(_DATE_TEXT, _ODD_DATES, _DATES_WITH_MORE),
        *_DATES,
        _DATE64,
        python("datetime", (NAIVE | _MIDNIGHTS).map(naive)),
        *_arrow_timestamps(None, midnight),
        *_frame_timestamps(None, midnight),
    ),
)  # fmt: skip

# ------------------------------------------------------------------ times of day

_CLOCKS = st.integers(0, DAY_US) | st.sampled_from([0, 1, DAY_US - 1, DAY_US, 500_000, 999_999])
_TIME_TEXT = literal(
    "00:00:00", "24:00:00", "24:00", "24:00:00.000001", "24:00:01", "25:00:00", "23:59:59.999999",
    "23:59", "12:60", "12:00:61", "-01:00:00", "12:00:00.1234560", "12:00:00.000000000", "12", "",
    " 01:02:03 ", "12:00 AM", "12:00 PM", "01:00 pm", "13:00 PM", "x", "1:02", "01:02:03.",
) | _CLOCKS.map(clock_text).map(lambda t: Given(t, t))  # fmt: skip
_ODD_TIMES = literal(
    "010203", "0102", "allballs", "now", "T01:02:03", "T010203", "01:02:03.4.5", "1:2:3", "1:2",
    "2024-01-01 01:02:03", "01:02:03 BC", "0:00 AM", fate="free",
)  # fmt: skip
_ALTERED_TIMES = literal(
    "23:59:59.9999999", "23:59:60", "12:00:00.0000001", "12:00+02", "12:00:00Z", "04:05:06-08:00",
    "12:00 UTC", "00:00:59.9999995", fate="refused",
)  # fmt: skip


def _clock(ticks: int, unit: str) -> Given:
    micros = as_micros(ticks, unit)
    if micros is None or not 0 <= micros <= DAY_US:
        return Given(ticks, "00:00", fate="refused")
    return Given(ticks, clock_text(micros))


def _time_ticks(per_second: int) -> Values:
    day = 86_400 * per_second
    near = st.builds(int.__add__, st.sampled_from([0, day]), st.integers(-2, 2))
    return near | st.integers(0, day) | st.integers(0, day // 1000).map(lambda v: v * 1000)


def _micros_of(time: dt.time) -> int:
    seconds = (time.hour * 60 + time.minute) * 60 + time.second
    return seconds * 1_000_000 + time.microsecond


def _time(sql: str) -> Kind:
    typed: list[Carrier] = [
        python("time", st.times().map(lambda t: Given(t, clock_text(_micros_of(t))))),
        python("aware time", st.times(timezones=st.just(dt.UTC)).map(
            lambda t: Given(t, "00:00", fate="refused"))),
    ]  # fmt: skip
    for unit, per in PER_SECOND.items():
        kind = pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
        given = _time_ticks(per).map(lambda v, unit=unit: _clock(v, unit))
        typed.append(arrow_raw(kind, given, lossy_in_parquet=unit == "s"))
    return Kind(sql, "time", (texts(_TIME_TEXT, _ODD_TIMES, _ALTERED_TIMES), *typed))


# ------------------------------------------------------------------ timestamps

_ENDS = (
    "4714-11-24 00:00:00{0} BC", "4714-11-23 23:59:59.999999{0} BC",
    "294276-12-31 23:59:59.999999{0}",
    "294277-01-01 00:00:00{0}", "2024-01-01 24:00:00{0}", "2024-01-01 24:00:01{0}",
    "2024-12-31T23:59:59.5{0}", "2024-02-30 00:00:00{0}", "2023-02-29 00:00{0}",
    "2024-01-01 10:60{0}",
    "0001-01-01 00:00:00{0}", "0001-12-31 23:59:59{0} BC", "9999-12-31 23:59:59.999999{0}",
    "10000-01-01 00:00:00{0}", "2024-06-30 12:34:56.1234560{0}", "0000-01-01 00:00:00{0}",
    " 2024-01-01 00:00:00.000001{0} ", "2024-01-01T00:00{0}", "2024-01-01 00:00:00.{0}",
)  # fmt: skip
_ALTERED_ENDS = (
    "2024-12-31 23:59:60{0}", "2024-12-31 23:59:59.9999999{0}", "2024-01-01 00:00:00.0000001{0}",
)  # fmt: skip
_SHARED = literal("infinity", "-infinity", "INFINITY", "epoch", "", "x", "2024", "null")
_ODD_MOMENTS = (
    "20240101T102030{0}", "2024-1-5 1:02:03{0}", "2024-01-01 10:00 PM{0}", "Jan 5 2024 10:00{0}",
    "1/2/2024 10:00{0}", "2024-01-01  10:00{0}", "20240101 102030{0}", "2024-01-01 01:00 AM{0}",
    "2024-01-01 10{0}",
)  # fmt: skip
_CLOCK_WORDS = literal("now", "today", "tomorrow", "yesterday", fate="free")
_ZONES = (
    "Z", "+00", "-00", "+0530", "+05:30", "-08", "+15:59:59", "-15:59", "+16", "-16:00", "+14:00",
    " +01", "+05:30:15", "UTC", " GMT", "+5", "z", "+1:30", "+01:60", "+99", "+00:00:60",
)  # fmt: skip
_ODD_ZONES = (" Europe/Berlin", " PST", " CET", "+05:30:15.5", " America/New_York")


def _filled(patterns: tuple[str, ...], zones: tuple[str, ...], **more: Any) -> Givens:
    return st.builds(str.format, st.sampled_from(patterns), st.sampled_from(zones)).map(
        lambda text: Given(text, text, **more)
    )


def _moment_text(zone: str) -> Givens:
    micros = ticks_near(10**6)
    return micros.map(lambda v: timestamp_text(v, zone)).map(lambda t: Given(t, t))


def _timestamp(sql: str) -> Kind:
    given = texts(
        _filled(_ENDS, ("",)),
        _moment_text(""),
        _SHARED,
        _CLOCK_WORDS,
        literal("2024-01-01", "0044-03-15 BC", " 2024-01-01"),
        _filled(_ODD_MOMENTS, ("",), fate="free"),
        _filled(_ALTERED_ENDS, ("",), fate="refused"),
        # the server would drop the zone
        _filled(_ENDS, ("Z", "+00", "-08", " +01", "UTC"), fate="refused"),
    )
    typed = [
        python("datetime", NAIVE.map(naive)),
        python("pandas.Timestamp", NS_INSIDE.map(lambda v: pandas_time(v, None))),
        *_arrow_timestamps(None, local),
        *_frame_timestamps(None, local),
        *_DATES,
        _DATE64,
    ]
    return Kind(sql, "timestamp", (given, *typed))


def _timestamptz(sql: str) -> Kind:
    given = texts(
        _filled(_ENDS, _ZONES),
        _moment_text("+00"),
        _SHARED,
        _CLOCK_WORDS,
        _filled(_ENDS, _ODD_ZONES, fate="free"),
        _filled(_ODD_MOMENTS, ("+00", " Z"), fate="free"),
        _filled(_ALTERED_ENDS, ("+00", "Z"), fate="refused"),
        # the server would take the session's zone
        _filled((*_ENDS, "2024-01-01"), ("",), fate="refused"),
    )
    typed = [
        python("aware datetime", AWARE.map(aware)),
        python("aware pandas.Timestamp", NS_INSIDE.map(lambda v: pandas_time(v, "Asia/Tokyo"))),
        *_arrow_timestamps("UTC", utc),
        *_arrow_timestamps("Europe/Berlin", utc),
        *_frame_timestamps("UTC", utc),
        *_frame_timestamps("America/New_York", utc),
    ]
    return Kind(sql, "timestamptz", (given, *typed))


TIME_KINDS = (
    DATE,
    *map(_time, ("time", "time(0)", "time(3)")),
    *map(_timestamp, ("timestamp", "timestamp(0)")),
    *map(_timestamptz, ("timestamptz", "timestamptz(3)")),
)
