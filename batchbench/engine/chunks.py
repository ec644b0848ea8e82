"""Chunks of the planned size, cast and encoded, from batches of any size. Blocking."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from batchbench.batch import Batch, Location, RowBatch
from batchbench.casts import Fault
from batchbench.engine.adapting import FixedSize, Sizing
from batchbench.engine.content import ColumnContent, Content, RowContent
from batchbench.engine.keys import Hashes
from batchbench.engine.notices import split_notice
from batchbench.engine.plan import LoadPlan, ShapePlan, TablePlan
from batchbench.engine.shapes import (
    Group,
    Rows,
    absent_of,
    grouped,
    lacking,
    locations_of,
    uncovered,
)
from batchbench.errors import WriteError
from batchbench.strategies import Payload
from batchbench.wire.rows import RowEncoder

_HASH_BYTES = 8

# Sets of columns left out, each with statements of its own.
_MOST_SHAPES = 256

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows that are ready to be written, and those that never can be.

    locations: where they stand in their sources, in order.
    faults: rows that do not fit the table, with the position in the shape's columns.
    payload: the rows that can be sent, encoded as one; None where there are none, or where one of
    them has no form on the wire.
    altered: what the policies altered, and how often.
    absent: which keys the rows as read do not have, see `Batch.absent`.
    chunk_rows: what its table's chunks were to have when it was cut; the last one has fewer. 0: no
    other of its size is to be expected.
    look_at: (offset, row count) -> those rows as chunks of rows that were looked at; None where
    all of these were, see `RowBatch`. Blocking; raises InputError.
    """

    table: str
    shape: ShapePlan
    content: Content
    locations: tuple[Location, ...]
    payload: Payload | None
    faults: tuple[tuple[int, Fault], ...] = ()
    altered: Mapping[str, int] = field(default_factory=dict)
    absent: pa.Array | None = None
    chunk_rows: int = 0
    look_at: Callable[[int, int], list[Chunk]] | None = None

    @property
    def read_count(self) -> int:
        """Rows as read."""
        return self.content.read_count

    @property
    def row_count(self) -> int:
        """Rows that can be sent."""
        return self.content.row_count

    @property
    def held_bytes(self) -> int:
        """Bytes that a chunk holds while in flight: what was read, and what it became."""
        held = self.content.held_bytes
        if self.payload is not None:
            held += self.payload.held_bytes
        if self.shape.keys:
            held += _HASH_BYTES * self.row_count  # see lanes
        return held

    @property
    def location(self) -> Location:
        """Where the chunk starts in its source, with its row count."""
        first = self.locations[0]
        return Location(first.source, first.first_row, self.read_count)

    def place(self, position: int) -> Location:
        """Where one of the rows as read stands."""
        for location in self.locations:
            if position < location.row_count:
                return location.part(position, 1)
            position -= location.row_count
        raise IndexError(position)

    def position(self, sendable: int) -> int:
        """The position, as read, of the n-th row that can be sent."""
        return self.content.position(sendable)

    def as_read(self, position: int) -> pa.RecordBatch:
        """One row as it was read, by source column."""
        return self.content.as_read(position, self.place(position))

    def span(self, offset: int, row_count: int) -> tuple[Location, ...]:
        """The source rows from one sendable row to another; rejected ones between are in it."""
        first, last = self.position(offset), self.position(offset + row_count - 1)
        if first == 0 and last == self.read_count - 1:
            return self.locations
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
        content, place = self.content.only(sendable), self.place(position)
        absent = None if self.absent is None else self.absent.take(pa.array([position]))
        return Chunk(self.table, self.shape, content, (place,), None, absent=absent)

    def hash_keys(self) -> Hashes | None:
        """A hash of the key of each row that can be sent; None where there is none to go by.
        Blocking; made when asked for, since one writer keeps the order without them.
        """
        return self.content.hash_keys(self.shape)

    def encode(self, offset: int, row_count: int) -> Payload:
        """Encode some of the rows that can be sent. Blocking."""
        return self.content.encode(self.shape, offset, row_count)


_LookAt = Callable[[Sequence[RowBatch], int, int], list[Chunk]]


def _chunk(plan: TablePlan, shape: ShapePlan, parts: list[Rows], chunk_rows: int) -> Chunk:
    """Cast and encode."""
    rows = parts[0].columns
    if len(parts) > 1:
        rows = pa.concat_batches([part.columns for part in parts])
    cast = shape.cast(rows, lacking(parts, plan, shape))
    values, faults, kept = cast.values, cast.faults, None
    if faults:
        faulty = np.unique(np.fromiter((fault.row for _, fault in faults), np.int64))
        kept = np.delete(np.arange(len(rows)), faulty)
        values = [array.take(pa.array(kept)) for array in values]
    payload = shape.encode(values) if kept is None or len(kept) else None
    return Chunk(
        table=str(plan.table.name),
        shape=shape,
        content=ColumnContent(rows, tuple(values), kept),
        locations=locations_of(parts),
        payload=payload,
        faults=tuple(faults),
        altered=cast.counts,
        absent=absent_of(parts),
        chunk_rows=chunk_rows,
    )


def _chunk_of_rows(
    plan: TablePlan,
    shape: ShapePlan,
    parts: list[RowBatch],
    chunk_rows: int,
    look_at: _LookAt,
) -> Chunk:
    content = RowContent(
        [part.rows for part in parts],
        parts[0].to_columns,
        sum(part.value_bytes for part in parts),
        all(part.looked_at for part in parts),
    )
    payload: Payload | None = None
    with contextlib.suppress(WriteError):  # it is met again when the chunk is written
        payload = shape.encode_rows(content.parts, content.row_count, looked_at=content.looked_at)
    return Chunk(
        table=str(plan.table.name),
        shape=shape,
        content=content,
        locations=tuple(part.location for part in parts),
        payload=payload,
        chunk_rows=chunk_rows,
        look_at=None if content.looked_at else partial(look_at, parts),
    )


def looked_at(batch: RowBatch, encoder: RowEncoder) -> Batch | RowBatch:
    """Python rows stay rows where every value of them goes to the wire unchanged, or costs its own
    row only. Raises InputError where they cannot be made into columns.
    """
    value_bytes = encoder.value_bytes(batch.rows)
    if value_bytes is None:
        return batch.as_columns()
    return replace(batch, value_bytes=value_bytes, looked_at=True)


@dataclass(slots=True)
class _Pending:
    """Rows of one shape that wait for a full chunk. chunk_rows: of that; 0: not begun."""

    plan: TablePlan
    shape: ShapePlan
    most_bytes: int
    sizing: Sizing
    look_at: _LookAt
    chunk_rows: int = 0
    parts: list[Rows | RowBatch] = field(default_factory=list)
    row_count: int = 0
    byte_count: int = 0

    def add(self, rows: Rows | RowBatch) -> Iterator[Chunk]:
        """Take rows of this shape; give back the chunks that are full."""
        offset, row_bytes = 0, rows.row_bytes
        while offset < rows.row_count:
            self.chunk_rows = self.chunk_rows or self.sizing.cut()
            wanted = min(
                self.chunk_rows - self.row_count,
                max(1, (self.most_bytes - self.byte_count) // row_bytes),
            )
            part = rows.part(offset, min(wanted, rows.row_count - offset))
            self.parts.append(part)
            self.row_count += part.row_count
            self.byte_count += part.row_count * row_bytes
            offset += part.row_count
            if self.row_count == self.chunk_rows:
                yield self.take()
            elif self.byte_count >= self.most_bytes:
                self.sizing.bound(self.row_count)
                yield self.take()

    def take(self) -> Chunk:
        """Encode what is pending as one chunk."""
        parts, self.parts = self.parts, []
        chunk_rows, self.chunk_rows = self.chunk_rows, 0
        self.row_count = self.byte_count = 0
        rows = [part for part in parts if isinstance(part, RowBatch)]
        if rows:
            return _chunk_of_rows(self.plan, self.shape, rows, chunk_rows, self.look_at)
        columns = [part for part in parts if isinstance(part, Rows)]
        return _chunk(self.plan, self.shape, columns, chunk_rows)


Sized = Callable[[TablePlan, ShapePlan], Sizing]
"""What decides the rows of a table's chunks."""


def fixed_size(plan: TablePlan, shape: ShapePlan) -> Sizing:
    """The size that was planned."""
    return FixedSize(shape.chunk_rows)


@dataclass(slots=True)
class Waiting:
    """Rows of one table that wait for full chunks, by the columns that they leave out.

    Where the order of a key's rows matters, rows of several shapes wait only as long as no row of
    another shape comes that may have a key of theirs.
    known: where the shape of most rows may be planned already.
    row_shape: of Python rows that stay as they are; their schema is None.
    partial: whether rows may leave out columns.
    """

    known: LoadPlan
    plan: TablePlan
    source: str
    most_bytes: int
    notice: Callable[[str], None]
    row_shape: ShapePlan | None
    sized: Sized
    schema: pa.Schema | None = None
    whole: ShapePlan | None = None
    partial: bool = False
    pending: dict[frozenset[str], _Pending] = field(default_factory=dict)

    def add(self, rows: Rows | RowBatch) -> Iterator[Chunk]:
        """Take rows; give back the chunks that are full, or may wait no longer."""
        if not rows.row_count:
            return
        schema = rows.columns.schema if isinstance(rows, Rows) else None
        if self.whole is None or schema != self.schema:
            yield from self.take()
            self.partial = isinstance(rows, Rows) and rows.may_leave_out
            self._begin(schema)
        if isinstance(rows, RowBatch) or self.whole is None:
            yield from self._add([Group(_NOTHING, rows)])
            return
        for level in grouped(rows, self.plan, self.whole):
            yield from self._add(level)

    def _begin(self, schema: pa.Schema | None) -> None:
        first = self.whole is None
        shape = self.row_shape
        if schema is not None:
            shape = self._whole(schema)
        if shape is None:
            raise AssertionError("rows stay rows only where their shape is known")
        split = split_notice(self.plan, shape)
        if first and split is not None:
            self.notice(split)
        self.schema, self.whole = schema, shape
        self.pending = {_NOTHING: self._pending(shape)}

    def _whole(self, schema: pa.Schema) -> ShapePlan:
        """The shape of rows that leave nothing out."""
        if self.known.shape is not None and schema == self.known.schema and not self.partial:
            return self.known.shape
        return self.plan.shape(schema, self.source, partial=self.partial)

    def _add(self, level: list[Group]) -> Iterator[Chunk]:
        here = {group.omitted for group in level}
        waiting = {omitted for omitted, held in self.pending.items() if held.row_count}
        if self.plan.key is not None and waiting and (len(here) > 1 or waiting != here):
            yield from self.take()
        if len(self.pending) > _MOST_SHAPES:
            yield from self.take()
            self.pending = {_NOTHING: self.pending[_NOTHING]}
        for group in level:
            yield from self._of(group.omitted).add(group.rows)
        while sum(held.byte_count for held in self.pending.values()) >= self.most_bytes:
            yield max(self.pending.values(), key=lambda held: held.byte_count).take()

    def _of(self, omitted: frozenset[str]) -> _Pending:
        if omitted not in self.pending:
            shape = self.plan.shape(self.schema, self.source, omitted, partial=self.partial)
            self.pending[omitted] = self._pending(shape)
        return self.pending[omitted]

    def _pending(self, shape: ShapePlan) -> _Pending:
        sizing = self.sized(self.plan, shape)
        return _Pending(self.plan, shape, self.most_bytes, sizing, self.look_at)

    def look_at(self, parts: Sequence[RowBatch], offset: int, row_count: int) -> list[Chunk]:
        """See `Chunk.look_at`. parts: the chunk's rows."""
        if self.row_shape is None or self.row_shape.row_encoder is None:
            raise AssertionError("there are rows that were not looked at only with an encoder")
        waiting = replace(
            self,
            notice=lambda text: None,
            sized=lambda plan, shape: FixedSize(row_count),
            schema=None,
            whole=None,
            pending={},
        )
        chunks: list[Chunk] = []
        for part in parts:
            start, stop = max(0, offset), min(part.row_count, offset + row_count)
            offset -= part.row_count
            if start < stop:
                rows = looked_at(part.part(start, stop - start), self.row_shape.row_encoder)
                chunks += waiting.add(uncovered(rows, ()) if isinstance(rows, Batch) else rows)
        return [*chunks, *waiting.take()]

    def take(self) -> Iterator[Chunk]:
        """All that waits."""
        for held in self.pending.values():
            if held.row_count:
                yield held.take()
