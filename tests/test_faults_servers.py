"""The tools of the fault tests themselves: servers that are killed, replicated, full, pooled."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from batchbench.servers import Cluster
from tests.fixtures.disks import SmallDisk
from tests.fixtures.faults import (
    ENOUGH_FOR_ORPHANS_S,
    burn_transaction_ids,
    consume_xids_in_background,
    kill_backend,
    kill_postmaster,
    open_own_cluster,
    processes_of,
    server_process,
    stopped,
    terminate_backends,
    until,
    until_ready,
)
from tests.fixtures.loading import execute, query
from tests.fixtures.pgbouncer import PgBouncer, open_pgbouncer
from tests.fixtures.replication import Replicated, waiting_for_standby
from tests.proxy import Fired, cut_commit_after, cut_commit_before, open_proxy

both_versions = pytest.mark.parametrize("own_cluster", ["pg18", "pg15"], indirect=True)


def ids(dsn: str) -> list[int]:
    return [row[0] for row in query(dsn, "SELECT id FROM t ORDER BY id")]


async def insert(dsn: str, row_id: int) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("INSERT INTO t VALUES (%s)", [row_id])


@both_versions
@pytest.mark.parametrize("at_once", [False, True])
async def test_the_server_killed_around_a_commit(own_cluster: Cluster, at_once: bool) -> None:
    """Before it arrived: the row is gone. Before its answer arrived: the row is there."""
    dsn = own_cluster.dsn
    execute(dsn, "CREATE TABLE t (id int)")

    async def kill(fired: Fired) -> None:
        await asyncio.to_thread(kill_postmaster, own_cluster, at_once=at_once)
        assert processes_of(own_cluster) == []

    faults = [cut_commit_before(nth=1, call=kill), cut_commit_after(nth=2, call=kill)]
    async with open_proxy(dsn, *faults, tolerate_outages=True) as proxy:
        for row_id in (1, 2):
            with pytest.raises(psycopg.OperationalError):
                await insert(proxy.dsn, row_id)
            assert not own_cluster.running
            own_cluster.start()
        await insert(proxy.dsn, 3)
    assert own_cluster.dsn == dsn
    assert ids(dsn) == [2, 3]


@both_versions
def test_transaction_ids_are_handed_out_again(own_cluster: Cluster) -> None:
    """design.md's trap, provoked: our row is gone, the status of our id says committed."""
    execute(own_cluster.dsn, "CREATE TABLE t (id int); CHECKPOINT")
    with stopped(server_process(own_cluster.dsn, "walwriter")):
        options = "-c synchronous_commit=off"
        with psycopg.connect(own_cluster.dsn, options=options) as ours:
            ours.execute("INSERT INTO t VALUES (1)")
            row = ours.execute("SELECT pg_current_xact_id()::text").fetchone()
            assert row is not None
            ours.commit()
        assert ids(own_cluster.dsn) == [1]
        kill_postmaster(own_cluster, at_once=True)
    own_cluster.start()
    status = f"SELECT pg_xact_status('{row[0]}')"
    assert ids(own_cluster.dsn) == []
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="in the future"):
        query(own_cluster.dsn, status)
    assert burn_transaction_ids(own_cluster.dsn, 50) > int(row[0])
    assert query(own_cluster.dsn, status) == [("committed",)]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_postmaster_dies_with_children_that_do_not_notice(
    own_cluster: Cluster, at_once: bool
) -> None:
    """A stopped backend never does; it is killed in the end, or at once."""
    with psycopg.connect(own_cluster.dsn) as session, stopped(session.info.backend_pid):
        started = time.monotonic()
        kill_postmaster(own_cluster, at_once=at_once)
        took_s = time.monotonic() - started
        assert processes_of(own_cluster) == []
    assert (took_s < ENOUGH_FOR_ORPHANS_S) == at_once
    own_cluster.start()
    assert query(own_cluster.dsn, "SELECT 1") == [(1,)]


def test_one_backend_killed_ends_all_sessions(own_cluster: Cluster) -> None:
    postmaster = own_cluster.pid
    with psycopg.connect(own_cluster.dsn) as first, psycopg.connect(own_cluster.dsn) as second:
        kill_backend(own_cluster, first.info.backend_pid)
        until_ready(own_cluster.dsn)
        for session in (first, second):
            with pytest.raises(psycopg.OperationalError):
                session.execute("SELECT 1")
    assert own_cluster.pid == postmaster
    for pid in (postmaster, 1):
        with pytest.raises(ValueError, match="is no backend"):
            kill_backend(own_cluster, pid)


def test_backends_are_terminated_but_for_the_spared(dsn: str) -> None:
    with psycopg.connect(dsn) as first, psycopg.connect(dsn) as second:
        assert terminate_backends(dsn, second.info.backend_pid) == [first.info.backend_pid]
        with pytest.raises(psycopg.errors.AdminShutdown):
            first.execute("SELECT 1")
        assert second.execute("SELECT 1").fetchone() == (1,)


def test_transaction_ids_are_burnt(dsn: str) -> None:
    first = burn_transaction_ids(dsn, 1)
    second = burn_transaction_ids(dsn, 2_000)
    assert second - first >= 2_000  # autovacuum may take some too
    assert query(dsn, f"SELECT pg_xact_status('{second - 1}')") == [("committed",)]


def test_ids_are_consumed_in_the_background_across_a_restart(own_cluster: Cluster) -> None:
    with consume_xids_in_background(own_cluster.dsn) as consumer:
        before = burn_transaction_ids(own_cluster.dsn, 1)
        consumer.until_consumed(100)
        assert burn_transaction_ids(own_cluster.dsn, 1) - before > 100
        kill_postmaster(own_cluster)
        own_cluster.start()
        consumer.until_consumed(100)
        assert consumer.reconnects >= 1
    consumed = consumer.consumed
    assert not consumer.is_alive()
    assert consumer.consumed == consumed


def test_a_stopped_process_goes_on_later(dsn18: str) -> None:
    with psycopg.connect(dsn18, autocommit=True) as session:
        pgconn = session.pgconn
        with stopped(session.info.backend_pid):
            pgconn.send_query(b"SELECT 1")
            assert psutil.Process(session.info.backend_pid).status() == psutil.STATUS_STOPPED
            pgconn.consume_input()
            assert pgconn.is_busy()
        result = pgconn.get_result()
        assert result is not None
        assert result.ntuples == 1
        assert pgconn.get_result() is None


@pytest.mark.parametrize("standby", ["pg18", "pg15"], indirect=True)
async def test_a_standby_is_promoted_with_commits_missing(standby: Replicated) -> None:
    primary, other = standby.primary.dsn, standby.standby.dsn
    execute(primary, "CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    standby.until_caught_up()
    assert ids(other) == [1]
    with (
        stopped(server_process(other, "walreceiver")),
        pytest.raises(TimeoutError, match="the standby has caught up"),
    ):
        standby.until_caught_up(limit_s=0.3)
    standby.until_caught_up()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        execute(other, "INSERT INTO t VALUES (9)")
    async with open_proxy(primary) as proxy:
        standby.detach()
        await insert(proxy.dsn, 2)
        kill_postmaster(standby.primary)
        standby.promote()
        proxy.lead_to(other)
        await insert(proxy.dsn, 3)
    assert ids(other) == [1, 3]
    standby.primary.start()
    assert ids(primary) == [1, 2]


@both_versions
def test_a_commit_waits_for_an_absent_standby(sync_standby_absent: Cluster) -> None:
    dsn = sync_standby_absent.dsn
    execute(dsn, "SET synchronous_commit = local; CREATE TABLE t (id int)")
    writer = threading.Thread(target=execute, args=(dsn, "INSERT INTO t VALUES (1)"))
    writer.start()
    until("its COMMIT waits", lambda: len(waiting_for_standby(sync_standby_absent)) == 1)
    assert ids(dsn) == []
    execute(dsn, "SET synchronous_commit = local; INSERT INTO t VALUES (2)")
    assert ids(dsn) == [2]
    execute(dsn, "ALTER SYSTEM RESET synchronous_standby_names")
    execute(dsn, "SELECT pg_reload_conf()")
    writer.join(10)
    assert not writer.is_alive()
    assert ids(dsn) == [1, 2]


def test_two_clients_share_one_server_connection(pgbouncer: PgBouncer) -> None:
    with psycopg.connect(pgbouncer.dsn) as first, psycopg.connect(pgbouncer.dsn) as second:
        pids = set()
        for client in (first, second, first):
            pids.add(query_one(client, "SELECT pg_backend_pid()"))
            client.commit()
        assert len(pids) == 1
        first.execute("SET application_name = 'leaks'")
        first.commit()
        second.execute("SET search_path = leaks")
        second.commit()
        assert query_one(first, "SHOW search_path") == "leaks"
        first.commit()
    assert query(pgbouncer.direct_dsn, "SHOW search_path") == [('"$user", public',)]


def query_one(connection: psycopg.Connection[tuple[object, ...]], sql: str) -> object:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


def test_pgbouncer_ends_also_on_failure(dsn18: str) -> None:
    folders = set(Path("/tmp").glob("batchbench-pgbouncer-*"))
    pids = []
    with suppress(ZeroDivisionError), open_pgbouncer(dsn18) as bouncer:
        assert psutil.Process(bouncer.pid).uids().effective != 0
        pids.append(bouncer.pid)
        raise ZeroDivisionError
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])
    assert set(Path("/tmp").glob("batchbench-pgbouncer-*")) <= folders


async def test_a_proxy_before_and_behind_pgbouncer(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int)")
    async with open_proxy(dsn18) as behind:
        with ExitStack() as stack:
            bouncer = await asyncio.to_thread(stack.enter_context, open_pgbouncer(behind.dsn))
            async with open_proxy(bouncer.dsn, cut_commit_after()) as before:
                with pytest.raises(psycopg.OperationalError):
                    await insert(before.dsn, 1)
                await insert(before.dsn, 2)
        assert [q.text for q in behind.queries] == ["BEGIN", "COMMIT"] * 2
        assert {q.connection for q in behind.queries} == {1}
    assert ids(dsn18) == [1, 2]


def test_a_small_disk_is_full(small_disk: SmallDisk) -> None:
    execute(small_disk.dsn, "CREATE TABLE t (id int, filler text)")
    rows = "SELECT i, repeat('x', 1000) FROM generate_series(1, {}) i"
    execute(small_disk.dsn, f"INSERT INTO t {rows.format(1_000)}")
    assert small_disk.free_bytes < small_disk.size_bytes
    with pytest.raises(psycopg.errors.DiskFull):
        execute(small_disk.dsn, f"INSERT INTO t {rows.format(100_000)}")
    assert query(small_disk.dsn, "SELECT count(*) FROM t") == [(1_000,)]
    small_disk.make_room()
    execute(small_disk.dsn, f"INSERT INTO t {rows.format(10_000)}")
    mounts = Path("/proc/mounts").read_text()
    assert str(small_disk.folder) in mounts


def test_clusters_end_also_on_failure() -> None:
    members: list[psutil.Process] = []
    with suppress(ZeroDivisionError), open_own_cluster() as cluster:
        assert query(cluster.dsn, "SHOW fsync") == [("on",)]
        members += processes_of(cluster)
        raise ZeroDivisionError
    assert len(members) > 3
    until("all are gone", lambda: not any(member.is_running() for member in members))
    assert not cluster.data_dir.exists()
