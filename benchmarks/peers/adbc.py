"""ADBC's PostgreSQL driver: Arrow to binary COPY, in C."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from adbc_driver_postgresql import dbapi

from benchmarks.data import Data
from benchmarks.duplicates import CHUNK_ROWS
from benchmarks.tables import BenchTable


def ingest(dsn: str, table: BenchTable, data: Data) -> None:
    """adbc_ingest, appending."""
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(table.name, _reader(table, data), mode="append")
        connection.commit()


def ingest_staged(dsn: str, table: BenchTable, data: Data) -> None:
    """adbc_ingest into a temporary table, then INSERT ... SELECT ... ON CONFLICT."""
    _staged(dsn, table, iter([_reader(table, data)]))


def ingest_staged_chunks(dsn: str, table: BenchTable, data: Data) -> None:
    """The same, a transaction for every chunk."""
    _staged(dsn, table, data.chunks(CHUNK_ROWS))


def _staged(dsn: str, table: BenchTable, parts: Iterator[Any]) -> None:
    with dbapi.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE stage (LIKE {table.sql}) ON COMMIT DELETE ROWS")
        connection.commit()
        for part in parts:
            cursor.adbc_ingest("stage", part, mode="append", temporary=True)
            cursor.execute(
                f"INSERT INTO {table.sql} ({table.columns_sql})"
                f" SELECT {table.columns_sql} FROM stage{table.conflict_sql}"
            )
            connection.commit()


def _reader(table: BenchTable, data: Data) -> Any:
    """Documents as Arrow's JSON type: as plain text the driver sends no jsonb."""
    reader = data.arrow()
    documents = table.positions("jsonb")
    if not documents:
        return reader
    schema = reader.schema
    for position in documents:
        schema = schema.set(position, schema.field(position).with_type(pa.json_()))
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in reader))
