"""SQLAlchemy, and pandas, which stands on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert

from batchbench.drivers.address import parameters
from benchmarks.data import Data
from benchmarks.tables import BenchTable

_FRAME_PAGE_ROWS = 1_000
_PROTOCOL_PARAMETERS = 65_535


def insertmanyvalues(dsn: str, table: BenchTable, data: Data) -> None:
    """`insert(table)` with a list of dicts, which this dialect sends as INSERT ... VALUES."""
    with _engine(dsn, "psycopg2") as engine:
        described = sa.Table(table.name, sa.MetaData(), autoload_with=engine)
        statement = insert(described)
        if table.key:
            statement = statement.on_conflict_do_nothing(index_elements=list(table.key))
        names = table.column_names
        with engine.begin() as connection:
            connection.execute(
                statement, [dict(zip(names, row, strict=True)) for row in data.tuples()]
            )


def pandas_to_sql(dsn: str, table: BenchTable, data: Data) -> None:
    """DataFrame.to_sql, rows as objects so that nulls stay nulls."""
    import pandas as pd

    frame = pd.DataFrame(data.tuple_list(), columns=list(table.column_names), dtype=object)
    types = {column.name: _SQL_TYPES[column.sql_type] for column in table.columns}
    page_rows = min(_FRAME_PAGE_ROWS, _PROTOCOL_PARAMETERS // len(table.columns))
    with _engine(dsn, "psycopg") as engine, engine.begin() as connection:
        frame.to_sql(
            table.name,
            connection,
            if_exists="append",
            index=False,
            method="multi",
            chunksize=page_rows,
            dtype=types,
        )


_SQL_TYPES = {
    "uuid": sa.Uuid(),
    "timestamptz": sa.DateTime(timezone=True),
    "int2": sa.SmallInteger(),
    "int4": sa.Integer(),
    "int8": sa.BigInteger(),
    "float8": sa.Double(),
    "bool": sa.Boolean(),
    "text": sa.Text(),
    "jsonb": JSONB(),
}


@contextmanager
def _engine(dsn: str, driver: str) -> Iterator[sa.Engine]:
    known = parameters(dsn)
    url = sa.URL.create(
        f"postgresql+{driver}",
        username=known.get("user"),
        password=known.get("password"),
        database=known.get("dbname"),
        query={name: known[name] for name in ("host", "port") if name in known},
    )
    engine = sa.create_engine(url, json_serializer=str)  # a jsonb is its text already
    try:
        yield engine
    finally:
        engine.dispose()
