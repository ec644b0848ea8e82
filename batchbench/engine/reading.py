"""From a source to its chunks: read in a thread, ahead of use, or, where Python rows are there
already, on the event loop in small steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from enum import Enum

from batchbench.accounting import LoadResult
from batchbench.batch import Batch, RowBatch
from batchbench.engine.blocking import READING, OneThread
from batchbench.engine.chunks import Chunk, Sized, Waiting, fixed_size, looked_at
from batchbench.engine.plan import LoadPlan, ShapePlan
from batchbench.engine.shapes import uncovered
from batchbench.sources import RowSource, Source
from batchbench.wire.rows import RowEncoder

# Read several chunks at once, so that they can be slices of one batch.
_READ_ROWS = 49_152

# Python rows taken in one step; or looked at, where they are not on their way.
_STEP_ROWS = 8_192

# Who only lets go of the interpreter has it back before a thread that waits for it is awake: one
# that sends would wait for 5 ms.
_YIELD_S = 20e-6

# A message of 1 GiB closes the connection; encoded rows may be larger than they were read.
_MOST_CHUNK_BYTES = 256 << 20


Covered = Callable[[str, str], list[tuple[int, int]]]
"""(table, source) -> (first row, row count) of the rows that an earlier start committed."""


class Step(Enum):
    """What the next step of reading costs. SHORT: it neither waits nor takes long."""

    SHORT = "short"
    LONG = "long"


def in_memory(source: Source) -> bool:
    """Whether reading starts with short steps: of Python rows that are there already."""
    return isinstance(source, RowSource) and source.in_memory


def encoded_steps(
    source: Source,
    plan: LoadPlan,
    result: LoadResult,
    notice: Callable[[str], None],
    max_read_bytes: int,
    covered: Covered | None = None,
    sized: Sized = fixed_size,
) -> Generator[Chunk | Step, None, None]:
    """Read the source to its end and encode it, without the rows that are `covered`. Between
    chunks it tells what comes next; where the source is not `in_memory`, all steps are long.

    max_read_bytes: of a batch, and of the rows of a chunk as they were read; wide rows make
    chunks of fewer rows than planned.
    Counts what is read into `result`; tells `notice` once a table where a chunk size was cut.
    Raises InputError, TableError.
    """
    waiting: dict[str | None, Waiting] = {}
    row_shape = _row_shape(source, plan)
    batches = _batches(source, plan, max_read_bytes, row_shape)
    if not in_memory(source):
        read = (one for one in batches if not isinstance(one, Step))
        batches = _read_ahead(read, plan, max_read_bytes)
    for batch in batches:
        if isinstance(batch, Step):
            yield batch
            continue
        table_plan = plan.tables.get(batch.target)
        if table_plan is None:
            counts = result.counts(str(batch.target))
            counts.read += batch.row_count
            counts.not_loaded += batch.row_count
            continue
        table = str(table_plan.table.name)
        result.counts(table).read += batch.row_count
        if batch.target not in waiting:
            most = min(max_read_bytes, _MOST_CHUNK_BYTES, plan.options.pace.most_chunk_bytes)
            waiting[batch.target] = Waiting(
                plan, table_plan, source.name, int(most), notice, row_shape, sized
            )
        spans = covered(table, batch.location.source) if covered is not None else []
        if isinstance(batch, RowBatch) and spans:
            yield Step.LONG
            batch = batch.as_columns()
        rows = uncovered(batch, spans) if isinstance(batch, Batch) else batch
        yield from waiting[batch.target].add(rows)
        del batch, rows  # not to be held while the next ones are read
    for held in waiting.values():
        yield from held.take()
    for kind, row_count in source.not_loaded().items():
        counts = result.counts(kind)
        counts.read += row_count
        counts.not_loaded += row_count


def _row_shape(source: Source, plan: LoadPlan) -> ShapePlan | None:
    """The shape of Python rows that may stay as they are; None where all become columns."""
    table_plan, shape = plan.tables.get(None), plan.shape
    if table_plan is None or not isinstance(source, RowSource):
        return None
    if shape is None:
        schema = source.schema()
        if schema is None:
            return None
        shape = table_plan.shape(schema, source.name)
    return shape if shape.row_encoder is not None else None


Read = Batch | RowBatch | Step


def _batches(
    source: Source, plan: LoadPlan, max_bytes: int, row_shape: ShapePlan | None
) -> Iterator[Read]:
    """Python rows stay rows where every value of a batch goes to the wire unchanged."""
    rows = None
    if row_shape is not None and isinstance(source, RowSource):
        rows = source.row_batches(_step_rows(plan), max_bytes)
    if rows is None or row_shape is None or row_shape.row_encoder is None:
        yield Step.LONG
        yield from source.batches(_read_rows(plan), max_bytes)
        return
    streams = row_shape.streams_rows
    if not streams:
        yield Step.LONG
    for batch in rows:
        if streams:
            yield from _streamed(batch, row_shape.row_encoder)
        else:
            yield looked_at(batch, row_shape.row_encoder)


def _streamed(batch: RowBatch, encoder: RowEncoder) -> Iterator[Read]:
    """Rows are looked at on their way where the first of them go in unchanged."""
    row_bytes = encoder.first_bytes(batch.rows)
    if row_bytes is None:
        yield Step.LONG
        yield looked_at(batch, encoder)
        return
    yield replace(batch, value_bytes=row_bytes * batch.row_count)
    time.sleep(_YIELD_S)
    yield Step.SHORT


def _read_ahead(
    batches: Iterator[Batch | RowBatch], plan: LoadPlan, most_bytes: int
) -> Iterator[Batch | RowBatch]:
    """Read the next batch in a thread of its own, while the one before is cast and encoded. After a
    first one that is not full there is seldom another: that is seen without a thread. Where a row
    alone takes more than `most_bytes`, two are one too many.

    Where nobody wants the rest, a read under way is not waited for: it may take long, and it can be
    the event loop that lets go of this.
    """
    batch = next(batches, None)
    if batch is not None and batch.row_count < _read_rows(plan):
        yield batch
        batch = next(batches, None)
    if batch is None:
        return
    reader = OneThread(READING)
    try:
        while batch is not None:
            wide = batch.row_bytes > most_bytes
            coming = None if wide else reader.submit(next, batches, None)
            yield batch
            batch = None  # not to be held while the next one is read
            batch = next(batches, None) if coming is None else coming.result()
    finally:
        reader.shutdown(wait=False)


def _read_rows(plan: LoadPlan) -> int:
    """A whole number of chunks, so that full batches need no copying together."""
    largest = max((table.configured_rows for table in plan.tables.values()), default=1)
    return largest * max(1, _READ_ROWS // largest)


def _step_rows(plan: LoadPlan) -> int:
    """A whole part of a chunk where there is one, so that what is encoded is not taken apart."""
    chunk_rows = plan.tables[None].configured_rows
    parts = -(-chunk_rows // _STEP_ROWS)
    whole = (count for count in range(parts, 4 * parts) if chunk_rows % count == 0)
    return -(-chunk_rows // next(whole, parts))
