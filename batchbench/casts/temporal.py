"""Into date, time, timestamp, timestamptz and interval from typed sources.

Units and bounds are PostgreSQL's: microseconds and days since 2000-01-01. Source: datatype/
timestamp.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchbench.casts.outcome import (
    CastOptions,
    Converted,
    Exactness,
    Kernel,
    Mask,
    Plan,
    arrow,
    checked,
    exact,
    fixed_binary,
    numbers,
    refuse,
    reject,
    valid_mask,
)
from batchbench.errors import ConfigError, TableError
from batchbench.table import Column

Int64s = NDArray[np.int64]
Shift = Callable[[Int64s, str], tuple[Int64s, Mask]]

EPOCH_DAYS = 10_957  # 1970-01-01 to 2000-01-01
DAY_US = 86_400_000_000
EPOCH_US = EPOCH_DAYS * DAY_US
DATE_MIN, DATE_END = -2_451_545, 2_145_031_949  # 4714-11-24 BC; the day after 5874897-12-31
TIMESTAMP_MIN, TIMESTAMP_END = -211_813_488_000_000_000, 9_223_371_331_200_000_000
# Zone rules are looked up from 0001-01-01 to 9999-12-31 only.
LOCAL_MIN, LOCAL_END = (-719_162 - EPOCH_DAYS) * DAY_US, (2_932_897 - EPOCH_DAYS) * DAY_US

BEYOND_CALENDAR = "beyond PostgreSQL's calendar"
ROUNDED = "would be rounded"
NOT_ONE_INSTANT = "this local time does not exist or comes twice in the assumed time zone"

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_FULL_PRECISION = 6


def integers(values: pa.Array) -> NDArray[Any]:
    """The integers behind a date, time, timestamp or duration array, 0 under nulls."""
    return numbers(values.view(pa.int32() if values.type.bit_width == 32 else pa.int64()))


def micros(
    found: NDArray[Any], unit: str, low: int, end: int, epoch_us: int = 0
) -> tuple[Int64s, Mask, Mask]:
    """Counts of `unit` as microseconds since `epoch_us`; which are outside, which are finer.

    low, end: microseconds since `epoch_us`, end excluded. The result is 0 where outside.
    """
    whole, finer = found.astype(np.int64), np.zeros(len(found), np.bool_)
    if unit == "ns":
        whole, finer = whole // 1_000, whole % 1_000 != 0
    factor = 1 if unit == "ns" else 1_000_000 // _PER_SECOND[unit]
    # Held against the bounds before it is multiplied, so that nothing leaves 64 bits.
    first, epoch = -(-low // factor), epoch_us // factor
    outside = whole < first + epoch
    since = np.where(outside, 0, whole - epoch)
    outside |= since >= -(-end // factor)
    return np.where(outside, 0, since) * factor, outside, finer


def precision_of(column: Column) -> int:
    """Digits of a second that the column keeps. Raises TableError for interval fields."""
    if column.typmod < 0:
        return _FULL_PRECISION
    if column.type.kind != "interval":
        return column.typmod
    fields, precision = column.typmod >> 16 & 0x7FFF, column.typmod & 0xFFFF
    if fields not in (0, 0x7FFF):
        raise TableError(
            f"column {column.name!r} is {column.declared}: intervals limited to some fields are "
            "not supported; make the column a plain interval"
        )
    return min(precision, _FULL_PRECISION)


def hold_precision(done: Converted, found: Int64s, column: Column) -> Converted:
    """Make faults of microseconds that the column's precision would round away."""
    precision = precision_of(column)
    if precision >= _FULL_PRECISION:
        return done
    return reject(done, found % 10 ** (_FULL_PRECISION - precision) != 0, "22008", ROUNDED)


def holding(column: Column, ticks_per_second: int) -> Exactness:
    """Exact where the column keeps every digit of the source's unit."""
    kept = bool(10 ** precision_of(column) >= ticks_per_second)
    return Exactness.EXACT if kept else Exactness.CHECKED


# ------------------------------------------------------------------ zones


def zone_of(source: pa.DataType, column: Column, options: CastOptions, what: str) -> str:
    """The assumed zone. Refuses the pair where there is none; ConfigError for an unknown one."""
    zone = options.assume_timezone
    if zone is None:
        refuse(source, column, f"{what}; say which with assume_timezone")
    try:
        pc.assume_timezone(pa.array([0], pa.timestamp("us")), zone)
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"assume_timezone is {zone!r}, which is no time zone known here; give a name such as "
            "Europe/Berlin or UTC"
        ) from error
    return zone


def to_utc(local: Int64s, zone: str) -> tuple[Int64s, Mask]:
    """Local times in `zone` as UTC, and which of them are not one instant.

    Both in microseconds since 2000.
    """
    outside = (local < LOCAL_MIN) | (local >= LOCAL_END)
    naive = _since_1970(local, outside).view(pa.timestamp("us"))
    earliest, latest = (
        integers(pc.assume_timezone(naive, zone, ambiguous=which, nonexistent=which))
        for which in ("earliest", "latest")
    )
    return earliest - EPOCH_US, outside | (earliest != latest)


def to_local(utc: Int64s, zone: str) -> tuple[Int64s, Mask]:
    """Instants as local times in `zone`, and which of them would not lead back.

    Both in microseconds since 2000.
    """
    outside = (utc < LOCAL_MIN + DAY_US) | (utc >= LOCAL_END - DAY_US)
    instants = _since_1970(utc, outside).view(pa.timestamp("us", zone))
    local = integers(pc.local_timestamp(instants)) - EPOCH_US
    return local, outside | to_utc(local, zone)[1]


def _since_1970(since_2000: Int64s, outside: Mask) -> pa.Array:
    return arrow(np.where(outside, 0, since_2000) + EPOCH_US, pa.int64())


# ------------------------------------------------------------------ timestamps


def timestamp_from_timestamp(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Zoned into timestamptz, naive into timestamp; from one to the other by assume_timezone."""
    shift = shift_between(source, column, options, zoned=source.tz is not None)
    unit = source.unit

    def kernel(values: pa.Array) -> Converted:
        found, outside, finer = micros(
            integers(values), unit, TIMESTAMP_MIN, TIMESTAMP_END, EPOCH_US
        )
        return finish_timestamps(found, valid_mask(values), outside, finer, column, shift)

    exactness = Exactness.CHECKED if shift else holding(column, _PER_SECOND[unit])
    return Plan(exactness, kernel)


def timestamp_from_date(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """A date is its midnight; into timestamptz that of the assumed zone."""
    shift = shift_between(source, column, options, zoned=False)

    def kernel(values: pa.Array) -> Converted:
        days, finer = whole_days(values)
        days = days - EPOCH_DAYS
        outside = (days < TIMESTAMP_MIN // DAY_US) | (days >= TIMESTAMP_END // DAY_US)
        found = np.where(outside, 0, days) * DAY_US
        return finish_timestamps(found, valid_mask(values), outside, finer, column, shift)

    simple = shift is None and pa.types.is_date32(source)
    return exact(kernel) if simple else checked(kernel)


def shift_between(source: pa.DataType, column: Column, options: CastOptions, *, zoned: bool) -> Any:
    """What turns times of the source into the column's: `to_utc`, `to_local` or nothing."""
    if zoned == (column.type.kind == "timestamptz"):
        return None
    if zoned:
        zone = zone_of(source, column, options, "instants become local times in some zone only")
        return lambda found: to_local(found, zone)
    zone = zone_of(source, column, options, "a time without a zone is no instant")
    return lambda found: to_utc(found, zone)


def finish_timestamps(
    found: Int64s, valid: Mask, outside: Mask, finer: Mask, column: Column, shift: Any
) -> Converted:
    """Microseconds since 2000 into the canonical array, with the faults found so far."""
    skewed = np.zeros(len(found), np.bool_)
    if shift is not None:
        found, skewed = shift(found)
    done = Converted(arrow(found, pa.int64(), valid))
    done = reject(done, outside, "22008", BEYOND_CALENDAR)
    done = reject(done, skewed, "22008", NOT_ONE_INSTANT)
    return hold_precision(reject(done, finer, "22008", ROUNDED), found, column)


# ------------------------------------------------------------------ dates


def whole_days(values: pa.Array) -> tuple[Int64s, Mask]:
    """A date array as days since 1970, and which of its values are not at midnight."""
    found = integers(values).astype(np.int64)
    if pa.types.is_date32(values.type):
        return found, np.zeros(len(found), np.bool_)
    days = found // 86_400_000
    return days, days * 86_400_000 != found


def date_from_date(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    def kernel(values: pa.Array) -> Converted:
        days, finer = whole_days(values)
        return finish_dates(days, valid_mask(values), finer)

    return exact(kernel) if pa.types.is_date32(source) else checked(kernel)


def date_from_timestamp(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Only midnights; of a zoned source, those of the assumed zone."""
    zone = None
    if source.tz is not None:
        zone = zone_of(source, column, options, "instants have a date in some zone only")
    per_day = 86_400 * _PER_SECOND[source.unit]

    def kernel(values: pa.Array) -> Converted:
        if zone is None:
            found = integers(values)
            days = found // per_day
            return finish_dates(days, valid_mask(values), days * per_day != found)
        found, outside, finer = micros(
            integers(values), source.unit, LOCAL_MIN, LOCAL_END, EPOCH_US
        )
        local, skewed = to_local(found, zone)
        days = local // DAY_US
        finer |= days * DAY_US != local
        done = finish_dates(days + EPOCH_DAYS, valid_mask(values), finer)
        return reject(done, outside | skewed, "22008", NOT_ONE_INSTANT)

    return checked(kernel)


def finish_dates(days: Int64s, valid: Mask, finer: Mask) -> Converted:
    """Days since 1970 into the canonical array."""
    since_2000 = days - EPOCH_DAYS
    outside = (since_2000 < DATE_MIN) | (since_2000 >= DATE_END)
    done = Converted(arrow(np.where(outside, 0, since_2000).astype(np.int32), pa.int32(), valid))
    done = reject(done, outside, "22008", BEYOND_CALENDAR)
    return reject(done, finer, "22008", "has a time of day, a date has none")


# ------------------------------------------------------------------ times of day, intervals


def time_from_time(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    def kernel(values: pa.Array) -> Converted:
        found, outside, finer = micros(integers(values), source.unit, 0, DAY_US + 1)
        done = Converted(arrow(found, pa.int64(), valid_mask(values)))
        done = reject(done, outside, "22008", "not within a day")
        return hold_precision(reject(done, finer, "22008", ROUNDED), found, column)

    return Plan(holding(column, _PER_SECOND[source.unit]), kernel)


def interval_bytes(
    micro: Int64s, days: NDArray[Any] | int, months: NDArray[Any] | int, valid: Mask
) -> pa.Array:
    """The wire form: int64 microseconds, int32 days, int32 months. Source: interval_send."""
    fields = np.zeros(len(micro), [("micros", ">i8"), ("days", ">i4"), ("months", ">i4")])
    fields["micros"], fields["days"], fields["months"] = micro, days, months
    return fixed_binary(fields.view(np.uint8).reshape(-1, 16), valid)


def interval_from_duration(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    def kernel(values: pa.Array) -> Converted:
        found, outside, finer = micros(integers(values), source.unit, -(2**63), 2**63)
        done = Converted(interval_bytes(found, 0, 0, valid_mask(values)))
        done = reject(done, outside, "22008", "out of range for interval")
        return hold_precision(reject(done, finer, "22008", ROUNDED), found, column)

    return Plan(holding(column, _PER_SECOND[source.unit]), kernel)


_MONTH_DAY_NANO = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])


def interval_from_months(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    precision_of(column)

    def kernel(values: pa.Array) -> Converted:
        raw = np.frombuffer(values.buffers()[1] or b"", _MONTH_DAY_NANO)
        fields = raw[values.offset : values.offset + len(values)]
        found, _, finer = micros(fields["nanos"], "ns", -(2**63), 2**63)
        packed = interval_bytes(found, fields["days"], fields["months"], valid_mask(values))
        done = reject(Converted(packed), finer, "22008", ROUNDED)
        return hold_precision(done, found, column)

    return checked(kernel)


def precise(column: Column, kernel: Kernel) -> Kernel:
    """A kernel of canonical microseconds, held against the column's precision; infinity fits."""
    if precision_of(column) >= _FULL_PRECISION:
        return kernel
    ends = [np.iinfo(np.int64).min, np.iinfo(np.int64).max]

    def held(values: pa.Array) -> Converted:
        done = kernel(values)
        found = numbers(done.values)
        return hold_precision(done, np.where(np.isin(found, ends), 0, found), column)

    return held
