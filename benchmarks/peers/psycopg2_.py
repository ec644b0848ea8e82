"""psycopg2 and pgcopy, which stands on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import psycopg2.extras

from benchmarks.data import Data
from benchmarks.tables import BenchTable

_PAGE_ROWS = 1_000


def execute_values(dsn: str, table: BenchTable, data: Data) -> None:
    """INSERT ... VALUES %s, values written into the statement by the client."""
    sql = f"INSERT INTO {table.sql} ({table.columns_sql}) VALUES %s{table.conflict_sql}"
    with _connected(dsn) as connection, connection.cursor() as cursor:
        psycopg2.extras.execute_values(cursor, sql, data.tuples(), page_size=_PAGE_ROWS)


def pgcopy(dsn: str, table: BenchTable, data: Data) -> None:
    """pgcopy's CopyManager: binary COPY through a temporary file."""
    import pgcopy as library

    documents = table.positions("jsonb")
    texts = [p for p, c in enumerate(table.columns) if c.sql_type in ("text", "jsonb")]
    rows = data.tuples()
    if documents:  # its jsonb takes bytes only
        rows = (
            tuple(v.encode() if p in texts and v is not None else v for p, v in enumerate(row))
            for row in rows
        )
    with _connected(dsn) as connection:
        library.CopyManager(connection, table.name, table.column_names).copy(rows)


@contextmanager
def _connected(dsn: str) -> Iterator[Any]:
    with closing(psycopg2.connect(dsn)) as connection:
        psycopg2.extras.register_uuid(conn_or_curs=connection)
        with connection:
            yield connection
