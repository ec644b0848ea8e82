"""Rows of one key: which one stays, how the others are counted, whoever writes them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchbench.config import Settings
from batchbench.engine import LoadError
from batchbench.errors import ConfigError
from batchbench.events import ChunkRetried, Event, Notice
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, options, query

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, v int4 CHECK (v <> -1))"
both = pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)


def rows(pairs: list[tuple[int, int]]) -> pa.Table:
    ids, values = zip(*pairs, strict=True)
    return pa.table({"id": pa.array(ids, pa.int32()), "v": pa.array(values, pa.int32())})


def twice(count: int) -> list[tuple[int, int]]:
    """Every key in four places, far apart and beside each other; values grow with the place."""
    return [(place * 7919 % count, place) for place in range(4 * count)]


@pytest.mark.parametrize("strategy", ["values", "unnest", "copy", "optimistic"])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_four_writers_keep_the_last_row_of_a_key(
    dsn18: str, strategy: str, driver: str
) -> None:
    execute(dsn18, TABLE)
    pairs = twice(500)
    result = await load_rows(
        dsn18,
        rows(pairs),
        strategy=strategy,
        driver=driver,
        on_conflict="update",
        chunk_size=100,
        parallelism=4,
    )
    assert dict(query(dsn18, "SELECT id, v FROM t")) == dict(pairs)
    assert result.total.read == result.total.accounted == 2_000


async def test_a_chunk_that_is_retried_late_is_still_the_earlier_one(dsn18: str) -> None:
    """The first chunk fails once, after a pause in which all others could have been written."""
    execute(
        dsn18,
        TABLE + ";"
        """
        CREATE SEQUENCE attempts;
        CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF EXISTS (SELECT FROM added WHERE v < 20) AND nextval('attempts') = 1 THEN
            PERFORM pg_sleep(0.2); RAISE EXCEPTION USING ERRCODE = '40001'; END IF;
          RETURN NULL; END $$;
        CREATE TRIGGER once AFTER INSERT ON t REFERENCING NEW TABLE AS added
          FOR EACH STATEMENT EXECUTE FUNCTION once()
        """,
    )
    pairs = [(place % 10, place) for place in range(400)]
    result = await load_rows(
        dsn18, rows(pairs), strategy="unnest", on_conflict="update", chunk_size=20, parallelism=4
    )
    assert result.retries == 1
    assert dict(query(dsn18, "SELECT id, v FROM t")) == dict(pairs)


async def test_chunks_without_a_common_key_go_side_by_side(dsn18: str) -> None:
    """Each chunk waits until another one is being written, which one at a time could never do."""
    execute(
        dsn18,
        TABLE + ";"
        """
        CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          PERFORM pg_advisory_xact_lock_shared(7);
          FOR i IN 1..500 LOOP
            EXIT WHEN (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7) > 1;
            PERFORM pg_sleep(0.01);
          END LOOP;
          IF (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7) < 2 THEN
            RAISE EXCEPTION USING ERRCODE = '58000'; END IF;
          PERFORM pg_sleep(0.1); RETURN NULL; END $$;
        CREATE TRIGGER meet AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION meet()
        """,
    )
    await load_rows(
        dsn18,
        rows([(i, i) for i in range(200)]),
        strategy="unnest",
        on_conflict="update",
        chunk_size=100,
        parallelism=2,
    )
    assert query(dsn18, "SELECT count(*) FROM t") == [(200,)]


@pytest.mark.parametrize("strategy", ["values", "unnest", "copy", "optimistic"])
async def test_keys_that_only_the_server_can_tell_apart_take_turns(
    dsn18: str, strategy: str
) -> None:
    execute(dsn18, "CREATE TABLE t (id numeric PRIMARY KEY, v int4)")
    told: list[Event] = []
    ids = pa.array(["1", "1.0", "1.00"] * 100)
    data = pa.table({"id": ids, "v": pa.array(range(300), pa.int32())})
    changes = {"strategy": strategy, "on_conflict": "update"}
    await _load(dsn18, data, told, chunk_size=10, parallelism=4, **changes)
    assert query(dsn18, "SELECT v FROM t") == [(299,)]
    assert [e.text for e in told if isinstance(e, Notice) and "one chunk at a time" in e.text]


async def _load(dsn: str, data: Any, told: list[Event], **changes: Any) -> Any:
    from batchbench.engine import load
    from batchbench.sources import open_source
    from batchbench.table import TableName

    return await load(
        open_source(data), {None: TableName("t")}, dsn, options(**changes), on_event=told.append
    )


@both
@pytest.mark.parametrize("on_conflict", ["nothing", "update"])
async def test_equality_is_the_collations(
    dsn: str, strategy: str, driver: str, on_conflict: str
) -> None:
    try:
        execute(
            dsn,
            "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2',"
            " deterministic = false); CREATE TABLE t (id text COLLATE nocase PRIMARY KEY, v int4)",
        )
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server was built without ICU, which alone has such collations")
    data = pa.table({"id": ["a", "A", "b", "a"], "v": pa.array([1, 2, 3, 4], pa.int32())})
    result = await load_rows(dsn, data, strategy=strategy, driver=driver, on_conflict=on_conflict)
    kept = 1 if on_conflict == "nothing" else 4
    assert query(dsn, "SELECT v FROM t ORDER BY id") == [(kept,), (3,)]
    assert (result.total.committed, result.total.duplicates) == (2, 2)


# --- over the whole load ------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("keep", ["first", "last"])
@pytest.mark.parametrize("on_conflict", ["error", "update"])
async def test_one_row_a_key_over_the_whole_load(
    dsn18: str, driver: str, keep: str, on_conflict: str
) -> None:
    execute(dsn18, TABLE + "; INSERT INTO t VALUES (3, -3)")
    pairs = twice(100)
    expected = dict(pairs if keep == "last" else reversed(pairs))
    result = await load_rows(
        dsn18,
        rows(pairs),
        driver=driver,
        on_conflict=on_conflict,
        dedup=keep,
        chunk_size=30,
        parallelism=3,
    )
    there = dict(query(dsn18, "SELECT id, v FROM t"))
    if on_conflict == "error":  # what was there before the load is no twin: the row is refused
        assert result.total.rejected > 0
        assert there == {**expected, 3: -3}
        assert result.total.committed == 99
    else:
        assert there == expected
    assert result.total.read == result.total.accounted
    assert query(dsn18, "SELECT relname FROM pg_class WHERE relname LIKE 'keys\\_%'") == []


async def test_the_environment_asks_for_it(dsn18: str) -> None:
    execute(dsn18, TABLE)
    pairs = twice(50)
    wanted = Settings(enable_deduplication=True)
    result = await load_rows(dsn18, rows(pairs), settings=wanted, chunk_size=20)
    assert dict(query(dsn18, "SELECT id, v FROM t")) == dict(pairs)
    assert (result.total.committed, result.total.duplicates) == (50, 150)


async def test_a_resumed_load_knows_the_keys_it_wrote(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, TABLE)
    path = tmp_path / "x.csv"
    path.write_text("id,v\n" + "".join(f"{i % 60},{i}\n" for i in range(300)))
    execute(
        dsn18,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.v = 150 THEN RAISE EXCEPTION USING ERRCODE = '53100'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON t"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(LoadError) as stopped:
        await load_rows(dsn18, path, dedup="last", chunk_size=20, parallelism=1)
    execute(dsn18, "DROP TRIGGER full_disk ON t")
    from batchbench.engine import load
    from batchbench.sources import open_source
    from batchbench.table import TableName

    result = await load(
        open_source(path),
        {None: TableName("t")},
        dsn18,
        options(dedup="last", chunk_size=35),
        resume=stopped.value.result.load_id,
    )
    assert dict(query(dsn18, "SELECT id, v FROM t")) == {i: 240 + i for i in range(60)}
    assert (result.total.committed, result.total.duplicates, result.total.read) == (60, 240, 300)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    keys=st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=60),
    keep=st.sampled_from(["first", "last"]),
    nulls_equal=st.booleans(),
    chunk_size=st.integers(1, 20),
)
def test_null_keys_are_equal_only_where_the_index_says_so(
    dsn18: str, keys: list[int | None], keep: str, nulls_equal: bool, chunk_size: int
) -> None:
    how = "NULLS NOT DISTINCT" if nulls_equal else ""
    execute(dsn18, f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int4, v int4, UNIQUE {how} (id))")
    data = pa.table({"id": pa.array(keys, pa.int32()), "v": pa.array(range(len(keys)), pa.int32())})
    asyncio.run(load_rows(dsn18, data, dedup=keep, chunk_size=chunk_size, conflict_target=("id",)))
    places = list(enumerate(keys))
    kept = {key: place for place, key in (places if keep == "last" else reversed(places))}
    expected = {place for key, place in kept.items() if key is not None or nulls_equal}
    expected |= {place for place, key in places if key is None and not nulls_equal}
    assert {v for (v,) in query(dsn18, "SELECT v FROM t")} == expected


async def test_what_cannot_work_is_refused(dsn18: str) -> None:
    execute(dsn18, TABLE)
    with pytest.raises(ConfigError, match="dedup=last cannot work under on_conflict=nothing"):
        await load_rows(dsn18, rows([(1, 1)]), on_conflict="nothing", dedup="last")
    with pytest.raises(ConfigError, match="goes through COPY"):
        await load_rows(dsn18, rows([(1, 1)]), strategy="values", dedup="last")


# --- the accounts -------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["values", "unnest", "copy", "optimistic"])
@pytest.mark.parametrize("on_conflict", ["nothing", "update"])
async def test_a_bad_row_does_not_upset_the_accounts(
    dsn18: str, strategy: str, on_conflict: str
) -> None:
    """A chunk in parts: the temporary table must not bring rows of an earlier part again."""
    execute(dsn18, TABLE + "; INSERT INTO t SELECT i, 0 FROM generate_series(0, 49) i")
    pairs = [(i, -1 if i in (30, 77) else i) for i in range(200)]
    result = await load_rows(
        dsn18, rows(pairs), strategy=strategy, on_conflict=on_conflict, chunk_size=100
    )
    counts = result.total
    if on_conflict == "nothing":
        rejected = counts.rejected  # row 30's key is there: whether its value is looked at
        assert (counts.committed, counts.duplicates) == (149, 51 - rejected)
    else:
        assert (counts.committed, counts.duplicates, counts.rejected) == (198, 0, 2)
    assert counts.read == counts.accounted


@pytest.mark.parametrize("strategy", ["copy", "optimistic"])
async def test_what_a_trigger_drops_is_no_duplicate(dsn18: str, strategy: str) -> None:
    execute(
        dsn18,
        TABLE + "; INSERT INTO t SELECT i, 0 FROM generate_series(0, 9) i;"
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN CASE WHEN NEW.id % 2 = 0 THEN NEW END; END $$;"
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    result = await load_rows(
        dsn18, rows([(i, i) for i in range(100)]), strategy=strategy, on_conflict="nothing"
    )
    counts = result.total
    # 0, 2 .. 8 are there; 11, 13 .. 99 were dropped; 1, 3 .. 9 were dropped, and are there
    assert (counts.committed, counts.skipped_by_server, counts.duplicates) == (45, 45, 10)


# --- deadlocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["values", "unnest", "copy"])
@pytest.mark.parametrize("on_conflict", ["nothing", "update"])
async def test_two_loads_of_the_same_keys_never_deadlock(
    dsn18: str, strategy: str, on_conflict: str
) -> None:
    """One goes up and one goes down; each row takes a while, so that they meet in the middle."""
    execute(
        dsn18,
        TABLE + ";"
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;"
        "CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    up = [(i, i) for i in range(100)]
    told: list[Event] = []
    loads = [
        _load(dsn18, rows(pairs), told, strategy=strategy, on_conflict=on_conflict, chunk_size=100)
        for pairs in (up, up[::-1])
    ]
    await asyncio.gather(*loads)
    assert not [event for event in told if isinstance(event, ChunkRetried)]
    assert query(dsn18, "SELECT count(*) FROM t") == [(100,)]


def test_without_the_order_of_the_keys_they_would(dsn18: str) -> None:
    execute(dsn18, TABLE)
    with psycopg.connect(dsn18) as one, psycopg.connect(dsn18) as other:
        one.execute("INSERT INTO t VALUES (1, 1)")
        other.execute("SET deadlock_timeout = '10ms'")
        other.execute("INSERT INTO t VALUES (2, 2)")
        with pytest.raises(psycopg.errors.DeadlockDetected):
            _both(one, other)


def _both(one: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> None:
    from threading import Thread

    sql = "INSERT INTO t VALUES (%s, 0) ON CONFLICT (id) DO NOTHING"
    waiting = Thread(target=one.execute, args=(sql, (2,)))
    waiting.start()
    try:
        other.execute(sql, (1,))
    finally:
        other.rollback()
        waiting.join()


@pytest.mark.parametrize("strategy", ["copy", "optimistic"])
async def test_the_first_row_of_a_key_needs_one_writer_where_chunks_go_together(
    dsn18: str, strategy: str
) -> None:
    """With more, a chunk waits for an open transaction, whose next chunk waits for that one."""
    how = {"on_conflict": "nothing", "transaction": 2, "parallelism": 3, "wait_limit_s": 5}
    assert options(**how).writers == 1
    assert options(transaction=2, parallelism=3).writers == 3
    execute(dsn18, TABLE)
    rows = pa.table({"id": [n // 3 % 20 for n in range(200)], "v": list(range(200))})
    result = await load_rows(dsn18, rows, **how, strategy=strategy, chunk_size=1)
    assert (result.total.committed, result.total.duplicates, result.retries) == (20, 180, 0)
    assert query(dsn18, "SELECT v FROM t ORDER BY id") == [(n * 3,) for n in range(20)]
