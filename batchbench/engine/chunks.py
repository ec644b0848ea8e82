"""From batches of any size to encoded chunks of the planned one. Blocking; runs in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from batchbench.accounting import LoadResult
from batchbench.batch import Batch, Location
from batchbench.engine.plan import LoadPlan, ShapePlan, TablePlan, split_notice
from batchbench.sources import Source
from batchbench.strategies import Payload

# Read several chunks at once, so that they can be slices of one batch.
_READ_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Chunk:
    """Encoded rows, ready to be written. `full` chunks have the planned row count."""

    table: str
    shape: ShapePlan
    payload: Payload
    locations: tuple[Location, ...]

    @property
    def full(self) -> bool:
        return self.payload.row_count == self.shape.chunk_rows

    @property
    def location(self) -> Location:
        """Where the chunk starts in its source, with its row count."""
        first = self.locations[0]
        return Location(first.source, first.first_row, self.payload.row_count)


@dataclass(slots=True)
class _Pending:
    """Rows of one table that wait for a full chunk."""

    plan: TablePlan
    shape: ShapePlan
    schema: pa.Schema
    parts: list[Batch] = field(default_factory=list)
    row_count: int = 0

    def add(self, batch: Batch) -> Iterator[Chunk]:
        """Take a batch of this schema; give back the chunks that are full."""
        offset = 0
        while offset < batch.row_count:
            wanted = self.shape.chunk_rows - self.row_count
            part = batch.part(offset, min(wanted, batch.row_count - offset))
            self.parts.append(part)
            self.row_count += part.row_count
            offset += part.row_count
            if self.row_count == self.shape.chunk_rows:
                yield self.take()

    def take(self) -> Chunk:
        """Encode what is pending as one chunk."""
        parts, self.parts, self.row_count = self.parts, [], 0
        rows = parts[0].columns
        if len(parts) > 1:
            rows = pa.concat_batches([part.columns for part in parts])
        locations = tuple(part.location for part in parts)
        payload = self.shape.encode(rows, locations)
        return Chunk(str(self.plan.table.name), self.shape, payload, locations)


def encoded_chunks(
    source: Source,
    plan: LoadPlan,
    result: LoadResult,
    notice: Callable[[str], None],
    max_read_bytes: int,
) -> Iterator[Chunk]:
    """Read the source to its end and encode it.

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
        result.counts(str(table_plan.table.name)).read += batch.row_count
        waiting = pending.get(batch.target)
        if waiting is None or waiting.schema != batch.columns.schema:
            if waiting is not None and waiting.row_count:
                yield waiting.take()
            shape = table_plan.shape(batch.columns.schema, source.name)
            split = split_notice(table_plan, shape)
            if waiting is None and split is not None:
                notice(split)
            waiting = pending[batch.target] = _Pending(table_plan, shape, batch.columns.schema)
        yield from waiting.add(batch)
    for waiting in pending.values():
        if waiting.row_count:
            yield waiting.take()
    for kind, row_count in source.not_loaded().items():
        counts = result.counts(kind)
        counts.read += row_count
        counts.not_loaded += row_count


def _read_rows(plan: LoadPlan) -> int:
    """A whole number of chunks, so that full batches need no copying together."""
    largest = max((table.configured_rows for table in plan.tables.values()), default=1)
    return largest * max(1, _READ_ROWS // largest)
