"""The server's side: reference rows, files for its own COPY, a clean start, and the check.

Reference rows are written by psycopg's row-by-row binary COPY, never by batchbench, so that a
fault of ours cannot hide in what we are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.types.json import set_json_dumps

from batchbench.servers import Cluster
from batchbench.table import quote
from benchmarks.data import python_rows
from benchmarks.duplicates import NONE, Duplicates
from benchmarks.rows import row_batches, rows_available
from benchmarks.tables import TABLES, BenchTable


class LandedWrongError(Exception):
    """The rows in the table are not those that were to be loaded."""


@dataclass(frozen=True, slots=True)
class Landed:
    """What is in a table: how many rows, and the sum of their 64-bit hashes."""

    row_count: int
    hash_sum: int

    def __str__(self) -> str:
        return f"{self.row_count:,} rows with checksum {self.hash_sum:x}"


@dataclass
class Ground:
    """A server of our own with the tables of `TABLES`. Close it with `close`."""

    cluster: Cluster
    _kept_rows: dict[str, int] = field(default_factory=dict)
    _expected: dict[tuple[str, int, str], Landed] = field(default_factory=dict)
    _existing: set[tuple[str, str]] = field(default_factory=set)
    _files: dict[tuple[str, int, int], tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._connection = psycopg.connect(self.dsn, autocommit=True)
        # a scan that starts in the middle, or in several workers, would tell another order
        self._run("SET synchronize_seqscans = off", "SET max_parallel_workers_per_gather = 0")
        self._run("SET timezone = 'UTC'", "CREATE SCHEMA reference")
        for table in TABLES.values():
            self._run(table.create_sql)

    @property
    def dsn(self) -> str:
        """Of the database that loads go to."""
        return self.cluster.dsn

    def close(self) -> None:
        """Close our connection; the cluster stays."""
        self._connection.close()

    def keep_rows(self, table: BenchTable, row_count: int) -> int:
        """See to it that the server has the table's first rows; returns how many there are."""
        row_count = rows_available(table.rows_name, row_count)
        name = table.rows_name
        if self._kept_rows.get(name, -1) >= row_count:
            return row_count
        rows = TABLES[name]
        reference = f"reference.{quote(name)}"
        self._run(f"DROP TABLE IF EXISTS {reference}")
        for table_name, duplicates_name in self._existing:
            self._run(f"DROP TABLE {_existing_name(table_name, duplicates_name)}")
        self._existing.clear()
        self._run(
            f"CREATE TABLE {reference} AS SELECT *, 0::int8 AS n FROM {rows.sql} WITH NO DATA"
        )
        self._write(rows, reference, row_count)
        self._run(f"ALTER TABLE {reference} ADD PRIMARY KEY (n)", f"VACUUM ANALYZE {reference}")
        self._kept_rows[name] = row_count
        return row_count

    def _write(self, rows: BenchTable, reference: str, row_count: int) -> None:
        number = 0
        types = [column.sql_type for column in rows.columns]
        # a jsonb is its text already
        set_json_dumps(str, self._connection)
        sql = f"COPY {reference} FROM STDIN (FORMAT binary)"
        with self._connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            copy.set_types([*types, "int8"])
            for batch in row_batches(rows.rows_name, row_count):
                for row in python_rows(batch, rows):
                    copy.write_row((*row, number))
                    number += 1

    def server_files(self, table: BenchTable, row_count: int, writers: int) -> Sequence[str]:
        """Binary COPY files of the first rows that the server can read, one for each writer."""
        row_count = self.keep_rows(table, row_count)
        key = (table.rows_name, row_count, writers)
        if key not in self._files:
            folder = self.cluster.data_dir.parent
            bounds = [row_count * part // writers for part in range(writers + 1)]
            paths = []
            for part in range(writers):
                path = folder / f"{table.rows_name}-{row_count}-{part}of{writers}.copy"
                self._run(
                    f"COPY (SELECT {table.columns_sql} FROM reference.{quote(table.rows_name)}"
                    f" WHERE n >= {bounds[part]} AND n < {bounds[part + 1]} ORDER BY n)"
                    f" TO '{path}' (FORMAT binary)"
                )
                paths.append(str(path))
            self._files[key] = tuple(paths)
        return self._files[key]

    def reset(self, table: BenchTable, row_count: int, duplicates: Duplicates = NONE) -> None:
        """The table as every load finds it: empty but for the duplicates; a checkpoint done."""
        self._run(f"TRUNCATE {table.sql}")
        if duplicates is not NONE:
            existing = self._existing_rows(table, duplicates)
            self._run(
                f"INSERT INTO {table.sql} SELECT {table.columns_sql} FROM {existing}"
                f" WHERE n < {row_count} ORDER BY n"
            )
        self._run("CHECKPOINT")

    def check(self, table: BenchTable, row_count: int, duplicates: Duplicates = NONE) -> None:
        """Compare what landed with what should have. Raises LandedWrongError."""
        wanted = self._wanted(table, row_count, duplicates)
        landed = self._landed(table.sql)
        if landed != wanted:
            raise LandedWrongError(f"{table.name}: {landed} landed, not {wanted}")

    def row_count(self, table: BenchTable) -> int:
        """Rows in the table now."""
        return self._landed(table.sql).row_count

    def _wanted(self, table: BenchTable, row_count: int, duplicates: Duplicates) -> Landed:
        key = (table.name, row_count, duplicates.name)
        if key not in self._expected:
            reference = f"reference.{quote(table.rows_name)}"
            rows = f"SELECT {table.columns_sql} FROM {reference} AS r WHERE n < {row_count}"
            if duplicates is not NONE:
                existing = self._existing_rows(table, duplicates)
                # not NOT IN: that takes quadratic time where its list is over work_mem
                rows += (
                    f" AND NOT EXISTS (SELECT FROM {existing} AS e WHERE e.n = r.n) UNION ALL"
                    f" SELECT {table.columns_sql} FROM {existing} WHERE n < {row_count}"
                )
            self._expected[key] = self._landed(f"({rows})")
        return self._expected[key]

    def _existing_rows(self, table: BenchTable, duplicates: Duplicates) -> str:
        """The table of rows that are there before: same keys, and one other value, which stays."""
        name = _existing_name(table.name, duplicates.name)
        if (table.name, duplicates.name) not in self._existing:
            last = table.columns[-1]
            assert last.sql_type == "text"
            columns = ", ".join(map(quote, table.column_names[:-1]))
            columns += f", 'was here before' AS {quote(last.name)}"
            self._run(
                f"CREATE TABLE {name} AS SELECT {columns}, n FROM"
                f" reference.{quote(table.rows_name)} WHERE {duplicates.condition} ORDER BY n"
            )
            self._existing.add((table.name, duplicates.name))
        return name

    def _landed(self, rows: str) -> Landed:
        sql = f"SELECT count(*), coalesce(sum(hash_record_extended(r, 0)), 0) FROM {rows} AS r"
        with closing(self._connection.execute(sql.encode())) as cursor:
            found = cursor.fetchone()
        assert found is not None
        return Landed(found[0], int(found[1]))

    def _run(self, *statements: str) -> None:
        for statement in statements:
            self._connection.execute(statement.encode())


def _existing_name(table_name: str, duplicates_name: str) -> str:
    return f"reference.{quote(f'{table_name}_{duplicates_name}')}"


def input_folder(cluster: Cluster) -> Path:
    """Where input files go: beside the server's data, and gone with it."""
    folder = cluster.data_dir.parent / "inputs"
    folder.mkdir(exist_ok=True)
    return folder
