"""Faults that a review or a fault test found, each with its scenario."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import pyarrow as pa
import pytest

from batchbench.engine import LoadError, load
from batchbench.engine.pacing import PaceLimits
from batchbench.errors import ConfigError
from batchbench.events import Event, LoadStarted
from batchbench.sources import open_source
from batchbench.strategies import OnConflict
from batchbench.table import TableName
from tests.fixtures.loading import execute, load_rows, numbered, options, query

SLOW = """
CREATE TABLE t (id int4, note text);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION slow()
"""


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_resume_beside_a_load_that_lives_on_doubles_nothing(
    dsn18: str, tmp_path: Path, driver: str
) -> None:
    """Another chunk size, no unique key: only the epoch keeps the two apart."""
    execute(dsn18, SLOW)
    path = tmp_path / "x.csv"
    path.write_text("id,note\n" + "".join(f"{i},a\n" for i in range(4_000)))
    ids: list[str] = []

    def note_id(event: Event) -> None:
        if isinstance(event, LoadStarted):
            ids.append(event.load_id)

    def start(chunk_size: int, resume: str | None) -> asyncio.Task[object]:
        choice = options(driver=driver, chunk_size=chunk_size, parallelism=2)
        where = {None: TableName("t")}
        return asyncio.create_task(
            load(open_source(path), where, dsn18, choice, resume=resume, on_event=note_id)
        )

    first = start(100, None)
    while not await asyncio.to_thread(query, dsn18, "SELECT 1 FROM t LIMIT 1"):
        assert not first.done()
    second = start(250, ids[0])
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(outcomes[0], LoadError), "the first start must notice that it was taken over"
    assert not isinstance(outcomes[1], BaseException)
    assert query(dsn18, "SELECT count(*), count(DISTINCT id) FROM t") == [(4_000, 4_000)]


async def test_a_writer_at_its_end_holds_no_locks(dsn18: str) -> None:
    """Rows 11-20 repeat 1-10: the second writer waits for the first one's open transaction."""
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, note text)")
    rows = pa.concat_tables([numbered(10), numbered(10)])
    result = await load_rows(
        dsn18,
        rows,
        chunk_size=10,
        transaction=4,
        parallelism=2,
        strategy="unnest",
        on_conflict=OnConflict.NOTHING,
        wait_limit_s=20,
    )
    assert (result.total.committed, result.total.duplicates, result.retries) == (10, 10, 0)


@pytest.mark.parametrize("transaction", ["chunk", 4, "batch"])
async def test_a_child_waits_for_its_parents_transaction(
    dsn18: str, tmp_path: Path, transaction: str | int
) -> None:
    """Each row's parent is the next one: in a later chunk, another writer's, or an orphan too."""
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, parent int4 REFERENCES t)")
    ids = list(range(1, 41))
    parents = pa.array([i + 1 if i < 40 else None for i in ids], pa.int32())
    rows = pa.table({"id": pa.array(ids, pa.int32()), "parent": parents})
    result = await load_rows(
        dsn18,
        rows,
        chunk_size=10,
        transaction=transaction,
        on_reject="skip",
        parallelism=2,
        dead_letter=tmp_path / "bad.ndjson",
    )
    assert (result.total.committed, result.total.rejected) == (40, 0)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_failure_between_spans_loses_no_span_before_it(dsn18: str, driver: str) -> None:
    """Columns that vary make new shapes, whose temporary table waits for a lock in mid-transaction:
    what was written before it stays written.
    """
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, a text, b text)")
    rows = ({"id": i, ("a" if i // 10 % 2 else "b"): "x"} for i in range(200))
    result = await load_rows(
        dsn18,
        rows,
        driver=driver,
        chunk_size=10,
        transaction=4,
        parallelism=1,
        strategy="copy",
        on_conflict=OnConflict.NOTHING,
    )
    assert result.total.committed == 200
    assert query(dsn18, "SELECT count(*) FROM t") == [(200,)]


async def test_another_loads_rejects_are_not_this_ones(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    path, dead_letter = tmp_path / "x.csv", tmp_path / "bad.ndjson"
    path.write_text("id,note\n1,a\nbad,b\n3,c\n")
    first = await load_rows(dsn18, path, dead_letter=dead_letter)
    dead_letter.write_text(dead_letter.read_text() + '{"torn')
    second = await load_rows(dsn18, path, dead_letter=dead_letter)
    lines = [json.loads(line) for line in dead_letter.read_text().splitlines()]
    assert [line["load_id"] for line in lines] == [first.load_id, second.load_id]
    again = await load(
        open_source(path),
        {None: TableName("t")},
        dsn18,
        options(dead_letter=dead_letter),
        resume=second.load_id,
    )
    assert (again.total.committed, again.total.rejected) == (2, 1)
    with pytest.raises(ConfigError, match="--dead-letter"):
        await load(
            open_source(path),
            {None: TableName("t")},
            dsn18,
            options(dead_letter=tmp_path / "other.ndjson"),
            resume=second.load_id,
        )


async def test_a_row_that_python_has_no_value_for_is_rejected_like_others(
    dsn18: str, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 NOT NULL, at timestamp)")
    far = pa.array([2**60], pa.int64()).cast(pa.timestamp("us"))
    rows = pa.table({"id": pa.array([None], pa.int32()), "at": far})
    dead_letter = tmp_path / "bad.ndjson"
    result = await load_rows(dsn18, rows, dead_letter=dead_letter)
    assert result.total.rejected == 1
    assert json.loads(dead_letter.read_text())["sqlstate"] == "23502"


async def test_all_of_100_percent_may_be_rejects(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    rows = pa.table({"id": ["x", "y"], "note": ["a", "b"]})
    result = await load_rows(dsn18, rows, max_rejects=1.0, dead_letter=tmp_path / "bad.ndjson")
    assert result.total.rejected == 2


async def test_a_load_that_is_refused_does_not_run_on_in_the_ledger(
    dsn18: str, tmp_path: Path
) -> None:
    """A limit that cannot be kept; then a resume without the dead letter of the first start."""
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    states = "SELECT state FROM batchbench.loads"
    limited = PaceLimits(max_replica_lag_mb=1)
    pool = await asyncpg.create_pool(dsn18, min_size=1, max_size=1)
    with pytest.raises(ConfigError, match="need a connection beside"):
        await load(
            open_source(numbered(10)),
            {None: TableName("t")},
            options=options(pace=limited, parallelism=1),
            connection=pool,
        )
    await pool.close()
    assert query(dsn18, states) == []

    path = tmp_path / "x.csv"
    path.write_text("id,note\n1,a\nx,b\n2,c\n")
    first = await load_rows(dsn18, path, dead_letter=tmp_path / "dead.ndjson")
    with pytest.raises(ConfigError, match="name its dead letter"):
        await load(
            open_source(path),
            {None: TableName("t")},
            dsn18,
            options(dead_letter=tmp_path / "other.ndjson"),
            resume=first.load_id,
        )
    assert query(dsn18, states) == [("stopped",)]


@pytest.mark.parametrize(
    ("strategy", "state"),
    [("values", "rejected"), ("unnest", "rejected"), ("copy", "rejected"), ("probe", "duplicates")],
)
async def test_a_bad_row_whose_key_is_there(dsn18: str, strategy: str, state: str) -> None:
    """INSERT checks constraints before it looks for the key; probe never sends such a row."""
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, v int4 CHECK (v >= 0))")
    execute(dsn18, "INSERT INTO t VALUES (1, 0)")
    rows = pa.table({"id": [1, 2], "v": [-1, 0]})
    result = await load_rows(dsn18, rows, strategy=strategy, on_conflict=OnConflict.NOTHING)
    assert (result.total.committed, getattr(result.total, state)) == (1, 1)
    assert query(dsn18, "SELECT * FROM t ORDER BY id") == [(1, 0), (2, 0)]
