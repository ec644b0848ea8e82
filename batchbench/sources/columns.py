"""Python values -> Arrow columns, with nothing changed on the way.

pyarrow's own inference is used where it is exact. It is not where it mixes date and datetime
(the time is lost), naive and aware datetimes (the zone is assumed), text and bytes, or objects
with different keys (missing keys become null): those are decided here, by the set of Python
types that a column holds.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from batchbench.errors import InputError

JSON_METADATA = {b"batchbench.type": b"json"}
"""Marks a text column whose values are JSON documents."""

_EXACT_INTEGERS = 2**53
_JSON_SCALARS = {str, int, float, bool, Decimal}
_SINGLE = {bool, int, str, bytes, dt.date, dt.time, dt.timedelta, Decimal}
_ADDRESSES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


def is_json(field: pa.Field) -> bool:
    """Whether a field holds JSON documents as text."""
    return (field.metadata or {}).get(b"batchbench.type") == b"json"


def batch_of_dicts(
    rows: Sequence[Mapping[str, Any]], known: Mapping[str, pa.Field], source: str
) -> pa.RecordBatch:
    """Make a record batch of dicts; a missing key is null.

    known: columns of earlier batches; all are in the result, first, with nulls where no row has
        them, and of the known type where that loses nothing.
    Raises InputError where a value has no Arrow type; `source` starts the message.
    """
    names = dict.fromkeys(known)
    for row in rows:
        if row.keys() - names.keys():
            names.update(dict.fromkeys(row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return batch_of_columns(columns, known, source)


def batch_of_columns(
    columns: Mapping[str, list[Any]], known: Mapping[str, pa.Field], source: str
) -> pa.RecordBatch:
    """Make a record batch of columns of equal length; see `batch_of_dicts`."""
    fields, arrays = [], []
    for name, values in columns.items():
        field, array = column(name, values, known.get(name), source)
        fields.append(field)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def column(
    name: str, values: list[Any], known: pa.Field | None, source: str
) -> tuple[pa.Field, pa.Array]:
    """One column: its field and its values. Raises InputError (see `batch_of_dicts`)."""
    types = set(map(type, values))
    if any(issubclass(kind, (np.number, np.bool_, np.str_)) for kind in types):
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        types = set(map(type, values))
    types.discard(type(None))
    if not types:
        field = known if known is not None else pa.field(name, pa.null())
        return field, pa.nulls(len(values), field.type)
    try:
        field, array = _found(name, values, types)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
        # pyarrow's and Python's own messages quote the value
        kinds = ", ".join(sorted(kind.__name__ for kind in types))
        raise InputError(
            f"{source}: column {name!r} has values ({kinds}) that fit no one type; "
            "make them of one type, or valid text"
        ) from None
    return _as_known(field, array, values, known)


def _found(name: str, values: list[Any], types: set[type]) -> tuple[pa.Field, pa.Array]:
    if dict in types or (types & {list, tuple} and not types <= {list, tuple}):
        return _json_column(name, values)
    if types <= {list, tuple}:
        return _list_column(name, values)
    array = _scalars(values, types)
    return pa.field(name, array.type), array


def _scalars(values: list[Any], types: set[type]) -> pa.Array:
    if types == {dt.datetime}:
        return _datetimes(values)
    if types == {UUID}:
        storage = pa.array([None if v is None else v.bytes for v in values], pa.binary(16))
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)
    if types <= {int, float, Decimal}:
        return _numbers(values, types)
    if len(types) == 1 and types <= _SINGLE:
        return pa.array(values)
    if types <= _JSON_SCALARS:
        return pa.array([_text(value) for value in values], pa.string())
    if all(issubclass(kind, _ADDRESSES) for kind in types):
        return pa.array([None if v is None else str(v) for v in values], pa.string())
    if len(types) > 1:
        raise TypeError
    return pa.array(values)


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
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # more digits than decimal256 has, NaN or infinity: the digits as text
        return pa.array([None if v is None else str(v) for v in exact], pa.string())


def _datetimes(values: list[Any]) -> pa.Array:
    aware = {value.tzinfo is not None for value in values if value is not None}
    if len(aware) > 1:
        raise TypeError
    return pa.array(values, pa.timestamp("us", "UTC" if aware == {True} else None))


def _list_column(name: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    kinds = {type(element) for value in values if value is not None for element in value}
    kinds.discard(type(None))
    if not kinds or len(kinds) > 1 or not kinds <= (_SINGLE | {float}):
        return _json_column(name, values)
    array = pa.array(values)
    return pa.field(name, array.type), array


def _json_column(name: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    texts = [None if v is None else _document(v) for v in values]
    return pa.field(name, pa.string(), metadata=JSON_METADATA), pa.array(texts, pa.string())


_DIGITS = re.compile(r'"\\u0000digits:([^"]+)"')


def _document(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_digits)
    return _DIGITS.sub(r"\1", text) if "\\u0000digits:" in text else text


def _digits(value: Any) -> str:
    # json cannot write a Decimal: mark its digits here, strip quotes and mark in _document
    if isinstance(value, Decimal) and value.is_finite():
        return f"\0digits:{value}"
    raise TypeError


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)


def _as_known(
    field: pa.Field, array: pa.Array, values: list[Any], known: pa.Field | None
) -> tuple[pa.Field, pa.Array]:
    """Keep to the type that earlier rows had, where that is exact: fewer casts to compile."""
    if known is None or known.equals(field, check_metadata=True):
        return field, array
    if is_json(known):
        return _json_column(field.name, values)
    if pa.types.is_string(known.type) and not pa.types.is_nested(array.type) and not is_json(field):
        if all(type(value) in _JSON_SCALARS for value in values if value is not None):
            return known, pa.array([_text(value) for value in values], pa.string())
        return field, array
    if pa.types.is_float64(known.type) and pa.types.is_int64(array.type):
        try:
            return known, array.cast(pa.float64())
        except pa.ArrowInvalid:
            return field, array  # integers that float64 cannot hold stay what they are
    return field, array
