"""Rows that arrive in a Writer: tickets count from the schedule, and an age keeps a target."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from batchbench.config import Settings, child_environment
from batchbench.errors import ConfigError
from batchbench.harness import SweepPlan, full_grid, plan_from_document, run_sweep
from batchbench.harness.producing import Payloads
from batchbench.recommend import flush_ages
from batchbench.results import KeepingUp, keeping_up, load_run
from batchbench.results.arrivals import growth, most_backlog_rows
from batchbench.stats import Histogram, quantile_interval
from batchbench.writer import Ticket, UnwrittenError, Writer
from tests.test_harness_arrivals import ROOT, arrived, numbers, run_of

SETTINGS = Settings()
FEW = ("--rows", "1000", "--repeats", "2")


def plan_of(*ages: float, **changes: Any) -> SweepPlan:
    grid = full_grid(["heart_rate"], ["copy"], ["psycopg"], [500], [1], max_waits_ms=ages)
    options: dict[str, Any] = {"arrival_rows_per_s": 5_000.0, "rows": 1_000, "repeats": 1}
    return SweepPlan(configurations=grid, **{"warmups": 0, **options, **changes})


# --- payloads -----------------------------------------------------------------------------------


def _stall(seconds: float) -> None:
    """Hold up the event loop, and all that would go on in it."""
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        pass


class Taking:
    """Takes payloads as a Writer does, and settles them at once; the first add stalls."""

    def __init__(self, stall_s: float = 0.0, cause: Exception | None = None) -> None:
        self.taken: list[int] = []
        self.stall_s, self.cause = stall_s, cause

    async def add(self, rows: pa.RecordBatch) -> Ticket:
        if not self.taken:
            _stall(self.stall_s)
        self.taken += rows.column(0).to_pylist()
        ticket = Ticket("t", rows.num_rows)
        if self.cause is not None:
            ticket.give_up(self.cause)
        ticket.settle(0 if ticket.settled else rows.num_rows)
        return ticket


async def test_a_stall_is_waited_for_by_all_that_were_to_arrive_in_it() -> None:
    payloads, writer = Payloads(numbers(1_995), 10_000.0, 10), Taking(stall_s=0.1)
    seconds = await payloads.through(cast(Writer, writer))
    assert sorted(writer.taken) == list(range(1_995))
    assert len(payloads.seconds) == len(payloads.behind_seconds) == 200
    settled = [number * 0.001 + wait for number, wait in enumerate(payloads.seconds)]
    assert min(settled) >= 0.1, "nothing was settled during the stall"
    assert min(payloads.behind_seconds) >= 0
    assert payloads.seconds[0] >= payloads.behind_seconds[0] >= 0.1
    assert seconds >= 0.199, "the last one arrives then"


async def test_rows_that_are_not_written_end_it() -> None:
    writer = Taking(cause=RuntimeError("no server"))
    with pytest.raises(UnwrittenError, match="no server"):
        await Payloads(numbers(40), 1e6, 10).through(cast(Writer, writer))


# --- sweeps -------------------------------------------------------------------------------------


async def test_ages_are_trials_of_a_writer(dsn: str, tmp_path: Path) -> None:
    run = await run_sweep(plan_of(1, 60), dsn, SETTINGS, tmp_path, apart=False)
    assert [(r.trial_id, r.reason) for r in run.records if not r.usable] == []
    trials = {record.max_wait_ms: record for record in run.trials}
    assert set(trials) == {1, 60}
    for age_ms, one in trials.items():
        assert one.trial_id == f"heart_rate/copy/psycopg/500/1/flush{age_ms:g}ms#1"
        assert (one.payload_rows, one.rows_verified) == (10, 1_000)
        assert len(one.arrival_seconds) == len(one.behind_seconds) == 100
        assert one.chunks == len(one.chunk_seconds)
        assert one.seconds is not None
        assert one.seconds >= 0.198
        assert one.max_s is not None
        assert one.max_s >= (age_ms or 0) / 1e3
    assert trials[60].chunks < trials[1].chunks
    short, long = keeping_up(run)
    assert (short.max_wait_ms, long.max_wait_ms) == (1, 60)
    assert (short.tickets, long.flush_rows) == (100, 1_000 / trials[60].chunks)
    assert plan_from_document(json.loads(json.dumps(run.info.plan))).has_ages
    assert {key.max_wait_ms for key in (record.key for record in run.trials)} == {1, 60}


async def test_a_full_chunk_does_not_wait(dsn18: str, tmp_path: Path) -> None:
    plan = plan_of(10_000, payload_rows=250)  # 500 rows fill a chunk, twice
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, apart=False, trial_timeout_s=9.0)
    (one,) = run.trials
    assert (one.usable, one.chunks, one.payload_rows) == (True, 2, 250)
    assert len(one.arrival_seconds) == 4


async def test_tickets_that_take_too_long_are_a_failed_trial(dsn18: str, tmp_path: Path) -> None:
    plan = plan_of(50_000, rows=20)  # the age comes after the limit
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path, apart=False, trial_timeout_s=0.5)
    (row,) = keeping_up(run)
    assert (row.sustained, row.failed) == (False, 1)
    assert "took longer" in str(row.reason)


def test_warm_ups_and_older_plans_have_no_age() -> None:
    plan = plan_of(1, 20, warmups=1)
    (warmup,) = plan.warmup_trials()
    assert warmup.flush_age_ms is None
    document = plan.document()
    for configuration in document["configurations"]:
        del configuration["max_wait_ms"]
    older = plan_from_document({**document, "configurations": document["configurations"][:1]})
    assert not older.has_ages
    assert load_run(ROOT / "results" / "sample-18").records[0].max_wait_ms is None


@pytest.mark.parametrize(
    ("ages", "changes", "says"),
    [
        ((20,), {"arrival_rows_per_s": None}, "--arrival-rate"),
        ((0,), {}, "above 0"),
        ((1e9,), {}, "at most 60,000"),
        ((20,), {"payload_rows": 0}, "1 or more"),
    ],
)
def test_ages_that_cannot_be(ages: tuple[float], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plan_of(*ages, **changes)


# --- what records say ---------------------------------------------------------------------------


def flushed(waits: list[float], age_ms: float = 20, **changes: Any) -> Any:
    return arrived(waits, max_wait_ms=age_ms, payload_rows=10, chunks=len(waits) // 4, **changes)


def test_waits_of_tickets_have_an_interval_where_there_are_enough() -> None:
    rng = np.random.default_rng(3)
    waits = (0.02 * rng.random(600) + 0.002).tolist()
    (row,) = keeping_up(run_of(flushed(waits)))
    assert (row.tickets, row.max_wait_ms, row.flush_rows) == (600, 20, 40)
    assert row.p99_s is not None
    assert row.p99_low_s is not None
    assert row.p99_high_s is not None
    assert 0.02 < row.p99_low_s <= row.p99_s <= row.p99_high_s < 0.0225
    few = keeping_up(run_of(flushed(waits[:490])))[0]
    assert (few.p99_s, few.p99_low_s, few.p99_high_s) == (None, None, None)
    old = keeping_up(run_of(flushed(waits, age_ms=2_000)))[0]
    assert old.p99_s is not None
    assert old.p99_high_s is None, "six seconds are two flushes"
    (loaded,) = keeping_up(run_of(arrived(waits)))
    assert (loaded.tickets, loaded.flush_rows, loaded.p99_high_s) == (0, None, None)


def test_waits_that_swing_by_less_than_an_age_do_not_grow() -> None:
    waits = [0.01] * 20 + [0.06] * 20
    assert growth(arrived(waits)) == pytest.approx(0.25)
    assert growth(flushed(waits, age_ms=100)) is None
    assert growth(flushed([0.01 * n for n in range(40)], age_ms=100)) == pytest.approx(1)


def test_a_payload_arrives_whole() -> None:
    assert most_backlog_rows(flushed([0.001] * 8)) == 10
    # All are settled at 0.0355 s, when those of 0, 0.01, 0.02 and 0.03 s had come.
    assert most_backlog_rows(flushed([0.0355, 0.0255, 0.0155, 0.0055])) == 40


# --- the age that keeps a target ----------------------------------------------------------------


def rows_of(*p99_ms: tuple[float, float, float, float], **changes: Any) -> list[KeepingUp]:
    """Of (age, p99, the ends of its interval)."""
    (row,) = keeping_up(run_of(flushed([0.01] * 600)))
    return [
        replace(
            row,
            max_wait_ms=age,
            p99_s=p99 / 1e3,
            p99_low_s=low / 1e3,
            p99_high_s=high / 1e3,
            **changes,
        )
        for age, p99, low, high in p99_ms
    ]


def test_the_longest_age_that_is_surely_under_the_target() -> None:
    rows = rows_of((1, 9, 5, 15), (5, 12, 9, 16), (20, 28, 26, 33), (100, 120, 110, 130))
    for target, age, says in (
        (50, 20, "20 ms, p99 28.0 ms"),
        (200, 100, "100 ms, p99 120.0 ms"),
        (30, 5, "perhaps under it: 20 ms, p99 28.0 ms (95 % interval 26.0-33.0)"),
    ):
        (found,) = flush_ages(rows, target)
        assert found.chosen is not None
        assert found.chosen.max_wait_ms == age
        assert says in found.reason
    (found,) = flush_ages(rows, 10)
    assert (found.chosen, "none is surely under 10 ms" in found.reason) == (None, True)
    (found,) = flush_ages(rows, 4)
    assert (
        found.reason == "none is under 4 ms; the lowest: 1 ms, p99 9.0 ms (95 % interval 5.0-15.0)"
    )


def test_who_does_not_keep_up_is_not_recommended() -> None:
    slow = rows_of((100, 10, 9, 11), growth=0.2)
    (found,) = flush_ages([*rows_of((1, 9, 5, 15)), *slow], 50)
    assert found.chosen is not None
    assert found.chosen.max_wait_ms == 1
    (found,) = flush_ages(slow, 50)
    assert "no age is known to keep up with 1,000 rows/s" in found.reason
    (found,) = flush_ages(keeping_up(run_of(flushed([0.01] * 490))), 50)
    assert "490 tickets are too few" in found.reason


def test_of_several_ways_the_best_is_named() -> None:
    copied, unnested = rows_of((20, 28, 26, 33)), rows_of((20, 24, 22, 26), strategy="unnest")
    (found,) = flush_ages([*copied, *unnested], 50)
    assert found.chosen is not None
    assert found.chosen.strategy == "unnest"
    assert found.reason.endswith(" by unnest psycopg 10 x 1")


def test_tables_and_round_trips_have_ages_of_their_own() -> None:
    near, far = rows_of((20, 28, 26, 33)), rows_of((20, 60, 50, 70), rtt_ms=20.0)
    found = flush_ages([*near, *far], 50)
    assert [(age.rtt_ms, age.chosen is None) for age in found] == [(0.0, False), (20.0, True)]


# --- the interval -------------------------------------------------------------------------------


def test_the_interval_of_a_quantile_holds_where_neighbours_share_their_fate() -> None:
    rng = np.random.default_rng(5)
    truth = float(np.exp(1.0 * 2.3263)) * 1e-3  # of a lognormal, by its 99th percentile
    within = 0
    for _ in range(100):
        pieces = []
        for _ in range(60):
            shared = rng.lognormal(0, 1.0, 10)  # each met by eight tickets
            pieces.append(Histogram())
            pieces[-1].add(np.repeat(shared, 8) * 1e-3)
        found = quantile_interval(pieces, 0.99)
        assert found is not None
        within += found[0] * 0.99 <= truth <= found[1] * 1.01
    assert within >= 85
    assert quantile_interval(pieces, 0.99) == quantile_interval(pieces, 0.99)
    assert quantile_interval(pieces[:7], 0.99) is None


# --- the command line ---------------------------------------------------------------------------


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchbench", "sweep", "--profile", "sleep", *words]
    environment = child_environment({"PYTHONPATH": str(ROOT)})
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def test_on_the_command_line(dsn18: str, tmp_path: Path) -> None:
    ages = ("--arrival-rate", "5000", "--max-wait-ms", "2,50", "--rows", "2500", "--repeats", "4")
    server = ("--dsn", dsn18, "-o", "run")
    done = sweep(tmp_path, *ages, *server, "--target-p99-ms", "60000")
    assert done.returncode == 0, done.stderr
    for words in ("5,000 rows/s arrive", "rows a flush", "keeps up", "scheduled arrival"):
        assert words in done.stdout
    assert "limits=FlushLimits(max_wait_ms=50)" in done.stdout
    again = sweep(tmp_path, *server, "--resume", "--target-p99-ms", "1", "--json")
    assert again.returncode == 1, again.stderr
    document = json.loads(again.stdout)
    assert [row["max_wait_ms"] for row in document["keeping_up"]] == [2, 50]
    (advice,) = document["flush_ages"]
    assert (advice["max_wait_ms"], "none is" in advice["reason"]) == (None, True)
    assert load_run(tmp_path / "run").trials[0].strategy == "copy", "what is configured"


def test_a_dry_run_tells_the_tickets(tmp_path: Path) -> None:
    done = sweep(
        tmp_path,
        "--arrival-rate",
        "2000",
        "--max-wait-ms",
        "5,20",
        "--payload-rows",
        "5",
        "--dry-run",
    )
    assert done.returncode == 0, done.stderr
    assert "2,400 tickets of 5 rows for each flush age" in done.stdout
    assert "sleep/copy/psycopg/6000/2/flush20ms" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--max-wait-ms", "1,5"), "with --arrival-rate"),
        (("--arrival-rate", "2000", "--max-wait-ms", "1,x"), "whole numbers"),
        (("--arrival-rate", "2000", "--max-wait-ms", ","), "names no age"),
        (("--arrival-rate", "2000", "--target-p99-ms", "50"), "with --max-wait-ms"),
        (
            ("--arrival-rate", "2000", "--max-wait-ms", "5", "--target-p99-ms", "x"),
            "valid integer",
        ),
        (
            ("--arrival-rate", "2000", "--max-wait-ms", "5", "--target-p99-ms", "0"),
            "greater than or equal to 1",
        ),
        (
            ("--arrival-rate", "2000", "--max-wait-ms", "5", "--target-p99-ms", "50", *FEW),
            "too few for a p99: take --rows 2,500",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    done = sweep(tmp_path, *words, "--dry-run")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
