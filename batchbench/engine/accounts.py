"""The accounts of a load under way: what its writers report, added up."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import pyarrow as pa

from batchbench.accounting import STATES, LoadResult
from batchbench.batch import Location
from batchbench.casts import Cast, Fault
from batchbench.deadletter import DeadLetter, Rejection
from batchbench.engine.chunks import Chunk
from batchbench.engine.plan import LoadOptions
from batchbench.engine.shapes import present
from batchbench.errors import BatchbenchError, WriteError
from batchbench.events import Listener, RowsRejected, RowsSettled
from batchbench.ledger import Part
from batchbench.strategies import Written

_DAY_S = 86_400
_END_OF_DAY = "24:00:00"
_PART_STATES = tuple(f.name for f in fields(Part) if f.name in STATES)


class TooManyRejectsError(BatchbenchError):
    """More rows were rejected than --max-rejects allows, or any where none may be."""


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of a chunk that go into one statement: `row_count` sendable ones from `offset`."""

    chunk: Chunk
    offset: int
    row_count: int

    @property
    def locations(self) -> tuple[Location, ...]:
        """The source rows it covers."""
        return self.chunk.span(self.offset, self.row_count)

    def split(self, parts: int, guilty: int | None) -> list[Span]:
        """Smaller spans: around the row that the server named, or of about equal size."""
        if guilty is not None and 0 <= guilty < self.row_count:
            cuts = [0, guilty, guilty + 1, self.row_count]
        else:
            cuts = [self.row_count * part // parts for part in range(parts + 1)]
        return [
            Span(self.chunk, self.offset + start, end - start)
            for start, end in pairwise(cuts)
            if end > start
        ]

    def cut(self, row_count: int) -> tuple[Span, Span | None]:
        """Its first rows, and the others if any."""
        if row_count == self.row_count:
            return self, None
        rest = Span(self.chunk, self.offset + row_count, self.row_count - row_count)
        return Span(self.chunk, self.offset, row_count), rest

    def part(self, written: Written) -> Part:
        """What came of it."""
        skipped = self.row_count - written.row_count - written.duplicates
        return Part(
            self.chunk.table, self.locations, written.row_count, written.duplicates, skipped
        )


class Accounts:
    """One load's counts and rejected rows. Used on the event loop only."""

    def __init__(
        self,
        result: LoadResult,
        options: LoadOptions,
        dead_letter: DeadLetter | None,
        emit: Listener,
    ) -> None:
        self.result = result
        self.acknowledged: list[Part] = []
        self._options = options
        self._dead_letter = dead_letter
        self._emit = emit

    def took(self, seconds: float, byte_count: int) -> None:
        """A chunk is done with."""
        self.result.chunk_seconds.append(seconds)
        self.result.byte_count += byte_count

    def wrote(self, span: Span, written: Written) -> None:
        """A span was written; it is not committed yet, and may have to be written again."""

    def committed(self, parts: Sequence[Part]) -> None:
        """A transaction was committed, now or by an earlier start."""
        for part in parts:
            counts = self.result.counts(part.table)
            counts.committed += part.committed
            counts.duplicates += part.duplicates
            counts.skipped_by_server += part.skipped_by_server
        self.acknowledged += parts
        settled: Counter[tuple[str, str]] = Counter()
        for part in parts:
            settled.update({(part.table, state): getattr(part, state) for state in _PART_STATES})
        for (table, state), row_count in settled.items():
            self.settled(table, state, row_count)

    def settled(self, table: str, state: str, row_count: int) -> None:
        """Tell the listeners of rows that were counted."""
        if row_count:
            self._emit(RowsSettled(table, state, row_count))

    def gone(self, parts: Sequence[Part]) -> None:
        """Parts that were acknowledged are no longer there; their rows count as unwritten."""
        for part in parts:
            counts = self.result.counts(part.table)
            counts.committed -= part.committed
            counts.duplicates -= part.duplicates
            counts.skipped_by_server -= part.skipped_by_server
            self.settled(part.table, "lost", part.row_count)

    def unknown(self, parts: Sequence[Part]) -> None:
        """Nobody can say whether a transaction was committed."""
        for part in parts:
            self.result.counts(part.table).unknown += part.row_count
            self.result.unknown_rows.extend(map(str, part.locations))
            self.settled(part.table, "unknown", part.row_count)

    async def take(self, chunk: Chunk) -> None:
        """A chunk is about to be written: count what its policies altered, and reject the rows
        that its casts refused.
        """
        self.result.altered.update(chunk.altered)
        if chunk.faults:
            await self._reject(chunk, [_of_fault(chunk, *fault) for fault in chunk.faults])

    async def look_at(self, span: Span) -> list[Span]:
        """The same rows, one of which was refused on its way, ready to be written; see `take`.

        Raises InputError.
        """
        if span.chunk.look_at is None:
            raise AssertionError("only rows that were not looked at are refused on their way")
        chunks = await asyncio.to_thread(span.chunk.look_at, span.offset, span.row_count)
        for chunk in chunks:
            await self.take(chunk)
        return [Span(chunk, 0, chunk.row_count) for chunk in chunks if chunk.row_count]

    async def reject(self, span: Span, error: WriteError) -> None:
        """The only row of a span, refused by the server."""
        await self._reject(span.chunk, [_of_error(span, error)])

    async def _reject(self, chunk: Chunk, rejections: list[Rejection]) -> None:
        """On disk first; only then may a commit leave the rows out."""
        if not self._options.skips_rejects:
            first = rejections[0]
            raise TooManyRejectsError(
                f"{first.source}, row {first.row_number:,}: {first.reason} ({first.sqlstate});"
                " to load the other rows, use --on-reject skip"
            )
        if self._dead_letter is None:
            raise AssertionError("rejected rows have to be written down somewhere")
        new = await asyncio.to_thread(self._dead_letter.write, rejections)
        self.result.counts(chunk.table).rejected += new
        if new:
            self._emit(RowsRejected(chunk.table, new, rejections[0].sqlstate))
        self._check_limit()

    def _check_limit(self) -> None:
        limit = self._options.max_rejects
        if limit is None:
            return
        total = self.result.total
        allowed = math.floor(limit * total.read) if isinstance(limit, float) else limit
        if total.rejected > allowed:
            raise TooManyRejectsError(
                f"{total.rejected:,} of {total.read:,} rows read were rejected, more than"
                f" --max-rejects allows; the reasons are in the dead letter"
            )


def fault_reason(cast: Cast, fault: Fault) -> str:
    """Why a value does not fit its column."""
    return f"column {cast.column.name!r} ({cast.column.declared}): {fault.reason}"


def _of_fault(chunk: Chunk, number: int, fault: Fault) -> Rejection:
    place = chunk.place(fault.row)
    cast = chunk.shape.casts[number]
    return Rejection(
        source=place.source,
        row_number=place.first_row,
        table=chunk.table,
        sqlstate=fault.sqlstate,
        reason=fault_reason(cast, fault),
        row=_row(chunk, fault.row),
        column=cast.column.name,
    )


def _of_error(span: Span, error: WriteError) -> Rejection:
    position = span.chunk.position(span.offset)
    place = span.chunk.place(position)
    return Rejection(
        source=place.source,
        row_number=place.first_row,
        table=span.chunk.table,
        sqlstate=error.sqlstate,
        reason=error.condition,
        row=_row(span.chunk, position),
        column=error.column,
        constraint=error.constraint,
    )


def _plain(value: pa.Scalar) -> Any:
    """A value as Python has it, else (a year past 9999, no UTF-8, the end of a day) as text,
    element by element.
    """
    kind = value.type
    if pa.types.is_time(kind):
        return _END_OF_DAY if _is_end_of_day(value) else value.as_py()
    try:
        if not _has_times(kind):
            return value.as_py()
    except (OverflowError, ValueError):
        pass
    if not value.is_valid:
        return None
    if pa.types.is_dictionary(kind):
        return _plain(value.value)
    if pa.types.is_struct(kind):
        return {name: _plain(field) for name, field in value.items()}
    if pa.types.is_nested(kind):
        return [_plain(element) for element in value.values]
    if isinstance(value, pa.StringScalar):  # also large ones and views
        return _shown(value.as_buffer().to_pybytes())
    return str(value.cast(pa.string()))


def _has_times(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_time(kind.value_type))


def _is_end_of_day(value: pa.Scalar) -> bool:
    """24:00, which Python's time has no place for: pyarrow makes 00:00 of it."""
    end = pa.scalar(_DAY_S, pa.int64()).cast(pa.duration("s")).cast(pa.duration(value.type.unit))
    return bool(value.is_valid and value.value == end.value)


def _shown(raw: bytes) -> str:
    """Text that is no UTF-8, with what is none as Python would escape it."""
    try:
        halves = raw.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return raw.decode(errors="backslashreplace")
    return halves.encode(errors="backslashreplace").decode()


def _row(chunk: Chunk, position: int) -> dict[str, Any]:
    """A row as it was read, by source column, in a form that JSON has."""
    uuids = {
        p
        for p, c in zip(chunk.shape.positions, chunk.shape.casts, strict=True)
        if c.column.type.kind == "uuid"
    }
    row: dict[str, Any] = {}
    read = chunk.as_read(position)
    for number, name in enumerate(read.schema.names):
        value = _plain(read.column(number)[0])
        if number in uuids and isinstance(value, bytes) and len(value) == 16:
            value = str(uuid.UUID(bytes=value))
        elif isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        row[name] = value
    return row if chunk.absent is None else present(row, chunk.absent[position].as_py())
