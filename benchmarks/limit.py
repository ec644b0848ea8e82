"""The limit: the server's own COPY FROM a file of its own, with no client in the way.

Where keys are in the table before, a plain COPY fails: the limit is then COPY into a temporary
table and INSERT ... SELECT ... ON CONFLICT, still without a client.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from benchmarks.tables import BenchTable

TRANSACTION = "one per writer"


def load(dsn: str, table: BenchTable, files: Sequence[str], *, staged: bool) -> None:
    """Load binary COPY files, each over a connection of its own and in one transaction."""
    one = _load_staged if staged else _load_straight
    if len(files) == 1:
        one(dsn, table, files[0])
        return
    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(lambda file: one(dsn, table, file), files))


def _load_straight(dsn: str, table: BenchTable, file: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(f"COPY {table.sql} FROM '{file}' (FORMAT binary)".encode())


def _load_staged(dsn: str, table: BenchTable, file: str) -> None:
    with psycopg.connect(dsn) as connection:
        run = connection.execute
        run(f"CREATE TEMPORARY TABLE stage (LIKE {table.sql}) ON COMMIT DROP".encode())
        run(f"COPY stage FROM '{file}' (FORMAT binary)".encode())
        columns = table.columns_sql
        run(
            f"INSERT INTO {table.sql} ({columns}) SELECT {columns} FROM stage"
            f"{table.conflict_sql}".encode()
        )
