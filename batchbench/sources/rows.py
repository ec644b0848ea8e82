"""Rows that are in memory already, or made as they are read: Arrow, pandas, Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from batchbench.batch import ROW_TYPES, Batch, Location, PythonRow, RowBatch
from batchbench.errors import InputError
from batchbench.sources.columns import batch_of_columns, batch_of_dicts, column
from batchbench.sources.mapping import Paths
from batchbench.sources.ndjson import remembered
from batchbench.sources.options import SourceOptions
from batchbench.sources.source import (
    OneTable,
    SchemaKind,
    located,
    unique_names,
    without_absent,
)

CONVERT_ROWS = 8_192
"""Python rows made into columns at a time."""

_PEEK_ROWS = 1_024
"""Rows whose types are taken for those of the source."""

_PEEK_BYTES = 8 << 20
"""About what they may take; fewer of wide rows."""

_SAMPLE_ROWS = 16
"""Rows that tell how wide their neighbours are."""


class ArrowSource(OneTable):
    """A table, a record batch, a reader, or anything else with `__arrow_c_stream__`."""

    def __init__(self, data: Any, name: str = "Arrow data") -> None:
        self.name = name
        self.one_shot = not isinstance(data, (pa.Table, pa.RecordBatch))
        if isinstance(data, pa.RecordBatch):
            data = pa.Table.from_batches([data])
        if self.one_shot and not isinstance(data, pa.RecordBatchReader):
            data = pa.RecordBatchReader.from_stream(data)
        self._data = data
        self._taken = False

    def schema(self) -> pa.Schema:
        """Columns as the data declare them."""
        unique_names(self._data.schema.names, self.name)
        return self._data.schema.remove_metadata()

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        self.schema()
        if self.one_shot and self._taken:
            raise read_twice(self.name)
        self._taken = True
        return located(self._pieces(max_rows), self.name, max_rows, max_bytes)

    def _pieces(self, max_rows: int) -> Iterator[pa.RecordBatch]:
        if isinstance(self._data, pa.Table):
            pieces: Iterable[pa.RecordBatch] = self._data.to_batches(max_chunksize=max_rows)
        else:
            pieces = self._data
        for piece in pieces:
            yield piece.replace_schema_metadata(None)


class FrameSource(OneTable):
    """A pandas DataFrame, converted slice by slice. A named index becomes columns."""

    def __init__(self, frame: Any, name: str = "DataFrame") -> None:
        named = any(level is not None for level in frame.index.names)
        self._frame = frame.reset_index() if named else frame
        self.name = name
        self._names = [str(label) for label in self._frame.columns]
        unique_names(self._names, name)
        if len(frame) and not self._names:
            raise InputError(f"{name}: has {len(frame):,} rows and no column; give it one")

    def schema(self) -> pa.Schema:
        """Columns as all rows show them (object columns are looked at as a whole)."""
        fields = []
        for position, name in enumerate(self._names):
            series = self._frame.iloc[:, position]
            whole = series if series.dtype == object else series.iloc[:0]
            fields.append(_series(name, whole, self.name)[0])
        return pa.schema(fields)

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        pieces = (
            self._converted(start, min(start + max_rows, len(self._frame)))
            for start in range(0, len(self._frame), max_rows)
        )
        return located(pieces, self.name, max_rows, max_bytes)

    def _converted(self, start: int, stop: int) -> pa.RecordBatch:
        part = self._frame.iloc[start:stop]
        fields, arrays = [], []
        where = f"{self.name}, rows {start + 1:,}-{stop:,}"
        for position, name in enumerate(self._names):
            field, array = _series(name, part.iloc[:, position], where)
            fields.append(field)
            arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _series(name: str, series: Any, where: str) -> tuple[pa.Field, pa.Array]:
    if series.dtype == object:
        # pandas marks missing values of objects by None, NaN, NaT or NA
        values = series.where(series.notna(), None).tolist()
        return column(name, values, None, where)
    array = pa.Array.from_pandas(series)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        array = array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)
    return pa.field(name, array.type), array


class PythonSource(OneTable):
    """Dicts, or tuples with `columns`; a list can be read again, an iterator cannot."""

    schema_kind: SchemaKind = "observed"

    def __init__(
        self,
        rows: Iterable[Any],
        columns: Sequence[str] | None = None,
        name: str = "rows",
        options: SourceOptions = SourceOptions(),  # noqa: B008 - frozen
    ) -> None:
        self.name = name
        self.one_shot = isinstance(rows, Iterator)
        self.in_memory = isinstance(rows, (list, tuple))
        self._rows = rows
        self._columns = None if columns is None else list(columns)
        self._options = options
        self._paths = Paths.of(options.columns)
        self._head: list[Any] | None = None
        self._taken = False
        unique_names(self._columns or (), name)

    def schema(self) -> pa.Schema:
        """Columns of the first rows."""
        first = next(self._pieces(self._peek(), CONVERT_ROWS, _PEEK_BYTES), None)
        if first is not None:
            return without_absent(first.schema)
        return pa.schema([(name, pa.null()) for name in self._columns or ()])

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        most, refuses = min(max_rows, CONVERT_ROWS), self._options.missing == "error"
        pieces = self._pieces(self._begin(), CONVERT_ROWS, max_bytes)
        return located(pieces, self.name, most, max_bytes, absent_is_error=refuses)

    def row_batches(self, max_rows: int, max_bytes: int) -> Iterator[RowBatch] | None:
        """See `RowSource`: of tuples and lists; the values of dicts have no order of their own.

        Raises InputError where the first row of some has no values. Whether each has the right
        number of them tells who encodes the rows, or makes columns of them.
        """
        if self._columns is None:
            return None
        runs = _runs(self._begin(), min(max_rows, CONVERT_ROWS), max_bytes)
        return self._tuples(runs, len(self._columns))

    def _begin(self) -> Iterator[Any]:
        """The rows, once only where they are an iterator's."""
        if self.one_shot and self._taken:
            raise read_twice(self.name)
        self._taken = True
        rows = chain(self._head or (), self._rows) if self.one_shot else self._rows
        self._head = None
        return iter(rows)

    def _tuples(self, runs: Iterable[list[Any]], width: int) -> Iterator[RowBatch]:
        known: dict[str, pa.Field] | None = {} if self.one_shot else None
        first_row = 1

        def to_columns(rows: Sequence[PythonRow], location: Location) -> pa.RecordBatch:
            nonlocal known
            if known is None:
                known = {field.name: field for field in self.schema()}
            piece = self._converted(list(rows), known, location.first_row, str(location))
            known = remembered(known, piece.schema)
            return piece

        for held in runs:
            # Views of dicts have no places. Where only some rows are such, the encoder sees it.
            if type(held[0]) not in ROW_TYPES:
                self._check_width(held, width, first_row)
                held = list(map(tuple, held))
            yield RowBatch(held, Location(self.name, first_row, len(held)), to_columns)
            first_row += len(held)

    def _peek(self) -> list[Any]:
        if not self.one_shot:
            return _first_rows(iter(self._rows))
        if self._taken:
            raise read_twice(self.name)
        if self._head is None:
            self._head = _first_rows(iter(self._rows))
        return self._head

    def _pieces(
        self, rows: Iterable[Any], max_rows: int, max_bytes: int
    ) -> Iterator[pa.RecordBatch]:
        known: dict[str, pa.Field] = {}
        first_row = 1
        for held in _runs(rows, max_rows, max_bytes):
            where = f"{self.name}, rows {first_row:,}-{first_row + len(held) - 1:,}"
            piece = self._converted(held, known, first_row, where)
            known = remembered(known, piece.schema)
            first_row += len(held)
            yield piece

    def _converted(
        self, rows: list[Any], known: Mapping[str, pa.Field], first_row: int, where: str
    ) -> pa.RecordBatch:
        if self._columns is None:
            if set(map(type, rows)) != {dict}:  # the usual case is told in C
                self._each(rows, first_row, lambda row: isinstance(row, Mapping), "is no dict")
            if self._paths is not None:
                rows = [
                    self._paths.lift(row, f"{self.name}, row {number:,}")
                    for number, row in enumerate(rows, first_row)
                ]
            tells, mapped = self._options.missing != "null", self._paths is not None
            return batch_of_dicts(rows, known, where, tells_absent=tells, mapped=mapped)
        width = len(self._columns)
        self._check_width(rows, width, first_row)
        flat = list(chain.from_iterable(rows))  # zip(*rows) touches every row for each value
        columns = {name: flat[i::width] for i, name in enumerate(self._columns)}
        return batch_of_columns(columns, known, where)

    def _check_width(self, rows: Sequence[Any], width: int, first_row: int) -> None:
        if not set(map(type, rows)) <= ROW_TYPES or set(map(len, rows)) != {width}:
            self._each(rows, first_row, lambda row: _width(row) == width, f"has no {width} values")

    def _each(
        self, rows: Sequence[Any], first_row: int, fits: Callable[[Any], bool], what: str
    ) -> None:
        for number, row in enumerate(rows, first_row):
            if not fits(row):
                raise InputError(
                    f"{self.name}, row {number:,}: is a {type(row).__name__} and {what}; give "
                    "dicts with the same keys, or tuples of one width together with columns="
                )


def _first_rows(rows: Iterator[Any]) -> list[Any]:
    """Of those that are read once, the iterator must be the source's own."""
    head = list(islice(rows, _SAMPLE_ROWS))
    return head + list(islice(rows, max(0, _fitting(head, _PEEK_ROWS, _PEEK_BYTES) - len(head))))


def _runs(rows: Iterable[Any], max_rows: int, max_bytes: int) -> Iterator[list[Any]]:
    """Runs of `max_rows` but for the last, or of as many as take about `max_bytes`, going by the
    rows before: no row is looked at twice, and none is taken that need not be held yet.
    """
    left = iter(rows)
    held = list(islice(left, min(max_rows, _SAMPLE_ROWS)))
    missing = _fitting(held, max_rows, max_bytes) - len(held)
    held += islice(left, max(0, missing))
    while held:
        yield held
        held = list(islice(left, _fitting(held, max_rows, max_bytes)))


def _fitting(rows: Sequence[Any], max_rows: int, max_bytes: int) -> int:
    """How many rows like these to take at once; at least one."""
    sample = rows[:: max(1, len(rows) // _SAMPLE_ROWS)]
    row_bytes = sum(map(_value_bytes, sample)) // max(1, len(sample))
    return max(1, min(max_rows, max_bytes // max(1, row_bytes)))


def _value_bytes(value: Any) -> int:
    """About what a value takes in memory, with what is in it."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_value_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_value_bytes, value))
    return int(getattr(value, "nbytes", 8))


def _width(row: Any) -> int:
    return -1 if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__len__") else len(row)


def read_twice(name: str) -> InputError:
    """The error for a second reading of a one-shot source."""
    return InputError(
        f"{name}: can be read only once and was read already; give a list, a table or a file"
    )
