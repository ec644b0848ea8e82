"""From batches of any size to encoded chunks of the planned one. Blocking; runs in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchbench.accounting import LoadResult
from batchbench.batch import Batch, Location
from batchbench.casts import Fault
from batchbench.engine.keys import Hashes
from batchbench.engine.plan import LoadPlan, ShapePlan, TablePlan, split_notice
from batchbench.sources import Source
from batchbench.strategies import Payload

# Read several chunks at once, so that they can be slices of one batch.
_READ_ROWS = 65_536

_HASH_BYTES = 8

# A message of 1 GiB closes the connection; encoded rows may be larger than they were read.
_MOST_CHUNK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows that are ready to be written, and those that never can be.

    rows: as read. locations: where they stand in their sources, in order.
    kept: the rows that can be sent, as positions in `rows`; None means all.
    values: their columns in canonical form, one array a target column.
    faults: rows that do not fit the table, with the position in the shape's columns.
    payload: the rows that can be sent, encoded as one; None where there are none.
    altered: what the policies altered, and how often.
    """

    table: str
    shape: ShapePlan
    rows: pa.RecordBatch
    locations: tuple[Location, ...]
    kept: NDArray[np.int64] | None
    values: tuple[pa.Array, ...]
    faults: tuple[tuple[int, Fault], ...]
    payload: Payload | None
    altered: Mapping[str, int]

    @property
    def row_count(self) -> int:
        """Rows that can be sent."""
        return len(self.rows) if self.kept is None else len(self.kept)

    @property
    def held_bytes(self) -> int:
        """Bytes that a chunk holds while in flight: what was read, and what it became."""
        held = int(self.rows.nbytes) + sum(int(values.nbytes) for values in self.values)
        if self.payload is not None:
            held += self.payload.held_bytes
        if self.shape.keys:
            held += _HASH_BYTES * self.row_count  # see lanes
        return held

    @property
    def location(self) -> Location:
        """Where the chunk starts in its source, with its row count."""
        first = self.locations[0]
        return Location(first.source, first.first_row, len(self.rows))

    def place(self, row: int) -> Location:
        """Where one of `rows` stands."""
        for location in self.locations:
            if row < location.row_count:
                return location.part(row, 1)
            row -= location.row_count
        raise IndexError(row)

    def position(self, sendable: int) -> int:
        """The position in `rows` of the n-th row that can be sent."""
        return sendable if self.kept is None else int(self.kept[sendable])

    def span(self, offset: int, row_count: int) -> tuple[Location, ...]:
        """The source rows from one sendable row to another; rejected ones between are in it."""
        first, last = self.position(offset), self.position(offset + row_count - 1)
        spans, start = [], 0
        for location in self.locations:
            begin, end = max(first, start), min(last + 1, start + location.row_count)
            if begin < end:
                spans.append(location.part(begin - start, end - begin))
            start += location.row_count
        return tuple(spans)

    def only(self, sendable: int) -> Chunk:
        """One row that can be sent, copied out, so that the rest of the chunk can be freed."""
        position = self.position(sendable)
        return Chunk(
            table=self.table,
            shape=self.shape,
            rows=self.rows.take(pa.array([position])),
            locations=(self.place(position),),
            kept=None,
            values=tuple(values.take(pa.array([sendable])) for values in self.values),
            faults=(),
            payload=None,
            altered={},
        )

    def hash_keys(self) -> Hashes | None:
        """A hash of the key of each row that can be sent; None where there is none to go by.
        Blocking; made when asked for, since one writer keeps the order without them.
        """
        return self.shape.hash_keys(self.values)

    def encode(self, offset: int, row_count: int) -> Payload:
        """Encode some of the rows that can be sent. Blocking."""
        return self.shape.encode([values.slice(offset, row_count) for values in self.values])


def _chunk(plan: TablePlan, shape: ShapePlan, parts: list[Batch]) -> Chunk:
    """Cast and encode."""
    rows = parts[0].columns
    if len(parts) > 1:
        rows = pa.concat_batches([part.columns for part in parts])
    cast = shape.cast(rows)
    values, faults, kept = cast.values, cast.faults, None
    if faults:
        faulty = np.unique(np.fromiter((fault.row for _, fault in faults), np.int64))
        kept = np.delete(np.arange(len(rows)), faulty)
        values = [array.take(pa.array(kept)) for array in values]
    payload = shape.encode(values) if kept is None or len(kept) else None
    locations = tuple(part.location for part in parts)
    return Chunk(
        table=str(plan.table.name),
        shape=shape,
        rows=rows,
        locations=locations,
        kept=kept,
        values=tuple(values),
        faults=tuple(faults),
        payload=payload,
        altered=cast.counts,
    )


@dataclass(slots=True)
class _Pending:
    """Rows of one table that wait for a full chunk."""

    plan: TablePlan
    shape: ShapePlan
    schema: pa.Schema
    most_bytes: int
    parts: list[Batch] = field(default_factory=list)
    row_count: int = 0
    byte_count: int = 0

    def add(self, batch: Batch) -> Iterator[Chunk]:
        """Take a batch of this schema; give back the chunks that are full."""
        offset = 0
        row_bytes = max(1, int(batch.columns.nbytes) // max(1, batch.row_count))
        while offset < batch.row_count:
            wanted = min(
                self.shape.chunk_rows - self.row_count,
                max(1, (self.most_bytes - self.byte_count) // row_bytes),
            )
            part = batch.part(offset, min(wanted, batch.row_count - offset))
            self.parts.append(part)
            self.row_count += part.row_count
            self.byte_count += part.row_count * row_bytes
            offset += part.row_count
            if self.row_count == self.shape.chunk_rows or self.byte_count >= self.most_bytes:
                yield self.take()

    def take(self) -> Chunk:
        """Encode what is pending as one chunk."""
        parts, self.parts = self.parts, []
        self.row_count = self.byte_count = 0
        return _chunk(self.plan, self.shape, parts)


Covered = Callable[[str, str], list[tuple[int, int]]]
"""(table, source) -> (first row, row count) of the rows that an earlier start committed."""


def encoded_chunks(
    source: Source,
    plan: LoadPlan,
    result: LoadResult,
    notice: Callable[[str], None],
    max_read_bytes: int,
    covered: Covered | None = None,
) -> Iterator[Chunk]:
    """Read the source to its end and encode it, without the rows that are `covered`.

    max_read_bytes: of a batch, and of the rows of a chunk as they were read; wide rows make
    chunks of fewer rows than planned.
    Counts what is read into `result`; tells `notice` once a table where a chunk size was cut.
    Raises InputError, TableError.
    """
    pending: dict[str | None, _Pending] = {}
    for batch in source.batches(_read_rows(plan), max_read_bytes):
        table_plan = plan.tables.get(batch.target)
        if table_plan is None:
            counts = result.counts(str(batch.target))
            counts.read += batch.row_count
            counts.not_loaded += batch.row_count
            continue
        table = str(table_plan.table.name)
        result.counts(table).read += batch.row_count
        waiting = pending.get(batch.target)
        if waiting is None or waiting.schema != batch.columns.schema:
            if waiting is not None and waiting.row_count:
                yield waiting.take()
            shape = table_plan.shape(batch.columns.schema, source.name)
            split = split_notice(table_plan, shape)
            if waiting is None and split is not None:
                notice(split)
            waiting = pending[batch.target] = _Pending(
                table_plan, shape, batch.columns.schema, min(max_read_bytes, _MOST_CHUNK_BYTES)
            )
        spans = covered(table, batch.location.source) if covered is not None else []
        for part in uncovered(batch, spans):
            yield from waiting.add(part)
    for waiting in pending.values():
        if waiting.row_count:
            yield waiting.take()
    for kind, row_count in source.not_loaded().items():
        counts = result.counts(kind)
        counts.read += row_count
        counts.not_loaded += row_count


def uncovered(batch: Batch, spans: list[tuple[int, int]]) -> Iterator[Batch]:
    """The parts of a batch that no span covers. spans: (first row, row count), sorted."""
    start, end = batch.location.first_row, batch.location.first_row + batch.row_count
    position = start
    for first, count in spans:
        if first + count <= position:
            continue
        if first >= end:
            break
        if first > position:
            yield batch.part(position - start, first - position)
        position = min(first + count, end)
    if position < end:
        yield batch.part(position - start, end - position)


def _read_rows(plan: LoadPlan) -> int:
    """A whole number of chunks, so that full batches need no copying together."""
    largest = max((table.configured_rows for table in plan.tables.values()), default=1)
    return largest * max(1, _READ_ROWS // largest)
