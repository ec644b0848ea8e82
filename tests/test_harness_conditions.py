"""What a sweep's loads find: filled tables, regimes, settings, far servers, limited roles."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from batchbench.config import Settings, child_environment
from batchbench.engine import load as real_load
from batchbench.errors import ConfigError, InputError, ServerError
from batchbench.harness import (
    Subject,
    SweepEvent,
    SweepNotice,
    SweepPlan,
    full_grid,
    run_sweep,
    table_subjects,
)
from batchbench.harness import trial as trial_module
from batchbench.harness.state import settle as real_settle
from batchbench.harness.state import with_settings
from batchbench.harness.verify import contents as real_contents
from batchbench.results import Run
from batchbench.sources import open_source
from batchbench.table import TableName, parse_table_name
from tests.fixtures.pgbouncer import PgBouncer, open_pgbouncer

SETTINGS = Settings()


async def swept(
    dsn: str,
    folder: Path,
    *,
    told: list[str] | None = None,
    table: str | None = None,
    rows: Any = None,
    scratch_schema: str | None = None,
    **changes: Any,
) -> Run:
    """Sweep COPY and VALUES in this process."""
    subjects: tuple[Subject, ...] = ()
    if table is not None:
        source = None if rows is None else open_source(rows, name="given rows")
        subjects = table_subjects([parse_table_name(table)], source)
    label = subjects[0].label if subjects else "heart_rate"
    options: dict[str, Any] = {"rows": 300, "repeats": 1, "warmups": 0, **changes}
    options.setdefault(
        "configurations", full_grid([label], ["copy", "values"], ["psycopg", "asyncpg"], [100], [1])
    )
    events: list[SweepEvent] = []
    run = await run_sweep(
        SweepPlan(**options),
        dsn,
        SETTINGS,
        folder,
        subjects=subjects,
        scratch_schema=scratch_schema,
        apart=False,
        on_progress=events.append,
    )
    if told is not None:
        told += [event.text for event in events if isinstance(event, SweepNotice)]
    assert [(r.trial_id, r.reason) for r in run.records if not r.usable] == []
    return run


def connected(dsn: str) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn, autocommit=True)


def ours(dsn: str) -> list[str]:
    """What a sweep left behind."""
    with connected(dsn) as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'batchbench%'"
            " UNION ALL SELECT relname FROM pg_class WHERE relname LIKE 'batchbench%'"
        )
        return [row[0] for row in found]


# --- the table's state --------------------------------------------------------------------------


async def test_a_filled_table_is_the_same_before_every_load(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    async def counting_load(*args: Any, **options: Any) -> Any:
        target: TableName = args[1][None]
        with connected(dsn) as connection:
            counting = sql.SQL("SELECT count(*) FROM {}").format(
                sql.Identifier(str(target.schema), target.table)
            )
            row = connection.execute(counting).fetchone()
            assert row is not None
            counts.append(row[0])
        return await real_load(*args, **options)

    monkeypatch.setattr(trial_module, "load", counting_load)
    run = await swept(dsn, tmp_path, filled=700, repeats=2)
    assert counts == [700] * 8
    assert {record.table_state for record in run.records} == {"filled:700"}
    assert {(record.rows, record.rows_verified) for record in run.records} == {(300, 300)}
    assert ours(dsn) == []


async def test_a_source_fills_the_table_with_its_first_rows(dsn18: str, tmp_path: Path) -> None:
    with connected(dsn18) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    given = [{"id": number} for number in range(1_000)]
    run = await swept(dsn18, tmp_path / "a", table="t", rows=given, filled=800)
    assert {record.rows for record in run.trials} == {200}
    with pytest.raises(InputError, match="1,000 in all"):
        await swept(dsn18, tmp_path / "b", table="t", rows=given, filled=1_000)


async def test_other_rows_do_not_resume(dsn18: str, tmp_path: Path) -> None:
    with connected(dsn18) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
    subjects = []
    for number in (10, 20):
        path = tmp_path / f"{number}.ndjson"
        path.write_text("".join(f'{{"id": {n}}}\n' for n in range(number)))
        subjects.append(table_subjects([parse_table_name("t")], open_source(path)))
    plan = SweepPlan(configurations=full_grid(["t"], ["copy"], ["psycopg"], [5], [1]), rows=10)
    again = functools.partial(run_sweep, plan, dsn18, SETTINGS, resume=True, apart=False)
    for given in (subjects[0], subjects[0]):
        await again(tmp_path / "run", subjects=given)
    for other in (subjects[1], table_subjects([parse_table_name("t")])):
        with pytest.raises(ConfigError, match="another plan .other sources"):
            await again(tmp_path / "run", subjects=other)


async def test_a_short_source_is_repeated_where_no_key_forbids_it(
    dsn18: str, tmp_path: Path
) -> None:
    with connected(dsn18) as connection:
        connection.execute("CREATE TABLE free (id int); CREATE TABLE keyed (id int PRIMARY KEY)")
    given = [{"id": number} for number in range(70)]
    told: list[str] = []
    run = await swept(dsn18, tmp_path / "a", table="free", rows=given, told=told)
    assert {record.rows_verified for record in run.trials} == {300}
    assert any("70 rows are repeated to make 300" in text for text in told)
    run = await swept(dsn18, tmp_path / "b", table="keyed", rows=given, told=told)
    assert {record.rows_verified for record in run.trials} == {70}
    assert any("cannot be repeated, since the table has a unique key" in text for text in told)


# --- regimes ------------------------------------------------------------------------------------


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where VACUUM and CHECKPOINT are called: inside the clock of a load, or outside."""
    seen: list[str] = []

    async def settle(*args: Any, **options: Any) -> None:
        seen.append("inside" if not options else "outside")
        await real_settle(*args, **options)

    monkeypatch.setattr(trial_module, "settle", settle)
    return seen


async def test_a_burst_settles_before_a_sustained_load_within(
    dsn: str, tmp_path: Path, settled: list[str]
) -> None:
    run = await swept(dsn, tmp_path / "burst")
    assert settled == ["outside"] * 5
    assert {(record.regime, record.rows_by_second) for record in run.records} == {("burst", ())}
    settled.clear()
    grid = full_grid(["heart_rate"], ["copy", "values"], ["psycopg", "asyncpg"], [10], [2])
    run = await swept(dsn, tmp_path / "sustained", regime="sustained", configurations=grid)
    assert settled == ["inside"] * 5
    assert {record.regime for record in run.records} == {"sustained"}
    assert {sum(record.rows_by_second) for record in run.trials} == {300}
    for record in run.trials:
        assert record.seconds is not None
        assert record.seconds > sum(record.chunk_seconds) / 2


# --- settings of the server's sessions ----------------------------------------------------------


async def test_loads_have_the_settings_and_say_what_they_are_worth(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(dsn) as connection:
        connection.execute(
            "CREATE TABLE t (id int, mode text DEFAULT current_setting('synchronous_commit'),"
            " path text DEFAULT current_setting('search_path'))"
        )
    modes: list[tuple[str, str]] = []

    async def looking(session: Any, table: TableName, columns: Any) -> Any:
        modes.extend(await session.fetch(f"SELECT DISTINCT mode, path FROM {table.sql}"))
        return await real_contents(session, table, columns)

    monkeypatch.setattr(trial_module, "contents", looking)
    wanted = {"synchronous_commit": "off", "search_path": '"a b", public'}
    told: list[str] = []
    rows = [{"id": number} for number in range(300)]
    run = await swept(dsn, tmp_path, table="t", rows=rows, server_settings=wanted, told=told)
    assert set(modes) == {("off", '"a b", public')}
    assert len(modes) == 5
    assert {tuple(record.server_settings.items()) for record in run.records} == {
        tuple(wanted.items())
    }
    assert any("durability is relaxed" in text for text in told)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("shared_buffers", "1GB", "cannot be had"),
        ("no_such_setting", "1", "cannot be had"),
        ("timezone", "Asia/Tokyo", "sets it itself"),
    ],
)
async def test_settings_that_no_session_can_have(
    dsn18: str, tmp_path: Path, name: str, value: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        await swept(dsn18, tmp_path / "run", server_settings={name: value})
    assert not (tmp_path / "run").exists()


async def test_settings_that_a_session_only_begins_with(dsn18: str, tmp_path: Path) -> None:
    run = await swept(dsn18, tmp_path, server_settings={"log_connections": "all"})
    assert {record.server_settings["log_connections"] for record in run.records} == {"all"}


# --- poolers ------------------------------------------------------------------------------------


async def test_through_a_pooler(pgbouncer: PgBouncer, tmp_path: Path) -> None:
    told: list[str] = []
    run = await swept(pgbouncer.dsn, tmp_path / "run", repeats=2, told=told)
    assert len(run.trials) == 8
    assert sum("a pooler keeps them" in text for text in told) == 1
    assert ours(pgbouncer.direct_dsn) == []
    with pytest.raises(ConfigError, match="connect past a pooler"):
        await swept(pgbouncer.dsn, tmp_path / "no", server_settings={"work_mem": "8MB"})
    assert not (tmp_path / "no").exists()


async def test_a_pooler_that_drops_settings_in_silence(dsn18: str, tmp_path: Path) -> None:
    with (
        open_pgbouncer(dsn18, {"ignore_startup_parameters": "options"}) as bouncer,
        pytest.raises(ConfigError, match="synchronous_commit=on, not with off"),
    ):
        await swept(bouncer.dsn, tmp_path, server_settings={"synchronous_commit": "off"})


def test_settings_join_the_options_of_an_address() -> None:
    joined = with_settings("host=h options='-c jit=off'", {"work_mem": "64 MB"})
    assert psycopg.conninfo.conninfo_to_dict(joined) == {
        "host": "h",
        "options": "-c jit=off -c work_mem=64\\ MB",
    }
    assert with_settings("host=h", {}) == "host=h"


# --- far servers --------------------------------------------------------------------------------


async def test_round_trips_are_a_dimension(dsn: str, tmp_path: Path) -> None:
    grid = full_grid(["heart_rate"], ["copy"], ["psycopg", "asyncpg"], [50], [1], [0, 20])
    run = await swept(dsn, tmp_path, configurations=grid)
    assert list(run.rtts_ms) == [0.0, 20.0]
    assert {record.trial_id for record in run.at(20).trials} == {
        "heart_rate/copy/psycopg/50/1/20ms#1",
        "heart_rate/copy/asyncpg/50/1/20ms#1",
    }
    for record in run.at(20).trials:  # six chunks, each with a COMMIT to wait for
        assert record.seconds is not None
        assert record.seconds > 6 * 0.020
    (yardstick,) = run.yardsticks
    assert yardstick.rtt_ms == 0
    assert yardstick in run.at(20).records


# --- roles --------------------------------------------------------------------------------------


async def test_a_role_that_owns_only_its_schema(ordinary: str, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="--scratch-schema NAME"):
        await swept(ordinary, tmp_path / "a")
    told: list[str] = []
    run = await swept(
        ordinary, tmp_path / "b", scratch_schema="own", filled=50, repeats=2, told=told
    )
    assert len(run.trials) == 8
    assert any("CHECKPOINT is left out" in text for text in told)
    for record in run.trials:
        unknown = {name for name, value in record.observed.items() if value is None}
        assert record.unobserved.keys() == unknown, "what it may not read is null with a reason"
        assert (record.observed["wal_bytes"] or 0) > 0
        assert (record.observed["heap_growth_bytes"] or 0) > 0
    assert ours(ordinary) == []
    with pytest.raises(ServerError, match="may not create tables in schema public"):
        await swept(ordinary, tmp_path / "c", scratch_schema="public")
    with pytest.raises(ServerError, match="there is no schema nowhere"):
        await swept(ordinary, tmp_path / "d", scratch_schema="nowhere")


async def test_a_table_is_copied_beside_itself_and_never_touched(
    ordinary: str, tmp_path: Path
) -> None:
    with connected(ordinary) as connection:
        connection.execute(
            """
            CREATE TABLE own.orders (id serial PRIMARY KEY, note text) PARTITION BY RANGE (id);
            CREATE TABLE own.orders_1 PARTITION OF own.orders FOR VALUES FROM (0) TO (100);
            INSERT INTO own.orders (note) VALUES ('mine');
            """
        )
    await swept(ordinary, tmp_path, table="own.orders", scratch_schema="own", filled=20)
    with connected(ordinary) as connection:
        found = connection.execute("SELECT id, note FROM own.orders").fetchall()
        assert found == [(1, "mine")]
        drawn = connection.execute("SELECT last_value FROM own.orders_id_seq").fetchone()
        assert drawn == (1,)
        names = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'own'::regnamespace"
        )
        assert all(str(row[0]).startswith("orders") for row in names)


# --- on the command line ------------------------------------------------------------------------


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchbench", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=child_environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
    )


def test_each_round_trip_has_advice_of_its_own(dsn18: str, tmp_path: Path) -> None:
    grid = ("--profile", "sleep", "--strategy", "copy", "--chunk-size", "50", "--rows", "200")
    words = ("sweep", *grid, "--rtt-ms", "0,3", "--repeats", "1", "--dsn", dsn18, "-o", "run")
    done = command(*words, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    advice = json.loads(done.stdout)["round_trips"]
    assert [part["rtt_ms"] for part in advice] == [0, 3]
    assert [len(part["ranking"]) for part in advice] == [2, 2]
    pooled = command("recommend", "run", cwd=tmp_path)
    assert (pooled.returncode, pooled.stdout) == (2, "")
    assert "0, 3 ms more" in pooled.stderr
    one = command("recommend", "run", "--rtt-ms", "3", cwd=tmp_path)
    assert (one.returncode, "1 trial" in one.stdout) == (0, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--table-state", "full"), "filled:N"),
        (("--table-state", "filled:0"), "filled:N"),
        (("--rtt-ms", "near"), "such as 0,1,5,20"),
        (("--rtt-ms", "-1"), "from 0 to"),
        (("--server-setting", "jit"), "name=value"),
        (("--server-setting", "jit=on", "--server-setting", "jit=off"), "twice"),
    ],
)
def test_conditions_that_cannot_be_are_one_sentence(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    done = command("sweep", "--dry-run", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
