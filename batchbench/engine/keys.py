"""Which rows share a key, as far as the client can tell without asking the database.

Equality is the database's: a hash covers only columns whose values are equal where their bytes
are. Rows whose hashes differ surely have different keys; rows whose hashes are equal may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchbench.table import Collation, Column, Table, UniqueKey
from batchbench.wire import field

Hashes = NDArray[np.uint64]

# Kinds whose values PostgreSQL calls equal only where we send equal bytes. Not among them: float
# (-0), numeric (1.0 and 1.00), char(n) (trailing spaces), jsonb, interval (1 day and 24 hours).
_BY_BYTES = frozenset(
    {
        *("bool", "int2", "int4", "int8", "oid", "uuid", "date", "bytea", "enum", "text"),
        *("varchar", "time", "timestamp", "timestamptz"),
    }
)
_ROUNDED = frozenset(("time", "timestamp", "timestamptz"))  # where a precision is declared

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_NULL = np.uint64(0x9E3779B97F4A7C15)


def hashable_columns(table: Table, key: UniqueKey) -> tuple[str, ...]:
    """The key's columns that `key_hashes` can take; there may be none."""
    return tuple(
        part.column
        for part in key.parts
        if part.column is not None and by_bytes(table.column(part.column), part.collation)
    )


def by_bytes(column: Column, collation: Collation | None) -> bool:
    """Whether values that are compared so are equal only where their bytes are."""
    if column.type.name == "citext" or column.type.kind not in _BY_BYTES:
        return False
    if collation is not None and not collation.deterministic:
        return False
    return column.typmod == -1 or column.type.kind not in _ROUNDED


def key_hashes(values: Sequence[pa.Array], columns: Sequence[Column]) -> Hashes:
    """One hash a row. values: canonical columns of equal length, one a column; at least one."""
    hashes = np.zeros(len(values[0]), np.uint64)
    for array, column in zip(values, columns, strict=True):
        wire = field(array, column.type)
        words = _words(wire.values)
        if wire.nulls is not None:
            words[wire.nulls] = _NULL
        hashes = _mixed(hashes * _MIX[1] + words)
    return hashes


def _words(values: Any) -> Hashes:
    """64 bits of each value."""
    if not isinstance(values, np.ndarray):
        return _of_texts(values)
    raw = np.ascontiguousarray(values).view("u1").reshape(len(values), -1)
    width = -(-raw.shape[1] // 8) * 8
    padded = np.zeros((len(values), width), "u1")
    padded[:, : raw.shape[1]] = raw
    words = np.zeros(len(values), np.uint64)
    for position in range(0, width, 8):
        part = np.ascontiguousarray(padded[:, position : position + 8]).view(np.uint64)[:, 0]
        words = _mixed(words * _MIX[1] + part)
    return words


def _of_texts(values: pa.Array) -> Hashes:
    """Each text as a polynomial in its bytes, and its length."""
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset :][: len(values) + 1]
    data = values.buffers()[2]
    raw = np.frombuffer(data or b"", "u1")[offsets[0] : offsets[-1]].astype(np.uint64)
    starts = offsets[:-1] - offsets[0]
    lengths = np.diff(offsets)
    place = np.arange(len(raw)) - np.repeat(starts, lengths)
    longest = int(lengths.max(initial=0))
    powers = np.cumprod(np.full(longest + 1, _MIX[0] | np.uint64(1), np.uint64))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(_mixed(raw + _NULL) * powers[place])))
    hashes: Hashes = sums[starts + lengths] - sums[starts] + lengths.astype(np.uint64)
    return hashes


def _mixed(words: Hashes) -> Hashes:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * _MIX[0]
    words = (words ^ (words >> np.uint64(27))) * _MIX[1]
    mixed: Hashes = words ^ (words >> np.uint64(31))
    return mixed
