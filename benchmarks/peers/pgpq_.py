"""pgpq: Arrow to binary COPY, in Rust; the stream goes through psycopg's copy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb

from benchmarks.data import Data
from benchmarks.duplicates import CHUNK_ROWS
from benchmarks.tables import BenchTable


def copy(dsn: str, table: BenchTable, data: Data) -> None:
    """Into the table."""
    with psycopg.connect(dsn) as connection:
        _write(connection, table.sql, table, data.arrow())


def copy_staged(dsn: str, table: BenchTable, data: Data) -> None:
    """Into a temporary table, then INSERT ... SELECT ... ON CONFLICT."""
    _staged(dsn, table, [data.arrow()])


def copy_staged_chunks(dsn: str, table: BenchTable, data: Data) -> None:
    """The same, a transaction for every chunk."""
    _staged(dsn, table, ([chunk] for chunk in data.chunks(CHUNK_ROWS)))


def _staged(dsn: str, table: BenchTable, parts: Iterable[Iterable[Any]]) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"CREATE TEMPORARY TABLE stage (LIKE {table.sql}) ON COMMIT DELETE ROWS".encode()
        )
        connection.commit()
        for part in parts:
            _write(connection, "stage", table, part)
            connection.execute(
                f"INSERT INTO {table.sql} ({table.columns_sql})"
                f" SELECT {table.columns_sql} FROM stage{table.conflict_sql}".encode()
            )
            connection.commit()


def _write(
    connection: psycopg.Connection[tuple[object, ...]],
    into: str,
    table: BenchTable,
    batches: Iterable[Any],
) -> None:
    encoder = _encoder(table, table.arrow_schema)
    sql = f"COPY {into} ({table.columns_sql}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(sql.encode()) as stream:
        stream.write(encoder.write_header())
        for batch in batches:
            stream.write(encoder.write_batch(batch))
        stream.write(encoder.finish())


def _encoder(table: BenchTable, schema: Any) -> ArrowToPostgresBinaryEncoder:
    documents = table.positions("jsonb")
    if not documents:
        return ArrowToPostgresBinaryEncoder(schema)
    encoders = {
        field.name: StringEncoderBuilder.new_with_output(field, Jsonb())
        if position in documents
        else ArrowToPostgresBinaryEncoder.infer_encoder(field)
        for position, field in enumerate(schema)
    }
    return ArrowToPostgresBinaryEncoder.new_with_encoders(schema, encoders)
