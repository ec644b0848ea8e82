"""Columns -> PostgreSQL binary: COPY streams, array parameters, scalar parameters, rows.

Sources: array_recv in arrayfuncs.c; record_recv
in rowtypes.c.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from batchbench.table import PgType
from batchbench.wire.fields import Field, field, join_rows
from batchbench.wire.stream import COPY_HEADER, COPY_TRAILER, CopyStream, copy_rows

__all__ = [
    "COPY_HEADER",
    "COPY_TRAILER",
    "CopyStream",
    "Field",
    "array_parameter",
    "copy_rows",
    "field",
    "record_array_parameter",
    "scalar_parameters",
]


def array_parameter(column: Field, element: PgType) -> bytes:
    """One column as a binary one-dimensional array of `element`, for a Bind message."""
    body = join_rows(column.pieces(), column.row_count)
    return _array_header(column.row_count, element.oid, column.nulls is not None) + body


def record_array_parameter(
    fields: Sequence[Field | None], type_oids: Sequence[int], row_type_oid: int, row_count: int
) -> bytes:
    """Rows as a binary array of the table's own row type.

    fields: one for every column of the table in its order; None is all NULL.
    type_oids: the columns' declared types (a domain's own OID, not its base's).
    """
    columns: list[Any] = [np.full(row_count, len(fields), ">i4")]
    size = np.full(row_count, 4, np.int64)
    for column, oid in zip(fields, type_oids, strict=True):
        pieces = [np.full(row_count, -1, ">i4")] if column is None else column.pieces()
        columns += [np.full(row_count, oid, ">u4"), *pieces]
        size += 8 if column is None else 8 + np.maximum(column.lengths, 0)
    body = join_rows([size.astype(">i4"), *columns], row_count)
    return _array_header(row_count, row_type_oid, has_nulls=False) + body


def scalar_parameters(column: Field) -> list[bytes | None]:
    """One column as a list of binary values, None for NULL."""
    values: list[bytes | None]
    if isinstance(column.values, np.ndarray):
        width = column.values.dtype.itemsize
        values = np.ascontiguousarray(column.values).view(f"V{width}").tolist()
    else:
        values = column.values.to_numpy(zero_copy_only=False).tolist()
    if column.nulls is not None:
        for row in np.flatnonzero(column.nulls).tolist():
            values[row] = None
    return values


def _array_header(count: int, element_oid: int, has_nulls: bool) -> bytes:
    return struct.pack(">iiIii", 1, has_nulls, element_oid, count, 1)
