"""polars."""

from __future__ import annotations

import polars as pl

from benchmarks.data import Data
from benchmarks.tables import BenchTable


def write_database(dsn: str, table: BenchTable, data: Data) -> None:
    """DataFrame.write_database with its ADBC engine. polars has no JSON type, and no uuid."""
    _frame(table, data).write_database(table.name, dsn, if_table_exists="append", engine="adbc")


def _frame(table: BenchTable, data: Data) -> pl.DataFrame:
    if data.form == "parquet":
        return pl.read_parquet(data.path)
    if data.form == "csv":
        frame = pl.read_csv(data.path, schema_overrides=_text_schema(table))
        return frame.with_columns(*_typed(table))
    return pl.DataFrame(pl.from_arrow(data.value))


def _text_schema(table: BenchTable) -> dict[str, pl.DataType]:
    return {c.name: _DTYPES.get(c.sql_type, pl.String()) for c in table.columns}


def _typed(table: BenchTable) -> list[pl.Expr]:
    """What its CSV reader leaves as text: times, and the bytes of uuids."""
    made = []
    for column in table.columns:
        text = pl.col(column.name)
        if column.sql_type == "timestamptz":
            made.append(
                text.str.to_datetime("%Y-%m-%d %H:%M:%S%.fZ", time_unit="us", time_zone="UTC")
            )
        elif column.sql_type == "uuid":
            made.append(text.str.replace_all("-", "", literal=True).str.decode("hex"))
    return made


_DTYPES: dict[str, pl.DataType] = {
    "int2": pl.Int16(),
    "int4": pl.Int32(),
    "int8": pl.Int64(),
    "float8": pl.Float64(),
    "bool": pl.Boolean(),
}
