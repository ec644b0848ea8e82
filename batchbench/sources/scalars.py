"""Python scalars of one column -> an Arrow array, with nothing changed on the way.

pyarrow's own inference is used where it is exact. It is not where it cuts off what it has no
place for: the offset of a time of day, the nanoseconds of pandas' times, the zone of a datetime
among naive ones. Such values become text that says all of it, and the casts decide row by row.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
from collections.abc import Callable
from decimal import Decimal
from itertools import repeat
from operator import is_not
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

JSON_SCALARS = {str, int, float, bool, Decimal}
NUMBERS = {int, float, Decimal}
_SINGLE = {bool, int, bytes, dt.date, Decimal}
_ADDRESSES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)

# Whole numbers up to here are written in full.
_PLAIN_DIGITS = 40
_INTEGER_END = 2.0**63
_LONG_INTEGER = 10**4_000  # from 4,300 digits on, str of an int raises


def scalars(values: list[Any], types: set[type]) -> pa.Array:
    """Make an array of scalars and None. types: those of `values`, at least one.

    Raises TypeError where they fit no one type, and what pyarrow raises.
    """
    if all(issubclass(kind, UUID) for kind in types):  # asyncpg has one of its own
        return _uuids(values)
    if types <= NUMBERS:
        return _numbers(values, types)
    if types == {str}:
        return texts(values)
    if len(types) == 1 and types <= _SINGLE:
        return pa.array(values)
    if types <= JSON_SCALARS:
        return as_text(values, json_text)
    if types == {dt.datetime} and len(zones := _zones(values)) == 1:
        return _datetimes_of_zone(values, zones[0])
    for parent, make in _TIMES.items():
        if all(issubclass(kind, parent) for kind in types):
            return make(values)
    if all(issubclass(kind, _ADDRESSES) for kind in types):
        return as_text(values, str)
    if len(types) > 1:
        raise TypeError
    return pa.array(values)


def _uuids(values: list[UUID | None]) -> pa.Array:
    integers = [0 if value is None else value.int for value in values]
    data = b"".join([integer.to_bytes(16, "big") for integer in integers])
    valid = np.fromiter(map(is_not, values, repeat(None)), bool, len(values))
    bitmap = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    storage = pa.Array.from_buffers(pa.binary(16), len(values), [bitmap, pa.py_buffer(data)])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def json_text(value: Any) -> str:
    """A scalar of JSON as text: what a JSON document would show, text itself as it is."""
    if isinstance(value, bool | float):
        return json.dumps(value)
    return number_text(value) if isinstance(value, int) else str(value)


def as_text(values: list[Any], spell: Callable[[Any], str]) -> pa.Array:
    """Values and None as an array of text."""
    return texts([None if v is None else spell(v) for v in values])


def texts(values: list[str | None]) -> pa.Array:
    """Text and None as an array of strings. Half a surrogate pair, which no UTF-8 has, becomes
    bytes that the casts refuse, so that it costs its own row only.
    """
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        raw = [None if v is None else v.encode(errors="surrogatepass") for v in values]
        return pa.array(raw, pa.binary()).view(pa.string())


# ------------------------------------------------------------------ numbers


def _numbers(values: list[Any], types: set[type]) -> pa.Array:
    try:
        if types == {int}:
            return pa.array(values, pa.int64())
        if Decimal not in types:
            return pa.array(values, pa.float64())
    except (pa.ArrowInvalid, OverflowError):
        pass  # an integer that int64, or float64 beside floats, cannot hold: exact decimals
    exact = [Decimal(repr(v)) if isinstance(v, float) else v for v in values]
    try:
        return pa.array([None if v is None else Decimal(v) for v in exact])
    except (pa.ArrowInvalid, TypeError, OverflowError):
        # more digits than decimal256 has, NaN or infinity: the digits as text
        return as_text(values, number_text)


def number_text(value: int | float | Decimal) -> str:
    """A number as text that says all of it; whole ones as integers, which any column reads."""
    if isinstance(value, float):
        whole = value.is_integer() and -_INTEGER_END <= value < _INTEGER_END
        return f"{value:.0f}" if whole else repr(value)
    if isinstance(value, int):
        return str(value if abs(value) < _LONG_INTEGER else Decimal(value))
    if value.is_finite() and value.adjusted() < _PLAIN_DIGITS and _is_whole(value):
        return f"{value:.0f}"
    return str(value)


def _is_whole(value: Decimal) -> bool:
    return bool(value == value.to_integral_value())


# ------------------------------------------------------------------ times


def _datetimes(values: list[Any]) -> pa.Array:
    # NaT is a datetime that does not equal itself
    known = [None if v is None or v != v else v for v in values]
    aware = {value.tzinfo is not None for value in known if value is not None}
    if len(aware) > 1:
        raise TypeError
    if any(getattr(value, "nanosecond", 0) for value in known):
        return as_text(known, lambda v: v.isoformat(" "))
    return pa.array(known, pa.timestamp("us", "UTC" if aware == {True} else None))


def _zones(values: list[dt.datetime | None]) -> list[dt.tzinfo | None]:
    """Each once, by identity: those of dateutil have no hash."""
    zones = {id(value.tzinfo): value.tzinfo for value in values if value is not None}
    return list(zones.values())


def _datetimes_of_zone(values: list[Any], zone: dt.tzinfo | None) -> pa.Array:
    """Python's own datetimes of one zone: their distance from 1970, which is exact, takes half
    the time of pyarrow's conversion.
    """
    utc = None if zone is None else dt.UTC
    epoch = dt.datetime(1970, 1, 1, tzinfo=utc)
    spans = [None if value is None else value - epoch for value in values]
    times = pa.timestamp("us", utc and "UTC")
    return pa.array(spans, pa.duration("us")).view(times)


def _times(values: list[Any]) -> pa.Array:
    if any(value is not None and value.tzinfo is not None for value in values):
        return as_text(values, dt.time.isoformat)
    return pa.array(values)


_MICROSECOND = dt.timedelta(microseconds=1)
_DAY_NS = 86_400_000_000_000


def _timedeltas(values: list[Any]) -> pa.Array:
    if not any(getattr(value, "nanoseconds", 0) for value in values):
        try:
            return pa.array(values, pa.duration("us"))
        except (pa.ArrowInvalid, OverflowError):
            pass  # beyond 64 bits of microseconds
    return as_text(values, _span)


def _span(value: Any) -> str:
    """In seconds, as durations are; where an interval has no room for so many, with days apart."""
    micros = value // _MICROSECOND
    nanos = micros * 1_000 + getattr(value, "nanoseconds", 0)
    days, nanos = (0, nanos) if abs(micros) < 2**63 else divmod(nanos, _DAY_NS)
    seconds, fraction = divmod(abs(nanos), 1_000_000_000)
    shown = f"{'-' if nanos < 0 else ''}{seconds}.{fraction:09} seconds"
    return f"{days} days {shown}" if days else shown


_TIMES: dict[type, Callable[[list[Any]], pa.Array]] = {
    dt.datetime: _datetimes,
    dt.time: _times,
    dt.timedelta: _timedeltas,
}
