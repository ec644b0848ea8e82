"""Upserts: which key they meet, what they set, what they leave alone, how all is counted."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from batchbench.accounting import LoadResult
from batchbench.drivers import connect
from batchbench.engine import LoadOptions, plan_load
from batchbench.errors import BatchbenchError, ConfigError
from batchbench.sources import SourceOptions, open_source
from batchbench.table import TableName
from batchbench.writer import Writer
from tests.fixtures.loading import COMBINATIONS, encoded_chunks, execute, load_rows, options, query

ALL = [*COMBINATIONS, ("optimistic", "asyncpg"), ("optimistic", "psycopg")]
each_way = pytest.mark.parametrize(("strategy", "driver"), ALL)
VERSIONED = "CREATE TABLE t (id int4 PRIMARY KEY, v int4, at timestamptz)"


def columns(**values: list[Any]) -> pa.Table:
    """Integers as int4, all else as Arrow takes it."""
    return pa.table(
        {
            name: pa.array(column, pa.int32() if type(column[0]) is int else None)
            for name, column in values.items()
        }
    )


def at(*minutes: int | None) -> pa.Array:
    return pa.array(
        [None if m is None else m * 60_000_000 for m in minutes], pa.timestamp("us", "UTC")
    )


# --- the conflict target ---------------------------------------------------------------------

KEYS = [
    "(email)",
    "(email) WHERE gone IS NULL",
    "(lower(email))",
    "(lower(email), even) WHERE kind = 1 AND v >= 0 AND gone IS NULL",
]


@each_way
async def test_a_key_is_named(dsn: str, strategy: str, driver: str) -> None:
    """The server's own INSERTs, one by one in the same order, say what is right."""
    emails = ["A@x", "a@x", "c@x", "C@x", "c@x", None, None, "b@x", "d@x"]
    rows = [(email, v, v % 2 == 0) for v, email in enumerate(emails, -1)]
    data = pa.table({"email": emails, "v": [r[1] for r in rows], "even": [r[2] for r in rows]})
    for number, (key, on_conflict) in enumerate(itertools.product(KEYS, ["nothing", "update"])):
        for name in (f"t{number}", f"model{number}"):
            execute(
                dsn,
                f"CREATE TABLE {name} (email text, v int8, even bool, kind int4 DEFAULT 1,"
                f" gone timestamptz); CREATE UNIQUE INDEX {name}_key ON {name} {key};"
                f" INSERT INTO {name} VALUES ('a@x', 0, true), ('b@x', 0, false)",
            )
        result = await load_rows(
            dsn,
            data,
            f"t{number}",
            strategy=strategy,
            driver=driver,
            on_conflict=on_conflict,
            conflict_target=(f"t{number}_key",),
        )
        does = "UPDATE SET email = EXCLUDED.email, v = EXCLUDED.v, even = EXCLUDED.even"
        with psycopg.connect(dsn) as connection:
            connection.cursor().executemany(
                f"INSERT INTO model{number} (email, v, even) VALUES (%s, %s, %s)"
                f" ON CONFLICT {key} DO {does if on_conflict == 'update' else 'NOTHING'}",
                rows,
            )
        there, right = (
            query(dsn, f"SELECT email, v, even, kind FROM {name}{number} ORDER BY email, v")
            for name in ("t", "model")
        )
        assert there == right, (key, on_conflict)
        assert result.total.read == result.total.accounted == 9
        if on_conflict == "nothing":
            assert result.total.committed == len(there) - 2


@pytest.mark.parametrize("target", [("k",), ("b", "a")])
async def test_a_constraint_is_named_or_its_columns(dsn: str, target: tuple[str, ...]) -> None:
    execute(dsn, "CREATE TABLE t (id int4 PRIMARY KEY, a int4, b int4, CONSTRAINT k UNIQUE (a, b))")
    data = columns(id=[1, 2], a=[1, 1], b=[1, 1])
    result = await load_rows(dsn, data, on_conflict="nothing", conflict_target=target)
    assert (result.total.committed, result.total.duplicates) == (1, 1)


REFUSED = [
    (
        {"conflict_target": ("a",)},
        "only partial indexes are over (a): name the index, hidden or part",
    ),
    ({"conflict_target": ("b",)}, "no unique key is over (b) or has that name"),
    (
        {"conflict_target": ("late",)},
        "late is checked at COMMIT only, so ON CONFLICT cannot name it",
    ),
    ({"conflict_target": ("hidden",)}, "the data have no column 'c', which key hidden"),
    ({"update_columns": ("zz",)}, "table public.t has no column 'zz'"),
    ({"update_columns": ("c",)}, "no column 'c', which update_columns names"),
    ({"newer_by": "c"}, "no column 'c', which newer_by names"),
    ({"newer_by": "id"}, "newer_by names column 'id' of key t_pkey"),
    ({"newer_by": "j"}, "(json) have no order"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
async def test_what_cannot_work_is_one_sentence(
    dsn: str, changes: dict[str, Any], said: str
) -> None:
    execute(
        dsn,
        "CREATE TABLE t (id int4 PRIMARY KEY, a int4, b int4, c timestamptz DEFAULT now(), j json,"
        " CONSTRAINT late UNIQUE (b) DEFERRABLE); CREATE UNIQUE INDEX part ON t (a) WHERE b > 0;"
        " CREATE UNIQUE INDEX hidden ON t (a) WHERE c > '2020-01-01'",
    )
    data = columns(id=[1], a=[1], b=[1], j=["{}"])
    with pytest.raises(BatchbenchError) as refused:
        await load_rows(dsn, data, **{"on_conflict": "update", **changes})
    assert said in str(refused.value)
    if "conflict_target" in changes and "hidden" not in said:
        listed = "t_pkey (id); hidden (a) WHERE (c > "
        assert listed in str(refused.value)
        assert "late (b) at COMMIT only; part (a) WHERE (b > 0)" in str(refused.value)
    assert query(dsn, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"newer_by": "at", "on_conflict": "nothing"}, "under on_conflict=nothing"),
        ({"newer_by": "at", "dedup": "last"}, "so dedup cannot"),
        ({"skip_unchanged": True}, "skip_unchanged says how"),
        ({"update_columns": ("v",), "on_conflict": "nothing"}, "update_columns says how"),
    ],
)
def test_options_that_contradict_each_other(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        options(**changes)


def test_newer_by_means_update() -> None:
    assert options(newer_by="at").on_conflict == "update"


# --- what is set -----------------------------------------------------------------------------


@each_way
async def test_only_these_columns_are_set(dsn: str, strategy: str, driver: str) -> None:
    execute(dsn, "CREATE TABLE t (id int4 PRIMARY KEY, a int4, b int4, at int4)")
    execute(dsn, "INSERT INTO t VALUES (1, 0, 0, 0), (2, 0, 0, 9)")
    data = columns(id=[1, 2, 3], a=[5, 5, 5], b=[5, 5, 5], at=[5, 5, 5])
    how = {"strategy": strategy, "driver": driver, "on_conflict": "update"}
    await load_rows(dsn, data, **how, update_columns=("a",))
    there = "SELECT a, b, at FROM t ORDER BY id"
    assert query(dsn, there) == [(5, 0, 0), (5, 0, 9), (5, 5, 5)]
    data = columns(id=[1, 2], a=[6, 6], b=[6, 6], at=[6, 6])
    await load_rows(dsn, data, **how, update_columns=["b"], newer_by="at")
    assert query(dsn, there) == [(5, 6, 6), (5, 0, 9), (5, 5, 5)]


@each_way
@pytest.mark.parametrize("chunk_size", [1, 100])
async def test_columns_that_are_not_set_are_those_of_the_first_row(
    dsn: str, strategy: str, driver: str, chunk_size: int
) -> None:
    """Of a key that is new and comes several times, whether in one chunk or in several."""
    table = "CREATE TABLE {} (id int4 UNIQUE, a int4, b int4, at int4)"
    execute(dsn, f"{table.format('t')}; {table.format('u')}")
    data = columns(
        id=[1, 1, 1, None, None], a=[1, 2, 3, 4, 5], b=[1, 2, 3, 4, 5], at=[1, 9, 2, 1, 2]
    )
    how = {
        "strategy": strategy,
        "driver": driver,
        "chunk_size": chunk_size,
        "update_columns": ("b",),
    }
    await load_rows(dsn, data, **how, on_conflict="update")
    await load_rows(dsn, data, "u", **how, newer_by="at")
    there = "SELECT id, a, b, at FROM {} ORDER BY a"
    alone = [(None, 4, 4, 1), (None, 5, 5, 2)]
    assert query(dsn, there.format("t")) == [(1, 1, 3, 1), *alone]
    assert query(dsn, there.format("u")) == [(1, 1, 2, 9), *alone]


@pytest.mark.parametrize("strategy", ["values", "unnest", "copy"])
async def test_the_same_where_rows_are_named(dsn18: str, strategy: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 UNIQUE, a int4, b int4)")
    how = options(strategy=strategy, on_conflict="update", update_columns=("b",), parallelism=1)
    async with Writer(dsn18, "t", how) as writer:
        outcome = await (
            await writer.add(columns(id=[1, 1, None, None], a=[1, 2, 3, 4], b=[1, 2, 3, 4]))
        )
    assert outcome.duplicates == (0,)
    assert query(dsn18, "SELECT * FROM t ORDER BY a") == [(1, 1, 2), (None, 3, 3), (None, 4, 4)]


# --- the newest row --------------------------------------------------------------------------


@each_way
async def test_the_newest_row_stays(dsn: str, strategy: str, driver: str) -> None:
    """By key: 1 is newer there, 2 is older, 3 is as new, 4 and 5 have a NULL there, 6 and 7 come
    more than once, 8 comes with NULL only.
    """
    execute(dsn, VERSIONED)
    execute(
        dsn,
        "INSERT INTO t SELECT id, 0, CASE WHEN id < 4 THEN timestamptz '1970-01-01 00:05Z' END"
        " FROM generate_series(1, 5) id",
    )
    data = pa.table(
        {
            "id": pa.array([1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 8, 8], pa.int32()),
            "v": pa.array(range(1, 13), pa.int32()),
            "at": at(4, 6, 5, 1, None, 1, 3, 2, 2, 2, None, None),
        }
    )
    how = {"strategy": strategy, "driver": driver, "newer_by": "at"}
    result = await load_rows(dsn, data, **how)
    there = "SELECT id, v FROM t ORDER BY id"
    newest = [(1, 0), (2, 2), (3, 0), (4, 4), (5, 0), (6, 7), (7, 9), (8, 11)]
    assert query(dsn, there) == newest
    assert (result.total.committed, result.total.duplicates) == (5, 7)
    again = await load_rows(dsn, data, **how)
    assert query(dsn, there) == newest
    assert (again.total.committed, again.total.duplicates) == (0, 12)


@each_way
async def test_texts_are_compared_as_their_column_is(
    dsn18: str, strategy: str, driver: str
) -> None:
    """By bytes a capital is before every small letter; by the database's locale it may not be."""
    execute(dsn18, 'CREATE TABLE t (id int4 PRIMARY KEY, v int4, at text COLLATE "C")')
    data = columns(id=[1, 1, 1], v=[1, 2, 3], at=["B", "a", "C"])
    await load_rows(dsn18, data, strategy=strategy, driver=driver, newer_by="at")
    assert query(dsn18, "SELECT v FROM t") == [(2,)]


@pytest.mark.parametrize("strategy", ["values", "unnest", "copy", "optimistic"])
async def test_of_equally_new_rows_the_first_stays_whoever_writes(
    dsn18: str, strategy: str
) -> None:
    execute(dsn18, VERSIONED)
    count = 400
    data = pa.table(
        {
            "id": pa.array([i % 7 for i in range(count)], pa.int32()),
            "v": pa.array(range(count), pa.int32()),
            "at": at(*(i * 31 % 11 for i in range(count))),
        }
    )
    await load_rows(dsn18, data, strategy=strategy, newer_by="at", chunk_size=5, parallelism=4)
    newest = {}
    for i in range(count):
        newest.setdefault((i % 7, i * 31 % 11), i)
    assert dict(query(dsn18, "SELECT id, v FROM t")) == {k: newest[k, 10] for k in range(7)}


@pytest.mark.parametrize("strategy", ["values", "unnest", "copy"])
async def test_chunks_written_in_parts_meet_no_deadlock(dsn18: str, strategy: str) -> None:
    """Each chunk has the same keys, in another order, and bad rows for which it is split."""
    execute(
        dsn18,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 10',"
        " current_database()); END $$",
    )
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, v int4 CHECK (v <> 7), at int4)")
    count = 2_000
    data = columns(
        id=[i * 37 % 40 if i // 40 % 2 else 39 - i * 37 % 40 for i in range(count)],
        v=[7 if i % 20 == 3 else 0 for i in range(count)],
        at=list(range(count)),
    )
    result = await load_rows(
        dsn18, data, strategy=strategy, newer_by="at", chunk_size=40, parallelism=4
    )
    assert result.retries == 0
    assert result.total.rejected == 100
    good = {data["id"][i].as_py(): i for i in range(count) if i % 20 != 3}
    assert dict(query(dsn18, "SELECT id, at FROM t")) == good


# --- rows that are the same already ----------------------------------------------------------


@each_way
async def test_equal_rows_are_left_alone(dsn: str, strategy: str, driver: str) -> None:
    """Also where a type has no equality (json), or one that is wider than the same value."""
    execute(
        dsn,
        "CREATE TABLE t (id int4 PRIMARY KEY, n numeric, j json, f float8, d text, a int4[])",
    )
    data = pa.table(
        {
            "id": pa.array([1, 2, 3, 4], pa.int32()),
            "n": ["1.0", "1.0", None, "7"],
            "j": ['{"a": 1}', '{"a": 1}', None, "3"],
            "f": [0.0, 0.0, None, 1.5],
            "d": ["x", "x" * 9_000, None, "z"],
            "a": [[1, 2], None, None, []],
        }
    )
    how = {"strategy": strategy, "driver": driver, "on_conflict": "update", "skip_unchanged": True}
    await load_rows(dsn, data, **how)
    before = query(dsn, "SELECT ctid::text, xmin::text FROM t ORDER BY id")
    result = await load_rows(dsn, data, **how)
    assert query(dsn, "SELECT ctid::text, xmin::text FROM t ORDER BY id") == before
    assert (result.total.committed, result.total.duplicates) == (0, 4)
    changed = pa.table({"id": pa.array([1, 2, 3], pa.int32()), "n": ["1.00", "1.0", "1"]})
    result = await load_rows(dsn, changed, **how)
    assert (result.total.committed, result.total.duplicates) == (2, 1)
    assert query(dsn, "SELECT n::text FROM t ORDER BY id") == [("1.00",), ("1.0",), ("1",), ("7",)]


@each_way
async def test_newer_and_unchanged_go_together(dsn18: str, strategy: str, driver: str) -> None:
    """What says how new a row is has changed with a newer one, so that is written; else an older
    one that comes late would win over it.
    """
    execute(dsn18, VERSIONED + "; INSERT INTO t VALUES (1, 1, 'epoch'), (2, 1, 'epoch')")
    data = pa.table(
        {"id": pa.array([1, 2], pa.int32()), "v": pa.array([1, 2], pa.int32()), "at": at(0, 1)}
    )
    result = await load_rows(
        dsn18, data, strategy=strategy, driver=driver, newer_by="at", skip_unchanged=True
    )
    assert (result.total.committed, result.total.duplicates) == (1, 1)


async def test_auto_expects_rows_that_are_there(dsn18: str) -> None:
    execute(dsn18, VERSIONED)
    source = open_source(columns(id=[1], v=[1], at=[None]))
    session = await connect("psycopg", dsn18)
    try:
        for changes, strategy, ordered_by in (
            ({"newer_by": "at"}, "copy", ("id", "at")),
            ({"newer_by": "v", "strategy": "optimistic"}, "optimistic", ("id",)),
            ({"newer_by": "at", "update_columns": ("v",)}, "copy", ("id",)),
            ({"on_conflict": "update"}, "optimistic", ("id",)),
        ):
            how: LoadOptions = options(**changes)
            plan = await plan_load(session, source, {None: TableName("t")}, how)
            assert plan.tables[None].strategy == strategy
            assert plan.tables[None].ordered_by(partial=False) == ordered_by
    finally:
        await session.close()


async def test_rows_of_a_key_keep_their_order_where_they_may_leave_out_columns(dsn18: str) -> None:
    """A newer row is not all that stays then: what it leaves out is an older one's."""
    execute(dsn18, VERSIONED)
    rows = [{"id": i % 2, "v": i} for i in range(20)] + [{"id": 1}]
    for missing, keys in (("default", {(0,)}), ("error", {(0, 1)}), ("null", {(0, 1)})):
        source = open_source(rows, options=SourceOptions(missing=missing))
        session = await connect("psycopg", dsn18)
        try:
            plan = await plan_load(session, source, {None: TableName("t")}, options(newer_by="v"))
        finally:
            await session.close()
        chunks = encoded_chunks(source, plan, LoadResult("x"), lambda text: None, 1 << 20)
        assert {chunk.shape.keys for chunk in chunks} == keys


# --- numbers of a sequence -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "trigger", "taken"),
    [
        ({"on_conflict": "nothing"}, False, 10),
        ({"on_conflict": "nothing"}, True, 110),
        ({"on_conflict": "update"}, False, 110),
        ({"newer_by": "v"}, False, 110),
    ],
)
@pytest.mark.parametrize("column", ["serial", "int4 GENERATED BY DEFAULT AS IDENTITY"])
async def test_auto_takes_few_numbers_for_rows_that_are_there(
    dsn18: str, column: str, changes: dict[str, Any], trigger: bool, taken: int
) -> None:
    """100 rows are there, 10 are new. Where the server has to try a row it takes a number, once."""
    execute(dsn18, f"CREATE TABLE t (id {column} PRIMARY KEY, name text UNIQUE, v int4)")
    if trigger:  # it may change the key, so that asking for it first would not do
        execute(
            dsn18,
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
            " CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        )
    execute(dsn18, "INSERT INTO t (name) SELECT 'n' || i FROM generate_series(1, 100) i")
    data = columns(name=[f"n{i}" for i in range(110, 0, -1)], v=[1] * 110)
    result = await load_rows(
        dsn18, data, conflict_target=("name",), chunk_size=30, parallelism=1, **changes
    )
    assert result.total.read == result.total.accounted == 110
    assert query(dsn18, "SELECT last_value FROM t_id_seq") == [(100 + taken,)]
