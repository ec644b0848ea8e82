"""A load keeps to what its user allows: by a simulated clock, then on real servers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbench.accounting import LoadResult
from batchbench.engine import load
from batchbench.engine.pacing import Pace, PaceLimits, Rate, Reading
from batchbench.errors import ConfigError
from batchbench.events import Event, Notice, Paused
from batchbench.sources import open_source
from batchbench.table import TableName
from batchbench.writer import FlushLimits, Writer
from tests.fixtures.commands import Commands
from tests.fixtures.faults import until
from tests.fixtures.loading import execute, options, query
from tests.fixtures.replication import Replicated

MIB = 1 << 20


# --- a simulated clock ----------------------------------------------------------------------


@dataclass
class Server:
    """Writes a chunk in `write_s`; a byte of rows makes `wal_a_byte` of WAL; others make more. A
    replica replays `replay_per_s`.
    """

    write_s: float = 0.01
    wal_a_byte: float = 3.0
    others_per_s: float = 0.0
    replay_per_s: float = 1e12
    now_s: float = 100.0
    wal: float = 1e9
    lag: float = 0.0
    most_lag: float = 0.0

    def passes(self, seconds: float, own: float = 0.0) -> None:
        self.now_s += seconds
        self.wal += own + self.others_per_s * seconds
        self.lag += own + self.others_per_s * seconds
        self.most_lag = max(self.most_lag, self.lag)
        self.lag = max(0.0, self.lag - self.replay_per_s * seconds)

    def reading(self) -> Reading:
        return Reading(wal_bytes=int(self.wal), lag_bytes=int(self.lag))


@dataclass
class Simulated:
    """What a load through one writer came to."""

    seconds: float = 0.0
    rows: int = 0
    wal: float = 0.0
    held: Counter[str] = field(default_factory=Counter)


def simulate(
    server: Server, chunks: int = 200, rows: int = 100, row_bytes: int = 100, **limits: float
) -> Simulated:
    pace, done, byte_count = Pace(PaceLimits(**limits)), Simulated(), rows * row_bytes
    began_s, wal = server.now_s, server.wal
    for number in range(chunks):
        pace.seen(pace.asks(), server.reading())
        while (hold := pace.hold(rows, byte_count, server.now_s)) is not None:
            done.held[hold.reason] += 1
            server.passes(min(hold.seconds, 0.25))
            pace.seen(pace.asks(), server.reading())
        pace.begin(number, rows, byte_count)
        server.passes(server.write_s, byte_count * server.wal_a_byte)
        pace.end(number)
        done.rows += rows
    done.seconds, done.wal = server.now_s - began_s, server.wal - wal
    return done


def test_rows_per_second_are_kept_from_both_sides() -> None:
    done = simulate(Server(), max_rows_per_s=2_000)
    assert done.rows / done.seconds == pytest.approx(2_000, rel=0.05)
    assert done.rows / done.seconds <= 2_000


def test_a_slow_server_is_not_held_back() -> None:
    done = simulate(Server(write_s=0.2), max_rows_per_s=2_000)
    assert done.seconds == pytest.approx(200 * 0.2, rel=0.01)


@pytest.mark.parametrize("wal_a_byte", [0.5, 3.0, 20.0])
def test_wal_per_second_is_kept_whatever_a_row_makes(wal_a_byte: float) -> None:
    server = Server(wal_a_byte=wal_a_byte, write_s=0.001)
    done = simulate(server, chunks=400, max_wal_mb_per_s=1)
    assert done.wal / done.seconds == pytest.approx(MIB, rel=0.05)
    assert done.wal / done.seconds <= 1.05 * MIB


def test_others_wal_counts_too() -> None:
    server = Server(others_per_s=0.75 * MIB)
    done = simulate(server, chunks=400, max_wal_mb_per_s=1)
    assert done.wal / done.seconds == pytest.approx(MIB, rel=0.05)
    own_per_s = 400 * 10_000 * 3.0 / done.seconds
    assert own_per_s == pytest.approx(0.25 * MIB, rel=0.1)


@pytest.mark.parametrize("replay_mb_per_s", [0.2, 1.0])
def test_a_replica_never_lags_more_than_it_may(replay_mb_per_s: float) -> None:
    server = Server(replay_per_s=replay_mb_per_s * MIB)
    done = simulate(server, chunks=400, max_replica_lag_mb=2)
    assert done.held["replica lag"] > 0
    assert MIB < server.most_lag <= 1.05 * 2 * MIB


def test_a_limit_smaller_than_a_chunk_does_not_stop_the_load() -> None:
    server = Server(replay_per_s=MIB)
    assert simulate(server, chunks=20, row_bytes=10_000, max_replica_lag_mb=1).rows == 2_000


def test_waiting_sessions_go_first() -> None:
    pace = Pace(PaceLimits(pause_when_locks_wait=True))
    pace.seen(pace.asks(), Reading(waiters=2))
    hold = pace.hold(1, 1, 0.0)
    assert hold is not None
    assert hold.reason == "locks"
    pace.seen(pace.asks(), Reading(waiters=0))
    assert pace.hold(1, 1, 0.0) is None


def test_what_cannot_be_seen_holds_nothing() -> None:
    pace = Pace(PaceLimits(max_replica_lag_mb=1, max_wal_mb_per_s=1, pause_when_locks_wait=True))
    pace.seen(pace.asks(), Reading(why_no_lag="not for this role"))
    assert pace.hold(1, 0, 0.0) is None


@given(
    st.floats(1, 1e5),
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 30)), min_size=1, max_size=50),
)
def test_never_more_than_has_come(per_s: float, steps: list[tuple[int, float]]) -> None:
    """Whatever the amounts and gaps: from the start, and in any stretch but for one second's."""
    rate, now_s, spent = Rate(per_s), 50.0, []
    for amount, gap_s in steps:
        now_s += gap_s
        now_s += rate.wait_s(amount, now_s)
        rate.wait_s(amount, now_s)
        rate.spend(amount)
        spent.append((now_s, amount))
    slack = per_s * 2e-4 + 1e-6  # that much is not waited for
    if steps[0][1] == 0:
        assert sum(amount for _, amount in spent) <= per_s * (now_s - 50.0) + slack
    for start, (from_s, _) in enumerate(spent):
        after = spent[start + 1 :]
        most = max([per_s, *(amount for _, amount in after)])
        total = sum(amount for _, amount in after)
        assert total <= per_s * (now_s - from_s) + most + slack


def test_limits_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_rows_per_s 0 cannot work"):
        PaceLimits(max_rows_per_s=0)
    with pytest.raises(ConfigError, match="wait for itself"):
        options(transaction=10, pace=PaceLimits(pause_when_locks_wait=True))


def test_chunks_are_small_beside_the_limit() -> None:
    """So that pauses are short: many a second."""
    assert PaceLimits(max_rows_per_s=2_000).most_chunk_rows == 500
    assert PaceLimits(max_rows_per_s=2).most_chunk_rows == 1
    assert PaceLimits(max_wal_mb_per_s=8).most_chunk_bytes == MIB
    assert PaceLimits().most_chunk_bytes == float("inf")


# --- real servers ---------------------------------------------------------------------------

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, note text)"


def rows(count: int, note: str = "x") -> pa.Table:
    return pa.table({"id": pa.array(range(count), pa.int32()), "note": [note] * count})


async def paced(dsn: str, data: pa.Table, events: list[Event], **limits: Any) -> LoadResult:
    how = options(pace=PaceLimits(**limits), exactly_once="off")
    return await load(open_source(data), {None: TableName("t")}, dsn, how, on_event=events.append)


def reasons(events: list[Event]) -> set[str]:
    return {event.reason for event in events if isinstance(event, Paused)}


async def test_a_load_keeps_to_its_rows_per_second(dsn: str) -> None:
    execute(dsn, TABLE)
    events: list[Event] = []
    result = await paced(dsn, rows(3_000), events, max_rows_per_s=2_000)
    print(f"asked for 2,000 rows/s, was {result.rows_per_s:,.0f}")
    assert result.total.committed == 3_000
    assert result.rows_per_s <= 2_000 * 1.05
    assert reasons(events) == {"rows"}


async def test_a_writer_keeps_to_its_rows_per_second(dsn18: str) -> None:
    execute(dsn18, TABLE)
    how = options(pace=PaceLimits(max_rows_per_s=4_000))
    limits = FlushLimits(max_wait_ms=1)
    started_s = time.monotonic()
    async with Writer(dsn18, "t", how, limits=limits) as writer:
        for number in range(0, 4_000, 100):
            await writer.add([{"id": i} for i in range(number, number + 100)])
    assert 4_000 / (time.monotonic() - started_s) <= 4_000 * 1.05
    assert query(dsn18, "SELECT count(*) FROM t") == [(4_000,)]


async def test_a_load_keeps_to_its_wal_per_second(dsn: str) -> None:
    execute(dsn, TABLE)
    events: list[Event] = []
    position = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8"
    ((before,),) = query(dsn, position)
    result = await paced(dsn, rows(30_000, "x" * 50), events, max_wal_mb_per_s=4)
    ((after,),) = query(dsn, position)
    mb_per_s = (after - before) / MIB / result.seconds
    print(f"asked for 4 MB/s of WAL, was {mb_per_s:.2f}")
    assert after - before > 3 * MIB
    assert mb_per_s <= 4 * 1.05
    assert "wal" in reasons(events)


@pytest.mark.parametrize("standby", ["pg18", "pg15"], indirect=True)
async def test_a_load_waits_for_its_replica(standby: Replicated) -> None:
    """Replay is paused: the load stops short of the limit, and goes on when it is resumed."""
    dsn = standby.primary.dsn
    execute(dsn, TABLE)
    standby.until_caught_up()
    execute(standby.standby.dsn, "SELECT pg_wal_replay_pause()")
    events: list[Event] = []
    loading = asyncio.create_task(paced(dsn, rows(60_000), events, max_replica_lag_mb=2))

    def said() -> bool:
        return any(isinstance(e, Notice) and "a replica lags" in e.text for e in events)

    await asyncio.to_thread(until, "the load pauses", said)
    await asyncio.sleep(0.2)  # whoever does not keep to it goes on now
    lag_sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::int8"
    ((lag,),) = query(dsn, f"{lag_sql} FROM pg_stat_replication")
    ((loaded,),) = query(dsn, "SELECT count(*) FROM t")
    print(f"2 MB allowed, {lag / MIB:.2f} MB behind at {loaded:,} rows")
    assert MIB < lag <= 1.25 * 2 * MIB  # what the server itself writes meanwhile is in it
    assert 0 < loaded < 60_000
    execute(standby.standby.dsn, "SELECT pg_wal_replay_resume()")
    assert (await loading).total.committed == 60_000


async def test_a_replica_that_the_role_may_not_see(standby: Replicated) -> None:
    dsn = standby.primary.dsn
    execute(dsn, f"{TABLE}; CREATE ROLE loader LOGIN; GRANT INSERT, SELECT ON t TO loader")
    theirs = psycopg.conninfo.make_conninfo(dsn, user="loader")
    with pytest.raises(ConfigError, match="GRANT pg_monitor"):
        await paced(theirs, rows(10), [], max_replica_lag_mb=2)
    assert query(dsn, "SELECT count(*) FROM t") == [(0,)]
    execute(dsn, "GRANT pg_monitor TO loader")
    assert (await paced(theirs, rows(10), [], max_replica_lag_mb=2)).total.committed == 10


async def test_a_load_without_replicas_is_not_held(dsn: str) -> None:
    execute(dsn, TABLE)
    assert (await paced(dsn, rows(100), [], max_replica_lag_mb=1)).total.committed == 100


async def test_sessions_that_wait_for_our_locks_go_first(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writer hangs at another's row and holds a row that a third wants: no new chunk begins."""
    monkeypatch.setattr("batchbench.engine.gate._LOOK_EVERY_S", 0.0)  # what it saw may be as old
    execute(dsn, TABLE)
    events: list[Event] = []
    how = options(parallelism=2, pace=PaceLimits(pause_when_locks_wait=True), exactly_once="off")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    def paused() -> bool:
        return any(isinstance(event, Notice) for event in events)

    def until_waiting(count: int) -> None:
        until(f"{count} wait", lambda: query(dsn, waiting) == [(count,)])

    with psycopg.connect(dsn) as other:
        other.execute("INSERT INTO t VALUES (2)")
        async with Writer(
            dsn, "t", how, limits=FlushLimits(max_rows=2), on_event=events.append
        ) as writer:
            first = await writer.add([{"id": 1}, {"id": 2}])
            await asyncio.to_thread(until_waiting, 1)
            third = asyncio.create_task(
                asyncio.to_thread(execute, dsn, "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING")
            )
            await asyncio.to_thread(until_waiting, 2)
            later = await writer.add([{"id": 3}, {"id": 4}])
            await asyncio.to_thread(until, "the other writer pauses", paused)
            assert not later.settled
            other.rollback()
            await third
            assert (await first).committed == (await later).committed == 2
    assert reasons(events) == {"locks"}


async def test_a_paused_load_can_be_stopped(dsn18: str) -> None:
    execute(dsn18, TABLE)
    events: list[Event] = []
    loading = asyncio.create_task(paced(dsn18, rows(1_000), events, max_rows_per_s=0.001))
    await asyncio.to_thread(until, "the load has begun", lambda: bool(events))
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(loading, 20)
    assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]


def test_the_command_line_takes_the_limits(dsn18: str, commands: Commands, tmp_path: Any) -> None:
    execute(dsn18, TABLE)
    path = tmp_path / "rows.csv"
    path.write_text("id\n" + "\n".join(map(str, range(600))))
    done = commands(
        *("load", path, "--table", "t", "--dsn", dsn18, "--json", "--max-rows-per-s", 1_000),
        *("--max-wal-mb-per-s", 100, "--max-replica-lag-mb", 100, "--pause-when-locks-wait"),
    )
    assert done.code == 0, done.err
    assert done.json["rows_per_s"] <= 1_050
    refused = commands("load", path, "--table", "t", "--dsn", dsn18, "--max-rows-per-s", 0)
    assert refused.code == 2
    assert "must be a number over 0" in refused.error


async def test_a_lent_connection_has_none_to_spare(dsn18: str) -> None:
    """To ask the server takes a connection of its own; rows a second can be counted without."""
    execute(dsn18, TABLE)
    tables = {None: TableName("t")}
    async with await psycopg.AsyncConnection.connect(dsn18) as lent:
        how = options(pace=PaceLimits(max_wal_mb_per_s=1))
        with pytest.raises(ConfigError, match="a connection beside the 1 that write"):
            await load(open_source(rows(10)), tables, options=how, connection=lent)
        how = options(pace=PaceLimits(max_rows_per_s=1_000))
        done = await load(open_source(rows(10)), tables, options=how, connection=lent)
        assert done.total.committed == 10
