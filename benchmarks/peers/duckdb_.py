"""DuckDB with its postgres extension, which it loads from the package, not from the network."""

from __future__ import annotations

from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner

from batchbench.table import quote
from benchmarks.data import Data
from benchmarks.tables import BenchTable


def insert(dsn: str, table: BenchTable, data: Data) -> None:
    """INSERT INTO the attached database, which the extension turns into a binary COPY."""
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute(f"LOAD '{_extension()}'")
        connection.execute(f"ATTACH '{dsn}' AS pg (TYPE postgres)")
        if data.form == "arrow":
            connection.register("source", data.value)
            source = "source"
        elif data.form == "parquet":
            source = f"read_parquet('{data.path}')"
        else:
            source = f"read_csv('{data.path}', header = true, types = {_csv_types(table)})"
        columns = ", ".join(
            f"CAST({quote(c.name)} AS UUID)" if c.sql_type == "uuid" else quote(c.name)
            for c in table.columns
        )
        connection.execute(f"INSERT INTO pg.public.{table.sql} SELECT {columns} FROM {source}")


def _extension() -> Path:
    folder = Path(duckdb_extension_postgres_scanner.__file__).parent
    found = folder / "extensions" / f"v{duckdb.__version__}" / "postgres_scanner.duckdb_extension"
    if not found.exists():
        raise FileNotFoundError(
            f"duckdb-extension-postgres-scanner has no build for duckdb {duckdb.__version__};"
            " install the same version of both"
        )
    return found


def _csv_types(table: BenchTable) -> str:
    named = (f"'{c.name}': '{_TYPES[c.sql_type]}'" for c in table.columns)
    return "{" + ", ".join(named) + "}"


_TYPES = {
    "uuid": "UUID",
    "timestamptz": "TIMESTAMPTZ",
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "float8": "DOUBLE",
    "bool": "BOOLEAN",
    "text": "VARCHAR",
    "jsonb": "VARCHAR",
}
