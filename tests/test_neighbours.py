"""Rows go to a COPY in about the order of their key, and nothing that is said of them changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchbench.drivers import read_table
from batchbench.drivers.psycopg_session import open_session
from batchbench.strategies import Columns, OnConflict, Target
from batchbench.strategies.neighbours import neighbours_first
from batchbench.strategies.probe import ProbePlan, ProbeStrategy
from batchbench.table import TEXT, PgType, parse_table_name
from batchbench.wire import field
from batchbench.writer import Writer
from tests.fixtures.loading import execute, load_rows, options, query

INT8 = PgType("int8", 20, 1016, "pg_catalog.int8", "int8")
UUID = PgType("uuid", 2950, 2951, "pg_catalog.uuid", "uuid")
drivers = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
SHUFFLED = [int(i) for i in np.random.default_rng(7).permutation(500)]

EQUAL = [
    {"n": span, "note": note}
    for span, note in zip(("7 days", "24:00:00", "1 day", "00:00:00"), "abcd", strict=True)
]


def order_of(*columns: tuple[pa.Array, PgType]) -> list[int] | None:
    order = neighbours_first([field(values, type_) for values, type_ in columns])
    return None if order is None else order.tolist()


def test_rows_that_stand_in_order_stay() -> None:
    numbers = pa.array(range(1_000), pa.int64())
    assert order_of((numbers, INT8)) is None
    assert order_of((pa.array(["a"] * 1_000), TEXT), (numbers, INT8)) is None


def test_the_first_column_of_the_key_comes_first() -> None:
    names = pa.array([b"%016d" % (i % 10) for i in range(1_000)], pa.binary(16))
    numbers = pa.array(range(1_000, 0, -1), pa.int64())
    order = order_of((names, UUID), (numbers, INT8))
    assert order == sorted(range(1_000), key=lambda i: (names[i].as_py()[:8], numbers[i].as_py()))


@pytest.mark.parametrize("values", [[3, None, 1, -2, None, 3], ["b", None, "", "a", None, "b"]])
def test_every_row_goes_once_and_equal_ones_as_they_came(values: list[Any]) -> None:
    column = (pa.array(values), TEXT) if "b" in values else (pa.array(values, pa.int64()), INT8)
    order = order_of(column)
    assert order is not None
    assert sorted(order) == [0, 1, 2, 3, 4, 5]
    assert order.index(0) < order.index(5)


@drivers
@pytest.mark.parametrize("strategy", ["optimistic", "probe"])
async def test_rows_are_stored_beside_the_neighbours_of_their_key(
    dsn: str, strategy: str, driver: str
) -> None:
    execute(dsn, "CREATE TABLE t (id int4 PRIMARY KEY, v int4)")
    rows = [{"id": i, "v": i} for i in SHUFFLED]
    how = {"strategy": strategy, "driver": driver, "on_conflict": "nothing", "chunk_size": 250}
    assert (await load_rows(dsn, rows, **how, parallelism=1)).total.committed == 500
    stored = [n for (n,) in query(dsn, "SELECT id FROM t ORDER BY ctid")]
    assert stored == sorted(SHUFFLED[:250]) + sorted(SHUFFLED[250:])


async def test_numbers_of_a_sequence_follow_the_input(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (n serial, id int4 PRIMARY KEY)")
    rows = [{"id": i} for i in SHUFFLED]
    await load_rows(dsn18, rows, strategy="probe", on_conflict="nothing", parallelism=1)
    assert [i for (i,) in query(dsn18, "SELECT id FROM t ORDER BY n")] == SHUFFLED


@pytest.mark.parametrize("strategy", ["optimistic", "probe"])
async def test_the_first_of_keys_that_only_the_server_calls_equal_stays(
    dsn: str, strategy: str
) -> None:
    """A day and 24 hours are: by their bytes, the later one would come first."""
    execute(dsn, "CREATE TABLE t (n interval PRIMARY KEY, note text)")
    result = await load_rows(dsn, EQUAL, strategy=strategy, on_conflict="nothing")
    assert (result.total.committed, result.total.duplicates) == (3, 1)
    assert query(dsn, "SELECT string_agg(note, '' ORDER BY n) FROM t") == [("dba",)]


async def test_the_last_of_them_stays_under_update(dsn: str) -> None:
    execute(dsn, "CREATE TABLE t (n interval PRIMARY KEY, note text)")
    await load_rows(dsn, EQUAL, strategy="optimistic", on_conflict="update")
    assert query(dsn, "SELECT string_agg(note, '' ORDER BY n) FROM t") == [("dca",)]


@drivers
@pytest.mark.parametrize("strategy", ["optimistic", "probe"])
async def test_rejected_and_left_out_rows_are_named_by_their_place(
    dsn18: str, tmp_path: Path, strategy: str, driver: str
) -> None:
    execute(
        dsn18,
        "CREATE TABLE t (id int4 PRIMARY KEY, v int4 CHECK (v >= 0));"
        "INSERT INTO t VALUES (3, 0), (40, 0)",
    )
    rows = [{"id": i, "v": -1 if i == 77 else 0} for i in SHUFFLED]
    letter = tmp_path / "rejects.ndjson"
    how = {"strategy": strategy, "driver": driver, "on_conflict": "nothing"}
    result = await load_rows(dsn18, rows, **how, on_reject="skip", dead_letter=letter)
    assert (result.total.committed, result.total.rejected, result.total.duplicates) == (497, 1, 2)
    rejected = [json.loads(line) for line in letter.read_text().splitlines()]
    named = [(reject["row_number"], reject["row"]["id"]) for reject in rejected]
    assert named == [(SHUFFLED.index(77) + 1, 77)]
    execute(dsn18, "DELETE FROM t WHERE id NOT IN (3, 40)")
    async with Writer(dsn18, "t", options(**how)) as writer:
        outcome = await (await writer.add([{**row, "v": 0} for row in rows]))
    assert list(outcome.duplicates) == sorted([SHUFFLED.index(3), SHUFFLED.index(40)])


@drivers
@pytest.mark.parametrize("made", ["", " PARTITION BY HASH (id)"])
async def test_keys_are_looked_up_whole_or_one_by_one(dsn: str, driver: str, made: str) -> None:
    """In a table of 10 chunks, and in one of half a chunk."""
    execute(dsn, f"CREATE TABLE t (id int4 PRIMARY KEY, v int4){made}")
    for part in range(2) if made else ():
        execute(
            dsn,
            f"CREATE TABLE t{part} PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER {part})",
        )
    how = {"strategy": "probe", "driver": driver, "on_conflict": "nothing"}
    execute(dsn, "INSERT INTO t SELECT 2 * i, 0 FROM generate_series(0, 249) i")
    rows = pa.table({"id": pa.array(SHUFFLED * 2, pa.int32()), "v": pa.array(range(1_000))})
    for size, committed in ((500, 250), (50, 0)):
        result = await load_rows(dsn, rows, **how, chunk_size=size)
        counts = (result.total.committed, result.total.duplicates)
        assert counts == (committed, 1_000 - committed)
    assert query(dsn, "SELECT sum(v) FROM t WHERE id % 2 = 1") == [
        (sum(place for place, i in enumerate(SHUFFLED) if i % 2),)
    ]


async def test_the_way_of_looking_up_follows_the_size_of_the_table(dsn: str) -> None:
    """And either way the rows that are left out are those of the answer."""
    execute(dsn, "CREATE TABLE t (id int8 PRIMARY KEY)")
    session = await open_session(dsn, 10)
    try:
        table = await read_table(session, parse_table_name("t"))
        target = Target(table, table.columns, OnConflict.NOTHING, table.keys[0], names_rows=True)
        plan = ProbeStrategy().plan(target)
        assert isinstance(plan, ProbePlan)
        columns = Columns([pa.array(SHUFFLED, pa.int64())], [table.columns[0].type])
        places = tuple(sorted(map(SHUFFLED.index, (3, 4, 5))))
        for filler, dwarfs in ((1, True), (1, False), (50_000, False), (1, True)):
            execute(dsn, "TRUNCATE t; INSERT INTO t VALUES (3), (4), (5)")
            execute(dsn, f"INSERT INTO t SELECT 1000 + i FROM generate_series(1, {filler}) i")
            assert plan.extent.dwarfs(columns) == dwarfs
            await session.begin()
            payload = plan.encode(columns)
            written = await plan.write_rest(session, payload, full=True, alone=True)
            await session.rollback()
            assert written is not None
            assert (written.row_count, written.places) == (497, places)
    finally:
        await session.close()
