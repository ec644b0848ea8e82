"""What a load starts from: Python tuples, an Arrow table, a Parquet file or a CSV file.

A peer that needs another form than the one it is given converts it here, inside the clock.
"""

from __future__ import annotations

import binascii
import datetime as dt
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from benchmarks.rows import row_batches, rows_available
from benchmarks.tables import BenchTable

Form = Literal["tuples", "arrow", "parquet", "csv"]
FORMS: tuple[Form, ...] = get_args(Form)
Row = tuple[Any, ...]

_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Data:
    """`row_count` rows of `table` in one form.

    value: a list of tuples, a pyarrow Table, or a path.
    """

    form: Form
    table: BenchTable
    row_count: int
    value: Any

    @property
    def path(self) -> Path:
        """Of a file."""
        assert isinstance(self.value, Path)
        return self.value

    def tuples(self) -> Iterable[Row]:
        """Rows of Python objects: UUID, aware datetime, int, float, bool, str; a jsonb its text."""
        if self.form == "tuples":
            rows: list[Row] = self.value
            return rows
        return (row for batch in self.arrow() for row in python_rows(batch, self.table))

    def tuple_list(self) -> list[Row]:
        """The same, all at once."""
        rows = self.tuples()
        return rows if isinstance(rows, list) else list(rows)

    def arrow(self) -> pa.RecordBatchReader:
        """Batches; a Parquet or CSV file is read as they are taken."""
        schema = self.table.arrow_schema
        if self.form == "arrow":
            return self.value.to_reader(max_chunksize=_BATCH_ROWS)
        if self.form == "parquet":
            batches = pq.ParquetFile(self.path).iter_batches(_BATCH_ROWS)
        elif self.form == "csv":
            batches = _csv_batches(self.path, self.table)
        else:
            columns = [list(column) for column in zip(*self.value, strict=True)]
            for position in self.table.positions("uuid"):
                columns[position] = [None if v is None else v.bytes for v in columns[position]]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
            batches = iter([pa.RecordBatch.from_arrays(arrays, schema=schema)])
        return pa.RecordBatchReader.from_batches(schema, batches)

    def chunks(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Batches of `rows` rows, the last one shorter; a file's own batches end one too."""
        whole = self.value.to_batches(max_chunksize=rows) if self.form == "arrow" else self.arrow()
        for batch in whole:
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)


def python_rows(batch: pa.RecordBatch, table: BenchTable) -> Iterator[Row]:
    """A record batch as Python tuples; see `Data.tuples`."""
    return zip(*python_columns(batch, table), strict=True)


def python_columns(batch: pa.RecordBatch, table: BenchTable) -> list[list[Any]]:
    """A record batch as a list of Python objects for each column; see `Data.tuples`."""
    columns = []
    for column, values in zip(table.columns, batch.columns, strict=True):
        if column.sql_type == "uuid":
            columns.append([None if v is None else uuid.UUID(bytes=v) for v in values.to_pylist()])
        elif column.sql_type == "timestamptz":
            naive = values.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False).tolist()
            columns.append([None if v is None else v.replace(tzinfo=dt.UTC) for v in naive])
        else:
            columns.append(values.to_pylist())
    return columns


def _csv_batches(path: Path, table: BenchTable) -> Iterator[pa.RecordBatch]:
    schema = table.arrow_schema
    uuids = table.positions("uuid")
    types = {
        f.name: pa.string() if position in uuids else f.type for position, f in enumerate(schema)
    }
    convert = pcsv.ConvertOptions(
        column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    for batch in pcsv.open_csv(path, convert_options=convert):
        columns = [
            _uuid_bytes(values) if position in uuids else values
            for position, values in enumerate(batch.columns)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _uuid_bytes(texts: pa.Array) -> pa.Array:
    """From texts of 36 characters, without nulls, to 16 bytes each, in whole columns."""
    raw = np.frombuffer(texts.buffers()[2], np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)
    start = offsets[texts.offset]
    characters = raw[start : start + 36 * len(texts)].reshape(len(texts), 36)
    digits = np.delete(characters, [8, 13, 18, 23], axis=1)
    packed = pa.py_buffer(binascii.unhexlify(digits.tobytes()))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(texts), [None, packed])


def _uuid_texts(values: pa.Array) -> pa.Array:
    return pa.array([str(uuid.UUID(bytes=value)) for value in values.to_pylist()])


@dataclass
class Inputs:
    """Makes data once for every table, form and row count, and keeps them.

    folder: where files go.
    """

    folder: Path
    _kept: dict[tuple[str, Form, int], Any] = field(default_factory=dict)

    def get(self, table: BenchTable, form: Form, row_count: int) -> Data:
        """The table's first rows; fewer than asked for where there are no more."""
        row_count = rows_available(table.rows_name, row_count)
        key = (table.rows_name, form, row_count)
        if key not in self._kept:
            self._kept[key] = self._made(table, form, row_count)
        return Data(form, table, row_count, self._kept[key])

    def _made(self, table: BenchTable, form: Form, row_count: int) -> Any:
        batches = row_batches(table.rows_name, row_count)
        if form == "arrow":
            return pa.Table.from_batches(batches, table.arrow_schema).combine_chunks()
        if form == "tuples":
            return [row for batch in batches for row in python_rows(batch, table)]
        path = self.folder / f"{table.rows_name}-{row_count}.{form}"
        if form == "parquet":
            with pq.ParquetWriter(path, table.arrow_schema) as parquet:
                for batch in batches:
                    parquet.write_batch(batch)
        else:
            _write_csv(path, table, batches)
        return path


def _write_csv(path: Path, table: BenchTable, batches: Iterable[pa.RecordBatch]) -> None:
    """Text quoted, NULL an empty unquoted field, as COPY's CSV means it."""
    uuids = table.positions("uuid")
    schema = table.arrow_schema
    for position in uuids:
        schema = schema.set(position, schema.field(position).with_type(pa.string()))
    with pcsv.CSVWriter(path, schema) as writer:
        for batch in batches:
            columns = [
                _uuid_texts(values) if position in uuids else values
                for position, values in enumerate(batch.columns)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
