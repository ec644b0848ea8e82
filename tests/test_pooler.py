"""Through PgBouncer in transaction mode: everything works, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import psycopg
import pyarrow as pa
import pytest

from batchbench.config import Settings, load_settings
from batchbench.drivers import Pooler, Session, Statement, connect, read_table
from batchbench.engine import LoadOptions, load
from batchbench.engine.fate import Backend, fence
from batchbench.engine.pacing import PaceLimits
from batchbench.errors import ConfigError, WriteError
from batchbench.events import ChunkWritten
from batchbench.harness.scratch import Scratch
from batchbench.harness.verify import write_reference
from batchbench.sources import open_source
from batchbench.strategies import OnConflict
from batchbench.table import parse_table_name
from batchbench.writer import Writer
from tests.fixtures.faults import kill_backend, open_own_cluster
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, numbered, options, query
from tests.fixtures.pgbouncer import PgBouncer, open_pgbouncer
from tests.pooler.combinations import CLEAN, Combination, left_behind, play
from tests.proxy import ROWS, open_proxy
from tests.proxy.faults import cut_commit_after

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, note text)"
both = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])


@pytest.fixture
def wide(dsn18: str) -> Iterator[PgBouncer]:
    """Three server connections: a client's next transaction may be on another of them."""
    settings = {"default_pool_size": "3", "server_round_robin": "1"}
    with open_pgbouncer(dsn18, settings) as bouncer:
        yield bouncer


def prepare(bouncer: PgBouncer, sql: str = TABLE) -> None:
    execute(bouncer.direct_dsn, sql)


@pytest.mark.parametrize("on_conflict", [OnConflict.ERROR, OnConflict.NOTHING])
@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
async def test_every_combination_leaves_nothing_behind(
    pgbouncer: PgBouncer, strategy: str, driver: str, on_conflict: OnConflict
) -> None:
    outcome = await play(Combination(strategy, driver, on_conflict, 1), pgbouncer, 9_000)
    assert outcome.good(9_000), outcome
    assert outcome.result.total.duplicates == (90 if on_conflict is OnConflict.NOTHING else 0)


@pytest.mark.parametrize(
    ("strategy", "driver", "place"),
    [("unnest", "psycopg", 0), ("copy", "psycopg", 1), ("copy", "asyncpg", 1)],
)
async def test_something_would_be_left_behind(
    pgbouncer: PgBouncer, strategy: str, driver: str, place: int
) -> None:
    """The same with the pooler denied: what is looked for can be found."""
    execute(pgbouncer.direct_dsn, TABLE)
    how = {"strategy": strategy, "on_conflict": OnConflict.NOTHING, "parallelism": 1}
    await load_rows(pgbouncer.dsn, numbered(10), driver=driver, pooler="none", **how)
    (found,) = left_behind(pgbouncer, 1)
    assert found[place] > CLEAN[place]
    assert found[3] == "error"


@both
async def test_a_sweeps_own_sessions_leave_no_setting(pgbouncer: PgBouncer, driver: str) -> None:
    """Other clients go on in the zone, hear the notices and wait for locks as is theirs."""

    def settings() -> list[object]:
        names = ("timezone", "client_min_messages", "lock_timeout")
        with psycopg.connect(pgbouncer.dsn) as client:
            return [client.execute(f"SHOW {name}".encode()).fetchone() for name in names]

    execute(pgbouncer.direct_dsn, "CREATE TABLE t (id int4 PRIMARY KEY, at timestamptz)")
    before = settings()
    session = await connect(driver, pgbouncer.dsn)
    table = await read_table(session, parse_table_name("t"))
    rows = pa.table({"id": [1], "at": ["2026-01-01 00:00"]})
    await write_reference(pgbouncer.dsn, table, table, rows, "Asia/Tokyo")
    assert query(pgbouncer.direct_dsn, "SELECT at = '2026-01-01 00:00+09' FROM t") == [(True,)]
    for scratch in (Scratch("mine"), Scratch("public", "t")):
        await scratch.drop(session)
        assert settings() == before
    assert query(pgbouncer.direct_dsn, "SELECT to_regclass('t')") == [(None,)]
    await session.close()


@pytest.mark.parametrize("changes", [{}, {"transaction": 2}, {"dedup": "last"}])
@both
async def test_several_server_connections(
    wide: PgBouncer, driver: str, changes: dict[str, object]
) -> None:
    """A temporary table, a prepared statement or a setting of the last transaction is not there."""
    prepare(wide)
    rows = pa.concat_tables([numbered(2_000), numbered(50, 100)])
    conflict = OnConflict.ERROR if "dedup" in changes else OnConflict.NOTHING
    results = await asyncio.gather(
        *(
            load_rows(
                wide.dsn,
                rows,
                strategy=strategy,
                driver=driver,
                on_conflict=conflict,
                chunk_size=100,
                **changes,
            )
            for strategy in (("copy",) if "dedup" in changes else ("copy", "unnest", "values"))
        )
    )
    assert sum(result.total.committed for result in results) == 2_000
    assert query(wide.direct_dsn, "SELECT count(*) FROM t") == [(2_000,)]
    assert left_behind(wide, 3) == [CLEAN] * 3


async def test_that_it_is_said(pgbouncer: PgBouncer) -> None:
    execute(pgbouncer.direct_dsn, TABLE)
    told: list[str] = []

    async def load_by(dsn: str, first: int) -> None:
        rows = open_source(numbered(1, first))
        into = {None: parse_table_name("t")}
        await load(rows, into, dsn, options(), on_event=lambda event: told.append(str(event)))

    await load_by(pgbouncer.direct_dsn, 1)
    assert not [text for text in told if "pooler" in text]
    await load_by(pgbouncer.dsn, 2)
    assert len([text for text in told if "through a pooler: each transaction" in text]) == 1


@both
async def test_a_bad_row_and_a_service(wide: PgBouncer, driver: str) -> None:
    prepare(wide)
    async with Writer(
        wide.dsn, "t", options(driver=driver, on_conflict=OnConflict.NOTHING, chunk_size=50)
    ) as writer:
        tickets = [
            await writer.add(
                [{"id": i, "note": "x"} for i in range(n, n + 40)] + [{"id": None, "note": ""}]
            )
            for n in (0, 20, 40)
        ]
        outcomes = [await ticket for ticket in tickets]
    assert [outcome.committed for outcome in outcomes] == [40, 20, 20]
    assert all(len(outcome.rejected) == 1 for outcome in outcomes)
    assert left_behind(wide, 3) == [CLEAN] * 3


# --- what is seen -------------------------------------------------------------------------------


@asynccontextmanager
async def session_of(driver: str, dsn: str, pooler: Pooler = "auto") -> AsyncIterator[Session]:
    session = await connect(driver, dsn, pooler=pooler)
    try:
        yield session
    finally:
        await session.close()


@both
async def test_a_pooler_is_seen(pgbouncer: PgBouncer, driver: str) -> None:
    async with session_of(driver, pgbouncer.direct_dsn) as direct:
        assert (direct.keeps_state, direct.owns_backend) == (True, True)
        assert await direct.fetch("SHOW timezone") == [("UTC",)]
    async with open_proxy(pgbouncer.direct_dsn) as relay, session_of(driver, relay.dsn) as relayed:
        assert (relayed.keeps_state, relayed.owns_backend) == (True, True)
    async with session_of(driver, pgbouncer.dsn) as pooled:
        assert (pooled.keeps_state, pooled.owns_backend) == (False, False)


@both
async def test_a_pooler_can_be_named(pgbouncer: PgBouncer, driver: str) -> None:
    async with session_of(driver, pgbouncer.direct_dsn, "transaction") as named:
        assert (named.keeps_state, named.owns_backend) == (False, False)
        assert await named.fetch("SHOW timezone") == [("UTC",)]  # inside its own transaction
    with open_pgbouncer(pgbouncer.direct_dsn, {"pool_mode": "session"}) as by_session:
        async with session_of(driver, by_session.dsn, "session") as kept:
            assert (kept.keeps_state, kept.owns_backend) == (True, False)
    settings, _ = load_settings(environ={"BATCH_POOLER": "session"})
    assert LoadOptions(settings=settings).pooler_name == "session"
    assert LoadOptions(settings=settings, pooler="none").pooler_name == "none"
    assert LoadOptions(settings=Settings()).pooler_name == "auto"
    with pytest.raises(ConfigError, match="BATCH_POOLER=maybe .* it must be auto or transaction"):
        load_settings(environ={"BATCH_POOLER": "maybe"})


async def test_asyncpg_is_served_alone_from_parse_to_bind(wide: PgBouncer) -> None:
    """Outside a transaction its two messages could go to two server connections."""
    async with session_of("asyncpg", wide.dsn) as one, session_of("asyncpg", wide.dsn) as other:
        for number in map(str, range(20)):
            answers = await asyncio.gather(
                one.fetch("SELECT $1::text || '!'", number), other.fetch("SELECT $1::text", number)
            )
            assert answers == [[(f"{number}!",)], [(number,)]]
        with pytest.raises(WriteError, match="22012"):
            await one.fetch("SELECT (1 / 0)::text")
        statement = Statement("SELECT FROM generate_series(1, 3)", ())
        assert await one.execute(statement, []) == 3


# --- fate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("exactly_once", ["ledger", "status"])
@both
async def test_a_lost_commit_is_settled_without_the_pid(
    pgbouncer: PgBouncer, driver: str, exactly_once: str
) -> None:
    prepare(pgbouncer)
    ours = set()
    async with open_proxy(pgbouncer.dsn, cut_commit_after(3, since=ROWS)) as proxy:

        def watch(event: object) -> None:
            if isinstance(event, ChunkWritten):
                ours.update(query(pgbouncer.direct_dsn, SERVED_BY))

        result = await load(
            open_source(numbered(1_000)),
            {None: parse_table_name("t")},
            proxy.dsn,
            options(driver=driver, chunk_size=100, parallelism=1, exactly_once=exactly_once),
            on_event=watch,
        )
        assert proxy.fired
    assert (result.total.committed, result.total.unknown) == (1_000, 0)
    assert query(pgbouncer.direct_dsn, "SELECT count(*) FROM t") == [(1_000,)]
    assert len(ours) <= 2  # PgBouncer itself may give up the one whose client was cut


@pytest.mark.parametrize("exactly_once", ["ledger", "status"])
@both
async def test_a_server_that_recovers_behind_the_pooler(driver: str, exactly_once: str) -> None:
    """PgBouncer says so with 08P01, which from a server means: never again."""
    with open_own_cluster() as cluster, open_pgbouncer(cluster.dsn) as bouncer:
        execute(cluster.dsn, TABLE)
        written = 0

        def crash(event: object) -> None:
            nonlocal written
            if not isinstance(event, ChunkWritten):
                return
            written += 1
            if written == 3:
                kill_backend(cluster, query(cluster.dsn, SERVED_BY)[0][0])

        result = await load(
            open_source(numbered(3_000)),
            {None: parse_table_name("t")},
            bouncer.dsn,
            options(driver=driver, chunk_size=300, parallelism=2, exactly_once=exactly_once),
            on_event=crash,
        )
        total = result.total
        assert total.committed + total.unknown == 3_000
        assert total.unknown == 0 or exactly_once == "status"
        there = query(cluster.dsn, "SELECT count(*) FROM t")[0][0]
        assert total.committed <= there <= 3_000


SERVED_BY = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@both
async def test_the_end_of_a_transaction_is_waited_for(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    async with session_of(driver, dsn18) as open_one, session_of(driver, dsn18) as asking:
        await open_one.begin()
        await open_one.run("INSERT INTO t VALUES (1)")
        xid = (await open_one.fetch("SELECT pg_current_xact_id()::text"))[0][0]
        waiting = asyncio.create_task(fence(asking, Backend("", "", "on", "", xid or "")))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.2)
        assert not waiting.done()
        await open_one.commit()
        assert await waiting
        assert await fence(asking, Backend("", "", "on", "", "1000000000"))  # not given out yet
        assert not await fence(asking, Backend("", "", "on", ""))


@both
async def test_a_limit_of_locks_cannot_be_kept(pgbouncer: PgBouncer, driver: str) -> None:
    """The load's transactions are served by processes that serve others too."""
    prepare(pgbouncer)
    pace = PaceLimits(pause_when_locks_wait=True)
    with pytest.raises(ConfigError, match="cannot be kept through a pooler"):
        await load_rows(pgbouncer.dsn, numbered(10), driver=driver, pace=pace)
    with pytest.raises(ConfigError, match="cannot be kept through a pooler"):
        await Writer(pgbouncer.dsn, "t", options(driver=driver, pace=pace)).open()
    assert query(pgbouncer.direct_dsn, "SELECT count(*) FROM t") == [(0,)]
    assert query(pgbouncer.direct_dsn, "SELECT state FROM batchbench.loads") == []
