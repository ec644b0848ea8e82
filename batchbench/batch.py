"""Rows on their way: columns with null masks, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


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
    """

    columns: pa.RecordBatch
    location: Location
    target: str | None = None

    @property
    def row_count(self) -> int:
        return int(self.columns.num_rows)

    def part(self, offset: int, row_count: int) -> Batch:
        """A slice that shares memory with this batch."""
        return Batch(
            self.columns.slice(offset, row_count),
            self.location.part(offset, row_count),
            self.target,
        )
