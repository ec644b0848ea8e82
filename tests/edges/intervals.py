"""interval, and values at its edges."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.given import Carrier, Given, Kind, arrow_raw, literal, python, texts
from tests.edges.moments import PER_SECOND

_MICRO = dt.timedelta(microseconds=1)
_ORDINARY = literal(
    "1 year 2 mons 3 days 04:05:06.7", "-1 days", "00:00:00", "1 day", "90 minutes",
    "P1Y2M3DT4H5M6.7S",
    "P1W", "PT0S", "-1 days +02:03:04", "1 mon -1 days", "-00:00:01", "25:00:00", "1 week",
    "2 hours",
    "00:00:00.000001", "1 year ago", "@ 1 minute", "178000000 years", "-178000000 years",
    "1.5 days",
    "178956970 years 7 mons", "2147483647 days", "-2147483648 days", "2147483648 days", "1.5 hours",
    "2562047788:00:54.775807", "2562047788:00:54.775808", "1.5 weeks",
    "2147483647 mons", "2147483648 mons", "", "x", "1 fortnight", "1 day 1 day", "00:60:00",
    "1 d 2 h",
    "0.5 mons", "1 month 1 day 1 hour 1 minute 1 second 1 ms 1 us", "infinity years",
)  # fmt: skip
# The smallest of all, which the server prints and does not read.
_SMALLEST = st.just(Given("-2562047788:00:54.775808", "-9223372036854775808 us"))
_ODD = literal(
    "P0001-02-03T04:05:06", "1-2", "1 2:03", "1 2:03:04", "5", "1.5", "infinity", "-infinity",
    "-1-2 +3 -4:05",
    "1.3 mons", "0.33 mons", "1.5 years", "0.7 years", "1.1 decades", "P-1Y-2M", "-P1D", "PT1.5H",
    "P1.5M",
    "1e3 days", "1:2:3", "1:2", "-1:30", "+1 day", ".5 day", "1. day", "1d2h", "1y2mon", "P1Y2M3W",
    "P1Y1Y",
    "9223372036854775807 us", "9223372036854775808 us", "-9223372036854775808 us",
    "1 day ago -1 hour",
    "106751991 days 04:00:54.775807", "1 century", "1 millennium 2 decades",
    "2147483647 mons 1 year",
    "-1 day ago", "3 days 04", "1 mon 2147483647 days 2562047788:00:54.775807", "PT", "P", "P1YT",
    "1 day 2:3",
    fate="free",
)  # fmt: skip
_FINER = literal(
    "0.0000001 seconds", "00:00:00.0000001", "1.0000005 s", "PT0.0000004S", "0.5 us", "0.0001 ms",
    fate="refused",
)  # fmt: skip


def _spans(per_second: int) -> st.SearchStrategy[int]:
    ends = [0, 1, -1, 86_400 * per_second, 2**63 - 1, -(2**63) + 1]
    ends += [2**63 * per_second // 10**6 - 1, 2**63 * per_second // 10**6 + 1, 1000, 999]
    inside = [e for e in ends if -(2**63) < e < 2**63]
    return (
        st.sampled_from(inside)
        | st.integers(-(2**63) + 1, 2**63 - 1)
        | st.integers(-(10**6), 10**6).map(lambda v: v * 1000)
    )


def _span(ticks: Any, unit: str) -> Given:
    micros, rest = divmod(ticks * 10**6, PER_SECOND[unit])
    if rest or not -(2**63) <= micros < 2**63:
        return Given(ticks, "0", fate="refused")
    return Given(ticks, f"{micros} us")


def _delta(value: dt.timedelta) -> Given:
    micros = value // _MICRO
    if abs(micros) < 2**63:
        return Given(value, f"{micros} us")
    days, rest = divmod(micros, 86_400_000_000)
    return Given(value, f"{days} days {rest} us")


def _months(value: tuple[int, int, int]) -> Given:
    months, days, nanos = value
    micros, rest = divmod(nanos, 1000)
    if rest:
        return Given(value, "0", fate="refused")
    return Given(value, f"{months} mons {days} days {micros} us")


_MONTH_DAY_NANO = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])
_PARTS = st.tuples(
    st.integers(-(2**31), 2**31 - 1) | st.integers(-20, 20),
    st.integers(-(2**31), 2**31 - 1) | st.integers(-20, 20),
    st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**9), 10**9).map(lambda v: v * 1000),
)


def _month_array(values: list[Any]) -> pa.Array:
    raw = np.array([(0, 0, 0) if v is None else v for v in values], _MONTH_DAY_NANO)
    valid = np.array([v is not None for v in values])
    buffers = [pa.py_buffer(np.packbits(valid, bitorder="little")), pa.py_buffer(raw)]
    return pa.Array.from_buffers(pa.month_day_nano_interval(), len(values), buffers)


def _delta_series(unit: str) -> Callable[[list[Any]], pd.Series]:
    def build(ticks: list[Any]) -> pd.Series:
        raw = np.array([-(2**63) if v is None else v for v in ticks], np.int64)
        return pd.Series(raw.view(f"timedelta64[{unit}]"))

    return build


def _interval(sql: str) -> Kind:
    carriers: list[Carrier] = [
        texts(_ORDINARY, _ODD, _FINER, _SMALLEST),
        python("timedelta", (st.timedeltas() | st.sampled_from(
            [dt.timedelta.min, dt.timedelta.max, _MICRO, -_MICRO, dt.timedelta(days=106_751_991)]
        )).map(_delta)),
        Carrier("months", "arrow", _PARTS.map(_months), _month_array, lossy_in_parquet=True),
    ]  # fmt: skip
    for unit, per in PER_SECOND.items():
        given = _spans(per).map(lambda v, unit=unit: _span(v, unit))
        carriers.append(arrow_raw(pa.duration(unit), given))
        carriers.append(Carrier(f"timedelta64[{unit}]", "frame", given, _delta_series(unit)))
    return Kind(sql, "interval", tuple(carriers))


INTERVAL_KINDS = (_interval("interval"), _interval("interval(2)"))
