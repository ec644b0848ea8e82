"""What a source of rows is, and how what it read becomes batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa

from batchbench.batch import Batch, Location, RowBatch
from batchbench.errors import InputError

SchemaKind = Literal["declared", "observed", "text"]
"""Where the types of a source's columns come from: "declared", the source states them and they
hold for all rows; "observed", the first rows show them, later ones may add and widen columns;
"text", the format has no types and all columns are text."""


class Source(Protocol):
    """Where rows come from.

    Iterators block (on files, decompression, parsing): run them in a thread. Nothing here holds
    more than a few blocks of a file in memory.
    """

    @property
    def name(self) -> str:
        """For messages: the file as it was given, "<stdin>", "DataFrame", "rows"."""

    @property
    def one_shot(self) -> bool:
        """Whether `batches` can be called only once."""

    @property
    def schema_kind(self) -> SchemaKind:
        """What the types of `schema` are worth."""

    @property
    def targets(self) -> Mapping[str, pa.Schema]:
        """Metric types this source fans out to, with their columns; empty: one table."""

    def schema(self) -> pa.Schema | None:
        """Columns and types; None where the source fans out (see `targets`).

        Observed: later batches may have more columns or other types, never fewer columns.
        Raises InputError where the source cannot be read.
        """

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """Read all rows, in order, `max_rows` and about `max_bytes` a batch at most.

        A row larger than max_bytes is a batch of its own. Schemas may differ between batches.
        Raises InputError where the source cannot be read or parsed, or was read before and is
        one-shot.
        """

    def not_loaded(self) -> Mapping[str, int]:
        """Kinds of records that have no target, with their counts, as far as was read."""

    def fingerprint(self) -> str:
        """Tells whether a source is the same as before, so that a load of it can be resumed; ""
        where that cannot be told (data in memory, a stream).
        """

    def remarks(self) -> Mapping[str, int]:
        """What else did not reach the rows as it stood (ignored keys, conversions), counted."""


@runtime_checkable
class RowSource(Protocol):
    """A source that has rows as Python has them, without any work.

    in_memory: whether they are all there already, so that reading them waits for nothing.
    """

    in_memory: bool

    def row_batches(self, max_rows: int, max_bytes: int) -> Iterator[RowBatch] | None:
        """As `Source.batches`; None where only `batches` can serve, and nothing was read yet."""


class OneTable:
    """The answers of a source of one table, which leaves nothing out."""

    schema_kind: SchemaKind = "declared"
    one_shot = False

    @property
    def targets(self) -> Mapping[str, pa.Schema]:
        """None."""
        return {}

    def not_loaded(self) -> Mapping[str, int]:
        """Nothing."""
        return {}

    def fingerprint(self) -> str:
        """None."""
        return ""

    def remarks(self) -> Mapping[str, int]:
        """Nothing."""
        return {}


def unique_names(names: Iterable[str], source: str) -> None:
    """Raise InputError where a column has no name or shares one."""
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not name:
            raise InputError(
                f"{source}: column {position} has no name; name it in the header (pandas writes "
                "its index that way: use index=False)"
            )
        if name in seen:
            raise InputError(
                f"{source}: two columns are named {name!r}; give each column a name of its own"
            )
        seen.add(name)


def regroup(
    pieces: Iterable[pa.RecordBatch], max_rows: int, max_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Make record batches of `max_rows` of smaller and larger ones; order is kept.

    A batch is shorter where the schema changes, where it would go over `max_bytes`, and at the
    end.
    """
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for piece in pieces:
        if held and piece.schema != held[0].schema:
            yield _joined(held)
            held, rows, size = [], 0, 0
        for part in _bounded(piece, max_bytes):
            if held and size + part.nbytes > max_bytes:
                yield _joined(held)
                held, rows, size = [], 0, 0
            offset = 0
            while offset < part.num_rows:
                taken = part.slice(offset, max_rows - rows)
                held.append(taken)
                offset += taken.num_rows
                rows += taken.num_rows
                size += taken.nbytes
                if rows == max_rows:
                    yield _joined(held)
                    held, rows, size = [], 0, 0
    if held:
        yield _joined(held)


def _bounded(piece: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    if piece.num_rows == 0:
        return
    row_bytes = max(1, -(-piece.nbytes // piece.num_rows))
    step = max(1, max_bytes // row_bytes)
    for start in range(0, piece.num_rows, step):
        yield from _within(piece.slice(start, step), max_bytes)


def _within(part: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    # rows of one block can differ in size by far: halve until each part fits
    if part.num_rows <= 1 or part.nbytes <= max_bytes:
        yield part
        return
    middle = part.num_rows // 2
    yield from _within(part.slice(0, middle), max_bytes)
    yield from _within(part.slice(middle), max_bytes)


def _joined(held: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(held) == 1:
        return held[0]
    return pa.Table.from_batches(held).combine_chunks().to_batches()[0]


ABSENT = "\0absent"
"""The column in which the pieces of a source bear `Batch.absent`; it comes last."""


def located(
    pieces: Iterable[pa.RecordBatch],
    name: str,
    max_rows: int,
    max_bytes: int,
    *,
    absent_is_error: bool = False,
) -> Iterator[Batch]:
    """Regroup record batches and say for each where its rows stand."""
    first_row = 1
    for columns in regroup(pieces, max_rows, max_bytes):
        absent = None
        if ABSENT in columns.schema.names:
            absent, columns = columns.column(ABSENT), columns.drop_columns(ABSENT)
        location = Location(name, first_row, columns.num_rows)
        yield Batch(columns, location, None, absent, absent_is_error)
        first_row += columns.num_rows


def without_absent(schema: pa.Schema) -> pa.Schema:
    """The columns that the source itself has."""
    position = schema.get_field_index(ABSENT)
    return schema if position < 0 else schema.remove(position)
