"""What is seen of a trial: on 15 and 18, as superuser and as a role that owns only its schema."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import pytest
from psycopg.conninfo import make_conninfo

from batchbench.drivers import CAPABILITIES, connect
from batchbench.engine import load
from batchbench.errors import WriteError
from batchbench.harness.observe import OBSERVED, Observed, Observer, open_observer, procfs
from batchbench.harness.observe.counters import counter_sources
from batchbench.harness.observe.registry import METRICS
from batchbench.harness.observe.server import open_counters, report_now
from batchbench.sources import open_source
from batchbench.table import TableName
from tests.fixtures.faults import until
from tests.fixtures.loading import execute, numbered, options, query
from tests.fixtures.pgbouncer import PgBouncer

TABLE = TableName("t", "own")
MAKE = "CREATE TABLE own.t (id int PRIMARY KEY, note text)"
HOW_MANY = 20_000


@pytest.fixture
def own_dsn(ordinary: str) -> str:
    """As an ordinary role that owns the schema `own` and nothing else, on each server."""
    execute(ordinary, MAKE)
    return ordinary


@pytest.fixture
def super_dsn(dsn18: str) -> str:
    """As superuser, PostgreSQL 18."""
    execute(dsn18, f"CREATE SCHEMA own; {MAKE}")
    return dsn18


async def load_into(dsn: str, rows: int = HOW_MANY, **changes: object) -> int:
    """Load through the engine; how many rows were committed."""
    chosen = {"exactly_once": "off", "strategy": "unnest", "chunk_size": 1_000, **changes}
    source = open_source(numbered(rows))
    return (await load(source, {None: TABLE}, dsn, options(**chosen))).total.committed


async def seen(dsn: str, observer: Observer, rows: int = HOW_MANY) -> Observed:
    """What one load looks like."""
    async with observer.trial(TABLE) as sight:
        sight.rows = await load_into(observer.tagged(dsn), rows)
    assert sight.observed is not None
    return sight.observed


def assert_explained(observed: Observed) -> None:
    """Every metric is there, and each has a value or a reason."""
    assert tuple(observed.values) == OBSERVED
    for name, value in observed.values.items():
        assert (value is None) == (name in observed.reasons), name
        assert observed.reasons.get(name, "x"), name
        assert name in METRICS


# --- the whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", CAPABILITIES)
async def test_an_ordinary_role_sees_what_it_may(own_dsn: str, driver: str) -> None:
    async with open_observer(own_dsn, driver) as observer:
        observed = await seen(own_dsn, observer)
    assert_explained(observed)
    assert not observed.remarks
    values = observed.values
    assert values["wal_bytes"]
    assert values["wal_lsn_bytes"]
    assert values["transactions"]
    assert values["wal_bytes"] > HOW_MANY * 40
    assert values["wal_lsn_bytes"] >= 0.9 * values["wal_bytes"]
    assert values["transactions"] >= HOW_MANY / 1_000
    assert (values["heap_bytes"], values["index_bytes"], values["table_bytes"]) == query(
        own_dsn,
        "SELECT pg_relation_size('own.t'), pg_indexes_size('own.t'),"
        " pg_total_relation_size('own.t') - pg_relation_size('own.t', 'fsm')"
        " - pg_relation_size('own.t', 'vm')",
    )[0]
    assert values["heap_bytes_per_row"] == (values["heap_growth_bytes"] or 0) / HOW_MANY
    # A header of 24 bytes, a pointer, the values; a busy table grows by several pages at once.
    assert 40 < values["heap_bytes_per_row"] < 60
    assert values["dead_tuples"] == 0
    assert values["checkpoints"] is not None
    assert "pgstattuple is not installed" in observed.reasons["heap_bloat_share"]
    version = query(own_dsn, "SHOW server_version_num")[0][0]
    if int(version) < 160_000:
        assert "no pg_stat_io" in observed.reasons["io_client_extended_bytes"]
        assert values["backend_buffers"] is not None
    else:
        assert (values["io_client_extended_bytes"] or 0) > HOW_MANY * 40
        assert "io_client" in observed.reasons["backend_buffers"]
    assert values["wal_writes"]


async def test_what_a_managed_server_forbids_has_its_reason(dsn: str, own_dsn: str) -> None:
    execute(dsn, "REVOKE ALL ON pg_stat_wal, pg_stat_database FROM PUBLIC")
    execute(dsn, "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC")
    async with open_observer(own_dsn) as observer:
        observed = await seen(own_dsn, observer)
    assert_explained(observed)
    for name in ("wal_bytes", "wal_lsn_bytes", "deadlocks", "temp_bytes"):
        assert observed.values[name] is None
        assert "this role may not read pg_" in observed.reasons[name]
    assert observed.values["checkpoints"] is not None
    assert observed.values["heap_bytes"]


async def test_bloat_by_pgstattuple_where_it_is_allowed(dsn: str, own_dsn: str) -> None:
    execute(dsn, 'CREATE SCHEMA "odd schema"; CREATE EXTENSION pgstattuple SCHEMA "odd schema"')
    execute(dsn, 'GRANT USAGE ON SCHEMA "odd schema" TO PUBLIC')
    async with open_observer(own_dsn) as observer:
        refused = await seen(own_dsn, observer)
        assert "pg_stat_scan_tables" in refused.reasons["heap_bloat_share"]
        ((role,),) = query(own_dsn, "SELECT current_user")
        execute(dsn, f"GRANT pg_stat_scan_tables TO {role}")
        execute(own_dsn, "DELETE FROM own.t WHERE id % 2 = 0")
        async with observer.trial(TABLE) as sight:
            pass
    assert sight.observed is not None
    assert_explained(sight.observed)
    assert sight.observed.values["heap_bloat_share"] == pytest.approx(0.5, abs=0.12)
    assert 0.5 < (sight.observed.values["index_leaf_density_share"] or 0) <= 1
    assert "no row" in sight.observed.reasons["heap_bytes_per_row"]


async def test_partitions_count_together(own_dsn: str) -> None:
    execute(own_dsn, "DROP TABLE own.t")
    execute(own_dsn, "CREATE TABLE own.t (id int PRIMARY KEY, note text) PARTITION BY HASH (id)")
    for part in (0, 1):
        execute(
            own_dsn,
            f"CREATE TABLE own.t{part} PARTITION OF own.t"
            f" FOR VALUES WITH (MODULUS 2, REMAINDER {part})",
        )
    async with open_observer(own_dsn) as observer:
        observed = await seen(own_dsn, observer)
    both = "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relname IN ('t0', 't1')"
    assert observed.values["heap_growth_bytes"] == query(own_dsn, both)[0][0]


async def test_growth_of_a_filled_table_and_dead_rows(super_dsn: str) -> None:
    execute(super_dsn, "ALTER TABLE own.t SET (autovacuum_enabled = off)")
    async with open_observer(super_dsn) as observer:
        first = await seen(super_dsn, observer)
        async with observer.trial(TABLE) as sight:
            update = "UPDATE own.t SET note = 'x' WHERE id <= 1000"
            await asyncio.to_thread(execute, observer.tagged(super_dsn), update)
    assert sight.observed is not None
    values = sight.observed.values
    assert values["dead_tuples"] == 1_000
    grown = (values["heap_bytes"] or 0) - (first.values["heap_bytes"] or 0)
    assert 0 < (values["heap_growth_bytes"] or 0) == grown


# --- when counts are reported ---------------------------------------------------------------------


async def test_a_session_reports_when_told(dsn: str) -> None:
    session, other = await connect("psycopg", dsn), await connect("asyncpg", dsn)
    try:
        counters = await open_counters(other)
        before = await counters.read()
        for _ in range(40):
            await session.run("SELECT 1")
        await report_now(session)
        added, _ = counters.between(before, await counters.read())
        assert (added["transactions"] or 0) >= 40
    finally:
        await session.close()
        await other.close()


async def test_what_was_done_before_does_not_count(super_dsn: str) -> None:
    session = await connect("psycopg", super_dsn)
    try:
        async with open_observer(super_dsn) as observer:
            for _ in range(300):
                await session.run("SELECT 1")
            async with observer.trial(TABLE, report=[session]) as sight:
                await report_now(session)
        assert sight.observed is not None
        assert (sight.observed.values["transactions"] or 0) < 100
    finally:
        await session.close()


async def test_counts_that_were_reset_are_unknown(resettable_dsn: str) -> None:
    async with open_observer(resettable_dsn) as observer, observer.trial(TABLE) as sight:
        await asyncio.to_thread(execute, resettable_dsn, "SELECT pg_stat_reset_shared('wal')")
    assert sight.observed is not None
    assert_explained(sight.observed)
    assert sight.observed.reasons["wal_bytes"] == "pg_stat_wal was reset during the load"
    assert sight.observed.values["wal_lsn_bytes"] is not None


@pytest.fixture
def resettable_dsn(super_dsn: str) -> str:
    """Counters of a whole server may be reset: no other test asks for those of before."""
    return super_dsn


async def test_a_pooler_keeps_connections_and_that_is_said(pgbouncer: PgBouncer) -> None:
    execute(pgbouncer.direct_dsn, f"CREATE SCHEMA own; {MAKE}")
    async with open_observer(pgbouncer.direct_dsn) as observer, observer.trial(TABLE) as sight:
        sight.rows = await load_into(observer.tagged(pgbouncer.dsn), driver="psycopg")
    assert sight.observed is not None
    assert_explained(sight.observed)
    assert "pooler" in sight.observed.remarks[0]
    assert sight.observed.values["wal_bytes"] is not None


# --- waits, locks, memory, CPU --------------------------------------------------------------------


async def until_looked(observer: Observer, more: int = 3) -> None:
    """Until the sampler has looked a few times from now."""
    wanted = observer.sampler.looks + more
    await asyncio.to_thread(until, "looks", lambda: observer.sampler.looks >= wanted)


WAITING_SQL = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}' AND {}"


async def until_waits(dsn: str, tag: str) -> None:
    """Until a backend with this tag waits for a lock."""
    sql = WAITING_SQL.format(tag, "wait_event_type = 'Lock'")
    await asyncio.to_thread(until, "it waits", lambda: query(dsn, sql)[0][0] == 1)


async def test_a_lock_that_a_load_waits_for(own_dsn: str) -> None:
    execute(own_dsn, "INSERT INTO own.t VALUES (1, 'a')")
    async with open_observer(own_dsn, interval_s=0.01) as observer:
        holder, waiter = [
            await connect(driver, observer.tagged(own_dsn)) for driver in ("psycopg", "asyncpg")
        ]
        async with observer.trial(TABLE) as sight:
            await holder.begin()
            await holder.run("UPDATE own.t SET note = 'b'")
            waiting = asyncio.create_task(waiter.run("UPDATE own.t SET note = 'c'"))
            await until_waits(own_dsn, observer.tag)
            await until_looked(observer)
            await holder.commit()
            await waiting
            await holder.close()
            await waiter.close()
    assert sight.observed is not None
    assert_explained(sight.observed)
    observed = sight.observed
    assert observed.waits["Lock:transactionid"] > 0
    assert observed.waits["Client:ClientRead"] > 0
    assert sum(observed.waits.values()) == pytest.approx(1)
    assert list(observed.waits.values()) == sorted(observed.waits.values(), reverse=True)
    assert observed.values["lock_wait_share"] == observed.waits["Lock:transactionid"]
    assert observed.values["locks_waiting"] == 1
    assert observed.values["backends"] == 2
    assert (observed.values["samples"] or 0) >= 3


async def test_others_are_not_the_load(super_dsn: str) -> None:
    other = await connect("psycopg", super_dsn)
    try:
        async with (
            open_observer(super_dsn, interval_s=0.01) as observer,
            observer.trial(TABLE) as sight,
        ):
            await other.begin()
            await other.run("SELECT 1")
            await until_looked(observer)
            await other.rollback()
    finally:
        await other.close()
    assert sight.observed is not None
    assert sight.observed.waits == {}
    assert "no backends" in sight.observed.reasons["running_share"]
    assert_explained(sight.observed)


async def test_it_looks_while_the_loads_loop_is_busy(super_dsn: str) -> None:
    async with open_observer(super_dsn, interval_s=0.01) as observer:
        worker = await connect("psycopg", observer.tagged(super_dsn))
        async with observer.trial(TABLE) as sight:
            until("looks", lambda: observer.sampler.looks >= 3)  # nothing else runs in this loop
        await worker.close()
    assert sight.observed is not None
    assert sight.observed.waits == {"Client:ClientRead": 1.0}


BUSY_SQL = "SELECT sum(i) FROM generate_series(1, 2000000) AS i"


async def test_cpu_and_memory_of_local_backends(own_dsn: str) -> None:
    async with open_observer(own_dsn, interval_s=0.01) as observer:
        worker = await connect("psycopg", observer.tagged(own_dsn))
        await worker.run(BUSY_SQL)
        async with observer.trial(TABLE) as sight:
            idle = await connect("psycopg", observer.tagged(own_dsn))
            await until_looked(observer)
            await idle.close()
            began = procfs.cpu_s(observer.sampler.own_pid)
        rested = sight.observed
        async with observer.trial(TABLE) as sight:
            await worker.run(BUSY_SQL)
            await until_looked(observer, 6)
            await worker.close()
        worked = sight.observed
    assert began
    assert rested is not None
    assert worked is not None
    spent = worked.values["backend_cpu_s"] or 0.0
    # What it did before the trial is not of the trial.
    assert spent > 5 * (rested.values["backend_cpu_s"] or 0.0)
    assert (worked.values["server_cpu_s"] or 0.0) > 0.8 * spent
    assert 0.5 < (worked.values["backend_pss_mb"] or 0.0) < 500


async def test_a_server_elsewhere(super_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "why_not_local", lambda pid, started_s: procfs.ELSEWHERE)
    async with open_observer(super_dsn, interval_s=0.01) as observer:
        observed = await seen(super_dsn, observer)
    assert_explained(observed)
    for name in ("backend_cpu_s", "backend_pss_mb", "server_cpu_s"):
        assert observed.reasons[name] == procfs.ELSEWHERE
    assert observed.values["sampler_cpu_share"]


async def test_memory_maps_of_others(super_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int | None:
        raise PermissionError(pid)

    monkeypatch.setattr(procfs, "pss_bytes", refused)
    async with open_observer(super_dsn, interval_s=0.01) as observer:
        worker = await connect("psycopg", observer.tagged(super_dsn))
        async with observer.trial(TABLE) as sight:
            await worker.run(BUSY_SQL)
            await until_looked(observer, 6)
        await worker.close()
    assert sight.observed is not None
    assert sight.observed.reasons["backend_pss_mb"] == procfs.NOT_READABLE
    assert sight.observed.values["backend_cpu_s"]


async def test_a_pid_alone_does_not_make_a_server_local(super_dsn: str) -> None:
    session = await connect("psycopg", super_dsn)
    try:
        place = await procfs.place_of(session)
        assert place.not_local == ""
        assert procfs.cpu_s(place.postmaster) is not None
        assert procfs.why_not_local(place.pid, time.time() - 3_600) == procfs.ELSEWHERE
        assert procfs.why_not_local(os.getpid(), time.time()) == procfs.ELSEWHERE
        assert procfs.why_not_local(2**22 + 1, time.time()) == procfs.ELSEWHERE
    finally:
        await session.close()


async def test_the_sampler_may_be_off(super_dsn: str) -> None:
    async with open_observer(super_dsn) as observer:
        async with observer.trial(TABLE, sample=False) as sight:
            sight.rows = await load_into(observer.tagged(super_dsn))
        assert observer.sampler.looks == 0
    assert sight.observed is not None
    assert_explained(sight.observed)
    assert sight.observed.reasons["backend_cpu_s"] == "the sampler was off"
    assert sight.observed.values["wal_bytes"]


# --- what it costs --------------------------------------------------------------------------------


async def test_the_sampler_takes_under_two_percent_of_a_core(super_dsn: str) -> None:
    async with open_observer(super_dsn) as observer:
        async with observer.trial(TABLE) as sight:
            began = time.perf_counter()
            while time.perf_counter() - began < 2.0:
                await load_into(observer.tagged(super_dsn), on_conflict="nothing", parallelism=2)
        sampled = sight.sampled
    assert sampled is not None
    assert sampled.looks >= 3
    assert sampled.thread_cpu_s > 0
    assert sampled.cpu_s > sampled.thread_cpu_s  # its backend is in it
    assert sampled.cpu_share < 0.02


# --- when things break ----------------------------------------------------------------------------

KILL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_a_broken_observer_fails_no_trial(super_dsn: str) -> None:
    async with open_observer(super_dsn, interval_s=0.01) as observer:
        async with observer.trial(TABLE) as sight:
            await asyncio.to_thread(execute, super_dsn, KILL)
        assert sight.observed is not None
        assert_explained(sight.observed)
        assert "connection failed" in sight.observed.reasons["wal_bytes"]
        observed = await seen(super_dsn, observer)
    assert observed.values["wal_bytes"]
    assert_explained(observed)


async def test_no_server_fails_no_trial(super_dsn: str) -> None:
    nowhere = make_conninfo(super_dsn, host="/nowhere")
    async with open_observer(nowhere) as observer, observer.trial(TABLE) as sight:
        pass
    assert sight.observed is not None
    assert_explained(sight.observed)
    assert "cannot connect" in sight.observed.reasons["wal_bytes"]


async def test_a_missing_table_has_no_size(super_dsn: str) -> None:
    missing = TableName("none", "own")
    async with open_observer(super_dsn) as observer, observer.trial(missing) as sight:
        pass
    assert sight.observed is not None
    assert_explained(sight.observed)
    assert "42P01" in sight.observed.reasons["heap_bytes"]
    assert sight.observed.values["wal_bytes"] is not None


async def test_what_fails_inside_goes_through(super_dsn: str) -> None:
    async with open_observer(super_dsn) as observer:
        with pytest.raises(WriteError, match="mine"):
            async with observer.trial(TABLE):
                raise WriteError("mine")
        assert_explained(await seen(super_dsn, observer))


async def test_connections_end_with_the_observer(super_dsn: str) -> None:
    async with open_observer(super_dsn) as observer:
        await seen(super_dsn, observer)
        repr_ = repr(replace(observer, dsn="secret"))
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    await asyncio.to_thread(until, "they end", lambda: query(super_dsn, sql)[0][0] == 1)
    assert "secret" not in repr_


def test_every_counter_is_in_the_registry_of_every_version() -> None:
    for major in range(15, 19):
        names: list[str] = []
        for source in counter_sources(major * 10_000):
            names += [*source.metrics, *source.missing]
        expected = [
            name
            for name in OBSERVED
            if METRICS[name].scope in ("server", "database") and name != "server_cpu_s"
        ]
        assert sorted(names) == sorted(expected), major
