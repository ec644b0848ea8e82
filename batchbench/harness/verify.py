"""Are the rows in the table those that were sent? Counted, and compared by checksum.

The reference is written once a table by other code than the engine's: psycopg's own dumpers, one
Python object at a time, in COPY's text format.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.types.json import Json

from batchbench.drivers import SESSION_SETTINGS, Session
from batchbench.drivers.address import without_secrets
from batchbench.drivers.translate import write_error
from batchbench.errors import InputError, ServerError
from batchbench.table import Column, Table, TableName, quote

_CONNECT_TIMEOUT_S = 15
_PIECE_ROWS = 4_096
# Gone with the transaction: through a pooler the connection is another client's afterwards.
_SETTINGS_SQL = (
    "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS s (name, value)"
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds: rows, and a checksum of the loaded columns that ignores their order."""

    row_count: int
    checksum: str


async def contents(session: Session, table: TableName, columns: Sequence[str]) -> Contents:
    """Look at a table. Checksums compare within one session, since text depends on its settings."""
    row = ", ".join(quote(name) for name in columns)
    sql = (
        "SELECT count(*)::text, coalesce(sum(pg_catalog.hashtextextended("
        f'ROW({row})::text COLLATE "C", 0)::numeric), 0)::text FROM {table.sql}'
    )
    count, checksum = (await session.fetch(sql))[0]
    return Contents(int(count or 0), checksum or "")


async def write_reference(
    dsn: str, scratch: Table, original: Table, rows: pa.Table, timezone: str
) -> None:
    """Write rows into the empty scratch table, independently of the engine.

    original: what messages name. timezone: what times without one mean.
    Raises InputError where the rows do not fit the table, clash with each other on a unique key,
    or hold values that Python cannot; ServerError where the server cannot be used.
    """
    columns = [original.column(name) for name in rows.schema.names]
    adapts = [_adapter(column) for column in columns]
    names = ", ".join(quote(column.name) for column in columns)
    settings = {**SESSION_SETTINGS, "timezone": timezone}
    async with _connected(dsn, original) as connection, connection.transaction():
        await connection.execute(_SETTINGS_SQL, [list(settings), list(settings.values())])
        copying = f"COPY {scratch.sql} ({names}) FROM STDIN"
        async with connection.cursor() as cursor, cursor.copy(copying.encode()) as copy:
            for piece in rows.to_batches(max_chunksize=_PIECE_ROWS):
                for row in zip(*_objects(piece, adapts, original), strict=True):
                    await copy.write_row(row)


async def read_encoded(dsn: str, table: Table, columns: Sequence[str]) -> bytes:
    """The table's rows in COPY's binary format, as the server writes them."""
    names = ", ".join(quote(name) for name in columns)
    sql = f"COPY (SELECT {names} FROM {table.sql}) TO STDOUT (FORMAT binary)"
    async with _connected(dsn, table) as connection, connection.cursor().copy(sql.encode()) as copy:
        return b"".join([bytes(part) async for part in copy])


async def send_encoded(dsn: str, table: Table, columns: Sequence[str], encoded: bytes) -> float:
    """COPY such rows into the table, on a connection of its own; how many seconds that took."""
    names = ", ".join(quote(name) for name in columns)
    sql = f"COPY {table.sql} ({names}) FROM STDIN (FORMAT binary)"
    async with _connected(dsn, table) as connection:
        started_s = time.perf_counter()
        async with connection.cursor().copy(sql.encode()) as copy:
            await copy.write(encoded)
        return time.perf_counter() - started_s


@asynccontextmanager
async def _connected(
    dsn: str, table: Table
) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
    """A connection of its own; what the server refuses becomes our errors."""
    try:
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S
        ) as connection:
            yield connection
    except psycopg.Error as error:
        if error.sqlstate is None:
            said = without_secrets(str(error), dsn)
            # Psycopg's error bears the password.
            raise ServerError(f"the connection for reference rows broke: {said}") from None
        refused = write_error(
            error.sqlstate,
            error.diag.message_primary,
            column=error.diag.column_name,
            constraint=error.diag.constraint_name,
        )
        raise InputError(
            f"the rows cannot be loaded into an empty copy of table {table.name}: {refused}. They"
            " must fit, with keys of their own; random rows know no CHECK constraints: then bring"
            " rows with --source"
        ) from None  # its text may hold row values


def _objects(
    piece: pa.RecordBatch, adapts: Sequence[Callable[[Any], Any] | None], table: Table
) -> list[list[Any]]:
    """The columns as Python objects."""
    try:
        columns = [_readable(column).to_pylist() for column in piece.columns]
    except (ValueError, OverflowError) as error:  # beyond the year 9999, or nanoseconds
        raise InputError(
            f"the rows for table {table.name} hold times that Python cannot; a sweep checks"
            " rows by Python's objects, so leave such rows out of its source"
        ) from error
    return [
        values if adapt is None else [None if value is None else adapt(value) for value in values]
        for values, adapt in zip(columns, adapts, strict=True)
    ]


def _readable(column: pa.Array) -> pa.Array:
    """Times in microseconds, which Python has: finer ones fail here, not in silence."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz))
    if pa.types.is_duration(column.type):
        return column.cast(pa.duration("us"))
    if pa.types.is_time(column.type):
        return column.cast(pa.time64("us"))
    return column


def _adapter(column: Column) -> Callable[[Any], Any] | None:
    """What an Arrow value must become for psycopg, beyond what `to_pylist` does."""
    kind = column.type.kind
    if kind == "uuid":
        return lambda value: uuid.UUID(bytes=value) if isinstance(value, bytes) else value
    if kind in ("json", "jsonb"):
        return lambda value: value if isinstance(value, str) else Json(value)
    if kind == "interval":
        return _interval
    element = column.type.element
    if element is not None and element.kind == "uuid":
        return lambda value: [
            uuid.UUID(bytes=item) if isinstance(item, bytes) else item for item in value
        ]
    return None


def _interval(value: Any) -> Any:
    if not isinstance(value, pa.MonthDayNano):
        return value
    return f"{value.months} months {value.days} days {value.nanoseconds // 1_000} microseconds"
