"""Open loops: rows arrive when they do, and waits are counted from there."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchbench.batch import Batch, Location
from batchbench.cli.planned import spread_of
from batchbench.config import Settings, child_environment
from batchbench.errors import ConfigError, InputError
from batchbench.events import ChunkWritten
from batchbench.harness import SweepPlan, full_grid, pair_sd, run_sweep
from batchbench.harness import trial as trial_module
from batchbench.harness.arrivals import Arrivals, ArrivingRows
from batchbench.results import Run, TrialRecord, keeping_up, load_run
from batchbench.results.arrivals import growth, most_backlog_rows
from tests.test_results import INFO, record

ROOT = Path(__file__).parents[1]
SETTINGS = Settings()
GRID = full_grid(["heart_rate"], ["copy", "values"], ["psycopg"], [50], [2])


def plan_of(**changes: Any) -> SweepPlan:
    options: dict[str, Any] = {"rows": 1_000, "repeats": 1, "warmups": 0, **changes}
    return SweepPlan(configurations=GRID, **options)


# --- the source ---------------------------------------------------------------------------------


def numbers(count: int) -> pa.Table:
    return pa.table({"id": pa.array(range(count))})


def test_rows_come_when_they_have_arrived_and_not_before() -> None:
    source = ArrivingRows(numbers(95), "rows", 1_000.0, 10)
    began_s = time.perf_counter()
    seen: list[int] = []
    for batch in source.batches(65_536, 1 << 20):
        seen += batch.columns.column(0).to_pylist()
        assert time.perf_counter() - began_s >= len(seen) / 1_000
        assert batch.location.first_row == len(seen) - batch.row_count + 1
    assert seen == list(range(95))
    assert len(source.behind_seconds) == 10


def test_who_asks_late_is_told_how_late_and_gets_rows_at_once() -> None:
    source = ArrivingRows(numbers(40), "rows", 1_000.0, 10)
    batches = source.batches(65_536, 1 << 20)
    next(batches)
    time.sleep(0.05)  # 20, 30 and 40 rows are there by now
    rest_began_s = time.perf_counter()
    assert len(list(batches)) == 3
    behind = source.behind_seconds[1:]
    assert behind == sorted(behind, reverse=True)
    assert behind[0] - behind[2] == pytest.approx(0.02, abs=time.perf_counter() - rest_began_s)
    assert behind[2] > 0


async def test_an_end_lets_nothing_more_arrive() -> None:
    source = ArrivingRows(numbers(20), "rows", 1.0, 10)
    waiting = asyncio.create_task(asyncio.to_thread(list, source.batches(100, 100)))
    await asyncio.sleep(0)
    source.end()
    async with asyncio.timeout(5):
        assert await waiting == []


def test_waits_are_in_the_order_of_arrival() -> None:
    source = ArrivingRows(numbers(30), "rows", 1e6, 10)
    arrivals = Arrivals(source)
    places = [batch.location for batch in source.batches(100, 100)]
    for place in reversed(places):  # the last is committed first
        arrivals.written(_written(place))
    assert len(arrivals.seconds) == 3
    assert list(arrivals.seconds) == sorted(arrivals.seconds, reverse=True)


def _written(place: Location) -> ChunkWritten:
    return ChunkWritten("t", place, place.row_count, place.row_count, 1, 0.1, 100)


# --- sweeps -------------------------------------------------------------------------------------


async def test_a_load_that_keeps_up(dsn: str, tmp_path: Path) -> None:
    run = await run_sweep(plan_of(arrival_rows_per_s=4_000.0), dsn, SETTINGS, tmp_path, apart=False)
    assert [(r.trial_id, r.reason) for r in run.records if not r.usable] == []
    assert run.is_open_loop
    for one in run.trials:
        assert one.chunks == len(one.arrival_seconds) == len(one.behind_seconds) == 20
        assert min(one.arrival_seconds) >= 50 / 4_000, "the first row waits for the chunk's last"
        assert one.latencies_s == one.arrival_seconds
        assert one.max_s == max(one.arrival_seconds)
        assert one.seconds is not None
        assert one.seconds >= 1_000 / 4_000
    (yardstick,) = run.yardsticks
    assert (yardstick.arrival_rows_per_s, yardstick.arrival_seconds) == (None, ())
    rows = keeping_up(run)
    assert {(row.strategy, row.skipped_rows, row.failed) for row in rows} == {
        ("copy", 0, 0),
        ("values", 0, 0),
    }


async def test_a_load_that_falls_behind_shows_what_it_can(dsn18: str, tmp_path: Path) -> None:
    plan = plan_of(arrival_rows_per_s=1e9)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, apart=False)
    for row in keeping_up(run):
        assert row.sustained is False
        assert row.highest_rows_per_s == row.rows_per_s
        assert row.rows_per_s is not None
        assert row.rows_per_s < 1e9
        assert row.most_backlog_rows > 900
        assert row.late_share is not None
        assert row.late_share > 0.5


async def test_a_sweep_ends_while_its_rows_still_arrive(
    dsn18: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, waiting = asyncio.get_running_loop(), asyncio.Event()

    class Watched(ArrivingRows):
        def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
            loop.call_soon_threadsafe(waiting.set)
            return super().batches(max_rows, max_bytes)

    monkeypatch.setattr(trial_module, "ArrivingRows", Watched)
    plan = plan_of(rows=200, arrival_rows_per_s=2.0)  # the first chunk would take 25 s to arrive
    sweep = asyncio.create_task(run_sweep(plan, dsn18, SETTINGS, tmp_path, apart=False))
    async with asyncio.timeout(20):
        await waiting.wait()
        sweep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweep
    assert [one.kind for one in load_run(tmp_path).records if one.kind != "yardstick"] == []


async def test_a_load_that_takes_too_long_is_not_sustained(dsn18: str, tmp_path: Path) -> None:
    plan = plan_of(rows=400, arrival_rows_per_s=205.0)  # the last of them at 1.95 s
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, apart=False, trial_timeout_s=1.96)
    for row in keeping_up(run):
        if row.failed:  # what is left of the time may do for a COMMIT, and for its answer, or not
            assert row.sustained is False
            assert "took longer" in str(row.reason)


@pytest.mark.parametrize(
    ("rate", "says"),
    [(0.0, "above 0"), (math.inf, "at most"), (math.nan, "above 0"), (3.0, "arrive for 333 s")],
)
async def test_rates_that_cannot_be(dsn18: str, tmp_path: Path, rate: float, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await run_sweep(plan_of(arrival_rows_per_s=rate), dsn18, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_on_the_command_line(dsn18: str, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "batchbench", "sweep", "--profile", "sleep", "--rows", "1000"),
        *("--strategy", "copy", "--driver", "psycopg", "--chunk-size", "100", "--repeats", "1"),
        *("--arrival-rate", "5000", "--dsn", dsn18, "-o", "run"),
    ]
    environment = child_environment({"PYTHONPATH": str(ROOT)})
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "5,000 rows/s arrive" in done.stdout
    assert "scheduled arrival" in done.stdout
    assert "RTT" not in done.stdout, "no trip was delayed"
    assert "--repeats or --budget" not in done.stderr, "nothing is compared"
    command[-1] = "other"
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    (row,) = json.loads(done.stdout)["keeping_up"]
    for words in (["recommend", "other"], ["report", "other"]):
        refused = subprocess.run(
            [*command[:3], *words], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert (refused.returncode, "without --arrival-rate" in refused.stderr) == (2, True)
    assert (row["offered_rows_per_s"], row["skipped_rows"]) == (5_000, 0)
    assert load_run(tmp_path / "other").info.plan["arrival_rows_per_s"] == 5_000


# --- what records say ---------------------------------------------------------------------------


def arrived(waits: list[float], rate: float = 1_000.0, **changes: Any) -> TrialRecord:
    given: dict[str, Any] = {
        "rows": 10 * len(waits),
        "rows_verified": 10 * len(waits),
        "chunk_rows": 10,
        "arrival_rows_per_s": rate,
        "arrival_seconds": tuple(waits),
        "behind_seconds": (0.0,) * len(waits),
    }
    return record(**(given | changes))


def run_of(*records: TrialRecord) -> Run:
    return Run(Path("run"), INFO, records)


def test_waits_grow_by_what_a_load_is_too_slow() -> None:
    steady = arrived([0.05, 0.02] + [0.015] * 38)
    assert growth(steady) == pytest.approx(0)
    slow = arrived([0.01 + 0.1 * n * 0.010 for n in range(40)])  # each 10 ms of rows take 11 ms
    assert growth(slow) == pytest.approx(0.1)
    assert growth(arrived([0.01] * 7)) is None
    jumpy = arrived([0.01, 0.01, 0.01, 0.012, 0.01, 0.012, 0.01, 0.016, 0.017, 0.016])
    assert growth(jumpy) is None, "0.006 s later, and a chunk arrives every 0.010 s"
    (row,) = keeping_up(run_of(slow))
    assert (row.sustained, row.highest_rows_per_s) == (False, row.rows_per_s)
    (row,) = keeping_up(run_of(steady))
    assert (row.sustained, row.highest_rows_per_s) == (True, 1_000)
    (row,) = keeping_up(run_of(arrived([0.01] * 7)))
    assert row.sustained is None


def test_the_backlog_is_what_arrived_and_is_not_committed() -> None:
    assert most_backlog_rows(arrived([0.020] * 8)) == 20
    # All but the first wait until 0.5 s, when 80 rows are there and 10 of them written.
    assert most_backlog_rows(arrived([0.01] + [0.5 - n * 0.01 for n in range(1, 8)])) == 70


def test_skipped_and_late_rows_are_counted_and_who_keeps_up_comes_first() -> None:
    lost = arrived(
        [0.01] * 8, status="failed", reason="took longer", rows_verified=50, rows_per_s=None
    )
    late = arrived([0.02] * 8, strategy="values", behind_seconds=(0.0,) * 6 + (0.1, 0.2))
    quick = arrived([0.01] * 8, strategy="unnest")
    rows = keeping_up(run_of(lost, late, quick))
    assert [row.strategy for row in rows] == ["unnest", "values", "copy"]
    assert [row.sustained for row in rows] == [True, True, False]
    assert rows[1].late_share == 0.25
    assert (rows[2].skipped_rows, rows[2].failed, rows[2].reason) == (30, 1, "took longer")
    assert keeping_up(run_of(record())) == ()


def test_the_99th_percentile_needs_500_chunks_of_all_trials() -> None:
    one = arrived([0.001 * n for n in range(1, 251)])
    assert keeping_up(run_of(one))[0].p99_s is None
    both = keeping_up(run_of(one, replace(one, trial_id="sleep/copy/psycopg/50/1#2")))[0]
    assert both.p99_s == pytest.approx(0.248, abs=0.001)
    assert both.max_s == 0.25


# --- the spread of pairs ------------------------------------------------------------------------


def noisy(configuration: int, block: int, epoch: int, noise: float) -> TrialRecord:
    speed = 10_000 * math.exp(configuration + 0.3 * block + noise)
    name = f"sleep/copy/psycopg/{configuration}/1#{block}"
    return record(trial_id=name, block=block, epoch=epoch, rows_per_s=speed)


def test_the_spread_is_what_is_left_of_configurations_blocks_and_epochs() -> None:
    rng = np.random.default_rng(1)
    records = [
        noisy(configuration, block, 1 + block // 20, 0.1 * rng.standard_normal())
        for block in range(60)
        for configuration in range(4)
    ]
    found = pair_sd(run_of(*records))
    assert found == pytest.approx(0.1 * math.sqrt(2), rel=0.1)
    assert pair_sd(run_of(*records[:4])) is None
    half = [one for one in records if one.block != 7 or "/0/1#" in one.trial_id]
    assert pair_sd(run_of(*half)) == pytest.approx(found, rel=0.1)


def test_a_dry_run_takes_the_spread_of_a_run(tmp_path: Path) -> None:
    assert spread_of(None) == 0.15
    assert spread_of(ROOT / "results" / "sample-18") == pair_sd(
        load_run(ROOT / "results" / "sample-18")
    )
    with pytest.raises(InputError):
        spread_of(tmp_path)
