"""The peers: other ways from Python, or beside it, to load rows. Each module is one family.

Every function takes (dsn, table, data), connects, loads, commits and closes; rows whose key is
in a keyed table already are skipped. Modules are imported only when a peer is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.data import FORMS, Data, Form
from benchmarks.tables import BenchTable

Load = Callable[[str, BenchTable, Data], None]
Keys = Literal["without", "with", "any"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to load.

    target: module and function, with a colon. packages: import names that it needs.
    program: an executable that it needs.
    forms: what it takes as it is; in `converts` it turns rows into its own form first, which
        only the full run measures.
    keys: the tables that it serves, without or with a key.
    most_values: rows x columns that a load of it gets at most, since it is slow; None: all.
    no_types: SQL types that it cannot write.
    """

    name: str
    target: str
    forms: frozenset[Form]
    packages: tuple[str, ...] = ()
    program: str = ""
    converts: frozenset[Form] = frozenset()
    keys: Keys = "without"
    transaction: str = "one"
    most_values: int | None = None
    no_types: frozenset[str] = frozenset()

    @property
    def per_chunk(self) -> bool:
        """Whether it commits every chunk, instead of all rows at once."""
        return self.transaction.startswith("one per ")

    def missing(self) -> str | None:
        """Why it cannot run here, None where it can."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return f"the package {package} is not installed"
        if self.program and shutil.which(self.program) is None:
            return f"there is no program {self.program}"
        return None

    def serves(self, table: BenchTable) -> bool:
        """Whether it is meant for a table with, or without, a key."""
        return self.keys in ("any", "with" if table.key else "without")

    def refuses(self, table: BenchTable) -> str | None:
        """Why it cannot load the table, None where it can."""
        found = sorted(self.no_types & {column.sql_type for column in table.columns})
        return f"cannot write {', '.join(found)}" if found else None

    def function(self) -> Load:
        """Import it."""
        module, name = self.target.split(":")
        loaded: Load = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)
        return loaded


_ROWS = frozenset[Form](["tuples"])
_COLUMNS = frozenset[Form](["arrow", "parquet"])
_ARROW = frozenset[Form](["arrow"])
_FILE = frozenset[Form](["parquet", "csv"])
_CSV = frozenset[Form](["csv"])
_ALL = frozenset[Form](FORMS)

PEERS: tuple[Peer, ...] = (
    # psycopg 3
    Peer("psycopg executemany", "psycopg3:executemany", _ROWS, ("psycopg",), keys="any",
         most_values=100_000),
    Peer("psycopg VALUES, %s cursor", "psycopg3:values_cursor", _ROWS, ("psycopg",), keys="any",
         most_values=120_000, transaction="one, statements of up to 65,535 parameters"),
    Peer("psycopg copy, text write_row", "psycopg3:copy_text", _ROWS, ("psycopg",)),
    Peer("psycopg copy, binary write_row", "psycopg3:copy_binary", _ROWS, ("psycopg",),
         converts=_COLUMNS | _CSV),
    Peer("psycopg copy, the file's CSV", "psycopg3:copy_csv", _CSV, ("psycopg",)),
    Peer("psycopg copy staged", "psycopg3:copy_staged", _ROWS, ("psycopg",), keys="with",
         converts=_ARROW),
    # asyncpg
    Peer("asyncpg executemany", "asyncpg_:executemany", _ROWS, ("asyncpg",), keys="any",
         converts=_ARROW, most_values=400_000),
    Peer("asyncpg copy_records_to_table", "asyncpg_:copy_records", _ROWS, ("asyncpg",),
         converts=_COLUMNS | _CSV),
    Peer("asyncpg UNNEST of lists", "asyncpg_:unnest_lists", _ROWS | _ARROW, ("asyncpg",),
         keys="any", transaction="one, statements of 10,000 rows", most_values=300_000),
    Peer("asyncpg copy_to_table, the file's CSV", "asyncpg_:copy_csv", _CSV, ("asyncpg",)),
    Peer("asyncpg copy_records staged", "asyncpg_:copy_staged", _ROWS | _ARROW, ("asyncpg",),
         keys="with"),
    Peer("asyncpg copy_records staged, by chunks", "asyncpg_:copy_staged_chunks",
         _ROWS | _ARROW, ("asyncpg",), keys="with", transaction="one per chunk of 10,000 rows"),
    # psycopg2 and what stands on it
    Peer("psycopg2 execute_values", "psycopg2_:execute_values", _ROWS, ("psycopg2",), keys="any",
         most_values=200_000),
    Peer("pgcopy", "psycopg2_:pgcopy", _ROWS, ("psycopg2", "pgcopy")),
    Peer("SQLAlchemy insertmanyvalues (psycopg2)", "sqlalchemy_:insertmanyvalues", _ROWS,
         ("sqlalchemy", "psycopg2"), keys="any", most_values=100_000),
    Peer('pandas to_sql(method="multi")', "sqlalchemy_:pandas_to_sql", _ROWS,
         ("sqlalchemy", "pandas", "psycopg"), most_values=12_000),
    # Arrow
    Peer("ADBC adbc_ingest", "adbc:ingest", _COLUMNS, ("adbc_driver_postgresql",),
         converts=_ROWS | _CSV),
    Peer("ADBC adbc_ingest staged", "adbc:ingest_staged", _COLUMNS, ("adbc_driver_postgresql",),
         keys="with"),
    Peer("ADBC adbc_ingest staged, by chunks", "adbc:ingest_staged_chunks", _COLUMNS,
         ("adbc_driver_postgresql",), keys="with", transaction="one per chunk of 10,000 rows"),
    Peer("pgpq, psycopg copy", "pgpq_:copy", _COLUMNS, ("pgpq", "psycopg"), converts=_ROWS | _CSV),
    Peer("pgpq, psycopg copy staged", "pgpq_:copy_staged", _COLUMNS, ("pgpq", "psycopg"),
         keys="with"),
    Peer("pgpq, psycopg copy staged, by chunks", "pgpq_:copy_staged_chunks", _COLUMNS,
         ("pgpq", "psycopg"), keys="with", transaction="one per chunk of 10,000 rows"),
    Peer("polars write_database (ADBC)", "polars_:write_database", _COLUMNS | _CSV,
         ("polars", "adbc_driver_postgresql"), no_types=frozenset(["jsonb"])),
    Peer("DuckDB postgres extension", "duckdb_:insert", _COLUMNS | _CSV,
         ("duckdb", "duckdb_extension_postgres_scanner")),
    # programs
    Peer("psql \\copy", "programs:psql_copy", _CSV),
    Peer("pgloader", "programs:pgloader", _CSV, program="pgloader",
         transaction="one per batch of its own (25,000 rows)", most_values=300_000),
)  # fmt: skip
"""All of them, in the order of the tables."""
