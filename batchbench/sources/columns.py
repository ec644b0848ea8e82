"""Python values -> Arrow columns, with nothing changed on the way.

pyarrow's own inference is used where it is exact. It is not where it mixes date and datetime
(the time is lost), naive and aware datetimes (the zone is assumed), text and bytes, or objects
with different keys (missing keys become null): those are decided here, by the set of Python
types that a column holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchbench.errors import InputError
from batchbench.sources.scalars import (
    JSON_SCALARS,
    NUMBERS,
    as_text,
    json_text,
    number_text,
    scalars,
    texts,
)
from batchbench.sources.source import ABSENT

JSON_METADATA = {b"batchbench.type": b"json"}
"""Marks a text column whose values are JSON documents."""


def is_json(field: pa.Field) -> bool:
    """Whether a field holds JSON documents as text."""
    return (field.metadata or {}).get(b"batchbench.type") == b"json"


def _is_numpy(kind: type) -> bool:
    """Whether values have an equal of Python's own; times of nanoseconds have none."""
    has_equal = issubclass(kind, (np.number, np.bool_, np.str_))
    return has_equal and not issubclass(kind, np.timedelta64)


def batch_of_dicts(
    rows: Sequence[Mapping[str, Any]],
    known: Mapping[str, pa.Field],
    source: str,
    *,
    tells_absent: bool = False,
    mapped: bool = False,
) -> pa.RecordBatch:
    """Make a record batch of dicts; a missing key is null.

    known: columns of earlier batches; all are in the result, first, with nulls where no row has
        them, and of the known type where that loses nothing.
    tells_absent: whether the column ABSENT says which keys the rows have not.
    mapped: whether a map may have taken all their keys, as its own check then tells.
    Raises InputError where a value has no Arrow type, and where no row so far has a key: a batch
    without columns has no rows either. `source` starts the message.
    """
    names = dict.fromkeys(known)
    names.update(dict.fromkeys(rows[0]))
    try:
        columns = {name: list(map(itemgetter(name), rows)) for name in names}
        same_keys = set(map(len, rows)) == {len(names)}
    except KeyError:
        same_keys = False
    if not same_keys:
        for row in rows:
            if row.keys() - names.keys():
                names.update(dict.fromkeys(row))
        columns = {name: [row.get(name) for row in rows] for name in names}
    if not names and not mapped:
        raise InputError(
            f"{source}: no object has a key, so nothing tells their columns; leave them out, or put"
            " one that has keys first"
        )
    batch = batch_of_columns(columns, known, source)
    if not tells_absent:
        return batch
    if same_keys:
        return batch.append_column(ABSENT, absent_keys(np.zeros(batch.shape, np.bool_)))
    sets = list(map(tuple, rows))  # few, as a rule
    places = {keys: place for place, keys in enumerate(dict.fromkeys(sets))}
    lacks = np.array([[name not in keys for name in names] for keys in places], np.bool_)
    chosen = pa.array([places[keys] for keys in sets])
    return batch.append_column(ABSENT, absent_keys(lacks).take(chosen))


def absent_keys(lacks: NDArray[np.bool_]) -> pa.Array:
    """The column ABSENT. lacks: shape (rows, columns)."""
    if not lacks.any():
        return pa.repeat(pa.scalar(b"", pa.binary()), len(lacks))
    packed = np.packbits(lacks, axis=1, bitorder="little")
    sets, places = np.unique(packed, axis=0, return_inverse=True)
    bits = [row.tobytes().rstrip(b"\0") for row in sets]
    return pa.array(bits, pa.binary()).take(pa.array(places.reshape(-1)))


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
    if any(map(_is_numpy, types)):
        values = [value.item() if _is_numpy(type(value)) else value for value in values]
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
    array = scalars(values, types)
    return pa.field(name, array.type), array


def _list_column(name: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    """Lists of one type; others are JSON, which array columns read as well."""
    kinds = {type(element) for value in values if value is not None for element in value}
    kinds.discard(type(None))
    if len(kinds) != 1 or kinds & {list, tuple, dict}:
        return _json_column(name, values)
    flat = scalars([element for value in values if value is not None for element in value], kinds)
    if kinds <= NUMBERS and pa.types.is_string(flat.type):
        return _json_column(name, values)  # where they stay numbers
    lengths = np.array([0 if value is None else len(value) for value in values])
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    missing = pa.array([value is None for value in values])
    array = pa.ListArray.from_arrays(offsets, flat, mask=missing)
    return pa.field(name, array.type), array


def _json_column(name: str, values: list[Any]) -> tuple[pa.Field, pa.Array]:
    documents = [None if v is None else _document(v) for v in values]
    return pa.field(name, pa.string(), metadata=JSON_METADATA), texts(documents)


_DIGITS = re.compile(r'"\\u0000digits:([^"]+)"')


def _document(value: Any) -> str:
    """A JSON document; NaN and infinity as Python writes them, which no JSON column takes."""
    text = json.dumps(value, ensure_ascii=False, default=_digits)
    return _DIGITS.sub(r"\1", text) if "\\u0000digits:" in text else text


def _digits(value: Any) -> str:
    # json cannot write a Decimal: mark its digits here, strip quotes and mark in _document
    if isinstance(value, Decimal):
        return f"\0digits:{value}"
    raise TypeError


def _as_known(
    field: pa.Field, array: pa.Array, values: list[Any], known: pa.Field | None
) -> tuple[pa.Field, pa.Array]:
    """Keep to the type that earlier rows had, where that is exact: fewer casts to compile."""
    if known is None or known.equals(field, check_metadata=True):
        return field, array
    if is_json(known):
        try:
            return _json_column(field.name, values)
        except TypeError:
            return field, array  # lists of times, after empty ones
    if pa.types.is_string(known.type) and not pa.types.is_nested(array.type) and not is_json(field):
        types = {type(value) for value in values if value is not None}
        if types <= JSON_SCALARS:
            return known, as_text(values, number_text if types <= NUMBERS else json_text)
        return field, array
    if pa.types.is_float64(known.type) and pa.types.is_int64(array.type):
        try:
            return known, array.cast(pa.float64())
        except pa.ArrowInvalid:
            return field, array  # integers that float64 cannot hold stay what they are
    return field, array
