"""Rows on their way: columns with null masks, and where they came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

PythonRow = Sequence[Any]
ROW_TYPES = frozenset({tuple, list})
"""Whose values are taken by their places; a text has places too, and is no row."""


@dataclass(frozen=True, slots=True)
class Location:
    """A run of rows of one source. `first_row` counts from 1, the first row of data."""

    source: str
    first_row: int
    row_count: int

    def __str__(self) -> str:
        last = self.first_row + self.row_count - 1
        rows = f"row {last:,}" if self.row_count == 1 else f"rows {self.first_row:,}-{last:,}"
        return f"{self.source}, {rows}"

    def part(self, offset: int, row_count: int) -> Location:
        """The `row_count` rows that start `offset` rows in."""
        return Location(self.source, self.first_row + offset, row_count)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that were read together.

    columns: an Arrow record batch; its validity bitmaps are the null masks. Names are the
        source's own names.
    location: where the rows stand in their source.
    target: the metric type ("heart_rate") for a source that fans out to several tables,
        None for a source of one table.
    absent: shape (rows,), binary: which columns are null because the row has no such key, as bits
        in `columns`' order (numpy's little bit order, zero bytes at the end left out). None where
        the source does not tell. absent_is_error: whether such rows are to be rejected; else the
        columns' defaults are to stay in force.
    """

    columns: pa.RecordBatch
    location: Location
    target: str | None = None
    absent: pa.Array | None = None
    absent_is_error: bool = False

    @property
    def row_count(self) -> int:
        return int(self.columns.num_rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of memory that a row takes, on average; at least 1."""
        return max(1, int(self.columns.nbytes) // max(1, self.row_count))

    def part(self, offset: int, row_count: int) -> Batch:
        """A slice that shares memory with this batch."""
        return Batch(
            self.columns.slice(offset, row_count),
            self.location.part(offset, row_count),
            self.target,
            None if self.absent is None else self.absent.slice(offset, row_count),
            self.absent_is_error,
        )


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Python rows that were read together and are not columns yet.

    rows: each with the values of the source's columns, in their order.
    to_columns: makes columns of some of them, given where they stand. Raises InputError.
    value_bytes: about what the values of varying size take, such as texts; 0 until it is known.
    looked_at: whether every value is known to go in unchanged; else that is seen as they are sent.
    """

    rows: Sequence[PythonRow]
    location: Location
    to_columns: Callable[[Sequence[PythonRow], Location], pa.RecordBatch]
    value_bytes: int = 0
    looked_at: bool = False

    @property
    def target(self) -> None:
        """None: a source of one table."""

    @property
    def row_count(self) -> int:
        return len(self.rows)

    @property
    def row_bytes(self) -> int:
        """Of values of varying size, on average; at least 1. The rows themselves are there already,
        and encoded piece by piece.
        """
        return max(1, self.value_bytes // max(1, self.row_count))

    def part(self, offset: int, row_count: int) -> RowBatch:
        """Some of the rows."""
        if row_count == self.row_count:
            return self
        return RowBatch(
            self.rows[offset : offset + row_count],
            self.location.part(offset, row_count),
            self.to_columns,
            self.value_bytes * row_count // self.row_count,
            self.looked_at,
        )

    def as_columns(self) -> Batch:
        """The same rows as columns. Raises InputError."""
        return Batch(self.to_columns(self.rows, self.location), self.location)
