"""Rows that wait for a flush, and how they become one chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from batchbench.batch import Location
from batchbench.engine.chunks import Chunk
from batchbench.engine.content import ColumnContent
from batchbench.engine.plan import ShapePlan
from batchbench.writer.tickets import Share, Ticket

Columns = tuple[tuple[str, str], ...]
"""Name and form of each column: rows that agree in them can be written together."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one ticket that can be sent. values: canonical, one array a column of `shape`.
    rows: their positions among those handed over. byte_count: of the values.
    """

    ticket: Ticket
    shape: ShapePlan
    values: Sequence[pa.Array]
    rows: Sequence[int]
    byte_count: int

    @property
    def columns(self) -> Columns:
        """What other rows must have too, to be written with these."""
        return tuple(
            (cast.column.name, str(array.type))
            for cast, array in zip(self.shape.casts, self.values, strict=True)
        )

    def slice(self, start: int, end: int) -> Part:
        """Some of the rows; the byte counts of all slices add up."""
        total, whole = len(self.rows), self.byte_count
        values = [array.slice(start, end - start) for array in self.values]
        byte_count = whole * end // total - whole * start // total
        return Part(self.ticket, self.shape, values, self.rows[start:end], byte_count)


def part_of(
    ticket: Ticket, shape: ShapePlan, cast: Sequence[pa.Array], first_row: int, faulty: set[int]
) -> Part:
    """The rows without a fault. first_row: position of the first of all; faulty: places among
    them.
    """
    rows: Sequence[int] = range(first_row, first_row + len(cast[0]))
    values = list(cast)
    if faulty:
        kept = [place for place in range(len(rows)) if place not in faulty]
        values = [array.take(pa.array(kept, pa.int64())) for array in values]
        rows = [first_row + place for place in kept]
    return Part(ticket, shape, values, rows, sum(int(array.nbytes) for array in values))


@dataclass(slots=True)
class Pending:
    """Rows of the same columns of one table. number: see `Occupancy`."""

    number: int
    parts: list[Part] = field(default_factory=list)
    row_count: int = 0
    byte_count: int = 0

    def add(self, part: Part) -> None:
        """Take more rows."""
        self.parts.append(part)
        self.row_count += len(part.rows)
        self.byte_count += part.byte_count


@dataclass(frozen=True, slots=True, eq=False)
class Flush:
    """Rows that are written together, and who owns them. number: see `Occupancy`."""

    chunk: Chunk
    shares: tuple[Share, ...]
    byte_count: int
    number: int


def flush_of(pending: Pending, source: str, first_row: int) -> Flush:
    """Make one chunk. Blocking: it is encoded here. first_row: of it, in the writer's count."""
    parts, shape = pending.parts, pending.parts[0].shape
    values = tuple(
        pa.concat_arrays([part.values[number] for part in parts])
        for number in range(len(shape.casts))
    )
    starts = first_row + np.cumsum([0, *(len(part.rows) for part in parts[:-1])])
    shares = tuple(
        Share(part.ticket, int(start), part.rows) for part, start in zip(parts, starts, strict=True)
    )
    names = [cast.column.name for cast in shape.casts]
    chunk = Chunk(
        table=str(shape.table.name),
        shape=shape,
        content=ColumnContent(pa.RecordBatch.from_arrays(list(values), names=names), values),
        locations=(Location(source, first_row, pending.row_count),),
        payload=shape.encode(values),
        chunk_rows=shape.chunk_rows,
    )
    return Flush(chunk, shares, pending.byte_count, pending.number)
