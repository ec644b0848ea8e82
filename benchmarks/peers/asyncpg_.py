"""asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import asyncpg

from batchbench.drivers.address import asyncpg_uri
from benchmarks.data import Data, Row, python_columns
from benchmarks.duplicates import CHUNK_ROWS
from benchmarks.tables import BenchTable


def executemany(dsn: str, table: BenchTable, data: Data) -> None:
    """One prepared INSERT for every row, sent in batches."""
    marks = ", ".join(f"${number}" for number in range(1, len(table.columns) + 1))
    sql = f"INSERT INTO {table.sql} ({table.columns_sql}) VALUES ({marks}){table.conflict_sql}"

    async def run() -> None:
        async with _connected(dsn) as connection:
            await connection.executemany(sql, data.tuples())

    asyncio.run(run())


def copy_records(dsn: str, table: BenchTable, data: Data) -> None:
    """copy_records_to_table: binary COPY, encoded in C from Python objects."""

    async def run() -> None:
        async with _connected(dsn) as connection:
            await _copy_records(connection, table.name, table, data.tuples())

    asyncio.run(run())


def copy_staged(dsn: str, table: BenchTable, data: Data) -> None:
    """The same into a temporary table, then INSERT ... SELECT ... ON CONFLICT."""
    _staged(dsn, table, [data.tuples()])


def copy_staged_chunks(dsn: str, table: BenchTable, data: Data) -> None:
    """The same, a transaction for every chunk."""
    rows = iter(data.tuples())
    _staged(dsn, table, iter(lambda: list(islice(rows, CHUNK_ROWS)), []))


def _staged(dsn: str, table: BenchTable, chunks: Iterable[Iterable[Row]]) -> None:
    async def run() -> None:
        async with _connected(dsn) as connection:
            await connection.execute(
                f"CREATE TEMPORARY TABLE stage (LIKE {table.sql}) ON COMMIT DELETE ROWS"
            )
            for chunk in chunks:
                async with connection.transaction():
                    await _copy_records(connection, "stage", table, chunk)
                    await connection.execute(
                        f"INSERT INTO {table.sql} ({table.columns_sql})"
                        f" SELECT {table.columns_sql} FROM stage{table.conflict_sql}"
                    )

    asyncio.run(run())


def unnest_lists(dsn: str, table: BenchTable, data: Data) -> None:
    """INSERT ... SELECT FROM unnest($1::t[], ...), each parameter a Python list."""
    arrays = ", ".join(f"${n}::{c.sql_type}[]" for n, c in enumerate(table.columns, 1))
    sql = (
        f"INSERT INTO {table.sql} ({table.columns_sql}) SELECT * FROM unnest({arrays})"
        f"{table.conflict_sql}"
    )

    async def run() -> None:
        async with _connected(dsn) as connection, connection.transaction():
            statement = await connection.prepare(sql)
            for columns in _column_lists(table, data):
                await statement.fetch(*columns)

    asyncio.run(run())


def _column_lists(table: BenchTable, data: Data) -> Iterator[list[Any]]:
    if data.form == "tuples":
        rows = iter(data.tuples())
        while part := list(islice(rows, CHUNK_ROWS)):
            yield list(map(list, zip(*part, strict=True)))
        return
    for chunk in data.chunks(CHUNK_ROWS):
        yield python_columns(chunk, table)


def copy_csv(dsn: str, table: BenchTable, data: Data) -> None:
    """copy_to_table of a CSV file, whose bytes are handed through."""

    async def run() -> None:
        async with _connected(dsn) as connection:
            await connection.copy_to_table(
                table.name,
                source=str(data.path),
                columns=list(table.column_names),
                format="csv",
                header=True,
            )

    asyncio.run(run())


async def _copy_records(connection: Any, into: str, table: BenchTable, rows: Iterable[Row]) -> None:
    await connection.copy_records_to_table(into, records=rows, columns=list(table.column_names))


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(asyncpg_uri(dsn))
    try:
        yield connection
    finally:
        await connection.close()
