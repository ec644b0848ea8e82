"""Columns as the wire has them: a length before each value, then its bytes.

`field` takes a column in its canonical Arrow form (see `batchbench.casts`) and says how long
each value is on the wire and where its bytes are. `join_rows` lays fields side by side, row
after row, in C: neighbouring fixed-width fields become one numpy structured array, and Arrow's
binary_join_element_wise puts those and the variable-width columns together. No Python object
is made for any value.

Source of the value formats: the *_recv functions of PostgreSQL's utils/adt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchbench.table import PgType
from batchbench.wire.numeric import numeric_values

Array = NDArray[Any]

_FIXED: dict[str, str] = {
    "int2": ">i2",
    "int4": ">i4",
    "int8": ">i8",
    "oid": ">u4",
    "float4": ">f4",
    "float8": ">f8",
    "date": ">i4",
    "time": ">i8",
    "timestamp": ">i8",
    "timestamptz": ">i8",
}

_EMPTY = pa.scalar(b"", pa.large_binary())


@dataclass(frozen=True, slots=True)
class Field:
    """One column on the wire.

    lengths: shape (rows,), big-endian int32: bytes of each value, -1 for NULL.
    values: fixed width: a numpy array of shape (rows,) whose dtype is the wire's own; variable
        width: a LargeBinaryArray without nulls that count (NULL rows are empty).
    nulls: shape (rows,), or None where no row is NULL.
    """

    lengths: Array
    values: Any
    nulls: Array | None

    @property
    def fixed(self) -> bool:
        """Whether every row spends the same bytes."""
        return isinstance(self.values, np.ndarray) and self.nulls is None

    @property
    def row_count(self) -> int:
        return len(self.lengths)

    def pieces(self) -> list[Any]:
        """The field's bytes as columns to lay side by side: lengths, then values."""
        values = self.values
        if isinstance(values, np.ndarray) and self.nulls is not None:
            values = _as_binary(values, ~self.nulls)
        return [self.lengths, values]


def field(values: pa.Array, pg_type: PgType) -> Field:
    """Say how a canonical column looks on the wire.

    values: shape (rows,), in the canonical form of `pg_type.kind`.
    """
    nulls = _null_mask(values)
    if pg_type.kind == "array":
        return _variable(_array_values(values, pg_type), nulls)
    if pg_type.kind == "numeric":
        return _of(numeric_values(values), nulls)
    if pg_type.kind == "jsonb":
        return _variable(_jsonb_values(values), nulls)
    if pg_type.kind == "bool":
        return _of(_numpy(values.cast(pa.uint8()), "u1"), nulls)
    if pa.types.is_fixed_size_binary(values.type):
        return _of(_numpy(values, f"V{values.type.byte_width}"), nulls)
    if pg_type.kind in _FIXED:
        return _of(_numpy(values, _FIXED[pg_type.kind][1:]).astype(_FIXED[pg_type.kind]), nulls)
    return _variable(values.cast(pa.large_binary()), nulls)


def wire_array(values: pa.Array, pg_type: PgType) -> pa.Array:
    """A canonical column as an Arrow array whose numbers, from the highest byte to the lowest, and
    bytes are the wire's own.
    """
    if pg_type.kind == "oid":
        return values.view(pa.int32())
    if pg_type.kind == "jsonb":
        return _jsonb_values(values)
    if pg_type.kind not in ("array", "numeric"):
        return values
    found = field(values, pg_type)
    if isinstance(found.values, np.ndarray):
        return _as_binary(found.values, None if found.nulls is None else ~found.nulls)
    return found.values if found.nulls is None else pc.if_else(found.nulls, None, found.values)


def join_rows(columns: Iterable[Any], row_count: int) -> memoryview:
    """Lay columns of bytes side by side: row 0 of each, then row 1 of each, and so on.

    columns: numpy arrays of shape (rows,), their dtypes the wire's own, and LargeBinaryArrays.
    """
    parts = [_fuse(part) if isinstance(part, list) else part for part in _neighbours(columns)]
    if len(parts) == 1 and isinstance(parts[0], np.ndarray):
        return memoryview(parts[0].view("u1"))  # type: ignore[arg-type]
    operands = [_as_binary(part) if isinstance(part, np.ndarray) else part for part in parts]
    return _bytes_of(_join(operands))


def _join(operands: Sequence[Any]) -> pa.Array:
    return pc.binary_join_element_wise(
        *operands, _EMPTY, null_handling="replace", null_replacement=b""
    )


def _neighbours(columns: Iterable[Any]) -> list[Any]:
    """Group neighbouring numpy columns into lists; leave the others as they are."""
    grouped: list[Any] = []
    for column in columns:
        if not isinstance(column, np.ndarray):
            grouped.append(column)
        elif grouped and isinstance(grouped[-1], list):
            grouped[-1].append(column)
        else:
            grouped.append([column])
    return grouped


def _fuse(columns: list[Array]) -> Array:
    dtype = np.dtype([(f"f{i}", column.dtype) for i, column in enumerate(columns)])
    fused = np.empty(len(columns[0]), dtype)
    for name, column in zip(dtype.names or (), columns, strict=True):
        fused[name] = column
    return fused.view(f"V{dtype.itemsize}")


def _as_binary(values: Array, valid: Array | None = None) -> pa.Array:
    """Look at fixed-width values as binary ones, without a copy of the values."""
    width, row_count = values.dtype.itemsize, len(values)
    offsets = np.arange(0, (row_count + 1) * width, width, dtype=np.int64)
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values).view("u1"))
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), row_count, [bitmap, pa.py_buffer(offsets), data]
    )


def binary_offsets(values: pa.Array) -> Array:
    """Offsets of a LargeBinaryArray, shape (rows + 1,), its slice taken into account."""
    raw = np.frombuffer(values.buffers()[1], np.int64)
    return raw[values.offset : values.offset + len(values) + 1]


def _bytes_of(values: pa.Array) -> memoryview:
    offsets = binary_offsets(values)
    data = values.buffers()[2]
    return memoryview(b"") if data is None else memoryview(data)[offsets[0] : offsets[-1]]


def _null_mask(values: pa.Array) -> Array | None:
    if values.null_count == 0:
        return None
    mask: Array = values.is_null().to_numpy(zero_copy_only=False)
    return mask


def _numpy(values: pa.Array, dtype: str) -> Array:
    """The values buffer of a fixed-width array, whatever stands under its nulls."""
    item = np.dtype(dtype).itemsize
    raw = values.buffers()[1]
    return np.frombuffer(raw, dtype, count=len(values), offset=values.offset * item)


def _of(values: Any, nulls: Array | None) -> Field:
    if not isinstance(values, np.ndarray):
        return _variable(values, nulls)
    lengths = np.full(len(values), values.dtype.itemsize, ">i4")
    return Field(_with_nulls(lengths, nulls), values, nulls)


def _variable(values: pa.Array, nulls: Array | None) -> Field:
    """Rows of `values` that `nulls` marks must be null or empty."""
    lengths = np.diff(binary_offsets(values)).astype(">i4")
    return Field(_with_nulls(lengths, nulls), values, nulls)


def _with_nulls(lengths: Array, nulls: Array | None) -> Array:
    if nulls is not None:
        lengths[nulls] = -1
    return lengths


def _jsonb_values(values: pa.Array) -> pa.Array:
    """Version byte 1 before each text. Source: jsonb_recv."""
    version = pa.scalar(b"\x01", pa.large_binary())
    text = values.cast(pa.large_binary())
    return pc.binary_join_element_wise(version, text, _EMPTY, null_handling="emit_null")


def _array_values(lists: pa.Array, pg_type: PgType) -> pa.Array:
    """Each list as a one-dimensional binary array; null lists are empty. Source: array_recv."""
    element = pg_type.element
    if element is None:
        raise ValueError(f"{pg_type.name} is not an array type")
    counts: Array = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    elements = field(lists.flatten(), element)
    sizes = 4 + np.maximum(elements.lengths.astype(np.int64), 0)
    ends = np.concatenate(([0], np.cumsum(sizes)))
    row_ends = ends[np.concatenate(([0], np.cumsum(counts)))]
    body = join_rows(elements.pieces(), elements.row_count)
    bodies = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lists), [None, pa.py_buffer(row_ends), pa.py_buffer(body)]
    )
    joined = _join([_array_headers(counts, element.oid, elements.nulls is not None), bodies])
    return pc.if_else(lists.is_valid(), joined, pa.scalar(b"", pa.large_binary()))


def _array_headers(counts: Array, element_oid: int, has_nulls: bool) -> pa.Array:
    """Dimensions, has-nulls, element type, then length and lower bound where not empty."""
    words = np.empty((len(counts), 5), ">u4")
    full = counts > 0
    words[:, 0], words[:, 1], words[:, 2] = full, has_nulls, element_oid
    words[:, 3], words[:, 4] = counts, 1
    present = np.ones((len(counts), 5), bool)
    present[:, 3:] = full[:, None]
    offsets = np.concatenate(([0], np.cumsum(np.where(full, 20, 12)))).astype(np.int64)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(counts), [None, pa.py_buffer(offsets), pa.py_buffer(words[present])]
    )
