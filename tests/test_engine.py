"""The engine against real servers: what it says happened is what the table says."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from batchbench.accounting import LoadResult
from batchbench.config import Settings
from batchbench.engine import LoadError, load
from batchbench.engine.accounts import TooManyRejectsError
from batchbench.errors import ConfigError, InputError, ServerError, TableError, WriteError
from batchbench.events import ChunkWritten, Event, LoadEnded, LoadStarted, Notice
from batchbench.sources import open_source
from batchbench.strategies import OnConflict
from batchbench.strategies.optimistic import Luck, Way
from batchbench.table import TableName
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, numbered, options, query

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, note text)"
both = pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
drivers = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
with_optimistic = pytest.mark.parametrize(
    ("strategy", "driver"),
    [*COMBINATIONS, ("optimistic", "asyncpg"), ("optimistic", "psycopg")],
)


def adds_up(result: LoadResult) -> bool:
    return all(counts.read == counts.accounted for counts in result.tables.values())


@both
@pytest.mark.parametrize("parallelism", [1, 3])
async def test_every_row_arrives_once(
    dsn: str, strategy: str, driver: str, parallelism: int
) -> None:
    execute(dsn, TABLE)
    rows = numbered(1_234)
    result = await load_rows(
        dsn, rows, strategy=strategy, driver=driver, chunk_size=100, parallelism=parallelism
    )
    assert result.total.read == result.total.committed == 1_234
    assert adds_up(result)
    assert len(result.chunk_seconds) == 13
    assert query(dsn, "SELECT id, note FROM t ORDER BY id") == [
        (row["id"], row["note"]) for row in rows.to_pylist()
    ]


@with_optimistic
@pytest.mark.parametrize("on_conflict", ["nothing", "update"])
async def test_conflicts(dsn: str, strategy: str, driver: str, on_conflict: str) -> None:
    """Clashes with rows in the table, within a chunk and across chunks."""
    execute(dsn, TABLE + "; INSERT INTO t VALUES (1, 'old'), (2, 'old')")
    ids = [2, 3, 3, 4, 5, 3, 6, 3]
    rows = pa.table({"id": pa.array(ids, pa.int32()), "note": [f"new {i}" for i in range(8)]})
    result = await load_rows(
        dsn,
        rows,
        strategy=strategy,
        driver=driver,
        chunk_size=3,
        parallelism=1,  # with more, which of two rows of one key comes first is open
        on_conflict=OnConflict(on_conflict),
    )
    assert adds_up(result)
    table = dict(query(dsn, "SELECT id, note FROM t"))
    if on_conflict == "nothing":
        assert table == {1: "old", 2: "old", 3: "new 1", 4: "new 3", 5: "new 4", 6: "new 6"}
        assert (result.total.committed, result.total.duplicates) == (4, 4)
    else:  # the last in input order wins
        assert table == {1: "old", 2: "new 0", 3: "new 7", 4: "new 3", 5: "new 4", 6: "new 6"}
        assert (result.total.committed, result.total.duplicates) == (7, 1)


@with_optimistic
async def test_null_keys_never_clash(dsn18: str, strategy: str, driver: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text, UNIQUE (id))")
    rows = pa.table({"id": pa.array([None, None, 1, 1], pa.int32()), "note": list("abcd")})
    result = await load_rows(
        dsn18, rows, strategy=strategy, driver=driver, on_conflict=OnConflict.UPDATE
    )
    assert sorted(query(dsn18, "SELECT note FROM t")) == [("a",), ("b",), ("d",)]
    assert (result.total.committed, result.total.duplicates) == (3, 1)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("transaction", ["chunk", 4, "batch"])
async def test_optimistic_chunks_go_around_conflicts(
    dsn18: str, driver: str, transaction: str | int
) -> None:
    """Clustered duplicates: 10 of 40 chunks meet one, and every row is in the table once."""
    execute(dsn18, TABLE + "; INSERT INTO t SELECT i, 'old' FROM generate_series(1001, 2000) i")
    result = await load_rows(
        dsn18,
        numbered(4_000),
        strategy="optimistic",
        driver=driver,
        chunk_size=100,
        on_conflict=OnConflict.NOTHING,
        transaction=transaction,
    )
    assert (result.total.committed, result.total.duplicates) == (3_000, 1_000)
    assert query(dsn18, "SELECT count(*), count(*) FILTER (WHERE note = 'old') FROM t") == [
        (4_000, 1_000)
    ]


@drivers
@pytest.mark.parametrize("strategy", ["optimistic", "probe"])
@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
async def test_scattered_duplicates_are_asked_for(
    dsn: str, driver: str, strategy: str, share: float
) -> None:
    """No chunk has to go through the temporary table, and nothing burns the identity."""
    execute(
        dsn,
        "CREATE TABLE t (id int4 PRIMARY KEY, note text, n int4 GENERATED ALWAYS AS IDENTITY);"
        f"INSERT INTO t SELECT i, 'old' FROM generate_series(1, 2000) i"
        f" WHERE i % 100 < {share * 100:.0f}",
    )
    result = await load_rows(
        dsn,
        numbered(2_000),
        strategy=strategy,
        driver=driver,
        chunk_size=100,
        on_conflict=OnConflict.NOTHING,
    )
    there = round(2_000 * share)
    assert result.total.committed + result.total.duplicates == result.total.read == 2_000
    assert query(dsn, "SELECT count(*), count(*) FILTER (WHERE note = 'old') FROM t") == [
        (result.total.committed + there, there)
    ]
    if strategy == "probe":
        assert query(dsn, "SELECT max(n) - count(*) FROM t") == [(0,)]


@drivers
async def test_probe_leaves_a_key_that_comes_twice_to_on_conflict(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE + "; INSERT INTO t VALUES (1, 'old')")
    rows = pa.table({"id": pa.array([1, 2, 2, 3], pa.int32()), "note": list("abcd")})
    result = await load_rows(
        dsn18, rows, strategy="probe", driver=driver, on_conflict=OnConflict.NOTHING
    )
    assert query(dsn18, "SELECT * FROM t ORDER BY id") == [(1, "old"), (2, "b"), (3, "d")]
    assert (result.total.committed, result.total.duplicates) == (2, 2)


@drivers
async def test_probe_looks_up_keys_of_several_columns(dsn: str, driver: str) -> None:
    """Equal numbers of another scale are equal, NULL keys never are."""
    execute(
        dsn,
        'CREATE TABLE t ("a name" text, n numeric(6, 2), note text, UNIQUE (n, "a name"));'
        "INSERT INTO t VALUES ('a', 1.5, 'old'), ('b', 2, 'old')",
    )
    rows = pa.table(
        {
            "a name": ["a", "a", "b", None, "b"],
            "n": pa.array([Decimal(n) for n in ("1.50", "1.51", "2.00", "1.50", "2.25")]),
            "note": list("abcde"),
        }
    )
    result = await load_rows(
        dsn, rows, strategy="probe", driver=driver, on_conflict=OnConflict.NOTHING
    )
    assert (result.total.committed, result.total.duplicates) == (3, 2)
    assert query(dsn, "SELECT string_agg(note, '' ORDER BY note) FROM t") == [("bdeoldold",)]


async def test_probe_says_why_it_cannot_serve(dsn18: str) -> None:
    execute(dsn18, TABLE)
    with pytest.raises(TableError, match="the rows that are there are to be written too"):
        await load_rows(dsn18, numbered(1), strategy="probe", on_conflict=OnConflict.UPDATE)


def test_luck_tries_less_where_only_on_conflict_works() -> None:
    luck, tries = Luck(), 0
    for _ in range(10_000):
        if luck.choose() is Way.DIRECT:
            tries += 1
            luck.settled(by_index=False)
    assert tries < 10_000 / 60
    luck = Luck()
    luck.settled(by_index=False)
    assert luck.choose() is Way.STAGED
    assert luck.choose() is Way.DIRECT
    luck.settled(by_index=True)
    assert luck.choose() is Way.DIRECT


def test_luck_asks_where_conflicts_are_many_and_tries_again_where_they_end() -> None:
    luck = Luck()
    ways = []
    for conflict in (True, False, True, True, False, False, False):
        ways.append(luck.choose())
        luck.met(conflict=conflict)
    assert ways == [Way.DIRECT, Way.PROBE, Way.DIRECT, *[Way.PROBE] * 4]
    assert luck.choose() is Way.DIRECT


@both
@pytest.mark.parametrize("transaction", ["chunk", "batch", 3])
async def test_a_failure_commits_whole_transactions_only(
    dsn18: str, strategy: str, driver: str, transaction: str | int
) -> None:
    """Row 75 of chunk 8 breaks a check: chunks of ten, so 7 chunks went before."""
    execute(dsn18, "CREATE TABLE t (id int4 CHECK (id <> 75), note text)")
    with pytest.raises(LoadError, match="23514") as failure:
        await load_rows(
            dsn18,
            numbered(200),
            strategy=strategy,
            driver=driver,
            chunk_size=10,
            parallelism=1,
            transaction=transaction,
            on_reject="stop",
        )
    committed = {"chunk": 70, "batch": 0, 3: 60}[transaction]
    result = failure.value.result
    assert adds_up(result)
    assert result.total.committed == committed
    assert result.total.unwritten == result.total.read - committed >= 10
    assert query(dsn18, "SELECT count(*) FROM t") == [(committed,)]
    assert "rows 71-80" in str(failure.value)
    assert "row 75" not in str(failure.value)


async def test_several_writers_stop_together(dsn: str) -> None:
    execute(dsn, "CREATE TABLE t (id int4 CHECK (id <> 500), note text)")
    with pytest.raises(LoadError) as failure:
        await load_rows(dsn, numbered(2_000), chunk_size=10, parallelism=4, on_reject="stop")
    result = failure.value.result
    assert adds_up(result)
    assert query(dsn, "SELECT count(*) FROM t") == [(result.total.committed,)]
    assert result.total.committed % 10 == 0


@both
async def test_what_a_trigger_drops_is_counted(dsn: str, strategy: str, driver: str) -> None:
    """4 rows are sent, the tag says 2, and there is no error: never count them as committed."""
    execute(dsn, TABLE)
    execute(
        dsn,
        "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN CASE WHEN NEW.id % 2 = 0 THEN NEW END; END $$;"
        "CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    result = await load_rows(dsn, numbered(4), strategy=strategy, driver=driver)
    assert (result.total.committed, result.total.skipped_by_server) == (2, 2)


@both
async def test_a_notice_flood_does_not_deadlock(dsn18: str, strategy: str, driver: str) -> None:
    execute(dsn18, TABLE)
    execute(
        dsn18,
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE NOTICE '%', repeat('x', 1000); RETURN NEW; END $$;"
        "CREATE TRIGGER shout BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION shout()",
    )
    result = await load_rows(
        dsn18, numbered(20_000), strategy=strategy, driver=driver, chunk_size=10_000
    )
    assert result.total.committed == 20_000


@both
async def test_a_deferred_constraint_is_no_success(dsn18: str, strategy: str, driver: str) -> None:
    """23505 comes at COMMIT; the rows of that chunk are not there and not counted."""
    execute(dsn18, "CREATE TABLE t (id int4 UNIQUE DEFERRABLE INITIALLY DEFERRED, note text)")
    rows = pa.table({"id": pa.array([1, 2, 3, 3], pa.int32()), "note": list("abcd")})
    with pytest.raises(LoadError, match="23505") as failure:
        await load_rows(
            dsn18,
            rows,
            strategy=strategy,
            driver=driver,
            chunk_size=2,
            parallelism=1,
            on_reject="stop",
        )
    assert failure.value.result.total.committed == 2
    assert query(dsn18, "SELECT count(*) FROM t") == [(2,)]


NAMES = ["Mixed Case", "select", "naïve 💥", 'a"b.c', "; drop table x; --", "x" * 63]


@both
@pytest.mark.parametrize("name", NAMES)
async def test_names_are_quoted(dsn18: str, strategy: str, driver: str, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    execute(
        dsn18,
        f"CREATE SCHEMA {quoted};"
        f"CREATE TABLE {quoted}.{quoted} (id int4 PRIMARY KEY, {quoted} text)",
    )
    rows = pa.table({"id": pa.array([1, 2], pa.int32()), name: ["a", "b"]})
    for mode, count in ((OnConflict.ERROR, 2), (OnConflict.UPDATE, 2)):
        result = await load(
            open_source(rows),
            {None: TableName(name, name)},
            dsn18,
            options(strategy=strategy, driver=driver, on_conflict=mode),
        )
        assert result.total.committed == count
        if mode is OnConflict.ERROR:
            assert query(dsn18, f"SELECT count(*) FROM {quoted}.{quoted}") == [(2,)]


@both
async def test_partitioned_tables(dsn: str, strategy: str, driver: str) -> None:
    execute(
        dsn,
        "CREATE TABLE t (id int4 PRIMARY KEY, note text) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (50) TO (1000)",
    )
    result = await load_rows(dsn, numbered(100), strategy=strategy, driver=driver, chunk_size=30)
    assert result.total.committed == 100
    assert query(dsn, "SELECT (SELECT count(*) FROM t1), (SELECT count(*) FROM t2)") == [(49, 51)]


async def test_events_tell_the_load(dsn18: str) -> None:
    execute(dsn18, TABLE)
    events: list[Event] = []
    result = await load(
        open_source(numbered(250)),
        {None: TableName("t")},
        dsn18,
        options(chunk_size=100, parallelism=1),
        on_event=events.append,
    )
    assert isinstance(events[0], LoadStarted)
    assert isinstance(events[-1], LoadEnded)
    chunks = [event for event in events if isinstance(event, ChunkWritten)]
    assert [(c.location.first_row, c.row_count) for c in chunks] == [
        (1, 100),
        (101, 100),
        (201, 50),
    ]
    assert sum(c.byte_count for c in chunks) == result.byte_count


async def test_an_oversized_chunk_is_split_and_said_once(dsn18: str) -> None:
    execute(dsn18, TABLE)
    events: list[Event] = []
    result = await load(
        open_source(numbered(40_000)),
        {None: TableName("t")},
        dsn18,
        options(strategy="values", driver="asyncpg", chunk_size=20_000),
        on_event=events.append,
    )
    notices = [event.text for event in events if isinstance(event, Notice)]
    (split,) = (text for text in notices if "parameters" in text)
    assert "40,000 parameters" in split
    assert "32,767" in split
    assert "chunks of 16,383 rows" in split
    assert result.total.committed == 40_000


@both
async def test_the_widest_table(dsn18: str, strategy: str, driver: str) -> None:
    names = [f"c{i}" for i in range(1_600)]
    execute(dsn18, f"CREATE TABLE t ({', '.join(f'{name} int4' for name in names)})")
    rows = pa.table({name: pa.array(range(100), pa.int32()) for name in names})
    result = await load_rows(dsn18, rows, strategy=strategy, driver=driver)
    assert result.total.committed == 100
    assert query(dsn18, "SELECT sum(c0), sum(c799), sum(c1599) FROM t") == [(4950, 4950, 4950)]


async def test_zero_rows(dsn18: str) -> None:
    execute(dsn18, TABLE)
    result = await load_rows(dsn18, numbered(0))
    assert result.total.read == result.total.committed == 0


async def test_cancelling_finishes_the_chunks_in_flight(dsn18: str) -> None:
    execute(dsn18, TABLE)
    results: list[LoadResult] = []
    loading: asyncio.Task[LoadResult]

    def cancel_after_three(event: Event) -> None:
        if isinstance(event, ChunkWritten) and event.location.first_row == 21:
            loading.cancel()
        if isinstance(event, LoadEnded):
            results.append(event.result)

    loading = asyncio.create_task(
        load(
            open_source(numbered(100_000)),
            {None: TableName("t")},
            dsn18,
            options(chunk_size=10, parallelism=1),
            on_event=cancel_after_three,
        )
    )
    with pytest.raises(asyncio.CancelledError):
        await loading
    (result,) = results
    assert adds_up(result)
    assert 30 <= result.total.committed < 100_000
    assert query(dsn18, "SELECT count(*) FROM t") == [(result.total.committed,)]


async def test_chunks_in_flight_are_bounded(dsn18: str) -> None:
    """A slow server does not make the client read ahead of it without end."""
    execute(dsn18, TABLE)
    with psycopg.connect(dsn18) as blocker:
        blocker.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        read = 0

        def batches() -> object:
            nonlocal read
            for start in range(1, 100_001, 10):
                read += 10
                yield from numbered(10, start).to_pylist()

        loading = asyncio.create_task(load_rows(dsn18, batches(), chunk_size=10, parallelism=2))
        for _ in range(100):
            await asyncio.sleep(0.01)
        assert not loading.done()
        assert read < 100_000
        blocker.rollback()
    assert (await loading).total.committed == 100_000


BAD_INPUT = [
    ({"id": [1], "nope": ["a"]}, InputError, "no column 'nope'"),
    ({"note": ["a"]}, InputError, "has no column 'id'"),
    ({"id": ["x"], "note": ["a"]}, TooManyRejectsError, r"row 1: column 'id'.*22P02"),
    ({"id": pa.array([2**40]), "note": ["a"]}, TooManyRejectsError, r"row 1: column 'id'.*22003"),
    ({"id": pa.array([True]), "note": ["a"]}, InputError, "'id'"),
]


@pytest.mark.parametrize(("columns", "kind", "said"), BAD_INPUT)
async def test_bad_rows_stop_before_the_first_is_sent(
    dsn18: str, columns: dict[str, object], kind: type[Exception], said: str
) -> None:
    execute(dsn18, TABLE)
    with pytest.raises(kind, match=said):
        await load_rows(dsn18, pa.table(columns), on_reject="stop")
    assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]


async def test_a_wrong_type_in_row_7001(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, TABLE)
    path = tmp_path / "rows.csv"
    lines = ["id,note"] + [f"{i},row" for i in range(1, 10_001)]
    lines[7_001] = "secret,row"
    path.write_text("\n".join(lines))
    with pytest.raises(LoadError, match=r"rows.csv, row 7,001: column 'id'.*22P02") as failure:
        await load_rows(dsn18, path, chunk_size=1_000, parallelism=1, on_reject="stop")
    assert "secret" not in str(failure.value)
    assert failure.value.result.total.committed == 7_000
    assert query(dsn18, "SELECT count(*) FROM t") == [(7_000,)]


async def test_tables_that_cannot_take_rows(dsn18: str) -> None:
    execute(dsn18, "CREATE VIEW v AS SELECT 1 AS id")
    execute(dsn18, "CREATE TABLE r (id int4); CREATE RULE no AS ON INSERT TO r DO INSTEAD NOTHING")
    with pytest.raises(TableError, match="missing does not exist"):
        await load_rows(dsn18, numbered(1), "missing")
    with pytest.raises(TableError, match="v is a view"):
        await load_rows(dsn18, numbered(1), "v")
    with pytest.raises(TableError, match="the rule 'no'"):
        await load_rows(dsn18, pa.table({"id": [1]}), "r")


async def test_options_that_cannot_work() -> None:
    settings = Settings()
    with pytest.raises(ConfigError, match="chunk size 0"):
        options(settings=settings, chunk_size=0)
    with pytest.raises(ConfigError, match="driver 'odbc' is unknown; known: asyncpg, psycopg"):
        options(settings=settings, driver="odbc")
    with pytest.raises(ConfigError, match="strategy 'magic' is unknown"):
        options(settings=settings, strategy="magic")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_an_unreachable_server_is_one_sentence(driver: str) -> None:
    address = "postgresql://me:sesame@127.0.0.1:1/nowhere"
    with pytest.raises(ServerError, match="cannot connect to PostgreSQL at 127.0.0.1:1") as failure:
        await load_rows(address, numbered(1), driver=driver)
    assert "sesame" not in str(failure.value)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_server_errors_hold_no_values(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE + "; INSERT INTO t VALUES (77123, 'x')")
    with pytest.raises(LoadError) as failure:
        await load_rows(dsn18, numbered(1, start=77_123), driver=driver, on_reject="stop")
    assert "77123" not in str(failure.value)
    assert "t_pkey" in str(failure.value)
    assert isinstance(failure.value.cause, WriteError)
    assert failure.value.cause.constraint == "t_pkey"


async def test_an_event_counts_its_own_writers_rows(dsn18: str) -> None:
    """Each chunk is on its way until both are: what one writes must not be told as the other's."""
    execute(
        dsn18,
        "CREATE TABLE t (id int4, note text);"
        "CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_advisory_xact_lock_shared(7); FOR i IN 1..1000 LOOP"
        " EXIT WHEN (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7) > 1;"
        " PERFORM pg_sleep(0.005); END LOOP; RETURN NULL; END $$;"
        "CREATE TRIGGER meet AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION meet()",
    )
    events: list[Event] = []
    await load(
        open_source(numbered(200)),
        {None: TableName("t")},
        dsn18,
        options(chunk_size=100, parallelism=2),
        on_event=events.append,
    )
    assert [e.written for e in events if isinstance(e, ChunkWritten)] == [100, 100]
