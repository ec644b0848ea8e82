"""An adaptive run: who stops, who begins, by its records alone; and killed, it goes on the same."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchbench.config import Settings, child_environment
from batchbench.errors import ConfigError
from batchbench.harness import (
    Configuration,
    Space,
    SweepPlan,
    full_grid,
    plan_from_document,
    tune_plan,
)
from batchbench.harness.search import (
    RACE_PAIRS,
    Search,
    is_over,
    look_after,
    members,
)
from batchbench.recommend import env_text, ranking, recommend
from batchbench.results import Constraints, Look, Run, TrialRecord, load_run, open_run
from batchbench.stats import additive_levels
from tests.test_results import INFO, record

SIZES = (100, 200, 400, 800, 1600, 3200)
WAYS = [(s, d, w) for s in ("copy", "unnest") for d in ("asyncpg", "psycopg") for w in (1, 2)]
GRID = tuple(Configuration("sleep", s, d, size, w) for s, d, w in WAYS for size in SIZES)
SEARCH = Search(starts=tuple(i for i, c in enumerate(GRID) if c.chunk_size in (400, 3200)), keep=5)
AT = "2026-01-01T00:00:00+00:00"
Speed = Callable[[Configuration], float]


def peaked(c: Configuration) -> float:
    """Copy with two writers is best, at 800 rows; the fall from there is 20 % a step."""
    level = 100_000 * (1.0 if c.strategy == "copy" else 0.7) * (1.0 if c.parallelism == 2 else 0.8)
    return level * 0.8 ** abs(math.log2(c.chunk_size / 800))


def trial(c: Configuration, block: int, rows_per_s: float, **changes: object) -> TrialRecord:
    made = replace(
        record(block, position=1),
        trial_id=f"{c}#{block}",
        table=c.table,
        strategy=c.strategy,
        driver=c.driver,
        chunk_size=c.chunk_size,
        chunk_rows=c.chunk_size,
        parallelism=c.parallelism,
        transaction=c.transaction,
        rows_per_s=rows_per_s,
        epoch=1 + block // 8,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def searched(
    speed: Speed,
    *,
    blocks: int = 30,
    sd: float = 0.0,
    seed: int = 1,
    search: Search = SEARCH,
    grid: Sequence[Configuration] = GRID,
) -> Run:
    """A run whose blocks differ as a whole by a fifth, and single trials by `sd`."""
    rng = np.random.default_rng(seed)
    looks: list[Look] = []
    records: list[TrialRecord] = []
    for block in range(1, blocks + 1):
        running = members(grid, search, looks, block)
        if is_over(running):
            break
        drift = rng.normal(0, 0.2)
        for c in running:
            noise = math.exp(drift + rng.normal(0, sd))
            records.append(trial(c, block, speed(c) * noise))
        look = look_after(grid, search, looks, records, block, AT)
        if look is not None:
            looks.append(look)
    plan = SweepPlan(configurations=tuple(grid), search=search).document()
    return Run(Path("run"), replace(INFO, plan=plan, looks=tuple(looks)), tuple(records))


def test_it_climbs_to_a_size_that_did_not_begin() -> None:
    run = searched(peaked)
    values = recommend(run).values
    assert values["BATCH_SLEEP_CHUNK_SIZE"] == "800"
    assert (values["BATCH_STRATEGY"], values["BATCH_PARALLELISM"]) == ("copy", "2")
    first = run.info.looks[0]
    assert len(first.dropped) == 16 - 5
    assert "sleep/copy/asyncpg/800/2" in first.added
    assert all("of the best after block 1" in why for why in first.dropped.values())
    began = {record.name for record in run.records}
    assert len(began) < len(GRID)


def test_most_of_the_time_goes_to_the_good_ones() -> None:
    run = searched(peaked, sd=0.1)
    counts = Counter(record.name for record in run.records)
    best = {name: count for name, count in counts.items() if count > 3}
    assert 1 <= len(best) <= 5
    assert sum(best.values()) > 0.6 * sum(counts.values())


def test_noisy_searches_mostly_end_near_the_best() -> None:
    ends = []
    for seed in range(40):
        (chosen,) = recommend(searched(peaked, sd=0.1, seed=seed)).chosen
        way = chosen.way
        c = Configuration(
            "sleep", way.strategy, way.driver, chosen.chunk_rows or 0, way.parallelism
        )
        ends.append(peaked(c) / 100_000)
    assert sum(end >= 0.95 for end in ends) >= 36


def test_the_surely_slower_stop_at_planned_looks_only() -> None:
    """No sooner than six pairs after the last came in, and never the best."""
    everyone = Search(starts=None, keep=None)
    run = searched(peaked, sd=0.05, search=everyone, blocks=24)
    assert [look.block for look in run.info.looks] == [6, 12, 24]
    dropped = {name for look in run.info.looks for name in look.dropped}
    best = {str(c) for c in GRID if peaked(c) == 100_000}
    assert not dropped & best
    assert len(dropped) >= len(GRID) // 2
    reasons = run.info.looks[0].dropped.values()
    assert all("surely under 0.97 of the best" in why and "6 pairs" in why for why in reasons)


def test_equals_are_rarely_stopped() -> None:
    """Of two that are the same, in 400 races to the end: within 5 %, and what luck adds."""
    two = GRID[:2]
    wrong = 0
    rng = np.random.default_rng(3)
    for _ in range(400):
        looks: list[Look] = []
        records: list[TrialRecord] = []
        for block in range(1, RACE_PAIRS[2] + 1):
            records += [trial(c, block, 1e5 * math.exp(rng.normal(0, 0.1))) for c in two]
            everyone = Search(starts=None, keep=None)
            look = look_after(two, everyone, looks, records, block, "")
            if look is not None:
                looks.append(look)
        wrong += any(look.dropped for look in looks)
    assert wrong <= 0.05 * 400


def test_what_breaks_a_constraint_stops_and_smaller_chunks_begin() -> None:
    def heavy(records: Iterable[TrialRecord]) -> list[TrialRecord]:
        return [replace(r, peak_rss_mb=200.0 if r.chunk_size > 800 else 90.0) for r in records]

    search = replace(SEARCH, constraints=Constraints(max_memory_mb=100))
    running = members(GRID, search, [], 1)
    speeds = {c: 1e5 * c.chunk_size for c in running}
    records = heavy(trial(c, 1, speeds[c]) for c in running)
    look = look_after(GRID, search, [], records, 1, "")
    assert look is not None
    assert look.dropped["sleep/copy/psycopg/3200/2"] == "peak memory 200 of at most 100 MB"
    assert "sleep/copy/psycopg/1600/2" in look.added
    assert not any("3200" in name for name in look.added)


def test_a_failed_one_stops_with_its_reason() -> None:
    running = members(GRID, SEARCH, [], 1)
    records = [trial(c, 1, 1e5) for c in running]
    records[0] = replace(records[0], status="failed", reason="the server refused", rows_per_s=None)
    look = look_after(GRID, SEARCH, [], records, 1, "")
    assert look is not None
    assert look.dropped[str(running[0])] == "failed: the server refused"


def test_who_was_stopped_is_never_recommended_however_lucky() -> None:
    run = searched(peaked)
    stopped = next(iter(run.info.looks[0].dropped))
    lucky = tuple(replace(r, rows_per_s=1e9) if r.name == stopped else r for r in run.records)
    rows = ranking(replace(run, records=lucky))
    row = next(row for row in rows if row.stopped is not None)
    assert "of the best" in (row.stopped or "")
    assert not row.eligible
    assert recommend(replace(run, records=lucky)).values["BATCH_SLEEP_CHUNK_SIZE"] == "800"


def test_a_way_that_all_tables_can_share_is_kept() -> None:
    """Each table has its own best way, and unnest with one writer is second on both."""
    grid = [
        Configuration(table, s, d, 400, w) for table in ("sleep", "workout") for s, d, w in WAYS
    ]
    second = ("unnest", "asyncpg", 1)

    def speed(c: Configuration) -> float:
        way = (c.strategy, c.driver, c.parallelism)
        if way == second:
            return 9e4
        place = WAYS.index(way)
        return 1e5 + place if (place < 4) == (c.table == "sleep") else 4e4 + place

    search = Search(starts=None, keep=2, finalists=2)
    looks: list[Look] = []
    records: list[TrialRecord] = []
    for block in range(1, 15):
        running = members(grid, search, looks, block)
        records += [trial(c, block, speed(c)) for c in running]
        look = look_after(grid, search, looks, records, block, "")
        looks += [look] if look is not None else []
    running = members(grid, search, looks, 15)
    assert {c.table for c in running if (c.strategy, c.driver, c.parallelism) == second} == {
        *("sleep", "workout")
    }
    assert len(running) < len(grid) / 2


def test_looks_follow_from_the_records_alone() -> None:
    """Whatever the order in which they are read back."""
    run = searched(peaked, sd=0.1)
    looks: list[Look] = []
    for block in range(1, 31):
        until = [r for r in reversed(run.records) if r.block <= block]
        look = look_after(GRID, SEARCH, looks, until, block, "2026-01-01T00:00:00+00:00")
        if look is not None:
            looks.append(look)
            assert look_after(GRID, SEARCH, looks, until, block, "") is None
    assert [(x.block, x.dropped) for x in looks] == [(x.block, x.dropped) for x in run.info.looks]
    assert [set(x.added) for x in looks] == [set(x.added) for x in run.info.looks]


def test_levels_of_configurations_in_different_blocks() -> None:
    """b never met a; both met c."""
    cells = {(1, "a"): 11.0, (1, "c"): 10.0, (2, "c"): 5.0, (2, "b"): 7.0, (3, "c"): 1.0}
    levels, blocks = additive_levels(cells)
    assert levels["a"] - levels["c"] == pytest.approx(1.0, abs=1e-3)
    assert levels["b"] - levels["a"] == pytest.approx(1.0, abs=1e-3)
    assert blocks[1] - blocks[3] == pytest.approx(9.0, abs=1e-3)


# --- plans ----------------------------------------------------------------------------------------


def planned(space: Space | None = None, **changes: object) -> SweepPlan:
    options: dict[str, object] = {"cores": 2, "budget_s": 180.0, **changes}
    constraints = options.pop("constraints", Constraints())
    conditions = SweepPlan(configurations=GRID[:1])
    return tune_plan(
        *(conditions, ["sleep"], Settings(), space or Space(), constraints),
        **options,  # type: ignore[arg-type]
    )


def test_a_plan_begins_with_two_sizes_of_every_way_and_what_is_configured() -> None:
    plan = planned()
    assert plan.search is not None
    starts = [plan.configurations[index] for index in plan.search.starts or ()]
    assert {(c.strategy, c.driver, c.parallelism) for c in starts} == {
        (c.strategy, c.driver, c.parallelism) for c in plan.configurations
    }
    assert any(c.chunk_size == Settings().chunk_size("sleep") for c in starts)
    assert len(starts) < len(plan.configurations) / 2
    assert plan.rows >= 20 * max(c.chunk_size for c in plan.configurations)
    assert plan_from_document(plan.document()) == plan


def test_more_time_is_a_larger_space_and_connections_bound_it() -> None:
    short, long = planned(budget_s=30.0), planned(budget_s=3_000.0)
    assert len(short.configurations) < len(long.configurations)
    one = planned(constraints=Constraints(max_connections=1))
    assert {c.parallelism for c in one.configurations} == {1}
    with pytest.raises(ConfigError):
        planned(Space(chunk_sizes=[0]))


def test_transaction_boundaries_are_searched_where_they_are_named() -> None:
    assert {c.transaction for c in planned().configurations} == {"chunk"}
    plan = planned(Space(strategies=["copy"], transactions=["chunk", "batch"]))
    assert plan.search is not None
    starts = [plan.configurations[index] for index in plan.search.starts or ()]
    assert {(c.transaction, c.parallelism) for c in starts} == {
        *(("chunk", 1), ("chunk", 2), ("batch", 1)),
    }

    def best_together(c: Configuration) -> float:
        return peaked(c) * (1.5 if c.transaction == "batch" else 1.0)

    grid = full_grid(["sleep"], ["copy"], ["psycopg"], SIZES, [1], transactions=["chunk", "batch"])
    begin = tuple(n for n, c in enumerate(grid) if c.chunk_size in (400, 3200))
    run = searched(best_together, grid=grid, search=Search(starts=begin, keep=3, finalists=1))
    added = [name for look in run.info.looks for name in look.added]
    assert "sleep/copy/psycopg/800/1/commit:batch" in added
    advice = recommend(run)
    assert advice.values["BATCH_SLEEP_CHUNK_SIZE"] == "800"
    assert advice.chosen[0].way.transaction == "batch"
    assert advice.boundary.startswith("commit with batchbench load --transaction batch")
    assert f"# {advice.boundary}" in env_text(advice).splitlines()


def test_a_search_keeps_to_its_wal() -> None:
    """The fastest writes too much of it, and what was not seen is not allowed."""

    def wal(record: TrialRecord) -> TrialRecord:
        amount = {8_000: None, 4_000: 90e6}.get(record.chunk_size, 10e6)
        return replace(record, seconds=1.0, observed={"wal_bytes": amount})

    search = Search(constraints=Constraints(max_wal_mb_per_s=50.0))
    grid = full_grid(["sleep"], ["copy"], ["psycopg"], [1_000, 4_000, 8_000], [1])
    records = [wal(trial(c, block, peaked(c))) for c in grid for block in range(1, 7)]
    look = look_after(grid, search, (), records, 6, AT)
    assert look is not None
    assert look.dropped["sleep/copy/psycopg/4000/1"] == "WAL 90 of at most 50 MB/s"
    assert "was not measured" in look.dropped["sleep/copy/psycopg/8000/1"]
    assert "sleep/copy/psycopg/1000/1" not in look.dropped


# --- on a server ----------------------------------------------------------------------------------

TUNE = (
    *("tune", "--profile", "sleep", "--strategy", "copy", "--parallelism", "1"),
    *("--rows", "400", "--chunk-size", "10,20,40,80", "--budget", "30s", "--no-confirm"),
)


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "batchbench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env=child_environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
        start_new_session=True,
    )


def test_killed_and_resumed_it_is_one_run_without_a_trial_twice(dsn18: str, tmp_path: Path) -> None:
    words = (*TUNE, "--dsn", dsn18, "-o", "run")
    trials = tmp_path / "run" / "trials.ndjson"
    with start(*words, cwd=tmp_path) as process:
        deadline = time.monotonic() + 60
        while not trials.exists() or trials.read_bytes().count(b"\n") < 25:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stdout and process.stdout.read()
            time.sleep(0.05)  # polled: another process writes it
        os.killpg(process.pid, signal.SIGKILL)
    before = load_run(tmp_path / "run")
    assert before.info.looks
    with start(*words, "--resume", cwd=tmp_path) as process:
        said = process.communicate(timeout=90)[0]
    assert process.returncode == 0, said
    run = load_run(tmp_path / "run")
    assert run.warnings == ()
    assert run.records[: len(before.records)] == before.records
    assert run.info.looks[: len(before.info.looks)] == before.info.looks
    assert len(run.records) > len(before.records)
    plan = plan_from_document(dict(run.info.plan))
    last = max(record.block for record in run.trials)
    for block in range(1, last):
        wanted = {str(c) for c in members(plan.configurations, plan.search, run.info.looks, block)}
        assert {record.name for record in run.trials if record.block == block} == wanted
    assert "BATCH_SLEEP_CHUNK_SIZE=" in said


def test_a_race_stops_the_surely_slower_after_six_blocks(dsn18: str, tmp_path: Path) -> None:
    """One row a statement against 200: the difference is no matter of noise."""
    words = ("--profile", "sleep", "--strategy", "values", "--driver", "psycopg", "--rows", "200")
    grid = ("--chunk-size", "1,200", "--parallelism", "1", "--repeats", "9", "--race")
    with start("sweep", *words, *grid, "--dsn", dsn18, "-o", "run", cwd=tmp_path) as process:
        said = process.communicate(timeout=90)[0]
    assert process.returncode == 0, said
    run = load_run(tmp_path / "run")
    counts = Counter(record.chunk_size for record in run.trials)
    assert counts == {1: 6, 200: 6}  # one that is left has nothing to race with
    (look,) = run.info.looks
    assert list(look.dropped) == ["sleep/values/psycopg/1/1"]
    assert "after block 6: 1 stop" in said


def test_a_sweep_is_not_gone_on_with_as_a_search(tmp_path: Path) -> None:
    info = replace(INFO, plan=SweepPlan(configurations=GRID[:1]).document())
    open_run(tmp_path / "run", info).close()
    with start("tune", "--resume", "-o", "run", cwd=tmp_path) as process:
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "is a sweep" in said
