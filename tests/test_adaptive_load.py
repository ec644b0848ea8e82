"""Loads whose chunk size adapts: every row once, statements reused, and it is said where it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchbench.accounting import LoadResult
from batchbench.config import OTHER_CHUNK_ROWS, Settings, load_settings
from batchbench.engine import ChunkSize, LoadError, LoadOptions, load
from batchbench.engine.sizes import Sizes
from batchbench.engine.times import ChunkTimes
from batchbench.errors import ConfigError
from batchbench.events import ChunkSizeChanged, ChunkWritten, Event
from batchbench.sources import SourceOptions, open_source
from batchbench.strategies.values import ValuesPlan
from batchbench.table import Table, TableName
from batchbench.writer import Writer
from tests.fixtures.commands import Commands
from tests.fixtures.loading import (
    COMBINATIONS,
    encoded_chunks,
    execute,
    load_rows,
    numbered,
    options,
    query,
)
from tests.test_chunks import plan_of

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, note text)"
START = 64
LADDER = {START << rung for rung in range(15)} | {16_383, 32_767}  # two columns; both drivers
SMALL = Settings(table_chunk_size={"T": START})


async def load_auto(
    dsn: str, rows: Any, events: list[Event] | None = None, **changes: Any
) -> LoadResult:
    chosen = options(**{"settings": SMALL, "chunk_size": "auto", **changes})
    heard = events.append if events is not None else None
    return await load(open_source(rows), {None: TableName("t")}, dsn, chosen, on_event=heard)


def written(events: list[Event]) -> list[int]:
    return [event.row_count for event in events if isinstance(event, ChunkWritten)]


@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
@pytest.mark.parametrize(
    ("transaction", "parallelism"), [("chunk", 1), ("chunk", 3), (3, 2), ("batch", 1)]
)
async def test_every_row_arrives_once(
    dsn18: str, strategy: str, driver: str, transaction: Any, parallelism: int
) -> None:
    execute(dsn18, TABLE)
    events: list[Event] = []
    result = await load_auto(
        dsn18,
        numbered(20_000),
        events,
        strategy=strategy,
        driver=driver,
        transaction=transaction,
        parallelism=parallelism,
    )
    assert result.total.read == result.total.committed == 20_000
    assert query(dsn18, "SELECT count(*), sum(id) FROM t") == [(20_000, 200_010_000)]
    sizes = written(events)
    assert sum(rows not in LADDER for rows in sizes) <= 1  # the last one
    assert len(set(sizes)) > 1
    changes = [event for event in events if isinstance(event, ChunkSizeChanged)]
    assert {"public.t": ChunkSize(changes[-1].rows, changes[-1].settled)} == result.chunk_sizes


async def test_only_the_last_chunk_is_not_worth_a_statement(
    dsn18: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VALUES statements are prepared where their size comes again."""
    seen: list[tuple[int, bool]] = []
    write = ValuesPlan.write

    async def watched(plan: ValuesPlan, session: Any, payload: Any, **how: Any) -> Any:
        seen.append((payload.row_count, how["full"]))
        return await write(plan, session, payload, **how)

    monkeypatch.setattr(ValuesPlan, "write", watched)
    execute(dsn18, TABLE)
    await load_auto(dsn18, numbered(10_007), strategy="values", parallelism=1)
    assert all(full for _, full in seen[:-1])
    assert seen[-1][1] is (seen[-1][0] in LADDER)
    assert len({rows for rows, _ in seen}) > 2


async def test_a_stopped_load_resumes_with_other_sizes(dsn18: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,note\n" + "".join(f"{i},n\n" for i in range(20_000)))
    execute(
        dsn18,
        TABLE + "; CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.id = 15000 THEN RAISE EXCEPTION USING ERRCODE = '53100'; END IF;"
        " RETURN NEW; END $$;"
        " CREATE TRIGGER full_disk BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(LoadError) as stopped:
        await load_auto(dsn18, path)
    execute(dsn18, "DROP TRIGGER full_disk ON t")
    before = query(dsn18, "SELECT count(*) FROM t")[0][0]
    assert 0 < before < 20_000
    result = await load(
        open_source(path),
        {None: TableName("t")},
        dsn18,
        options(settings=SMALL, chunk_size="auto", parallelism=1),
        resume=stopped.value.result.load_id,
    )
    assert result.total.read == result.total.committed == 20_000
    assert query(dsn18, "SELECT count(DISTINCT id) FROM t") == [(20_000,)]


async def test_memory_bounds_the_size(dsn18: str) -> None:
    """16 MB for rows of 20 kB: a chunk for each writer and the next one must fit into a part."""
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    wide = pa.table({"id": np.arange(800, dtype=np.int32), "note": ["x" * 20_000] * 800})
    events: list[Event] = []
    settings = Settings(table_chunk_size={"T": 8}, memory_limit_mb=16)
    result = await load_auto(dsn18, wide, events, settings=settings, parallelism=1)
    assert result.total.committed == 800
    assert max(written(events)) * 20_000 < 16 * 2**20 / 4
    assert result.chunk_sizes["public.t"].rows in {8 << rung for rung in range(8)}


async def test_rows_that_are_rejected_do_not_end_the_search(dsn18: str) -> None:
    execute(dsn18, TABLE)
    notes = [("bad\0" if i % 500 == 0 else "good") for i in range(20_000)]
    rows = pa.table({"id": pa.array(range(20_000), pa.int32()), "note": notes})
    events: list[Event] = []
    result = await load_auto(dsn18, rows, events)
    assert (result.total.committed, result.total.rejected) == (19_960, 40)
    assert len(set(written(events))) > 1


async def test_a_size_adapts_though_the_server_refuses_rows(dsn18: str) -> None:
    """2 % of them, so every chunk is written in pieces."""
    execute(dsn18, "CREATE TABLE t (id int4 CHECK (id % 50 <> 7), note text)")
    events: list[Event] = []
    result = await load_auto(dsn18, numbered(10_000), events, parallelism=1)
    assert (result.total.committed, result.total.rejected) == (9_800, 200)
    tried = {event.chunk_rows for event in events if isinstance(event, ChunkWritten)}
    assert len(tried) > 1


async def test_rows_that_leave_columns_out_adapt_with_the_others(
    dsn18: str, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, note text DEFAULT 'none')")
    path = tmp_path / "x.ndjson"
    lines = (f'{{"id": {i}' + (', "note": "n"}' if i % 3 else "}") for i in range(20_000))
    path.write_text("\n".join(lines))
    events: list[Event] = []
    result = await load(
        open_source(path, options=SourceOptions(missing="default")),
        {None: TableName("t")},
        dsn18,
        options(settings=SMALL, chunk_size="auto"),
        on_event=events.append,
    )
    assert result.total.committed == 20_000
    assert query(dsn18, "SELECT count(*) FROM t WHERE note = 'none'") == [(6_667,)]
    assert len(set(written(events))) > 2


async def test_a_fixed_size_says_nothing(dsn18: str) -> None:
    execute(dsn18, TABLE)
    assert (await load_rows(dsn18, numbered(100), chunk_size=10)).chunk_sizes == {}


async def test_the_writer_of_a_service_refuses(dsn18: str) -> None:
    execute(dsn18, TABLE)
    for chosen in (
        options(chunk_size="auto"),
        options(settings=Settings(table_chunk_size={"T": None})),
    ):
        with pytest.raises(ConfigError, match="BATCH_PUBLIC_T_CHUNK_SIZE, to a number"):
            await Writer(dsn18, "t", chosen).open()


# --- where it starts --------------------------------------------------------------------------


def start_of(chunk_size: Any, **environ: str) -> tuple[bool, int]:
    options = LoadOptions(settings=load_settings(environ=environ)[0], chunk_size=chunk_size)
    table = Table(TableName("sleep_metrics", "public"), ())
    return options.adapts(table, None), options.chunk_size_for(table, None)


def test_it_starts_from_the_configured_size() -> None:
    assert start_of(None) == (False, 6_000)
    assert start_of("auto") == (True, 6_000)
    assert start_of("auto", BATCH_SLEEP_CHUNK_SIZE="700") == (True, 700)
    assert start_of(None, BATCH_SLEEP_CHUNK_SIZE="auto") == (True, OTHER_CHUNK_ROWS)
    assert start_of(300, BATCH_SLEEP_CHUNK_SIZE="auto") == (False, 300)


@pytest.mark.parametrize("size", ["Auto", "fast", ""])
def test_other_words_are_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="name a number, or auto"):
        LoadOptions(settings=Settings(), chunk_size=size)


# --- the command line ---------------------------------------------------------------------------


def test_the_command_says_where_it_came_to(dsn18: str, commands: Commands, tmp_path: Path) -> None:
    execute(dsn18, TABLE)
    path = tmp_path / "x.csv"
    path.write_text("id,note\n" + "".join(f"{i},n\n" for i in range(40_000)))
    load_it = ("load", path, "--table", "t", "--dsn", dsn18, "--chunk-size", "auto")
    plan = commands(*load_it, "--dry-run")
    assert "adapt to measured rows/s: 5,000 at first, 1,000,000 at most" in plan.out
    done = commands(*load_it, "--json", "--log-format", "json")
    assert done.code == 0, done.err
    size = done.json["chunk_sizes"]["public.t"]
    assert size["rows"] >= 64
    events = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    changed = [event for event in events if event["event"] == "chunk_size_changed"]
    assert {"rows": changed[-1]["rows"], "settled": changed[-1]["settled"]} == size
    execute(dsn18, "TRUNCATE t")
    assert "public.t: the chunk size " in commands(*load_it).out


@pytest.mark.parametrize("size", ["many", "-1", "1e3"])
def test_a_bad_size_is_refused_in_one_line(commands: Commands, tmp_path: Path, size: str) -> None:
    done = commands("load", tmp_path / "x.csv", "--table", "t", f"--chunk-size={size}")
    assert done.code == 2
    assert f"--chunk-size takes a number of rows, or auto, not '{size}'" in done.err


def test_check_knows_auto(dsn18: str, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_SLEEP_CHUNK_SIZE", "auto")
    done = commands("check", "--dsn", dsn18)
    assert done.code == 0
    assert "BATCH_SLEEP_CHUNK_SIZE=auto (environment): adapts while a load runs" in done.out


# --- a writer's times -----------------------------------------------------------------------------


def test_waits_count_and_a_commit_is_shared() -> None:
    times = ChunkTimes()
    times.take(10.0, 11.0, 11.0, 3)
    assert times.seconds == 1.0  # nothing is known of a COMMIT yet
    times.take(11.5, 12.0, 12.0, 3)
    assert times.seconds == 1.0  # it waited half a second
    times.take(12.0, 13.0, 16.0, 3)
    assert times.seconds == 2.0
    times.take(16.0, 17.0, 17.0, 3)
    assert times.seconds == 2.0
    times.failed(by_row=False)
    times.take(17.0, 30.0, 30.0, 3)
    assert times.seconds is None
    times.take(30.0, 31.0, 31.0, float("inf"))
    assert times.seconds == 1.0


def test_refused_rows_count_where_they_are_usual() -> None:
    """One such chunk alone says nothing of its size; a failure beside them never does."""
    times, seen = ChunkTimes(), []
    for number, failures in enumerate(["", "row", "row", "row other", "row", "", "row"]):
        for failure in failures.split():
            times.failed(by_row=failure == "row")
        times.take(number, number + 1.0, number + 1.0, float("inf"))
        seen.append(times.seconds)
    assert seen == [1.0, None, 1.0, None, 1.0, 1.0, None]


async def test_a_retried_chunk_is_no_measure(dsn18: str) -> None:
    """Each chunk's first try fails as a deadlock does: no size is ever judged."""
    execute(
        dsn18,
        TABLE + "; CREATE SEQUENCE tries; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN IF nextval('tries') % 2 = 1 THEN"
        " RAISE EXCEPTION USING ERRCODE = '40P01'; END IF; RETURN NULL; END $$;"
        " CREATE TRIGGER fail AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION fail()",
    )
    events: list[Event] = []
    settings = Settings(table_chunk_size={"T": START}, initial_backoff_ms=1)
    result = await load_auto(dsn18, numbered(3_000), events, settings=settings, parallelism=1)
    assert (result.total.committed, result.retries) == (3_000, 47)
    assert set(written(events)[:-1]) == {START}


def test_few_python_rows_do_not_bound_later_chunks() -> None:
    """What a stream of them holds at once is the same for many."""
    rows = open_source([(i, "note") for i in range(START)], columns=["c0", "t"])
    plan = plan_of(1, START, "copy", "psycopg", texts=["t"])
    (chunk,) = encoded_chunks(rows, plan, LoadResult("x"), lambda text: None, 1 << 20)
    sizes = Sizes(writers=1, limit_bytes=4 << 20, emit=lambda event: None)
    sizing = sizes.of(
        replace(plan.tables[None], adapts=True), replace(chunk.shape, most_rows=10**6)
    )
    sizes.hold(chunk)
    cut = [0]
    for _ in range(3_000):
        cut.append(sizing.cut())
        sizing.wrote(cut[-1], 0.01 + cut[-1] * 1e-7)
    assert 4_096 <= max(cut) <= (4 << 20) / 2 / 56 / 3
