"""psycopg 3."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import psycopg
from psycopg.types.json import set_json_dumps

from benchmarks.data import Data, Row
from benchmarks.tables import BenchTable

_PROTOCOL_PARAMETERS = 65_535
_READ_BYTES = 1 << 18


def executemany(dsn: str, table: BenchTable, data: Data) -> None:
    """One prepared INSERT for every row, in pipeline mode."""
    marks = ", ".join(["%s"] * len(table.columns))
    sql = f"INSERT INTO {table.sql} ({table.columns_sql}) VALUES ({marks}){table.conflict_sql}"
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(sql.encode(), data.tuples())


def values_cursor(dsn: str, table: BenchTable, data: Data) -> None:
    """INSERT ... VALUES of many rows, as large as the protocol allows."""
    width = len(table.columns)
    step = _PROTOCOL_PARAMETERS // width
    marks = f"({', '.join(['%s'] * width)})"
    start = f"INSERT INTO {table.sql} ({table.columns_sql}) VALUES "
    rows = iter(data.tuples())
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        while part := list(islice(rows, step)):
            sql = f"{start}{', '.join([marks] * len(part))}{table.conflict_sql}"
            cursor.execute(sql.encode(), [value for row in part for value in row])


def copy_text(dsn: str, table: BenchTable, data: Data) -> None:
    """COPY in text, `write_row` for every row."""
    sql = f"COPY {table.sql} ({table.columns_sql}) FROM STDIN"
    with (
        psycopg.connect(dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy(sql.encode()) as copy,
    ):
        for row in data.tuples():
            copy.write_row(row)


def copy_binary(dsn: str, table: BenchTable, data: Data) -> None:
    """COPY in binary, types set, `write_row` for every row."""
    with psycopg.connect(dsn) as connection:
        _write_binary(connection, table.sql, table, data.tuples())


def copy_staged(dsn: str, table: BenchTable, data: Data) -> None:
    """The same into a temporary table, then INSERT ... SELECT ... ON CONFLICT."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"CREATE TEMPORARY TABLE stage (LIKE {table.sql}) ON COMMIT DROP".encode()
        )
        _write_binary(connection, "stage", table, data.tuples())
        connection.execute(
            f"INSERT INTO {table.sql} ({table.columns_sql}) SELECT {table.columns_sql} FROM stage"
            f"{table.conflict_sql}".encode()
        )


def copy_csv(dsn: str, table: BenchTable, data: Data) -> None:
    """The file's bytes, handed through to COPY in CSV."""
    sql = f"COPY {table.sql} ({table.columns_sql}) FROM STDIN (FORMAT csv, HEADER)"
    with (
        psycopg.connect(dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy(sql.encode()) as copy,
        data.path.open("rb") as file,
    ):
        while part := file.read(_READ_BYTES):
            copy.write(part)


def _write_binary(
    connection: psycopg.Connection[tuple[object, ...]],
    into: str,
    table: BenchTable,
    rows: Iterable[Row],
) -> None:
    set_json_dumps(str, connection)  # a jsonb is its text already
    sql = f"COPY {into} ({table.columns_sql}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
        copy.set_types([column.sql_type for column in table.columns])
        for row in rows:
            copy.write_row(row)
