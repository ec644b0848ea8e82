"""Random rows: every type that can be written, within its bounds, unique where a key is."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pyarrow.compute as pc
import pytest

from batchbench.drivers import connect, read_table
from batchbench.errors import TableError
from batchbench.harness.synthetic import MAKERS, random_rows
from batchbench.table import ENCODED, Table, parse_table_name


async def made(dsn: str, ddl: str, name: str = "t") -> Table:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(ddl.encode())
    session = await connect("psycopg", dsn)
    try:
        return await read_table(session, parse_table_name(name))
    finally:
        await session.close()


def test_every_type_with_an_encoder_can_be_made_up() -> None:
    assert set(MAKERS) == ENCODED


async def test_bounds_and_nulls(dsn18: str) -> None:
    table = await made(
        dsn18,
        """
        CREATE TYPE mood AS ENUM ('low', 'high');
        CREATE DOMAIN short AS varchar(3);
        CREATE TABLE t (a varchar(2) NOT NULL, b char(1), c numeric(4,3) NOT NULL, d mood[],
          e short NOT NULL, f bool, g numeric(3,-2) NOT NULL, h numeric(3,5) NOT NULL,
          i int2 NOT NULL, j text DEFAULT 'x', k timestamptz NOT NULL DEFAULT now())
        """,
    )
    rows = random_rows(table, 2_000, 1)
    assert rows.schema.names == list("abcdefghij")  # the server fills k
    assert pc.max(pc.utf8_length(rows["a"])).as_py() <= 2
    assert pc.max(pc.utf8_length(rows["e"])).as_py() <= 3
    assert pc.max(rows["c"]).as_py() < Decimal(10)
    assert {label for labels in rows["d"].to_pylist() if labels for label in labels} == {
        "low",
        "high",
    }
    for name in "aceghi":
        assert rows[name].null_count == 0
    for name in "bdfj":
        assert 100 < rows[name].null_count < 300
    assert rows.equals(random_rows(table, 2_000, 1))
    assert not rows.equals(random_rows(table, 2_000, 2))


@pytest.mark.parametrize(
    ("ddl", "key"),
    [
        ("CREATE TABLE t (id int8 PRIMARY KEY, x text)", ["id"]),
        ("CREATE TABLE t (u uuid, at timestamptz, x int4, PRIMARY KEY (u, at))", ["u", "at"]),
        ("CREATE TABLE t (code varchar(4) UNIQUE)", ["code"]),
        ("CREATE TABLE t (n numeric(6,2) UNIQUE)", ["n"]),
        ("CREATE TABLE t (a bool, b int2, c date, UNIQUE (a, b))", ["a", "b"]),
        ("CREATE TABLE t (a inet UNIQUE)", ["a"]),
        ("CREATE TABLE t (a macaddr UNIQUE)", ["a"]),
        ("CREATE TABLE t (a bytea UNIQUE)", ["a"]),
        ("CREATE TABLE t (a int4[] UNIQUE)", ["a"]),
        ("CREATE TABLE t (a float4 UNIQUE, b interval UNIQUE)", ["a"]),
    ],
)
async def test_keys_have_no_value_twice(dsn18: str, ddl: str, key: list[str]) -> None:
    rows = random_rows(await made(dsn18, ddl), 30_000, 1).select(key)
    assert sum(column.null_count for column in rows.columns) == 0
    values = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    assert len({repr(value) for value in values}) == 30_000


async def test_a_key_of_small_columns_counts_through_them(dsn18: str) -> None:
    table = await made(dsn18, "CREATE TABLE t (a bool, b varchar(1), UNIQUE (a, b))")
    assert random_rows(table, 72, 1).group_by(["a", "b"]).aggregate([]).num_rows == 72
    with pytest.raises(TableError, match="fewer than 73 different"):
        random_rows(table, 73, 1)


async def test_a_key_on_an_expression_is_kept_as_well(dsn18: str) -> None:
    ddl = "CREATE TABLE t (email text, note text); CREATE UNIQUE INDEX ON t (lower(email))"
    rows = random_rows(await made(dsn18, ddl), 500, 1)
    assert (
        len({email.lower() for email in rows["email"].to_pylist() if email})
        == len(rows["email"]) - rows["email"].null_count
    )


async def test_a_type_nobody_writes_is_left_out_or_refused(dsn18: str) -> None:
    table = await made(dsn18, "CREATE TABLE t (a int4, b point, c int4range DEFAULT 'empty')")
    assert random_rows(table, 5, 1).schema.names == ["a"]
    required = await made(dsn18, "CREATE TABLE u (a int4, b point NOT NULL)", "u")
    with pytest.raises(TableError, match="column 'b' is point"):
        random_rows(required, 5, 1)
