"""Rows that wait for a flush, and how they become chunks of one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from batchbench.batch import Location
from batchbench.engine.chunks import Chunk
from batchbench.engine.content import ColumnContent
from batchbench.engine.plan import ShapePlan
from batchbench.writer.tickets import Share, Ticket, TicketAccounts


@dataclass(frozen=True, slots=True, order=True)
class Form:
    """Rows that agree in it can be written by one statement. columns: name and form of each."""

    table: str
    columns: tuple[tuple[str, str], ...]


Forms = tuple[Form, ...]
"""Of all rows that were handed over together, sorted: rows that agree in it wait together."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one ticket that can be sent. form: of them. values: canonical, one array a column of
    `shape`. rows: their positions among those handed over. byte_count: of the values.
    """

    ticket: Ticket
    shape: ShapePlan
    form: Form
    values: Sequence[pa.Array]
    rows: Sequence[int]
    byte_count: int

    def slice(self, start: int, end: int) -> Part:
        """Some of the rows; the byte counts of all slices add up."""
        total, whole = len(self.rows), self.byte_count
        if end - start == total:
            return self
        values = [array.slice(start, end - start) for array in self.values]
        byte_count = whole * end // total - whole * start // total
        return Part(self.ticket, self.shape, self.form, values, self.rows[start:end], byte_count)


def part_of(
    ticket: Ticket,
    shape: ShapePlan,
    values: Sequence[pa.Array],
    rows: Sequence[int],
    faulty: Sequence[int],
) -> Part:
    """The rows without a fault. rows: positions of all; faulty: places among them, ascending."""
    if faulty:
        kept = np.delete(np.arange(len(rows)), faulty).tolist()
        values = [array.take(pa.array(kept, pa.int64())) for array in values]
        rows = [rows[place] for place in kept]
    columns = zip(shape.casts, values, strict=True)
    form = Form(
        str(shape.table.name), tuple((cast.column.name, str(array.type)) for cast, array in columns)
    )
    return Part(ticket, shape, form, values, rows, sum(int(array.nbytes) for array in values))


@dataclass(slots=True)
class Pending:
    """Rows of the same forms, that are committed together. number: see `Occupancy`."""

    number: int
    parts: list[Part] = field(default_factory=list)
    rows: Counter[Form] = field(default_factory=Counter)
    byte_count: int = 0

    def add(self, parts: Sequence[Part], rows: Mapping[Form, int]) -> None:
        """Take more rows: so many."""
        self.parts += parts
        for form, row_count in rows.items():
            self.rows[form] += row_count
        self.byte_count += sum(part.byte_count for part in parts)

    def would_pass(self, rows: Mapping[Form, int], most: Mapping[Form, int]) -> bool:
        """Whether so many more would make a chunk too large."""
        return any(self.rows[form] + row_count > most[form] for form, row_count in rows.items())

    def reaches(self, most: Mapping[Form, int]) -> bool:
        """Whether there is a full chunk."""
        return any(self.rows[form] >= row_count for form, row_count in most.items())


@dataclass(frozen=True, slots=True, eq=False)
class Flush:
    """Rows that are committed together, and who owns those of each chunk. number: see
    `Occupancy`.
    """

    chunks: tuple[Chunk, ...]
    shares: tuple[tuple[Share, ...], ...]
    byte_count: int
    number: int

    @property
    def row_count(self) -> int:
        """Over all chunks."""
        return sum(chunk.row_count for chunk in self.chunks)


def flush_of(pending: Pending, source: str, first_row: int, tables: Sequence[str]) -> Flush:
    """Make chunks, in the order of `tables`. Blocking: they are encoded here. first_row: of the
    first, in the writer's count.
    """
    by_form: dict[Form, list[Part]] = {}
    for part in pending.parts:
        by_form.setdefault(part.form, []).append(part)
    chunks, shares = [], []
    for form in sorted(by_form, key=lambda form: tables.index(form.table)):
        for parts in _in_chunks(by_form[form]):
            chunk, owned = _chunk_of(parts, source, first_row)
            chunks.append(chunk)
            shares.append(owned)
            first_row += chunk.row_count
    return Flush(tuple(chunks), tuple(shares), pending.byte_count, pending.number)


def give_up(pending: Pending, accounts: TicketAccounts, cause: BaseException) -> None:
    """Nobody will write these rows: tell their tickets."""
    for part in pending.parts:
        lost = sum(part.ticket.fail(row, cause, unknown=False) for row in part.rows)
        accounts.unwritten(str(part.shape.table.name), lost)
        part.ticket.settle(len(part.rows))


def _in_chunks(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """No more rows in each than a chunk may have."""
    held: list[Part] = []
    row_count = 0
    for part in parts:
        start = 0
        while start < len(part.rows):
            end = min(len(part.rows), start + part.shape.chunk_rows - row_count)
            held.append(part.slice(start, end))
            row_count, start = row_count + end - start, end
            if row_count == part.shape.chunk_rows:
                yield held
                held, row_count = [], 0
    if held:
        yield held


def _chunk_of(parts: list[Part], source: str, first_row: int) -> tuple[Chunk, tuple[Share, ...]]:
    shape = parts[0].shape
    values = tuple(
        pa.concat_arrays([part.values[number] for part in parts])
        for number in range(len(shape.casts))
    )
    counts = [len(part.rows) for part in parts]
    starts = first_row + np.cumsum([0, *counts[:-1]])
    shares = tuple(
        Share(part.ticket, int(start), part.rows) for part, start in zip(parts, starts, strict=True)
    )
    names = [cast.column.name for cast in shape.casts]
    chunk = Chunk(
        table=str(shape.table.name),
        shape=shape,
        content=ColumnContent(pa.RecordBatch.from_arrays(list(values), names=names), values),
        locations=(Location(source, first_row, sum(counts)),),
        payload=shape.encode(values),
        chunk_rows=shape.chunk_rows,
    )
    return chunk, shares
