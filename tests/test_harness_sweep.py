"""Sweeps on a real server: every trial recorded and verified, nothing of the user's touched."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from batchbench import engine
from batchbench.config import Settings, child_environment
from batchbench.drivers import Session
from batchbench.errors import ConfigError, InputError, ServerError, TableError
from batchbench.harness import (
    Configuration,
    Subject,
    SweepEvent,
    SweepNotice,
    SweepPlan,
    TrialEnded,
    full_grid,
    table_subjects,
)
from batchbench.harness import run_sweep as run_sweep_apart
from batchbench.harness import trial as trial_module
from batchbench.harness.observe import OBSERVED
from batchbench.harness.pace import spent_s
from batchbench.limits import COPY_USE, ParameterUse
from batchbench.results import Run, TrialRecord, load_run, open_run
from batchbench.servers import embedded_installation, open_cluster
from batchbench.sources import open_source
from batchbench.strategies import OnConflict, Payload, Target, find_strategy
from batchbench.table import TableName, parse_table_name
from tests.test_results import INFO
from tests.test_results import record as made_up

SETTINGS = Settings()
run_sweep = functools.partial(run_sweep_apart, apart=False)  # quick, and open to monkeypatch
FOUR = full_grid(["heart_rate"], ["copy", "values"], ["asyncpg", "psycopg"], [200], [2])
ONE = full_grid(["heart_rate"], ["copy"], ["psycopg"], [200], [1])


def plan_for(label: str, **changes: Any) -> SweepPlan:
    grid = full_grid([label], ["copy", "unnest", "values"], ["asyncpg", "psycopg"], [300], [1])
    options: dict[str, Any] = {"rows": 500, "repeats": 1, "warmups": 0, **changes}
    return SweepPlan(configurations=grid, **options)


@contextlib.contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def schemas(dsn: str) -> list[str]:
    with connected(dsn) as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'batchbench%'"
        )
        return [row[0] for row in found]


async def swept(dsn: str, folder: Path, name: str, *, rows: Any = None, **changes: Any) -> Run:
    """Sweep a table of the user's own."""
    source = None if rows is None else open_source(rows, name="given rows")
    subjects = table_subjects([parse_table_name(name)], source)
    plan = plan_for(subjects[0].label, **changes)
    return await run_sweep(plan, dsn, SETTINGS, folder, subjects=subjects)


def assert_all_usable(run: Run) -> None:
    assert [(record.trial_id, record.reason) for record in run.records if not record.usable] == []


# --- the profile --------------------------------------------------------------------------------


async def test_every_trial_is_recorded_and_verified(dsn: str, tmp_path: Path) -> None:
    plan = SweepPlan(configurations=FOUR, rows=500, repeats=2)
    events: list[SweepEvent] = []
    command = ["batchbench", "sweep", "--dsn", dsn]
    run = await run_sweep(
        plan, dsn, SETTINGS, tmp_path / "run", command=command, on_progress=events.append
    )
    assert_all_usable(run)
    ids = [record.trial_id for record in run.records if record.kind != "warmup"]
    assert ids == [trial.trial_id for block in plan.blocks() for trial in block]
    assert (len(run.records), len(run.trials), len(run.yardsticks)) == (8 + 4 + 2, 8, 2)
    for record in run.yardsticks:
        assert record.rows == record.rows_verified == 500
        assert (record.strategy, record.chunks, record.goal_met) == ("yardstick", 1, False)
    for record in [record for record in run.records if record.kind != "yardstick"]:
        assert record.observed.keys() == {*OBSERVED, "cpu_user_s", "cpu_system_s"}
        unknown = {name for name, value in record.observed.items() if value is None}
        assert record.unobserved.keys() == unknown
        assert all(record.unobserved.values())
        assert (record.observed["wal_bytes"] or 0) > 10 * 500
        assert (record.observed["heap_growth_bytes"] or 0) > 10 * 500
        assert record.rows == record.rows_verified == 500
        assert (record.chunks, record.chunk_rows, record.writers) == (3, 200, 2)
        assert len(record.chunk_seconds) == 3
        assert record.seconds is not None
        assert record.rows_per_s == pytest.approx(500 / record.seconds, rel=0.01)
        assert record.peak_rss_mb is not None
        assert record.rss_before_mb is not None
        assert 20 < record.rss_before_mb <= record.peak_rss_mb
        assert record.rows_per_s is not None
        assert record.goal_met == (record.rows_per_s > 2_000 and record.peak_rss_mb < 500)
    ended = [event for event in events if isinstance(event, TrialEnded)]
    assert [(event.done, event.total) for event in ended] == [(n, 14) for n in range(1, 15)]
    assert ended[-1].time_left_s == 0
    assert schemas(dsn) == []
    stored = (tmp_path / "run" / "run.json").read_text()
    assert dsn not in stored
    assert run.info.server.settings["fsync"] in ("on", "off")
    assert str(run.info.server.version_number)[:2] in ("15", "18")
    assert run.info.settings["BATCH_SLEEP_CHUNK_SIZE"] == 6_000


async def test_a_chunk_over_the_limit_is_split_and_said_once(dsn18: str, tmp_path: Path) -> None:
    wide = Configuration("workout", "values", "asyncpg", 4_000, 1)
    plan = SweepPlan(configurations=(wide,), rows=4_000, repeats=2)
    events: list[SweepEvent] = []
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, on_progress=events.append)
    assert_all_usable(run)
    assert {(r.chunk_size, r.chunk_rows, r.chunks) for r in run.trials} == {(4_000, 3_276, 2)}
    notices = [event.text for event in events if isinstance(event, SweepNotice)]
    assert len(notices) == 3
    assert "3,276" in notices[0]
    assert "batchbench_" not in notices[0]


async def test_a_budget_ends_after_a_whole_block(dsn18: str, tmp_path: Path) -> None:
    plan = SweepPlan(configurations=FOUR, rows=100, repeats=1_000, warmups=0)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, budget_s=0.0)
    assert len(run.trials) == 4
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, budget_s=1.5, resume=True)
    assert 8 <= len(run.trials) < 400
    assert len(run.trials) % 4 == 0


async def test_a_resumed_run_has_what_is_left_of_its_budget(dsn18: str, tmp_path: Path) -> None:
    plan = SweepPlan(configurations=FOUR, rows=100, repeats=1_000, warmups=0, budget_s=1.5)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path)
    first = len(run.trials)
    assert 4 <= first < 400
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, resume=True)
    assert len(run.trials) <= first + 4, "a block at least, and no more where nothing is left"
    assert len({record.trial_id for record in run.trials}) == len(run.trials)


def test_the_time_of_earlier_starts_is_told_from_their_trials(tmp_path: Path) -> None:
    def at(second: int, number: int) -> TrialRecord:
        when = f"2026-01-01T00:00:{second:02}.000+00:00"
        return made_up(started_at=when, trial_id=f"sleep/copy/psycopg/50/1#{number}")

    with open_run(tmp_path, INFO) as writer:  # created at 00:00:00
        assert spent_s(writer) == 0
        writer.append(at(3, 1))
        writer.append(at(7, 2))
        assert spent_s(writer) == 7
    later = replace(INFO, created="2026-01-01T00:00:40+00:00")
    with open_run(tmp_path, later, resume=True) as writer:
        assert spent_s(writer) == 7
        writer.append(at(45, 3))
        assert spent_s(writer) == 12


async def test_a_server_of_ours_is_restarted_between_epochs(tmp_path: Path) -> None:
    plan = SweepPlan(configurations=FOUR[:1], rows=100, repeats=6, epochs=3)
    with open_cluster(embedded_installation()) as cluster:
        run = await run_sweep(
            plan, cluster.dsn, SETTINGS, tmp_path, server_kind="embedded", restart=cluster.restart
        )
    assert_all_usable(run)
    assert [(r.block, r.epoch) for r in run.trials] == [(n, (n + 1) // 2) for n in range(1, 7)]
    assert [r.epoch for r in run.records if r.kind == "warmup"] == [1, 2, 3]


# --- broken off ---------------------------------------------------------------------------------


async def test_cancelled_and_resumed(dsn: str, tmp_path: Path) -> None:
    plan = SweepPlan(configurations=FOUR, rows=500, repeats=3)
    sweep: asyncio.Task[Run]

    def stop(event: SweepEvent) -> None:
        if isinstance(event, TrialEnded) and event.done == 6:
            sweep.cancel()

    sweep = asyncio.create_task(run_sweep(plan, dsn, SETTINGS, tmp_path, on_progress=stop))
    with pytest.raises(asyncio.CancelledError):
        await sweep
    assert schemas(dsn) == []
    stopped = load_run(tmp_path)
    assert len(stopped.trials + stopped.yardsticks) == 2
    run = await run_sweep(plan, dsn, SETTINGS, tmp_path, resume=True)
    assert len(run.trials) == 12
    assert len({record.trial_id for record in run.records}) == len(run.records)
    assert len(run.records) - 12 - 3 == 8  # both starts warmed up
    assert [record.epoch for record in run.records] == [1] * 6 + [2] * 17
    before = (tmp_path / "trials.ndjson").read_bytes()
    await run_sweep(plan, dsn, SETTINGS, tmp_path, resume=True)
    assert (tmp_path / "trials.ndjson").read_bytes() == before


_CHILD = """
import asyncio, sys
from pathlib import Path
from batchbench.config import Settings
from batchbench.harness import SweepPlan, run_sweep
from tests.test_harness_sweep import FOUR
plan = SweepPlan(configurations=FOUR, rows=500, repeats=8, warmups=0)
asyncio.run(run_sweep(plan, sys.argv[1], Settings(), Path(sys.argv[2])))
"""


async def test_killed_and_resumed(dsn18: str, tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, dsn18, tmp_path / "run"
    )
    trials = tmp_path / "run" / "trials.ndjson"
    deadline = time.monotonic() + 30
    while not (trials.exists() and trials.read_bytes().count(b"\n") >= 5):
        assert time.monotonic() < deadline
        assert child.returncode is None
        await asyncio.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    left = schemas(dsn18)
    assert len(left) == 1
    stored = load_run(tmp_path / "run")
    plan = SweepPlan(configurations=FOUR, rows=500, repeats=8, warmups=0)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path / "run", resume=True)
    assert len(run.trials) == len({record.trial_id for record in run.trials}) == 32
    assert run.trials[: len(stored.trials)] == stored.trials
    assert schemas(dsn18) == []


async def test_another_plan_does_not_resume(dsn18: str, tmp_path: Path) -> None:
    await run_sweep(SweepPlan(configurations=ONE, rows=10), dsn18, SETTINGS, tmp_path)
    other = SweepPlan(configurations=ONE, rows=11)
    with pytest.raises(ConfigError, match="other rows"):
        await run_sweep(other, dsn18, SETTINGS, tmp_path, resume=True)


# --- what goes wrong ----------------------------------------------------------------------------


class Faulty:
    """A strategy of a third party, which the server refuses from the second chunk on."""

    name = "faulty"

    def use(self, column_count: int) -> ParameterUse:
        return COPY_USE

    def plan(self, target: Target) -> Any:
        plan = find_strategy("copy").plan(target)

        async def write(session: Session, payload: Payload, *, full: bool, alone: bool) -> Any:
            if not full:
                await session.run("SELECT 1 / 0")
            return await plan.write(session, payload, full=full, alone=alone)

        return SimpleNamespace(
            use=plan.use, guard="", prepare=plan.prepare, encode=plan.encode, write=write
        )


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("faulty", "tests.test_harness_sweep:Faulty", "batchbench.strategies")
    known = EntryPoints([point])
    monkeypatch.setattr("batchbench.strategies.entry_points", known.select)


@pytest.mark.usefixtures("faulty")
async def test_a_failed_load_is_a_record_and_the_sweep_goes_on(dsn: str, tmp_path: Path) -> None:
    grid = full_grid(["heart_rate"], ["copy", "faulty"], ["psycopg", "asyncpg"], [200], [1])
    plan = SweepPlan(configurations=grid, rows=500, repeats=2)
    run = await run_sweep(plan, dsn, SETTINGS, tmp_path)
    assert len(run.trials) == 8
    assert all(record.usable for record in run.trials if record.strategy == "copy")
    for record in run.trials:
        if record.strategy == "faulty":
            assert (record.status, record.chunks, record.rows_verified) == ("failed", 2, 400)
            assert "DivisionByZero" in (record.reason or "")
            assert (record.rows_per_s, record.seconds, record.goal_met) == (None, None, False)
    assert schemas(dsn) == []


@pytest.mark.parametrize("may_create", [True, False])
async def test_an_ordinary_role_needs_to_create_a_schema(
    dsn: str, tmp_path: Path, may_create: bool
) -> None:
    role = f"ordinary_{os.urandom(4).hex()}"
    name = sql.Identifier(role)
    plan = SweepPlan(configurations=ONE, rows=10)
    sweep = run_sweep(plan, make_conninfo(dsn, user=role), SETTINGS, tmp_path)
    with connected(dsn) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        try:
            if may_create:
                database = sql.Identifier(connection.info.dbname)
                grant = sql.SQL("GRANT CREATE ON DATABASE {} TO {}")
                connection.execute(grant.format(database, name))
                assert_all_usable(await sweep)
            else:
                with pytest.raises(ServerError, match="GRANT CREATE ON DATABASE"):
                    await sweep
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(name, name))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("DELETE FROM {} WHERE ctid = (SELECT max(ctid) FROM {})", "499 of 500 rows"),
        ("UPDATE {} SET heart_rate = 0 WHERE ctid = (SELECT max(ctid) FROM {})", "checksums"),
    ],
)
async def test_rows_that_are_lost_or_altered_are_noticed(
    dsn18: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, says: str
) -> None:
    real_load = engine.load

    async def damaging_load(*args: Any, **options: Any) -> Any:
        result = await real_load(*args, **options)
        table: TableName = args[1][None]
        with connected(dsn18) as connection:
            connection.execute(damage.format(table.sql, table.sql).encode())
        return result

    monkeypatch.setattr(trial_module, "load", damaging_load)
    plan = SweepPlan(configurations=ONE, rows=500, repeats=1, warmups=0)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path)
    (record,) = run.trials
    assert (record.status, record.usable) == ("failed", False)
    assert says in (record.reason or "")


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (MemoryError(), "out of memory"),
        (ExceptionGroup("", [ExceptionGroup("", [MemoryError()])]), "out of memory"),
        (None, "took longer than 0.05 s"),
    ],
)
async def test_a_load_without_memory_or_end_is_a_record(
    dsn18: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception | None,
    says: str,
) -> None:
    async def failing_load(*args: Any, **options: Any) -> Any:
        if failure is None:
            await asyncio.Event().wait()
        else:
            raise failure

    monkeypatch.setattr(trial_module, "load", failing_load)
    plan = SweepPlan(configurations=ONE, rows=10, repeats=1, warmups=0)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, trial_timeout_s=0.05)
    assert says in (run.trials[0].reason or "")


async def test_chunks_are_committed_together_as_a_configuration_says(
    dsn18: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions: list[int] = []
    real_load = trial_module.load

    async def counting_load(*args: Any, **options: Any) -> Any:
        result = await real_load(*args, **options)
        table: TableName = args[1][None]
        with connected(dsn18) as connection:
            found = connection.execute(
                f"SELECT count(DISTINCT xmin::text) FROM {table.sql}".encode()
            )
            transactions.extend(row[0] for row in found)
        return result

    monkeypatch.setattr(trial_module, "load", counting_load)
    grid = full_grid(
        ["heart_rate"], ["copy"], ["psycopg"], [100], [1], transactions=["chunk", "batch", "5"]
    )
    run = await run_sweep(
        SweepPlan(configurations=grid, rows=1_000, repeats=1, warmups=0), dsn18, SETTINGS, tmp_path
    )
    assert_all_usable(run)
    by_boundary = dict(zip((r.transaction for r in run.trials), transactions, strict=True))
    assert by_boundary == {"chunk": 10, "batch": 1, "5": 2}


async def test_a_bug_is_no_record(
    dsn18: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_load(*args: Any, **options: Any) -> Any:
        raise ExceptionGroup("", [MemoryError(), KeyError("a bug")])

    monkeypatch.setattr(trial_module, "load", broken_load)
    plan = SweepPlan(configurations=ONE, rows=10, repeats=1)
    with pytest.raises(ExceptionGroup):
        await run_sweep(plan, dsn18, SETTINGS, tmp_path)
    assert schemas(dsn18) == []


async def test_what_cannot_be_swept_is_said_before_anything_is_stored(
    dsn18: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"

    def plan(table: str = "heart_rate", strategy: str = "copy") -> SweepPlan:
        return SweepPlan(configurations=full_grid([table], [strategy], ["psycopg"], [10], [1]))

    with pytest.raises(ConfigError, match="'steps' is no metric"):
        await run_sweep(plan("steps"), dsn18, SETTINGS, folder)
    with pytest.raises(ConfigError, match="'magic' is unknown"):
        await run_sweep(plan(strategy="magic"), dsn18, SETTINGS, folder)
    extra = [Subject("orders", TableName("orders"))]
    with pytest.raises(ConfigError, match="nothing of table"):
        await run_sweep(plan(), dsn18, SETTINGS, folder, subjects=extra)
    with pytest.raises(ServerError):
        await run_sweep(plan(), "host=/nowhere", SETTINGS, folder)
    assert not folder.exists()


# --- tables of the user's own -------------------------------------------------------------------

ORDERS = """
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE "Order's" (
  id serial PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY, label text NOT NULL
    DEFAULT 'ORD-' || nextval('"Order''s_id_seq"'), customer int NOT NULL REFERENCES customers,
  "Größe" numeric(8,2), state state, tags text[], notes varchar(10), at timestamptz NOT NULL,
  doc jsonb, ip inet, size int GENERATED ALWAYS AS (length(notes)) STORED, UNIQUE (customer, at)
);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER no BEFORE INSERT ON "Order's" FOR EACH ROW EXECUTE FUNCTION refuse();
"""


async def test_a_table_is_copied_and_never_touched(dsn: str, tmp_path: Path) -> None:
    with connected(dsn) as connection:
        connection.execute(ORDERS)
    events: list[SweepEvent] = []
    subjects = table_subjects([TableName("Order's")])
    plan = plan_for("Order's", repeats=2)
    run = await run_sweep(
        plan, dsn, SETTINGS, tmp_path, subjects=subjects, on_progress=events.append
    )
    assert_all_usable(run)
    assert len(run.trials) == 12
    assert {record.rows_verified for record in run.trials} == {500}
    texts = [event.text for event in events if isinstance(event, SweepNotice)]
    assert len(texts) == 4, "each once, however many trials; the last two are of the whole run"
    assert "triggers (1), foreign keys (1)" in texts[0]
    assert "the server fills number, size itself" in texts[1]
    with connected(dsn) as connection:
        assert connection.execute("""SELECT count(*) FROM "Order's" """).fetchone() == (0,)
        advanced = connection.execute("SELECT count(last_value) FROM pg_sequences").fetchone()
        assert advanced == (0,)  # the original's sequences were never drawn from
    assert schemas(dsn) == []


async def test_partitions_are_copied(dsn: str, tmp_path: Path) -> None:
    with connected(dsn) as connection:
        connection.execute(
            """
            CREATE TABLE readings (at timestamptz NOT NULL, region text NOT NULL, v float8)
              PARTITION BY RANGE (at);
            CREATE TABLE r2025 PARTITION OF readings
              FOR VALUES FROM ('2025-01-01') TO ('2025-02-01') PARTITION BY LIST (region);
            CREATE TABLE r2025_north PARTITION OF r2025 FOR VALUES IN ('north');
            CREATE TABLE hashed (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
            CREATE TABLE h0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE h1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            """
        )
    for name in ("readings", "hashed"):
        assert_all_usable(await swept(dsn, tmp_path / name, name))


async def test_rows_of_a_source_are_loaded(dsn: str, tmp_path: Path) -> None:
    with connected(dsn) as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, f float8, d numeric, b bytea, u uuid, i interval,"
            " j json, a int[], at timestamptz)"
        )
    given = [
        {
            "id": n,
            "f": float("nan") if n % 7 == 0 else n / 3,
            "d": f"{n}.50",
            "b": bytes([n % 256, 0]),
            "u": f"00000000-0000-4000-8000-{n:012d}",
            "i": f"{n} days",
            "j": '{"a":  1}' if n % 2 else None,
            "a": [n, None],
            "at": f"2025-01-01 00:00:{n % 60:02d}+02",
        }
        for n in range(700)
    ]
    run = await swept(dsn, tmp_path, "t", rows=given)
    assert_all_usable(run)
    assert {record.rows for record in run.trials} == {500}  # the plan's rows, of 700


@pytest.mark.parametrize("mode", [OnConflict.NOTHING, OnConflict.UPDATE])
async def test_on_conflict_is_measured(dsn18: str, tmp_path: Path, mode: OnConflict) -> None:
    plan = SweepPlan(configurations=FOUR, rows=500, repeats=1, on_conflict=mode, warmups=0)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path)
    assert_all_usable(run)
    assert {r.writers for r in run.trials} == {2}


async def test_naive_times_mean_the_assumed_zone(dsn18: str, tmp_path: Path) -> None:
    with connected(dsn18) as connection:
        connection.execute("CREATE TABLE t (at timestamptz)")
    rows = pa.table({"at": pa.array([0, 1_000_000], pa.timestamp("us"))})
    subjects = table_subjects([TableName("t")], open_source(rows))
    run = await run_sweep(
        plan_for("t"), dsn18, SETTINGS, tmp_path, subjects=subjects, assume_timezone="Asia/Tokyo"
    )
    assert_all_usable(run)


@pytest.mark.parametrize(
    ("ddl", "rows", "says"),
    [
        ("CREATE TABLE t (id int PRIMARY KEY)", [{"id": 1}, {"id": 1}], "UniqueViolation.*t_pkey"),
        ("CREATE TABLE t (id int CHECK (id > 9))", [{"id": 1}], "CheckViolation.*t_id_check"),
        ("CREATE TABLE t (id int CHECK (id < 0))", None, "--source"),
        ("CREATE TABLE t (id int)", [{"id": 1, "colour": 2}], "no column 'colour'"),
        ("CREATE TABLE t (id int, b int NOT NULL)", [{"id": 1}], "no column 'b'"),
    ],
)
async def test_rows_that_do_not_fit_are_said_at_once(
    dsn18: str, tmp_path: Path, ddl: str, rows: list[dict[str, int]] | None, says: str
) -> None:
    with connected(dsn18) as connection:
        connection.execute(ddl.encode())
    with pytest.raises(InputError, match=says) as caught:
        await swept(dsn18, tmp_path, "t", rows=rows)
    assert "batchbench_" not in str(caught.value)
    assert schemas(dsn18) == []


async def test_a_missing_table_is_one_sentence(dsn18: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nowhere does not exist"):
        await swept(dsn18, tmp_path, "nowhere")


async def test_tables_of_one_name_are_kept_apart(dsn18: str, tmp_path: Path) -> None:
    with connected(dsn18) as connection:
        connection.execute("CREATE SCHEMA a; CREATE TABLE a.t (x int); CREATE TABLE t (y text)")
    names = [TableName("t", "a"), TableName("t", "public")]
    subjects = table_subjects(names)
    assert [subject.label for subject in subjects] == ["a.t", "public.t"]
    grid = full_grid(["a.t", "public.t"], ["copy"], ["psycopg"], [100], [1])
    plan = SweepPlan(configurations=grid, rows=100, repeats=1, warmups=0)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, subjects=subjects)
    assert_all_usable(run)
    with pytest.raises(ConfigError, match="twice"):
        table_subjects([TableName("t"), TableName("t")])


# --- memory -------------------------------------------------------------------------------------


_PEAK = """
import json, sys, time
from batchbench.harness import process
if sys.argv[1] == "sampled":
    process.reset_peak = lambda: False
elif not process.reset_peak():
    sys.exit(77)
with process.Footprint() as small:
    pass
with process.Footprint() as large:
    held = b"x" * 100_000_000
    deadline = time.process_time() + 0.05
    while time.process_time() < deadline:
        pass
    del held
print(json.dumps([[f.peak_rss_mb - f.rss_before_mb, f.cpu_s] for f in (small, large)]))
"""


@pytest.mark.parametrize("way", ["kernel", "sampled"])
def test_a_peak_between_two_looks_is_seen(way: str) -> None:
    """In a process of its own: what other tests left free would be taken without a trace."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, way],
        capture_output=True,
        text=True,
        env=child_environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
    )
    if done.returncode == 77:
        pytest.skip("this kernel does not reset its record of the peak")
    assert done.returncode == 0, done.stderr
    (small_mb, _), (large_mb, cpu_s) = json.loads(done.stdout)
    assert large_mb > 90
    assert small_mb < 50
    assert cpu_s >= 0.05
