"""Loads on somebody else's connection or pool: inside their transaction, and left as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pandas as pd
import psycopg
import psycopg_pool
import pyarrow as pa
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import create_async_engine

from batchbench import adapters, sync
from batchbench.accounting import LoadResult
from batchbench.config import Settings
from batchbench.drivers.address import asyncpg_uri
from batchbench.engine import LoadOptions, load
from batchbench.engine.run import LoadError
from batchbench.errors import BatchbenchError, ConfigError, ServerError
from batchbench.sources import open_source
from batchbench.strategies import OnConflict
from batchbench.table import parse_table_name
from batchbench.writer import Writer
from tests.fixtures.loading import COMBINATIONS, execute, numbered, options, query

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, note text)"
SETTINGS = ("client_min_messages", "client_encoding", "timezone")
STATE = ", ".join(f"current_setting('{name}')" for name in SETTINGS) + (
    ", (SELECT count(*)::text FROM pg_prepared_statements WHERE name NOT LIKE '\\_\\_asyncpg%')"
    ", (SELECT count(*)::text FROM pg_class WHERE relpersistence = 't')"
)
THEIRS = ("log", "LATIN1", "Asia/Tokyo", "0", "0")
SET_THEIRS = "; ".join(
    f"SET {name} = '{value}'" for name, value in zip(SETTINGS, THEIRS, strict=False)
)
both = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])


class Theirs:
    """A connection of either driver, with the same few words for both."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def run(self, sql: str) -> None:
        await self.connection.execute(sql)

    async def state(self) -> tuple[str, ...]:
        """As their next statement would find it."""
        if isinstance(self.connection, asyncpg.Connection):
            return tuple(await self.connection.fetchrow(f"SELECT {STATE}"))
        answer = await self.connection.execute(f"SELECT {STATE}", prepare=False)
        return tuple(await answer.fetchone())


@asynccontextmanager
async def theirs(driver: str, dsn: str) -> AsyncIterator[Theirs]:
    """In autocommit, with settings that are not ours."""
    if driver == "asyncpg":
        connection = await asyncpg.connect(asyncpg_uri(dsn))
    else:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    try:
        await connection.execute(SET_THEIRS)
        yield Theirs(connection)
    finally:
        await connection.close()


async def load_on(connection: object, rows: Any, **changes: Any) -> LoadResult:
    return await load(
        open_source(rows),
        {None: parse_table_name("t")},
        options=options(**changes),
        connection=connection,
    )


async def turns(true: Callable[[], bool]) -> None:
    """Let other tasks go on until it is true."""
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was")


def named(count: int, start: int = 1) -> pa.Table:
    ids = list(range(start, start + count))
    return pa.table({"id": pa.array(ids, pa.int32()), "note": [f"Zoë {i} €" for i in ids]})


# --- in their transaction -----------------------------------------------------------------------


@pytest.mark.parametrize("on_conflict", [OnConflict.ERROR, OnConflict.NOTHING])
@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
async def test_rows_are_part_of_their_transaction(
    dsn18: str, strategy: str, driver: str, on_conflict: OnConflict
) -> None:
    execute(dsn18, TABLE)
    async with theirs(driver, dsn18) as one:
        for end in ("ROLLBACK", "COMMIT"):
            await one.run("BEGIN")
            await one.run("SAVEPOINT mine")
            await one.run("INSERT INTO t VALUES (0, 'theirs')")
            before = await one.state()
            result = await load_on(
                one.connection,
                named(500),
                strategy=strategy,
                on_conflict=on_conflict,
                chunk_size=100,
            )
            assert result.total.committed == 500
            assert before == await one.state() == THEIRS
            assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]
            await one.run("RELEASE SAVEPOINT mine")
            await one.run(end)
        assert await one.state() == THEIRS
    assert query(dsn18, "SELECT count(*), max(note) FROM t") == [(501, "theirs")]
    assert query(dsn18, "SELECT note FROM t WHERE id = 500") == [("Zoë 500 €",)]
    assert query(dsn18, "SELECT to_regclass('batchbench.parts') IS NULL") == [(True,)]


@both
async def test_a_bad_row_leaves_their_transaction_usable(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    rows = pa.concat_tables([numbered(300), numbered(1, 7), numbered(300, 301)])
    async with theirs(driver, dsn18) as one:
        await one.run("BEGIN")
        result = await load_on(one.connection, rows, chunk_size=250)
        assert (result.total.committed, result.total.rejected) == (600, 1)
        await one.run("DELETE FROM t WHERE id > 590")
        await one.run("COMMIT")
        await one.run("BEGIN")
        with pytest.raises(LoadError, match="UniqueViolation"):
            await load_on(one.connection, rows, transaction="batch", chunk_size=250)
        await one.run("COMMIT")  # nothing of the load is in it
    assert query(dsn18, "SELECT count(*) FROM t") == [(590,)]


@both
async def test_their_constraints_wait_for_their_commit(dsn18: str, driver: str) -> None:
    """A row of theirs that waits for its parent is not asked for it by a chunk that fails."""
    execute(
        dsn18,
        "CREATE TABLE t (id int4 PRIMARY KEY, note text); CREATE TABLE child"
        " (id int4 REFERENCES t DEFERRABLE INITIALLY DEFERRED)",
    )
    rows = pa.concat_tables([numbered(10), numbered(1, 3)])
    async with theirs(driver, dsn18) as one:
        await one.run("BEGIN")
        await one.run("INSERT INTO child VALUES (77)")
        result = await load_on(one.connection, rows)
        assert (result.total.committed, result.total.rejected) == (10, 1)
        await one.run("INSERT INTO t VALUES (77)")
        await one.run("COMMIT")
    assert query(dsn18, "SELECT count(*) FROM t") == [(11,)]


@both
async def test_a_statement_that_is_cancelled_does_not_cost_the_connection(
    dsn18: str, driver: str
) -> None:
    """57014 may mean that a backend died, or only that their statement_timeout is short."""
    execute(
        dsn18,
        TABLE + "; CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF"
        " (SELECT count(*) FROM fresh) > 10 THEN RAISE SQLSTATE '57014'; END IF; RETURN NULL; END"
        " $$; CREATE TRIGGER slow AFTER INSERT ON t REFERENCING NEW TABLE AS fresh"
        " FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    )
    async with theirs(driver, dsn18) as one:
        await one.run("BEGIN")
        await one.run("INSERT INTO t VALUES (0, 'theirs')")
        assert (await load_on(one.connection, numbered(60))).total.committed == 60
        await one.run("COMMIT")
    assert query(dsn18, "SELECT count(*) FROM t") == [(61,)]


@both
async def test_with_their_connection_their_transaction_is_gone(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    async with theirs(driver, dsn18) as one:
        await one.run("BEGIN")

        def end_it(event: object) -> None:
            execute(
                dsn18,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <>"
                " pg_backend_pid() AND datname = current_database() AND state LIKE 'idle in%'",
            )

        with pytest.raises(LoadError, match="handed over is closed") as caught:
            await load(
                open_source(numbered(3_000)),
                {None: parse_table_name("t")},
                options=options(chunk_size=500),
                connection=one.connection,
                on_event=lambda event: end_it(event) if "Written" in type(event).__name__ else None,
            )
    total = caught.value.result.total
    assert (total.committed, total.unknown) == (0, 0)
    assert total.unwritten == total.read > 0
    assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exactly_once": "ledger"}, "exactly_once=ledger cannot work inside an open transaction"),
        ({"dedup": "last"}, "dedup over a whole load cannot work inside an open transaction"),
        ({"driver": "psycopg"}, "driver psycopg cannot use a connection of asyncpg"),
    ],
)
async def test_what_their_transaction_cannot_promise(
    dsn18: str, changes: dict[str, Any], says: str
) -> None:
    execute(dsn18, TABLE)
    async with theirs("asyncpg", dsn18) as one:
        await one.run("BEGIN")
        with pytest.raises(ConfigError, match=says):
            await load_on(one.connection, numbered(1), **changes)
        assert await one.state() == THEIRS
        await one.run("COMMIT")


# --- in none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
async def test_without_a_transaction_we_commit(dsn18: str, strategy: str, driver: str) -> None:
    execute(dsn18, TABLE)
    seen = []
    async with theirs(driver, dsn18) as one:
        await load(
            open_source(named(300)),
            {None: parse_table_name("t")},
            options=options(strategy=strategy, on_conflict=OnConflict.NOTHING, chunk_size=100),
            connection=one.connection,
            on_event=lambda event: seen.append(query(dsn18, "SELECT count(*) FROM t")[0][0]),
        )
        assert await one.state() == THEIRS
    assert {100, 200, 300} <= set(seen)
    assert query(dsn18, "SELECT state, count(*) FROM batchbench.loads GROUP BY 1") == [("done", 1)]


@both
async def test_a_single_connection_that_breaks(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    async with theirs(driver, dsn18) as one:
        with pytest.raises(LoadError, match="handed over is closed") as caught:
            await load(
                open_source(numbered(3_000)),
                {None: parse_table_name("t")},
                options=options(chunk_size=500),
                connection=one.connection,
                on_event=lambda event: (
                    (
                        one.connection.terminate()
                        if driver == "asyncpg"
                        else one.connection.pgconn.finish()
                    )
                    if "Written" in type(event).__name__
                    else None
                ),
            )
    assert caught.value.result.total.committed == 500
    assert query(dsn18, "SELECT count(*) FROM t") == [(500,)]


# --- what is theirs stays so --------------------------------------------------------------------


async def test_codecs_of_asyncpg_stay(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, doc json, note text, tags text[])")
    rows = [{"id": 1, "doc": {"a": 1}, "note": "x", "tags": ["a"]}]
    async with theirs("asyncpg", dsn18) as one:
        await one.connection.set_type_codec(
            "json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
        )
        await one.connection.set_type_codec(
            "text", schema="pg_catalog", encoder=str.upper, decoder=str.swapcase
        )
        ask = "SELECT doc, note, tags, $1::text AS back, $2::json AS sent FROM t"
        await one.run("""INSERT INTO t VALUES (1, '{"a": 1}', 'x', '{a}')""")
        before = await one.connection.fetchrow(ask, "given", {"b": 2})
        assert tuple(before[:2]) == ({"a": 1}, "X")
        await load_on(one.connection, rows, strategy="values")
        for statement in (ask, f"{ask} "):  # the first is in asyncpg's cache
            assert await one.connection.fetch(statement, "given", {"b": 2}) == [before, before]
        await one.connection.reset_type_codec("text", schema="pg_catalog")
        assert await one.connection.fetchval("SELECT 'x'::text") == "x"


async def test_the_row_factory_of_psycopg_stays(dsn18: str) -> None:
    execute(dsn18, TABLE)
    async with await psycopg.AsyncConnection.connect(dsn18, row_factory=dict_row) as connection:
        assert (await load_on(connection, numbered(3))).total.committed == 3
        answer = await connection.execute("SELECT count(*) AS n FROM t")
        assert await answer.fetchall() == [{"n": 3}]
        assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]  # not in autocommit: theirs
    assert query(dsn18, "SELECT count(*) FROM t") == [(3,)]


async def test_their_own_statements_wait_for_psycopgs_lock(dsn18: str) -> None:
    execute(dsn18, TABLE)
    async with theirs("psycopg", dsn18) as one:
        loading = asyncio.create_task(load_on(one.connection, numbered(2_000), chunk_size=100))
        await turns(one.connection.lock.locked)
        answer = await one.connection.execute("SELECT count(*) FROM t")
        assert loading.done()
        assert await answer.fetchone() == (2_000,)
        await loading


# --- pools --------------------------------------------------------------------------------------


@asynccontextmanager
async def pool_of(driver: str, dsn: str, most: int) -> AsyncIterator[Any]:
    if driver == "asyncpg":
        async with asyncpg.create_pool(asyncpg_uri(dsn), min_size=1, max_size=most) as pool:
            yield pool
    else:
        async with psycopg_pool.AsyncConnectionPool(
            dsn, min_size=1, max_size=most, open=False
        ) as pool:
            yield pool


@pytest.mark.parametrize("most", [1, 3])
@both
async def test_a_pool(dsn18: str, driver: str, most: int) -> None:
    execute(dsn18, TABLE)
    async with pool_of(driver, dsn18, most) as pool:
        result = await load_on(pool, numbered(2_000), chunk_size=100, parallelism=2)
        assert result.total.committed == 2_000
        how = options(on_conflict=OnConflict.NOTHING, parallelism=2)
        async with Writer(pool, "t", how) as writer:
            outcome = await (await writer.add([{"id": 7, "note": ""}, {"id": 0, "note": ""}]))
        assert (outcome.committed, len(outcome.duplicates)) == (1, 1)
        if driver == "psycopg":
            assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]
        else:
            assert pool.get_idle_size() == pool.get_size()
    assert query(dsn18, "SELECT count(*) FROM t") == [(2_001,)]


@both
async def test_a_pool_outlives_a_backend(dsn18: str, driver: str) -> None:
    """The lost connection goes back to the pool, which gives another."""
    execute(dsn18, TABLE)
    kills: list[object] = []

    def end_once(event: object) -> None:
        if "Written" in type(event).__name__ and not kills:
            kills.extend(
                query(
                    dsn18,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()",
                )
            )

    async with pool_of(driver, dsn18, 2) as pool:
        result = await load(
            open_source(numbered(2_000)),
            {None: parse_table_name("t")},
            options=options(chunk_size=200, parallelism=1),
            connection=pool,
            on_event=end_once,
        )
    assert kills
    assert result.total.committed == 2_000
    assert query(dsn18, "SELECT count(*) FROM t") == [(2_000,)]


# --- what cannot be used ------------------------------------------------------------------------


@both
async def test_connections_that_cannot_be_used(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    async with theirs(driver, dsn18) as one:
        await one.run("BEGIN")
        with pytest.raises((asyncpg.PostgresError, psycopg.Error)):
            await one.run("SELECT 1 / 0")
        with pytest.raises(ServerError, match="is in a failed transaction: roll it back first"):
            await load_on(one.connection, numbered(1))
        await one.run("ROLLBACK")
        sleeping = asyncio.create_task(one.run("SELECT pg_sleep(0.3)"))
        await asyncio.sleep(0)
        with pytest.raises(ServerError, match="is busy with another statement"):
            await load_on(one.connection, numbered(1))
        await sleeping
        assert await one.state() == THEIRS
        await one.connection.close()
        with pytest.raises(ServerError, match="handed over is closed"):
            await load_on(one.connection, numbered(1))


async def test_other_things_are_refused(dsn18: str) -> None:
    for given in (object(), 7):
        with pytest.raises(ConfigError, match="is no connection or pool of asyncpg or psycopg"):
            await load_on(given, numbered(1))
    with pytest.raises(ConfigError, match="either a connection string or connection="):
        await load_on(None, numbered(1))
    async with theirs("psycopg", dsn18) as one:
        with pytest.raises(ConfigError, match="give it a pool, not a connection"):
            await Writer(one.connection, "t").open()
        with pytest.raises(ConfigError, match="one with async goes to batchbench.engine.load"):
            sync.load(numbered(1), "t", connection=one.connection)
        async with one.connection.pipeline():
            with pytest.raises(ServerError, match="is in pipeline mode"):
                await load_on(one.connection, numbered(1))
    async with pool_of("asyncpg", dsn18, 1) as pool:
        kept = await pool.acquire()
        await pool.release(kept)
        with pytest.raises(ServerError, match="was given back to its pool"):
            await load_on(kept, numbered(1))
    with pytest.raises(ServerError, match="the pool gave no connection"):
        await load_on(pool, numbered(1))


async def test_two_loads_at_once_on_a_connection_of_asyncpg(dsn18: str) -> None:
    execute(dsn18, TABLE)
    async with theirs("asyncpg", dsn18) as one:
        first = asyncio.create_task(load_on(one.connection, numbered(2_000), chunk_size=100))
        await turns(lambda: "Asyncpg" in repr(one.connection._termination_listeners))
        with pytest.raises(ServerError, match="is busy with another"):
            await load_on(one.connection, numbered(5))
        assert (await first).total.committed == 2_000
        assert await one.state() == THEIRS


# --- SQLAlchemy, pandas -------------------------------------------------------------------------


def sqlalchemy_url(dsn: str, driver: str) -> str:
    return asyncpg_uri(dsn).replace("postgresql:", f"postgresql+{driver}:", 1)


@both
async def test_sqlalchemy(dsn18: str, driver: str) -> None:
    """Its transaction begins with its own first statement: the load sees to that."""
    execute(dsn18, TABLE)
    engine = create_async_engine(sqlalchemy_url(dsn18, driver))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        async with engine.connect() as connection:
            assert (await load_on(connection, numbered(5))).total.committed == 5
            await connection.rollback()
        assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]
        async with engine.begin() as connection:
            raw = await connection.get_raw_connection()
            if driver == "asyncpg":
                with pytest.raises(ServerError, match="SQLAlchemy has not begun yet"):
                    await load_on(raw, numbered(5))
                await connection.exec_driver_sql("SELECT 1")
            await load_on(raw, numbered(5))
            await load_on(raw.driver_connection, numbered(5, 6))
            counted = await connection.exec_driver_sql("SELECT count(*) FROM t")
            assert counted.scalar() == 10
            assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]
        assert query(dsn18, "SELECT count(*) FROM t") == [(10,)]


def test_without_async(dsn18: str) -> None:
    execute(dsn18, TABLE)
    with psycopg.connect(dsn18) as connection:
        assert sync.load(numbered(5), "t", connection=connection).total.committed == 5
        connection.rollback()
        sync.load(numbered(7), "t", connection=connection)
    assert query(dsn18, "SELECT count(*) FROM t") == [(7,)]


def test_pandas(dsn18: str) -> None:
    at = pd.Timestamp("2020-01-01", tz="UTC")
    frame = pd.DataFrame({"id": [1, 2], "note": ["a", None], "at": [at, None], "v": [0.5, None]})
    engine = sqlalchemy.create_engine(sqlalchemy_url(dsn18, "psycopg"))
    try:
        assert frame.to_sql("Some Table", engine, index=False, method=adapters.insert) == 2
        found = query(dsn18, 'SELECT id, note, at::text, v FROM "Some Table" ORDER BY id')
        assert found == [(1, "a", "2020-01-01 00:00:00+00", 0.5), (2, None, None, None)]
        how = LoadOptions(settings=Settings(), on_conflict=OnConflict.NOTHING)
        with engine.connect() as connection:
            into = partial(adapters.insert, options=how)
            connection.exec_driver_sql('CREATE UNIQUE INDEX ON "Some Table" (id)')
            more = {"if_exists": "append", "index": False, "method": into}
            assert frame.assign(id=[2, 3]).to_sql("Some Table", connection, **more) == 1
            connection.rollback()
        wrong = pd.DataFrame({"id": [4, 5], "note": ["\0", "b"]})
        into = {"if_exists": "append", "index": False, "method": adapters.insert}
        with pytest.raises(BatchbenchError, match="22021"):
            wrong.to_sql("Some Table", engine, **into)
        assert query(dsn18, 'SELECT count(*) FROM "Some Table"') == [(2,)]
    finally:
        engine.dispose()


# --- connection strings that expire -------------------------------------------------------------


@both
async def test_a_token_is_asked_for_at_every_connect(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    asked: list[str] = []

    def token() -> str:
        asked.append("function")
        return dsn18

    async def later() -> str:
        asked.append("coroutine")
        return dsn18

    into = {None: parse_table_name("t")}
    how = options(driver=driver, parallelism=2, chunk_size=100)
    await load(open_source(numbered(500)), into, token, how)
    await load(open_source(numbered(500, 501)), into, later, how)
    assert (asked.count("function"), asked.count("coroutine")) == (2, 2)
    async with Writer(token, "t", how) as writer:
        await (await writer.add([{"id": 0, "note": ""}]))
    sync.load(numbered(5, 2_000), "t", token)
    assert query(dsn18, "SELECT count(*) FROM t") == [(1_006,)]


@both
async def test_a_token_that_cannot_be_had(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    calls: list[int] = []

    async def failing() -> str:
        raise RuntimeError("secret-token-1234")

    def sometimes() -> str:
        calls.append(len(calls))
        if len(calls) in (2, 3):
            raise RuntimeError("secret-token-1234")
        return dsn18

    into = {None: parse_table_name("t")}
    how = options(
        driver=driver, parallelism=1, chunk_size=100, settings=Settings(initial_backoff_ms=1)
    )
    with pytest.raises(ServerError, match="gives the connection string raised RuntimeError") as one:
        await load(open_source(numbered(5)), into, failing, how)
    assert "1234" not in str(one.value)
    assert one.value.__suppress_context__
    with pytest.raises(ConfigError, match="gave a value of type int: it has to return a str"):
        await load(open_source(numbered(5)), into, lambda: 7, how)  # type: ignore[arg-type,return-value]

    def end_once(event: object) -> None:
        if "Written" in type(event).__name__ and len(calls) == 1:
            execute(
                dsn18,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <>"
                " pg_backend_pid() AND datname = current_database()",
            )

    result = await load(open_source(numbered(1_000)), into, sometimes, how, on_event=end_once)
    assert result.total.committed == 1_000
    assert len(calls) == 4
    assert query(dsn18, "SELECT count(*) FROM t") == [(1_000,)]
